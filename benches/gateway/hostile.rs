//! Clients that mean ill, and what others of their server see of them: these are to miss nothing, and
//! their p99 is to stay.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::broadcast::gather;
use super::clients::{Clients, UPGRADE};
use super::figures::{Figures, Run};
use super::servers::Server;
use super::watchers::Watchers;
use super::{frames, gauges};

/// Connections of the ill-willed at once, each with a thread; one that is cut comes again at once.
const HOSTILE: usize = 8;

/// Where those are that read nothing.
const DEAF_ROOM: &str = "deaf";

/// Bytes of each of the events that go there with every broadcast to the others.
const DEAF_BYTES: usize = 16 << 10;
const DEAF_EVENTS: usize = 8;

/// Half requests that a thread holds.
const STALLED: usize = 100;

/// Sockets of one user that a thread opens before it closes them.
const SOCKETS: usize = 200;

/// Levels of what is sent too deep: a frame of the bench is at most 64 KiB.
const DEEP: usize = 30_000;

/// New rooms that are named between two looks at whether it is over.
const ROOMS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Nothing,
    /// Sends events as fast as they are taken.
    Flood,
    /// Joins a room in which much is said, and reads nothing.
    Deaf,
    /// Begins a message of 1 GiB.
    Giant,
    /// Opens connections and sends half a request on each.
    Stall,
    /// Sends arrays in arrays, deeper than anybody reads.
    Deep,
    /// Announces more attachments than a packet may have.
    Attachments,
    /// Joins rooms as fast as they are given, each of them new.
    Rooms,
    /// Opens sockets, all of them one user's, and closes them when it has many.
    Sockets,
    /// Tries tokens as fast as they are refused.
    Guess,
}

impl Deed {
    const ALL: [Self; 10] = [
        Self::Nothing,
        Self::Flood,
        Self::Deaf,
        Self::Giant,
        Self::Stall,
        Self::Deep,
        Self::Attachments,
        Self::Rooms,
        Self::Sockets,
        Self::Guess,
    ];
}

pub fn run(server: &Server, run: &Run) {
    let mut figures = Figures::default();
    for _ in 0..run.rounds {
        for deed in Deed::ALL {
            measure(server, deed, run, &mut figures);
        }
    }
    println!("\n## {HOSTILE} hostile clients, {} others watch", Watchers::COUNT);
    figures.print_medians();
}

fn measure(server: &Server, deed: Deed, run: &Run, figures: &mut Figures) {
    let name = server.name();
    let mut clients = Clients::new();
    Watchers::join(&mut clients, server);
    let closed = gauges::closed(server);
    let mut watchers = Watchers::begin(&mut clients, server);
    let mob = Mob::start(server, deed);
    let text = "x".repeat(DEAF_BYTES);
    let began = Instant::now();
    while began.elapsed() < run.time {
        if watchers.turn(&mut clients) && deed == Deed::Deaf {
            for _ in 0..DEAF_EVENTS {
                watchers.send_beside(&mut clients, DEAF_ROOM, &text);
            }
        }
    }
    let cut = gauges::closed(server) - closed;
    gather(&mut clients, watchers.sent * Watchers::COUNT, &name);
    mob.stop();
    assert_eq!(clients.seen.lost, 0, "{name} cut those that did nothing");
    figures.latency(&name, &format!("{deed:?}: the others"), &clients.seen.latency);
    figures.add(&name, &format!("{deed:?}: sessions ended by then"), cut);
}

struct Mob {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Mob {
    fn start(server: &Server, deed: Deed) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let count = if deed == Deed::Nothing { 0 } else { HOSTILE };
        let threads = (0..count).map(|number| {
            let user = if deed == Deed::Sockets { 0 } else { number };
            let (address, packet) = (server.address, server.connect_packet(user));
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // It was cut.
                    let _ = act(deed, address, &packet, &over);
                }
            })
        });
        Self { threads: threads.collect(), over }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a hostile thread");
        }
    }
}

fn act(deed: Deed, address: SocketAddrV4, packet: &str, over: &AtomicBool) -> std::io::Result<()> {
    if deed == Deed::Stall {
        let half = |_| {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(&UPGRADE.as_bytes()[..UPGRADE.len() / 2])?;
            Ok(stream)
        };
        let _stalled = (0..STALLED).map(half).collect::<std::io::Result<Vec<_>>>()?;
        wait(over);
        return Ok(());
    }
    if deed == Deed::Sockets {
        let mut open = Vec::new();
        while open.len() < SOCKETS && !over.load(Ordering::Relaxed) {
            open.push(connect(address, packet)?);
        }
        return Ok(());
    }
    let mut stream = connect(address, packet)?;
    // Until it is let in.
    std::thread::sleep(Duration::from_millis(50));
    match deed {
        Deed::Nothing | Deed::Stall | Deed::Sockets => Ok(()),
        Deed::Flood => {
            let event = frames::masked("42[\"typing:stop\",\"nowhere\"]");
            pour(&mut stream, &event.repeat(500), over)
        }
        Deed::Deaf => {
            // Or the kernel would read megabytes in its place.
            set_socket_recv_buffer_size(&stream, 4096)?;
            stream.write_all(&frames::masked(&format!("421[\"join:room\",\"{DEAF_ROOM}\"]")))?;
            wait(over);
            Ok(())
        }
        Deed::Giant => {
            let mut head = vec![0x81, 0x80 | 127];
            head.extend_from_slice(&(1_u64 << 30).to_be_bytes());
            head.extend_from_slice(&[0; 4]);
            stream.write_all(&head)?;
            pour(&mut stream, &[b'4'; 64 << 10], over)
        }
        Deed::Deep => {
            let deep = format!("42[\"message:send\",{}{}]", "[".repeat(DEEP), "]".repeat(DEEP));
            pour(&mut stream, &frames::masked(&deep), over)
        }
        Deed::Attachments => {
            let header =
                frames::masked("451000000-[\"message:send\",{\"_placeholder\":true,\"num\":0}]");
            pour(&mut stream, &header, over)
        }
        Deed::Rooms => {
            for first in (0..).step_by(ROOMS) {
                let join =
                    |n| frames::masked(&format!("42[\"join:room\",\"{}-{n}\"]", place(&stream)));
                let joins: Vec<u8> = (first..first + ROOMS).flat_map(join).collect();
                if over.load(Ordering::Relaxed) {
                    break;
                }
                stream.write_all(&joins)?;
            }
            Ok(())
        }
        Deed::Guess => {
            let guess =
                frames::masked("40{\"token\":\"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.guess\"}");
            pour(&mut stream, &guess.repeat(100), over)
        }
    }
}

/// A WebSocket that asks to be let in.
fn connect(address: SocketAddrV4, packet: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    stream.write_all(UPGRADE.as_bytes())?;
    // The answer, and the first packet perhaps.
    if stream.read(&mut [0; 1024])? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(&frames::masked(packet))?;
    Ok(stream)
}

/// What no other connection of the time has.
fn place(stream: &TcpStream) -> u16 {
    stream.local_addr().map_or(0, |address| address.port())
}

fn wait(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes the same over and over, whole each time, until the connection is cut.
fn pour(stream: &mut TcpStream, bytes: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    let mut at = 0;
    while !over.load(Ordering::Relaxed) {
        match stream.write(&bytes[at..]) {
            Ok(written) => at = (at + written) % bytes.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
