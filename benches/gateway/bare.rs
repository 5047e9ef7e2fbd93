//! The bare loop: one `send()` of a finished frame for each socket, and nothing else. No server can do
//! a delivery that is a write of its own for less.

use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::frames;
use super::low_rate::SERVERS_CORE;
use super::process::Pinned;

/// A thread that sends when it is told to.
pub struct Bare {
    pub address: SocketAddrV4,
    orders: mpsc::SyncSender<Order>,
    accepted: mpsc::Receiver<()>,
    used: mpsc::Receiver<Duration>,
}

enum Order {
    Accept(usize),
    Broadcast(u64),
    /// Says how much CPU time all broadcasts took.
    Report,
    /// Closes all sockets.
    Forget,
}

impl Bare {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let SocketAddr::V4(address) = listener.local_addr().expect("an address") else {
            panic!("not what it was bound to")
        };
        let (orders, inbox) = mpsc::sync_channel(64);
        let (accept, accepted) = mpsc::sync_channel(1);
        let (report, used) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let _pinned = Pinned::me(SERVERS_CORE);
            let mut sockets: Vec<TcpStream> = Vec::new();
            let mut spent = Duration::ZERO;
            for order in inbox {
                match order {
                    Order::Accept(count) => {
                        sockets.extend((0..count).map(|_| {
                            let (socket, _) = listener.accept().expect("a connection");
                            socket.set_nodelay(true).expect("an option of TCP");
                            socket
                        }));
                        accept.send(()).expect("somebody waits");
                    }
                    Order::Broadcast(sent_ns) => {
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
                    Order::Report => {
                        report.send(spent).expect("somebody waits");
                    }
                    Order::Forget => sockets.clear(),
                }
            }
        });
        Self { address, orders, accepted, used }
    }

    /// Accepts what was connected.
    pub fn accept(&self, count: usize) {
        self.orders.send(Order::Accept(count)).expect("the loop lives");
        self.accepted.recv().expect("the loop lives");
    }

    pub fn broadcast(&self, sent_ns: u64) {
        self.orders.send(Order::Broadcast(sent_ns)).expect("the loop lives");
    }

    pub fn forget(&self) {
        self.orders.send(Order::Forget).expect("the loop lives");
    }

    /// CPU time of all broadcasts so far.
    pub fn spent_s(&self) -> f64 {
        self.orders.send(Order::Report).expect("the loop lives");
        self.used.recv().expect("the loop lives").as_secs_f64()
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
