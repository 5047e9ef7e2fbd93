//! The public name of a socket.

use std::fmt;

use uuid::Uuid;

/// A Socket.IO socket's public name. Not the Engine.IO session's id, which is a secret of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(Uuid);

impl SocketId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// `None`: the text is no socket's id.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
