//! Why sessions end.

use std::fmt;

use super::websocket::Frame;

/// Why a session ended. The texts are Socket.IO's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The stream ended, or a close packet came.
    TransportClose,
    /// A close frame of the WebSocket came, with its status code.
    ClosedByClient(Option<u16>),
    TransportError,
    PingTimeout,
    ParseError,
    /// What was posted is no payload; the stock server ends such a session without a last poll.
    UnreadablePayload,
    /// The stock server's name for a packet that the connection's state does not allow.
    ForcedClose,
    ConnectTimeout,
    SlowConsumer,
    TooManyEvents,
    /// The token that the client showed has ended.
    TokenExpired,
    ShuttingDown,
    /// Other nodes said more than this one could follow.
    LeftBehind,
    /// A frame that RFC 6455 forbids; the status code says which rule.
    Violation(u16),
}

impl CloseReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportClose | Self::ClosedByClient(_) => "transport close",
            Self::TransportError | Self::Violation(_) => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::ParseError | Self::UnreadablePayload => "parse error",
            Self::ForcedClose => "forced server close",
            Self::ConnectTimeout => "connect timeout",
            Self::SlowConsumer => "slow consumer",
            Self::TooManyEvents => "too many events",
            Self::TokenExpired => "token expired",
            Self::ShuttingDown => "server shutting down",
            Self::LeftBehind => "events were missed",
        }
    }

    /// Whether the peer is known to have left; any other is still told, polling, of the close.
    pub fn is_peer_gone(self) -> bool {
        matches!(
            self,
            Self::TransportClose
                | Self::TransportError
                | Self::PingTimeout
                | Self::UnreadablePayload
        )
    }

    /// The last frame on a WebSocket (RFC 6455 section 7.4.1); `None` when the peer is gone.
    pub fn close_frame(self) -> Option<Frame> {
        let code = match self {
            Self::TransportError | Self::PingTimeout => return None,
            // The client's own code, and it knows why.
            Self::ClosedByClient(code) => return Some(Frame::close(code, "")),
            Self::TransportClose | Self::ForcedClose | Self::ConnectTimeout => 1000,
            Self::ShuttingDown | Self::LeftBehind => 1001,
            Self::ParseError | Self::UnreadablePayload => 1002,
            Self::SlowConsumer | Self::TooManyEvents | Self::TokenExpired => 1008,
            Self::Violation(code) => code,
        };
        let text = match self {
            Self::Violation(1007) => "text is not UTF-8",
            Self::Violation(1009) => "message is too large",
            Self::Violation(_) => "protocol error",
            _ => self.as_str(),
        };
        Some(Frame::close(Some(code), text))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
