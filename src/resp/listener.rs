//! The listening socket, and the thread that serves what comes to it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::clients::Peer;
use super::shared::{Options, Resp};
use crate::cache::Cache;
use crate::model::clock::SharedClock;

/// What connections with a request in hand are given to answer it when the server stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not this machine's, or not allowed; or there is no thread for it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Everyone could read and change everything.
    #[error("{0} is not a loopback address: it takes a password")]
    Unprotected(SocketAddr),
}

/// A listening socket with a thread of its own: one pipeline after the other runs on it, so that no
/// request waits for a handover.
pub struct Listener {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Listens, and serves until it is told to stop.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn start(
        address: SocketAddr,
        cache: Cache,
        clock: SharedClock,
        mut options: Options,
    ) -> Result<Self, ListenError> {
        if options.password.is_none() && !address.ip().is_loopback() {
            return Err(ListenError::Unprotected(address));
        }
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        options.address = address.ip().to_string();
        options.port = address.port();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let resp = Resp::new(cache, clock, &options);
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("leveret-resp".to_owned()).spawn(move || {
                runtime.block_on(async {
                    match TcpListener::from_std(socket) {
                        Ok(socket) => serve(socket, resp, stopped).await,
                        Err(error) => tracing::error!(%error, "the RESP socket can't be watched"),
                    }
                });
            })?;
        Ok(Self { address, stop, thread })
    }

    /// The real address, also when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, lets requests in hand be answered, and closes all connections.
    pub async fn stop(self) {
        // A thread that has ended already has nothing to stop.
        let _ = self.stop.send(());
        let thread = self.thread;
        let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

async fn serve(socket: TcpListener, resp: Resp, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // A listener that was dropped stops as well.
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => admit(stream, peer, &resp, &mut connections),
                Err(error) => pause_after(&error).await,
            },
        }
    }
    drop(socket);
    resp.shared.draining.store(true, Ordering::Relaxed);
    for handle in resp.shared.clients.all() {
        if handle.idle.load(Ordering::Relaxed) {
            handle.kill();
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_PATIENCE, drained).await.is_err() {
        tracing::warn!("RESP clients that did not read their answers are cut off");
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, resp: &Resp, connections: &mut JoinSet<()>) {
    let shared = &resp.shared;
    let (clients_max, keepalive) = {
        let config = shared.config.lock();
        (config.clients_max, config.tcp_keepalive)
    };
    if shared.clients.count() >= clients_max {
        shared.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
        // As well as it can be told without waiting for it.
        let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        return;
    }
    // Small answers must not wait for the peer's delayed acknowledgement. A peer that is gone already
    // shows at the first read.
    let _ = stream.set_nodelay(true);
    if let Some(interval) = keepalive {
        // Without it only a client that is written to is found gone.
        if let Err(error) = keep_alive(&stream, interval) {
            tracing::debug!(%error, "a RESP client is not watched");
        }
    }
    let local_address = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
    connections.spawn(resp.serve(stream, Peer { address: peer.to_string(), local_address }));
}

/// As Redis does: asks after `interval` without a word, then two more times, and after about twice the
/// interval the connection is over.
fn keep_alive(stream: impl AsFd, interval: Duration) -> io::Result<()> {
    const QUESTIONS: u32 = 3;
    /// Linux takes no more.
    const SECONDS_MAX: u64 = 32_767;
    let seconds = interval.as_secs().clamp(1, SECONDS_MAX);
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, Duration::from_secs(seconds))?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs((seconds / 3).max(1)))?;
    Ok(sockopt::set_tcp_keepcnt(&stream, QUESTIONS)?)
}

/// Accepting fails when the process is out of file descriptors: then it waits for some to close.
/// Any other error belongs to a peer that left before it was accepted.
async fn pause_after(error: &io::Error) {
    const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(100);
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !of_the_peer {
        tracing::warn!(%error, "RESP connections can't be accepted");
        tokio::time::sleep(OUT_OF_RESOURCES_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_asked_as_redis_asks() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(!sockopt::socket_keepalive(&stream).unwrap());
        for (interval, idle, between) in
            [(300, 300, 100), (1, 1, 1), (2_147_483_647, 32_767, 10_922)]
        {
            keep_alive(&stream, Duration::from_secs(interval)).unwrap();
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&stream).unwrap().as_secs(), idle);
            assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap().as_secs(), between);
            assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 3);
        }
    }
}
