//! Why a socket left its namespace.

use std::fmt;

use crate::gateway::close_reason::CloseReason;

/// The texts are Socket.IO's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The client said so.
    ClientNamespace,
    /// [`Socket::disconnect`](super::Socket::disconnect) and the like.
    ServerNamespace,
    /// Its session ended, and every namespace with it.
    Session(CloseReason),
    /// Its client came back on another connection before the end of this one was noticed.
    Resumed,
    /// As [`Self::Resumed`], on another node.
    Moved,
}

impl DisconnectReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientNamespace => "client namespace disconnect",
            Self::ServerNamespace => "server namespace disconnect",
            Self::Session(reason) => reason.as_str(),
            Self::Resumed | Self::Moved => "session resumed",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
