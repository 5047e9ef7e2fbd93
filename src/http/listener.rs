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
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::admitted::Admitted;
use super::arrival::Arrival;
use super::turn::undisturbed;

/// So many connections may wait to be accepted, if the system allows it: all clients of a server come back at
/// once when it was gone. Those beyond have to ask again, a second later or more.
const BACKLOG: u32 = 4_096;

/// A connection that is to end waits this long for more of a request that has not come whole.
const STALLED_AFTER: Duration = Duration::from_secs(1);

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
    /// `None`: no bound.
    pub head_read_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            head_read_timeout: Some(Duration::from_secs(30)),
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
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Its own connections of before may still be closing.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
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
        tokio::spawn(undisturbed(connection));
    }
}

/// The connections that outlive the accept loop.
pub struct Open {
    connections: Arc<Semaphore>,
    connections_max: usize,
    closing: watch::Sender<bool>,
}

impl Open {
    /// Lets requests in flight finish, as long as more of them comes each second until they are whole, and
    /// closes idle connections; resolves when all are closed. Upgraded ones are closed by whoever upgraded
    /// them, so the caller bounds the wait.
    pub async fn drain(self) {
        self.closing.send_replace(true);
        let every_permit = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        // An error means that the semaphore was closed, which nobody does.
        let _ = self.connections.acquire_many(every_permit).await;
    }
}

/// Serves HTTP/1.1 on `io` until the peer leaves, a limit is passed, or `closing` turns true and the
/// request in flight is answered, or no more of it has come for a second. The routes find `peer` as
/// `ConnectInfo`.
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
    let arrival = Arrival::default();
    let arriving = arrival.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| arriving.body(body));
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
            loop {
                let before = arrival.mark();
                match tokio::time::timeout(STALLED_AFTER, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if before.is_some() && arrival.mark() == before => {
                        return tracing::debug!("a connection ended in the middle of a request");
                    }
                    Err(_) => {}
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::post;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    /// A connection to a service that takes five seconds once a request is whole, and what closes it.
    fn connection() -> (DuplexStream, watch::Sender<bool>, JoinHandle<()>) {
        let answer = async |body: Body| {
            let Ok(body) = body.collect().await else { return "cut short".into() };
            tokio::time::sleep(Duration::from_secs(5)).await;
            body.to_bytes()
        };
        let router = Router::new().route("/", post(answer));
        let (client, server) = tokio::io::duplex(1024);
        let closing = watch::Sender::new(false);
        let closed = closing.subscribe();
        let served = serve_connection(server, None, router, Limits::default(), closed);
        (client, closing, tokio::spawn(served))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_cut_short_does_not_hold_the_drain() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n";
        for part in [head.to_owned(), format!("{head}\r\n"), format!("{head}\r\nab")] {
            let (mut client, closing, served) = connection();
            client.write_all(part.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let before = Instant::now();
            closing.send_replace(true);
            served.await.unwrap();
            assert!(before.elapsed() <= 2 * STALLED_AFTER, "{part:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_what_is_served_is_waited_for() {
        let (mut client, closing, served) = connection();
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        closing.send_replace(true);
        for letter in b"slow!" {
            tokio::time::sleep(STALLED_AFTER * 9 / 10).await;
            client.write_all(&[*letter]).await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("slow!"), "{answer}");
        served.await.unwrap();
    }
}
