//! Socket.IO, protocol 5, over one session: what each packet does to the connection.
//!
//! Source: <https://socket.io/docs/v4/socket-io-protocol/>. There is one namespace, `/`.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::application::Application;
use super::events::{self, Incoming};
use super::fanout;
use super::outbound::{CloseReason, Outbound};
use super::roster::{Peer, SocketId};
use super::socket::Socket;
use crate::wire::socket_io::{Body, Decoder, Limits, Namespace, Packet, ParseError, encode};

/// The text that a client finds in `connect_error` when its token is missing or not valid.
const AUTHENTICATION_FAILED: &str = "Authentication failed";

/// The receiving side of a session. Whoever reads the session's messages owns it for that time.
pub struct Connection {
    application: Arc<Application>,
    outbound: Arc<Outbound>,
    decoder: Decoder,
    /// Joined to the namespace.
    socket: Option<Socket>,
}

/// The auth payload of a CONNECT.
#[derive(Deserialize)]
struct Auth {
    token: String,
}

impl Connection {
    pub fn new(application: Arc<Application>, outbound: Arc<Outbound>) -> Self {
        let limits = Limits::default();
        Self { application, outbound, decoder: Decoder::new(limits), socket: None }
    }

    /// Takes a text message. Waits while the session or a room is behind.
    ///
    /// # Errors
    /// Why the session has to be closed.
    pub async fn text(&mut self, text: &str) -> Result<(), CloseReason> {
        match self.decoder.text(text).map_err(unreadable)? {
            Some(packet) => self.packet(packet).await,
            None => Ok(()),
        }
    }

    /// Takes a binary message, which is an attachment.
    ///
    /// # Errors
    /// Why the session has to be closed.
    pub async fn binary(&mut self, attachment: Bytes) -> Result<(), CloseReason> {
        match self.decoder.binary(attachment).map_err(unreadable)? {
            Some(complete) => self.packet(complete.packet().map_err(unreadable)?).await,
            None => Ok(()),
        }
    }

    /// The session ended.
    pub async fn closed(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.depart(&self.application).await;
        }
    }

    async fn packet(&mut self, packet: Packet<'_>) -> Result<(), CloseReason> {
        self.outbound.has_room().await;
        let is_root = packet.namespace == Namespace::ROOT;
        match (packet.body, &mut self.socket) {
            (Body::Connect { .. }, _) if !is_root => {
                self.refuse_connect(packet.namespace, "Invalid namespace");
                Ok(())
            }
            (Body::Connect { auth }, None) => {
                self.connect(auth);
                Ok(())
            }
            (Body::Disconnect, Some(_)) if is_root => {
                self.closed().await;
                Ok(())
            }
            (Body::Event { id, name, args, attachments }, Some(socket)) if is_root => {
                let incoming =
                    Incoming { name: &name, args: &args, is_binary: attachments > 0, ack: id };
                self.outbound.set_held(true);
                events::handle(&self.application, socket, incoming).await;
                self.outbound.set_held(false);
                Ok(())
            }
            // The gateway asks for no acknowledgements; one that comes in late changes nothing.
            (Body::Ack { .. }, Some(_)) if is_root => Ok(()),
            // As the stock server: a packet that the state does not allow ends the session.
            _ => Err(CloseReason::ForcedClose),
        }
    }

    fn connect(&mut self, auth: Option<&RawValue>) {
        let auth = auth.and_then(|auth| serde_json::from_str::<Auth>(auth.get()).ok());
        let claims = auth.map(|auth| self.application.authenticator.verify(&auth.token));
        let Some(Ok(claims)) = claims else {
            self.application.metrics.authentication_failures.increment(1);
            return self.refuse_connect(Namespace::ROOT, AUTHENTICATION_FAILED);
        };
        let peer = Arc::new(Peer {
            id: SocketId::random(),
            user: claims.user.clone(),
            username: claims.username.as_str().into(),
            outbound: Arc::clone(&self.outbound),
        });
        let sid = peer.id.to_string();
        let greeting = fanout::packet(|out| encode::connect(out, Namespace::ROOT, &sid, None));
        if !self.application.arrive(&peer, greeting) {
            return self.refuse_connect(Namespace::ROOT, "Too many connections");
        }
        self.outbound.mark_joined();
        self.socket = Some(Socket::new(peer, claims));
    }

    fn refuse_connect(&self, namespace: Namespace<'_>, message: &str) {
        let frame = fanout::packet(|out| encode::connect_error(out, namespace, message, None));
        self.outbound.reply(frame);
    }
}

fn unreadable(error: ParseError) -> CloseReason {
    tracing::debug!(%error, "a packet could not be read");
    CloseReason::ParseError
}
