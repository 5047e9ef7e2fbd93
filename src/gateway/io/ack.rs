//! The acknowledgement that a client waits for.

use std::sync::Arc;

use super::outgoing::Outgoing;
use super::socket::Socket;
use crate::wire::socket_io::ToArgs;
use crate::wire::socket_io::encode::EncodeError;

/// Answers one event of a client, once. Does nothing when the client asked for no answer.
#[derive(Debug)]
pub struct Ack {
    socket: Socket,
    id: Option<u64>,
}

impl Ack {
    pub(crate) fn new(socket: Socket, id: Option<u64>) -> Self {
        Self { socket, id }
    }

    /// Whether the client waits for it.
    pub fn is_wanted(&self) -> bool {
        self.id.is_some()
    }

    /// Sends the arguments; see [`ToArgs`] for one and for several.
    ///
    /// # Errors
    /// [`EncodeError`] when an argument has no JSON form; the client then gets no answer.
    pub fn send(self, args: impl ToArgs) -> Result<(), EncodeError> {
        let Some(id) = self.id else { return Ok(()) };
        let packet = Outgoing::ack(self.socket.hub().name(), id, &args)?;
        drop(args);
        let hub = Arc::clone(self.socket.hub());
        match hub.recovery() {
            // What was emitted before comes before.
            Some(recovery) => {
                recovery.after_pending(packet.wire_bytes(), move || self.socket.answer(&packet));
            }
            None => self.socket.answer(&packet),
        }
        Ok(())
    }

    /// As [`Self::send`], before what was emitted and is not sent yet.
    pub(crate) fn send_at_once(self, args: impl ToArgs) -> Result<(), EncodeError> {
        let Some(id) = self.id else { return Ok(()) };
        self.socket.answer(&Outgoing::ack(self.socket.hub().name(), id, &args)?);
        Ok(())
    }
}
