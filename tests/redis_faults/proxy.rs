//! A way to the server that can fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Takes connections, and what is said on them, and passes nothing on.
    Silent,
    /// Passes what is said on, each piece so many milliseconds late.
    LateBy(u64),
    /// Closes each connection.
    Closed,
    /// Closes each connection when the server has answered this many bytes more, in the middle of them.
    CutAfter(usize),
}

pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (mode, modes) = watch::channel(Mode::Pass);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(client, server_port, modes.clone()));
            }
        });
        Self { address, mode, connections, task }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many have been made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server_port: u16, mut modes: watch::Receiver<Mode>) {
    if *modes.borrow() == Mode::Closed {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let budget = Arc::new(Mutex::new(None));
    tokio::select! {
        () = pump(from_client, to_server, modes.clone(), None) => {}
        () = pump(from_server, to_client, modes.clone(), Some(budget)) => {}
        _ = modes.wait_for(|mode| *mode == Mode::Closed) => {}
    }
}

/// `budget`: the bytes that may still pass, on the way that is cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    budget: Option<Arc<Mutex<Option<usize>>>>,
) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        if modes.wait_for(|mode| *mode != Mode::Silent).await.is_err() {
            return;
        }
        let mode = *modes.borrow();
        if let Mode::LateBy(ms) = mode {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let mut passed = read;
        let mut is_cut = false;
        if let (Mode::CutAfter(bytes_max), Some(budget)) = (mode, &budget) {
            let mut budget = budget.lock();
            let left = budget.get_or_insert(bytes_max);
            passed = read.min(*left);
            *left -= passed;
            is_cut = passed < read;
        }
        if to.write_all(&bytes[..passed]).await.is_err() || is_cut {
            return;
        }
    }
}
