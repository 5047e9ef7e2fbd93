//! Connections: the accept loop, its bounds, and the drain.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::admitted::Admitted;

/// What one peer, and all of them together, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once, upgraded ones included. One more is answered with 503 and closed.
    pub connections_max: usize,
    /// Bytes of a request's head; past it 431.
    pub head_bytes_max: usize,
    /// Header fields of a request; past it 431.
    pub headers_max: usize,
    /// From the first wait for a request until its head is complete, so it also ends idle connections.
    pub head_read_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            head_read_timeout: Duration::from_secs(30),
        }
    }
}

/// A bound listening socket. Dropping it, or the future of [`Listener::run`], stops accepting.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    limits: Limits,
    connections: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Listener {
    /// # Errors
    /// When the address is taken, not this machine's, or not allowed.
    pub async fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let connections = Arc::new(Semaphore::new(limits.connections_max));
        Ok(Self { socket, address, limits, connections, closing: watch::Sender::new(false) })
    }

    /// The real address, also when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then closes the listening socket and hands back what is still open.
    pub async fn run(self, router: Router, stop: impl Future<Output = ()>) -> Open {
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer, &router),
                    Err(error) => pause_after(&error).await,
                },
            }
        }
        Open {
            connections: self.connections,
            connections_max: self.limits.connections_max,
            closing: self.closing,
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, router: &Router) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            return refuse(&stream);
        };
        // Small writes must not wait for the peer's delayed acknowledgement. A peer that is gone
        // already shows at the first read.
        let _ = stream.set_nodelay(true);
        let connection = serve_connection(
            Admitted::new(stream, permit),
            Some(peer),
            router.clone(),
            self.limits,
            self.closing.subscribe(),
        );
        tokio::spawn(connection);
    }
}

/// The connections that outlive the accept loop.
pub struct Open {
    connections: Arc<Semaphore>,
    connections_max: usize,
    closing: watch::Sender<bool>,
}

impl Open {
    /// Lets requests in flight finish and closes idle connections; resolves when all are closed. Upgraded
    /// ones are closed by whoever upgraded them, so the caller bounds the wait.
    pub async fn drain(self) {
        self.closing.send_replace(true);
        let every_permit = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        // An error means that the semaphore was closed, which nobody does.
        let _ = self.connections.acquire_many(every_permit).await;
    }
}

/// Serves HTTP/1.1 on `io` until the peer leaves, a limit is passed, or `closing` turns true and the
/// request in flight is answered. The routes find `peer` as `ConnectInfo`.
pub async fn serve_connection<S>(
    io: S,
    peer: Option<SocketAddr>,
    router: Router,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_read_timeout)
        .max_header_size(limits.head_bytes_max)
        .max_headers(limits.headers_max)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = wait_for_close(&mut closing) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The peer's doing, and it was answered where HTTP has an answer.
        tracing::debug!(%error, "a connection ended with an error");
    }
}

async fn wait_for_close(closing: &mut watch::Receiver<bool>) {
    // An error means that the listener is gone, which closes as well.
    let _ = closing.wait_for(|closing| *closing).await;
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
        metrics::counter!("leveret_http_accept_errors_total").increment(1);
        tracing::warn!(%error, "connections can't be accepted");
        tokio::time::sleep(OUT_OF_RESOURCES_PAUSE).await;
    }
}

/// Answers one connection too many as well as it can without waiting for it.
fn refuse(stream: &TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
        Content-Type: application/problem+json\r\nRetry-After: 5\r\n\
        Connection: close\r\n\r\n\
        {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
        \"detail\":\"Too many connections\",\"error\":\"Too many connections\"}";
    metrics::counter!("leveret_http_connections_refused_total").increment(1);
    // Unread bytes would turn the close into a reset, which may take the answer with it.
    let mut unread = [0; 4096];
    let _ = stream.try_read(&mut unread);
    let _ = stream.try_write(ANSWER);
}
