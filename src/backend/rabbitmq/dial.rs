//! One connection: made in bounded time, and watched.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPScheme;
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use rustix::net::Shutdown;

use super::Address;
use super::refusal::{refusal, unreachable};
use crate::backend::BackendError;

/// A server that has not let us in after this time is given up, unless the URL's `connection_timeout`
/// (in milliseconds) says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects; `purpose` is shown to whoever looks at the server's connections.
///
/// # Errors
/// The server's refusal; one that can't be reached or does not answer in time.
pub(super) async fn dial(address: &Address, purpose: &str) -> Result<Connection, BackendError> {
    let uri = address.uri.clone();
    let patience = uri.query.connection_timeout.map_or(PATIENCE, Duration::from_millis);
    let properties =
        ConnectionProperties::default().with_connection_name(format!("leveret {purpose}").into());
    let runtime = lapin::runtime::default_runtime().map_err(refusal)?;
    let socket = Socket::default();
    let (kept, ours) = (socket.clone(), runtime.clone());
    let connect = async move |uri: lapin::uri::AMQPUri, _| {
        let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
        let mut failure = io::Error::other("the host has no address");
        for address in tokio::net::lookup_host((host, port)).await? {
            match AsyncTcpStream::connect(&ours, address).await {
                Ok(stream) => {
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        kept.keep(plain.get_ref())?;
                    }
                    return Ok(match uri.scheme {
                        AMQPScheme::AMQP => stream,
                        AMQPScheme::AMQPS => {
                            let config = OwnedTLSConfig::default();
                            stream.into_tls(host, config.as_ref()).await?
                        }
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    };
    let connecting = Connection::connector(uri, runtime, connect, properties);
    match tokio::time::timeout(patience, connecting).await {
        Ok(connected) => connected.map_err(refusal),
        Err(_) => {
            socket.shut();
            Err(unreachable(format!("no answer within {} ms", patience.as_millis())))
        }
    }
}

/// The socket beneath a connection. The thread that lapin reads it with ends with the socket alone.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<OwnedFd>>>);

impl Socket {
    fn keep(&self, stream: &impl AsFd) -> io::Result<()> {
        *self.0.lock() = Some(rustix::io::dup(stream)?);
        Ok(())
    }

    fn shut(&self) {
        if let Some(socket) = self.0.lock().take() {
            // One that is gone already is what was wanted.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }
}
