//! What can go wrong: for those who call the gateway, and for the clients.

use std::time::Duration;

use crate::backend::BackendError;
use crate::model::names::{ExchangeName, NameError, RoomId};
use crate::wire::socket_io::encode::EncodeError;
use crate::wire::socket_io::{ParseError, PayloadError};

/// Why the gateway did not do what its caller asked for.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("the token is not valid")]
    Token(#[source] jsonwebtoken::errors::Error),
    #[error("without a secret no token can be signed")]
    NoSecret,
    #[error("not a file of public keys: {0}")]
    PublicKey(&'static str),
    #[error("the token's claim `{claim}` is out of bounds")]
    Claims { claim: &'static str },
    #[error("the exchange {exchange} takes no messages from clients: it is internal")]
    InternalExchange { exchange: ExchangeName },
    #[error("The event was not sent: it could not be made durable")]
    NotSent,
    #[error(transparent)]
    Namespace(ParseError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a client's event was refused. The text goes to the client, as the event `error` and in the
/// acknowledgement.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("Unknown event: {name}")]
    UnknownEvent { name: String },
    #[error("{field} {problem}")]
    Field { field: &'static str, problem: &'static str },
    #[error("a message is an object with roomId and content")]
    NoMessage,
    #[error("roomId is not valid: {0}")]
    RoomName(#[from] NameError),
    #[error("content has {bytes} bytes; at most {bytes_max} are allowed")]
    ContentTooLong { bytes: usize, bytes_max: usize },
    #[error("{event} does not take binary arguments")]
    Binary { event: String },
    #[error("Empty message")]
    EmptyMessage,
    #[error("Authentication failed")]
    Token,
    #[error("The token is another user's")]
    AnotherUser,
    #[error("Access denied to room")]
    AccessDenied,
    #[error("Not a member of room {room}")]
    NotMember { room: RoomId },
    #[error("A socket may be in {rooms_max} rooms at most")]
    TooManyRooms { rooms_max: usize },
    #[error("The server has no place for another room")]
    RoomsExhausted,
    #[error("The room is not available")]
    RoomGone,
    #[error("The message could not be encoded: {0}")]
    NotEncoded(EncodeError),
    #[error("Not stored: {0}")]
    NotStored(BackendError),
    #[error("History is not available: {0}")]
    NoHistory(BackendError),
    #[error("argument {number}: {source}")]
    Payload { number: usize, source: PayloadError },
    #[error("The event can't be published: {0}")]
    EventName(NameError),
    #[error("Not published: {0}")]
    NotPublished(BackendError),
    #[error("Nobody takes the event {event}")]
    NobodyTakes { event: String },
    #[error("No reply to {event} within {timeout:?}")]
    NoReply { event: String, timeout: Duration },
    #[error("The reply to {event} could not be read: {reason}")]
    ReplyUnreadable { event: String, reason: String },
    #[error("Too many events wait for a reply")]
    TooManyReplies,
    #[error("{replies_max} events of yours wait for a reply already")]
    TooManyRepliesOfUser { replies_max: usize },
}
