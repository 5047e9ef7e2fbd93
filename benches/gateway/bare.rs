//! The bare loop: one `send()` of a finished frame for each socket, and nothing else. No server can do
//! a delivery that is a write of its own for less.
//!
//! It is a process of its own, as a server is, and so is its reader: one process has too few files for the clients of
//! a server and for either end of as many connections beside.

use std::io::Write;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::clients::Clients;
use super::frames;
use super::helpers::{self, Helper, Role};
use super::low_rate::{GENERATORS_CORE, SERVERS_CORE, Sender, Slice, slice};
use super::process::Pinned;

pub const NAME: &str = "bare loop";

/// The process that reads, and has the loop send.
pub struct Bare(Helper);

#[derive(Serialize, Deserialize)]
enum ToReader {
    Connect(usize),
    /// With so much time between two broadcasts.
    Slice(Duration),
    CloseAll,
}

#[derive(Serialize, Deserialize)]
enum ToLoop {
    Accept(usize),
    /// Has no answer.
    Broadcast(u64),
    /// Says how much CPU time all broadcasts took.
    Report,
    CloseAll,
}

impl Bare {
    pub fn start() -> Self {
        Self(Helper::start(Role::BareReader))
    }

    /// Hundreds.
    pub fn connect(&self, count: usize) {
        self.0.ask(&ToReader::Connect(count))
    }

    pub fn slice(&self, interval: Duration) -> Slice {
        self.0.ask(&ToReader::Slice(interval))
    }

    pub fn close_all(&self) {
        self.0.ask(&ToReader::CloseAll)
    }
}

/// The loop as its reader has it.
struct Loop {
    process: Helper,
    sockets: usize,
}

impl Sender for Loop {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn broadcast(&self, _clients: &mut Clients, sent_ns: u64) {
        self.process.tell(&ToLoop::Broadcast(sent_ns));
    }

    fn reaches(&self) -> usize {
        self.sockets
    }

    fn cpu_s(&self) -> f64 {
        self.process.ask::<Duration>(&ToLoop::Report).as_secs_f64()
    }
}

/// What the process of the reader does.
pub fn read_for_others() {
    let mut bare = Loop { process: Helper::start(Role::BareLoop), sockets: 0 };
    let address: SocketAddrV4 = bare.process.answer();
    let _pinned = Pinned::me(GENERATORS_CORE);
    let mut clients = Clients::new();
    for order in helpers::orders() {
        match order {
            ToReader::Connect(count) => {
                // As many as may wait to be accepted.
                for _ in 0..count / 100 {
                    (0..100).for_each(|_| clients.listen(address));
                    bare.process.ask::<()>(&ToLoop::Accept(100));
                }
                bare.sockets = count;
                helpers::answer(&());
            }
            ToReader::Slice(interval) => helpers::answer(&slice(&mut clients, &bare, interval)),
            ToReader::CloseAll => {
                clients.close_all();
                bare.process.ask::<()>(&ToLoop::CloseAll);
                helpers::answer(&());
            }
        }
    }
}

/// What the process of the loop does.
pub fn send_for_others() {
    let _pinned = Pinned::me(SERVERS_CORE);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    helpers::answer(&listener.local_addr().expect("an address"));
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut spent = Duration::ZERO;
    for order in helpers::orders() {
        match order {
            ToLoop::Accept(count) => {
                sockets.extend((0..count).map(|_| {
                    let (socket, _) = listener.accept().expect("a connection");
                    socket.set_nodelay(true).expect("an option of TCP");
                    socket
                }));
                helpers::answer(&());
            }
            ToLoop::Broadcast(sent_ns) => {
                let before = clock_gettime(ClockId::ThreadCPUTime);
                let frame = frame(sent_ns);
                for socket in &mut sockets {
                    socket.write_all(&frame).expect("a client that reads");
                }
                let after = clock_gettime(ClockId::ThreadCPUTime);
                let taken = (after.tv_sec - before.tv_sec) * 1_000_000_000
                    + (after.tv_nsec - before.tv_nsec);
                spent += Duration::from_nanos(taken.unsigned_abs());
            }
            ToLoop::Report => helpers::answer(&spent),
            ToLoop::CloseAll => {
                sockets.clear();
                helpers::answer(&());
            }
        }
    }
}

/// As a server sends it: head and packet.
fn frame(sent_ns: u64) -> Vec<u8> {
    let packet = format!("42[\"news\",\"{}\"]", frames::news(sent_ns));
    let length = u8::try_from(packet.len()).expect("a short packet");
    assert!(length <= 125);
    let mut frame = vec![0x81, length];
    frame.extend_from_slice(packet.as_bytes());
    frame
}
