//! The application's events: what a client may say, and what follows from it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, Value};
use uuid::{NoContext, Timestamp, Uuid};

use super::application::Application;
use super::error::Refusal;
use super::fanout::{self, UserRef};
use super::history::ChatMessage;
use super::room::Post;
use super::roster::Peer;
use super::socket::Socket;
use crate::model::names::RoomId;

/// Characters of a status, and of a message's type.
const LABEL_CHARS_MAX: usize = 32;

/// Characters of an unknown event's name that are repeated to its sender.
const NAME_SHOWN_CHARS_MAX: usize = 64;

/// What begins a personal room's name. No client may say it; see [`super::roster`].
const PERSONAL_PREFIX: &str = "user:";

/// An event as it came: a name and its arguments.
pub struct Incoming<'a> {
    pub name: &'a str,
    pub args: &'a [&'a RawValue],
    pub is_binary: bool,
    /// The acknowledgement that the client waits for.
    pub ack: Option<u64>,
}

/// An event that is well-formed.
#[derive(Debug, PartialEq, Eq)]
enum ClientEvent {
    Join(RoomId),
    Leave(RoomId),
    Send { room: RoomId, content: String, kind: String },
    TypingStart(RoomId),
    TypingStop(RoomId),
    Presence { status: String },
}

/// Does what the event asks for and acknowledges it, or says why not. Waits while the room is behind.
pub async fn handle(application: &Application, socket: &mut Socket, incoming: Incoming<'_>) {
    application.metrics.events.increment(1);
    let ack = incoming.ack;
    let outcome = match ClientEvent::parse(&incoming, application.limits.content_bytes_max) {
        Ok(event) => apply(application, socket, event, ack).await,
        Err(refusal) => Err(refusal),
    };
    let outbound = &socket.peer.outbound;
    match (outcome, ack) {
        (Ok(Answer::Now(answer)), Some(ack)) => outbound.reply(fanout::ack(ack, &answer)),
        (Ok(_), _) => {}
        (Err(refusal), ack) => {
            application.metrics.refusals.increment(1);
            for frame in fanout::refusal(&refusal, ack) {
                outbound.reply(frame);
            }
        }
    }
}

enum Answer {
    Now(Done),
    /// The room acknowledges the message when it is durable.
    WhenDurable,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
}

impl Answer {
    fn in_room(room: RoomId) -> Self {
        Self::Now(Done { ok: true, room_id: Some(room), status: None })
    }
}

async fn apply(
    application: &Application,
    socket: &mut Socket,
    event: ClientEvent,
    ack: Option<u64>,
) -> Result<Answer, Refusal> {
    match event {
        ClientEvent::Join(room) => {
            socket.join(application, &room).await?;
            Ok(Answer::in_room(room))
        }
        ClientEvent::Leave(room) => {
            socket.leave(&room).await?;
            Ok(Answer::in_room(room))
        }
        ClientEvent::Send { room, content, kind } => {
            let handle = socket.room(&room)?;
            handle.post(compose(application, &socket.peer, &room, &content, &kind, ack)?).await?;
            Ok(Answer::WhenDurable)
        }
        ClientEvent::TypingStart(room) => {
            let typing = UserRef {
                user_id: socket.peer.user.as_str(),
                username: Some(&socket.peer.username),
            };
            let frame = fanout::own_event("typing:user", &typing);
            socket.room(&room)?.relay(frame, Some(socket.peer.id)).await?;
            Ok(Answer::in_room(room))
        }
        ClientEvent::TypingStop(room) => {
            let typing = UserRef { user_id: socket.peer.user.as_str(), username: None };
            let frame = fanout::own_event("typing:stop", &typing);
            socket.room(&room)?.relay(frame, Some(socket.peer.id)).await?;
            Ok(Answer::in_room(room))
        }
        ClientEvent::Presence { status } => {
            application.set_status(&socket.peer, &status);
            Ok(Answer::Now(Done { ok: true, room_id: None, status: Some(status) }))
        }
    }
}

/// The message that the history keeps and everybody gets, with its id and time.
fn compose(
    application: &Application,
    sender: &Arc<Peer>,
    room: &RoomId,
    content: &str,
    kind: &str,
    ack: Option<u64>,
) -> Result<Post, Refusal> {
    let now_ms = application.clock.now_ms();
    // A version 7 id, so that ids sort by time; made from the gateway's clock.
    let (seconds, millis) = (now_ms / 1000, now_ms % 1000);
    let nanos = u32::try_from(millis * 1_000_000).unwrap_or_default();
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos)).to_string();
    let message = ChatMessage {
        id: &id,
        room_id: room.as_str(),
        user_id: sender.user.as_str(),
        username: &sender.username,
        content,
        kind,
        timestamp: now_ms,
    };
    let json = serde_json::value::to_raw_value(&message).map_err(Refusal::NotEncoded)?;
    Ok(Post { sender: Arc::clone(sender), ack, id, json })
}

impl ClientEvent {
    fn parse(incoming: &Incoming<'_>, content_bytes_max: usize) -> Result<Self, Refusal> {
        let parse: fn(&Argument, usize) -> Result<Self, Refusal> = match incoming.name {
            "join:room" => |argument, _| Ok(Self::Join(argument.room()?)),
            "leave:room" => |argument, _| Ok(Self::Leave(argument.room()?)),
            "message:send" => Self::parse_send,
            "typing:start" => |argument, _| Ok(Self::TypingStart(argument.room()?)),
            "typing:stop" => |argument, _| Ok(Self::TypingStop(argument.room()?)),
            "presence:update" => |argument, _| {
                Ok(Self::Presence { status: label("status", argument.text_or("status")?)? })
            },
            unknown => {
                let name = unknown.chars().take(NAME_SHOWN_CHARS_MAX).collect();
                return Err(Refusal::UnknownEvent { name });
            }
        };
        if incoming.is_binary {
            return Err(Refusal::Binary { event: incoming.name.to_owned() });
        }
        parse(&Argument::first_of(incoming.args), content_bytes_max)
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
        Ok(Self::Send { room, content: content.to_owned(), kind })
    }
}

/// An event's only argument; null when the client sent none.
struct Argument(Value);

impl Argument {
    fn first_of(args: &[&RawValue]) -> Self {
        // A packet's data was checked to be JSON, and no deeper than serde_json reads.
        let value = args.first().and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self(value.unwrap_or_default())
    }

    /// The argument itself, or the member `field` of it.
    fn text_or(&self, field: &'static str) -> Result<&str, Refusal> {
        let value = match &self.0 {
            Value::Object(fields) => fields.get(field).unwrap_or(&Value::Null),
            value => value,
        };
        value.as_str().ok_or(Refusal::Field { field, problem: "must be a string" })
    }

    /// A room that clients may name: personal rooms are none.
    fn room(&self) -> Result<RoomId, Refusal> {
        let name = self.text_or("roomId")?;
        if name.starts_with(PERSONAL_PREFIX) {
            return Err(Refusal::AccessDenied);
        }
        Ok(RoomId::new(name)?)
    }
}

/// A short word that others are shown.
fn label(field: &'static str, text: &str) -> Result<String, Refusal> {
    let length = text.chars().count();
    if length == 0 || length > LABEL_CHARS_MAX || text.chars().any(char::is_control) {
        let problem = "must have 1 to 32 characters and no control characters";
        return Err(Refusal::Field { field, problem });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, arg: &str) -> Result<ClientEvent, String> {
        let raw: &RawValue = serde_json::from_str(arg).unwrap();
        let incoming = Incoming { name, args: &[raw], is_binary: false, ack: None };
        ClientEvent::parse(&incoming, 64).map_err(|refusal| refusal.to_string())
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
            Ok(ClientEvent::Send {
                room: room("general"),
                content: " hi ".to_owned(),
                kind: "text".to_owned()
            })
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
    fn what_is_unknown_or_binary_is_named() {
        assert_eq!(parse("order:new", "{}").unwrap_err(), "Unknown event: order:new");
        let incoming = Incoming { name: "join:room", args: &[], is_binary: true, ack: None };
        let refusal = ClientEvent::parse(&incoming, 64).unwrap_err();
        assert_eq!(refusal.to_string(), "join:room does not take binary arguments");
    }
}
