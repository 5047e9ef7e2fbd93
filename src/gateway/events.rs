//! The application's events: what a client may say, and what follows from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::{NoContext, Timestamp, Uuid};

use super::application::Application;
use super::error::Refusal;
use super::history::ChatMessage;
use super::io::{Ack, Attachments, EventName, Namespace, Outgoing, Socket};
use super::member::Peer;
use super::metrics::Metrics;
use super::repeats::Named;
use super::room::Post;
use crate::model::names::RoomId;
use crate::wire::socket_io::Namespace as NamespaceName;
use crate::wire::socket_io::encode::EncodeError;

/// Characters of a status, and of a message's type.
const LABEL_CHARS_MAX: usize = 32;

const CLIENT_ID_BYTES_MAX: usize = 64;

/// Characters of an unknown event's name that are repeated to its sender.
pub const NAME_SHOWN_CHARS_MAX: usize = 64;

/// The event of a message that a room is told.
pub const MESSAGE_NEW: &str = "message:new";

/// The event of what a user is to be told.
pub const NOTIFICATION: &str = "notification";

/// What begins a personal room's name. No client may say it.
pub const PERSONAL_PREFIX: &str = "user:";

pub fn is_personal(room: &str) -> bool {
    room.starts_with(PERSONAL_PREFIX)
}

/// The event by which a client shows a fresh token, in every namespace that takes tokens.
pub const REFRESH: &str = "auth:refresh";

/// What clients may say.
const EVENTS: [&str; 7] = [
    "join:room",
    "leave:room",
    "message:send",
    "typing:start",
    "typing:stop",
    "presence:update",
    REFRESH,
];

/// Whether an event is one of the application's in a namespace.
pub fn is_own(namespace: &str, event: &str) -> bool {
    event == REFRESH || namespace == "/" && EVENTS.contains(&event)
}

/// A user, as events tell of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRef<'a> {
    pub user_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<&'a str>,
}

/// An event that is well-formed.
#[derive(Debug, PartialEq, Eq)]
enum ClientEvent {
    Join(RoomId),
    Leave(RoomId),
    Send(Message),
    TypingStart(RoomId),
    TypingStop(RoomId),
    Presence { status: String },
    Refresh { token: String },
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    room: RoomId,
    content: String,
    kind: String,
    /// The sender's own name for it: what has the same one is the same message, sent again.
    client_id: Option<Box<str>>,
}

/// Has a namespace obey the application's events. A client's next event waits until one is done, so
/// that a message behind its join is not too early.
pub fn register(namespace: &Namespace, application: &Arc<Application>) {
    for name in EVENTS {
        let application = Arc::clone(application);
        let obey = move |socket: Socket, argument: Argument, binary: Attachments, ack: Ack| {
            let content_bytes_max = application.limits.content_bytes_max;
            let event = match binary.0.is_empty() {
                true => ClientEvent::parse(name, &argument, content_bytes_max),
                false => Err(Refusal::Binary { event: name.to_owned() }),
            };
            let application = Arc::clone(&application);
            async move { handle(&application, socket, event, ack).await }
        };
        namespace.on_in_order(name, obey);
    }
    let metrics = Arc::clone(&application.metrics);
    namespace.on_any_other(move |socket: Socket, EventName(name): EventName, ack: Ack| {
        refuse(&metrics, &socket, &unknown(&name), ack);
        std::future::ready(())
    });
}

/// Has a namespace beside the application's own obey the one event that both have.
pub fn register_refresh(namespace: &Namespace, application: &Arc<Application>) {
    let application = Arc::clone(application);
    let obey = move |socket: Socket, argument: Argument, binary: Attachments, ack: Ack| {
        let token = match binary.0.is_empty() {
            true => argument.token(),
            false => Err(Refusal::Binary { event: REFRESH.to_owned() }),
        };
        let refreshed = token.and_then(|token| application.refresh_guest(&socket, &token));
        answer(&application.metrics, &socket, refreshed.map(Done::until), ack);
        std::future::ready(())
    };
    namespace.on_in_order(REFRESH, obey);
}

pub fn unknown(event: &str) -> Refusal {
    Refusal::UnknownEvent { name: event.chars().take(NAME_SHOWN_CHARS_MAX).collect() }
}

/// Does what the event asks for and acknowledges it, or says why not. Waits while the room is behind.
async fn handle(
    application: &Application,
    socket: Socket,
    event: Result<ClientEvent, Refusal>,
    ack: Ack,
) {
    let Some(peer) = Peer::of(socket) else { return };
    let outcome = match event {
        Ok(ClientEvent::Send(message)) => return send(application, &peer, message, ack).await,
        Ok(event) => apply(application, &peer, event).await,
        Err(refusal) => Err(refusal),
    };
    answer(&application.metrics, &peer.socket, outcome, ack);
}

fn answer(metrics: &Metrics, socket: &Socket, outcome: Result<Done, Refusal>, ack: Ack) {
    match outcome {
        // A few texts always have a JSON form.
        Ok(done) => drop(ack.send_at_once(&done)),
        Err(refusal) => refuse(metrics, socket, &refusal, ack),
    }
}

/// Tells a client that its event was refused: by the event `error`, and by the acknowledgement if it
/// waits for one.
pub fn refuse(metrics: &Metrics, socket: &Socket, refusal: &Refusal, ack: Ack) {
    metrics.refusals.increment(1);
    let text = refusal.to_string();
    let told = Outgoing::event(socket.hub().name(), "error", None, &json!({ "message": text }));
    if let Ok(event) = told {
        socket.answer(&event);
    }
    // A text always has a JSON form.
    let _ = ack.send_at_once(json!({ "error": text }));
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// When the token ends, in seconds since the Unix epoch, as its `exp`.
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    expires_at_s: Option<u64>,
}

impl Done {
    fn in_room(room: RoomId) -> Self {
        Self { room_id: Some(room), ..Self::default() }
    }

    fn until(expires_at_s: u64) -> Self {
        Self { expires_at_s: Some(expires_at_s), ..Self::default() }
    }
}

impl Default for Done {
    fn default() -> Self {
        Self { ok: true, room_id: None, status: None, expires_at_s: None }
    }
}

async fn apply(
    application: &Application,
    peer: &Peer,
    event: ClientEvent,
) -> Result<Done, Refusal> {
    match event {
        ClientEvent::Join(room) => {
            peer.join(application, &room).await?;
            Ok(Done::in_room(room))
        }
        ClientEvent::Leave(room) => {
            peer.leave(&room).await?;
            Ok(Done::in_room(room))
        }
        ClientEvent::TypingStart(room) => {
            let username = Some(&*peer.member.username);
            tell_typing(peer, &room, "typing:user", username).await?;
            Ok(Done::in_room(room))
        }
        ClientEvent::TypingStop(room) => {
            tell_typing(peer, &room, "typing:stop", None).await?;
            Ok(Done::in_room(room))
        }
        ClientEvent::Presence { status } => {
            application.set_status(peer, &status);
            Ok(Done { status: Some(status), ..Done::default() })
        }
        ClientEvent::Refresh { token } => Ok(Done::until(application.refresh(peer, &token).await?)),
        ClientEvent::Send(_) => Err(Refusal::NoMessage),
    }
}

async fn tell_typing(
    peer: &Peer,
    room: &RoomId,
    event: &str,
    username: Option<&str>,
) -> Result<(), Refusal> {
    let typing = UserRef { user_id: peer.user().as_str(), username };
    let packet =
        Outgoing::event(NamespaceName::ROOT, event, None, &&typing).map_err(Refusal::NotEncoded)?;
    peer.room(room)?.relay(packet, Some(peer.id()), None).await
}

/// Hands a message to its room, which acknowledges it when it is durable.
async fn send(application: &Application, peer: &Peer, message: Message, ack: Ack) {
    let composed = peer.room(&message.room).and_then(|handle| {
        let (id, json) = compose(application, peer, &message)?;
        Ok((handle, id, json))
    });
    let (handle, id, json) = match composed {
        Ok(composed) => composed,
        Err(refusal) => return refuse(&application.metrics, &peer.socket, &refusal, ack),
    };
    let Message { room, client_id, .. } = message;
    let named = client_id.map(|client_id| Named { user: peer.user().clone(), room, client_id });
    let post = Post { sender: peer.clone(), ack, id, json, named };
    if let Err((refusal, ack)) = handle.post(post).await {
        refuse(&application.metrics, &peer.socket, &refusal, ack);
    }
}

/// The message that the history keeps and everybody gets, with its id and time.
fn compose(
    application: &Application,
    sender: &Peer,
    message: &Message,
) -> Result<(String, Box<RawValue>), Refusal> {
    let now_ms = application.clock.now_ms();
    // A version 7 id, so that ids sort by time; made from the gateway's clock.
    let (seconds, millis) = (now_ms / 1000, now_ms % 1000);
    let nanos = u32::try_from(millis * 1_000_000).unwrap_or_default();
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos)).to_string();
    let stored = ChatMessage {
        id: &id,
        room_id: message.room.as_str(),
        user_id: sender.user().as_str(),
        username: &sender.member.username,
        content: &message.content,
        kind: &message.kind,
        client_id: message.client_id.as_deref(),
        timestamp: now_ms,
    };
    let json = serde_json::value::to_raw_value(&stored)
        .map_err(|error| Refusal::NotEncoded(EncodeError::Argument(error)))?;
    Ok((id, json))
}

impl ClientEvent {
    fn parse(name: &str, argument: &Argument, content_bytes_max: usize) -> Result<Self, Refusal> {
        let parse: fn(&Argument, usize) -> Result<Self, Refusal> = match name {
            "join:room" => |argument, _| Ok(Self::Join(argument.room()?)),
            "leave:room" => |argument, _| Ok(Self::Leave(argument.room()?)),
            "message:send" => Self::parse_send,
            "typing:start" => |argument, _| Ok(Self::TypingStart(argument.room()?)),
            "typing:stop" => |argument, _| Ok(Self::TypingStop(argument.room()?)),
            "presence:update" => |argument, _| {
                Ok(Self::Presence { status: label("status", argument.text_or("status")?)? })
            },
            REFRESH => |argument, _| Ok(Self::Refresh { token: argument.token()? }),
            other => return Err(unknown(other)),
        };
        parse(argument, content_bytes_max)
    }

    fn parse_send(argument: &Argument, content_bytes_max: usize) -> Result<Self, Refusal> {
        let Argument(Value::Object(fields)) = argument else {
            return Err(Refusal::NoMessage);
        };
        let room = argument.room()?;
        let content = argument.text_or("content")?;
        if content.trim().is_empty() {
            return Err(Refusal::EmptyMessage);
        }
        let (bytes, bytes_max) = (content.len(), content_bytes_max);
        if bytes > bytes_max {
            return Err(Refusal::ContentTooLong { bytes, bytes_max });
        }
        let kind = match fields.get("type") {
            None | Some(Value::Null) => "text".to_owned(),
            Some(Value::String(kind)) => label("type", kind)?,
            Some(_) => return Err(Refusal::Field { field: "type", problem: "must be a string" }),
        };
        let client_id = match fields.get("clientId") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if is_client_id(name) => Some(name.as_str().into()),
            Some(_) => {
                let problem = "must be a string of 1 to 64 bytes without control characters";
                return Err(Refusal::Field { field: "clientId", problem });
            }
        };
        Ok(Self::Send(Message { room, content: content.to_owned(), kind, client_id }))
    }
}

/// An event's only argument; null when the client sent none.
#[derive(Deserialize)]
struct Argument(Value);

impl Argument {
    /// The argument itself, or the member `field` of it.
    fn text_or(&self, field: &'static str) -> Result<&str, Refusal> {
        let value = match &self.0 {
            Value::Object(fields) => fields.get(field).unwrap_or(&Value::Null),
            value => value,
        };
        value.as_str().ok_or(Refusal::Field { field, problem: "must be a string" })
    }

    fn token(&self) -> Result<String, Refusal> {
        Ok(self.text_or("token")?.to_owned())
    }

    /// A room that clients may name: personal rooms are none.
    fn room(&self) -> Result<RoomId, Refusal> {
        let name = self.text_or("roomId")?;
        if is_personal(name) {
            return Err(Refusal::AccessDenied);
        }
        Ok(RoomId::new(name)?)
    }
}

fn is_client_id(name: &str) -> bool {
    (1..=CLIENT_ID_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

pub fn is_label(text: &str) -> bool {
    let length = text.chars().count();
    (1..=LABEL_CHARS_MAX).contains(&length) && !text.chars().any(char::is_control)
}

/// A short word that others are shown.
fn label(field: &'static str, text: &str) -> Result<String, Refusal> {
    if !is_label(text) {
        let problem = "must have 1 to 32 characters and no control characters";
        return Err(Refusal::Field { field, problem });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, arg: &str) -> Result<ClientEvent, String> {
        ClientEvent::parse(name, &serde_json::from_str(arg).unwrap(), 64)
            .map_err(|refusal| refusal.to_string())
    }

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    #[test]
    fn a_room_is_a_string_or_a_member() {
        for arg in [r#""general""#, r#"{"roomId":"general"}"#] {
            assert_eq!(parse("join:room", arg), Ok(ClientEvent::Join(room("general"))));
            assert_eq!(parse("leave:room", arg), Ok(ClientEvent::Leave(room("general"))));
            assert_eq!(parse("typing:start", arg), Ok(ClientEvent::TypingStart(room("general"))));
            assert_eq!(parse("typing:stop", arg), Ok(ClientEvent::TypingStop(room("general"))));
        }
        for arg in ["null", "7", "{}", "[]", r#"{"roomId":7}"#] {
            assert_eq!(parse("join:room", arg), Err("roomId must be a string".to_owned()));
        }
        assert_eq!(
            parse("join:room", r#""""#).unwrap_err(),
            "roomId is not valid: the room is empty"
        );
    }

    #[test]
    fn personal_rooms_cannot_be_named() {
        for event in ["join:room", "leave:room", "typing:start", "typing:stop"] {
            assert_eq!(parse(event, r#""user:bob""#).unwrap_err(), "Access denied to room");
        }
        let message = r#"{"roomId":"user:bob","content":"hi"}"#;
        assert_eq!(parse("message:send", message).unwrap_err(), "Access denied to room");
    }

    #[test]
    fn a_message_has_content_and_a_type() {
        assert_eq!(
            parse("message:send", r#"{"roomId":"general","content":" hi "}"#),
            Ok(ClientEvent::Send(Message {
                room: room("general"),
                content: " hi ".to_owned(),
                kind: "text".to_owned(),
                client_id: None,
            }))
        );
        for content in [r#""""#, r#""  ""#, r#""\n\t\u00a0""#] {
            let message = format!(r#"{{"roomId":"general","content":{content}}}"#);
            assert_eq!(parse("message:send", &message).unwrap_err(), "Empty message");
        }
        let long = format!(r#"{{"roomId":"general","content":"{}"}}"#, "x".repeat(65));
        assert_eq!(
            parse("message:send", &long).unwrap_err(),
            "content has 65 bytes; at most 64 are allowed"
        );
        let cases = [
            (r#""hi""#, "a message is an object with roomId and content"),
            (r#"{"roomId":"general"}"#, "content must be a string"),
            (r#"{"roomId":"general","content":null}"#, "content must be a string"),
            (r#"{"roomId":"general","content":7}"#, "content must be a string"),
            (r#"{"content":"hi"}"#, "roomId must be a string"),
            (r#"{"roomId":"general","content":"hi","type":7}"#, "type must be a string"),
        ];
        for (message, refusal) in cases {
            assert_eq!(parse("message:send", message).unwrap_err(), refusal);
        }
    }

    #[test]
    fn a_status_is_a_short_word() {
        for arg in [r#""away""#, r#"{"status":"away"}"#] {
            let status = "away".to_owned();
            assert_eq!(parse("presence:update", arg), Ok(ClientEvent::Presence { status }));
        }
        let long = format!("\"{}\"", "x".repeat(33));
        for arg in [r#""""#, r#""a\u0000b""#, &long] {
            assert!(parse("presence:update", arg).unwrap_err().starts_with("status must have"));
        }
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert_eq!(parse("order:new", "{}").unwrap_err(), "Unknown event: order:new");
    }
}
