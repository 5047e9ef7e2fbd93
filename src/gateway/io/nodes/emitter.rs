//! Socket.IO's own Redis emitter (npm `@socket.io/redis-emitter`): what it publishes, every node does to its
//! own sockets.
//!
//! Source: the package's `dist/index.js` (5.1), and who reads it, `@socket.io/redis-adapter`. An event is the
//! MessagePack array `[uid, packet, {rooms, except, flags}]` on `socket.io#<namespace>#` or, for one room,
//! `socket.io#<namespace>#<room>#`; what is asked of sockets is JSON on `socket.io-request#<namespace>#`.
//!
//! What always holds: events and requests are done in the order in which they were published; an event
//! comes at most once, and is not kept for who comes back later.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use metrics::{Counter, counter};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::backend::Cache;
use crate::gateway::io::broadcast::Broadcast;
use crate::gateway::io::hub::{Hub, JoinError};
use crate::gateway::io::outgoing::Draft;
use crate::gateway::io::recovery::Audience;
use crate::gateway::io::socket::Socket;
use crate::wire::engine_io::MESSAGE;
use crate::wire::socket_io::{
    Body, Limits, Packet, ParseError, PayloadError, check_payload, msgpack,
};

/// Between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);

/// A log line about what can't be done is written no more often than this.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Names of rooms that one message may have, of each kind.
const ROOMS_MAX: usize = 1_000;

/// Joins and leaves that are done before others have a turn, and what they changed is with the server: a request
/// may be of many rooms and of all sockets.
const CHANGES_AT_ONCE: usize = 64;

/// What an emitter can have done.
#[derive(Debug)]
enum Order {
    Event {
        to: Audience,
        is_volatile: bool,
        text: Vec<u8>,
        attachments: Vec<Bytes>,
    },
    Join {
        to: Audience,
        rooms: Vec<String>,
    },
    Leave {
        to: Audience,
        rooms: Vec<String>,
    },
    Disconnect {
        to: Audience,
        is_closed: bool,
    },
    /// An event of another namespace, whose channel begins as this one's.
    Foreign,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is neither an event in MessagePack nor a request in JSON")]
    Form,
    #[error("its packet can't be read: {0}")]
    Packet(#[from] ParseError),
    #[error("its packet is no event, or one that waits for an acknowledgement")]
    NoEvent,
    #[error("an argument: {0}")]
    Argument(#[from] PayloadError),
    #[error("it can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it names more than {ROOMS_MAX} rooms")]
    Rooms,
    #[error(
        "serverSideEmit has no listeners here: no handler of this server takes events of other servers"
    )]
    ServerSideEmit,
    #[error("requests of type {0} are of other servers: this one answers none")]
    Request(u64),
}

#[derive(Debug, Default, Deserialize)]
struct Options {
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    flags: Flags,
}

/// Compression is the connection's own affair here.
#[derive(Debug, Default, Deserialize)]
struct Flags {
    #[serde(default)]
    volatile: bool,
}

#[derive(Deserialize)]
struct Request {
    r#type: u64,
    #[serde(default)]
    opts: Options,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    close: bool,
}

/// Does what emitters publish, for as long as there is the namespace.
pub async fn follow(hub: Weak<Hub>, cache: Cache, namespace: String) {
    let requests = format!("socket.io-request#{namespace}#");
    let events = format!("socket.io#{}#*", literally(&namespace));
    let mut complaints = Complaints::default();
    loop {
        let mut published = match cache.subscribe_both(&requests, &events).await {
            Ok(published) => published,
            Err(error) => {
                tracing::debug!(%error, "emitters are not listened to");
                sleep(LISTEN_AGAIN).await;
                if hub.strong_count() == 0 {
                    return;
                }
                continue;
            }
        };
        while let Some(message) = published.next().await {
            let Some(hub) = hub.upgrade() else { return };
            match Order::read(&message, &namespace) {
                Ok(order) => order.carry_out(&hub, &cache).await,
                Err(refused) => complaints.note(&namespace, &refused),
            }
            tokio::task::consume_budget().await;
        }
        return;
    }
}

/// A pattern of Redis that fits this text alone.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}

impl Order {
    fn read(message: &[u8], namespace: &str) -> Result<Self, Refused> {
        match message.first() {
            // An array of three.
            Some(0x93) => Self::event(message, namespace),
            Some(b'{') => Self::request(message),
            _ => Err(Refused::Form),
        }
    }

    fn event(message: &[u8], namespace: &str) -> Result<Self, Refused> {
        let (packet, attachments, options) = msgpack::decode_published(message, Limits::default())?;
        let options: Options = serde_json::from_slice(&options)?;
        let parsed = Packet::parse(&packet, attachments.len())?;
        if parsed.namespace.as_str() != namespace {
            return Ok(Self::Foreign);
        }
        let Body::Event { id: None, args, .. } = &parsed.body else { return Err(Refused::NoEvent) };
        args.iter().try_for_each(|arg| check_payload(arg))?;
        let mut text = Vec::with_capacity(1 + packet.len());
        text.push(MESSAGE);
        text.extend_from_slice(packet.as_bytes());
        let is_volatile = options.flags.volatile;
        Ok(Self::Event { to: options.audience()?, is_volatile, text, attachments })
    }

    fn request(message: &[u8]) -> Result<Self, Refused> {
        let Request { r#type, opts, rooms, close } = serde_json::from_slice(message)?;
        if rooms.len() > ROOMS_MAX {
            return Err(Refused::Rooms);
        }
        Ok(match r#type {
            2 => Self::Join { to: opts.audience()?, rooms },
            3 => Self::Leave { to: opts.audience()?, rooms },
            4 => Self::Disconnect { to: opts.audience()?, is_closed: close },
            6 => return Err(Refused::ServerSideEmit),
            other => return Err(Refused::Request(other)),
        })
    }

    async fn carry_out(self, hub: &Arc<Hub>, cache: &Cache) {
        let chosen = |to| Broadcast::new(Arc::clone(hub)).for_audience(to).local();
        match self {
            Self::Event { to, is_volatile, text, attachments } => {
                let chosen = chosen(&to).unlogged();
                let chosen = if is_volatile { chosen.volatile() } else { chosen };
                hub.count_deliveries(chosen.send(&Draft::of_parts(&text, attachments)));
            }
            Self::Join { to, rooms } => {
                let (mut refused, mut why) = (0_usize, None);
                let join = |socket: &Socket, room: &str| match socket.join(room) {
                    Ok(_) | Err(JoinError::Disconnected) => {}
                    Err(error) => (refused, why) = (refused + 1, Some(error)),
                };
                change(chosen(&to).fetch_sockets(), &rooms, cache, join).await;
                if let Some(error) = why {
                    tracing::warn!(refused, %error, "sockets did not join all rooms of an emitter");
                }
            }
            Self::Leave { to, rooms } => {
                let leave = |socket: &Socket, room: &str| _ = socket.leave(room);
                change(chosen(&to).fetch_sockets(), &rooms, cache, leave).await;
            }
            Self::Disconnect { to, is_closed: true } => chosen(&to).close(),
            Self::Disconnect { to, is_closed: false } => chosen(&to).disconnect(),
            Self::Foreign => {}
        }
    }
}

/// Changes the rooms of sockets, some of them at a time.
async fn change(
    sockets: Vec<Socket>,
    rooms: &[String],
    cache: &Cache,
    mut change: impl FnMut(&Socket, &str),
) {
    let mut changes = 0;
    for socket in sockets {
        for room in rooms {
            change(&socket, room);
            changes += 1;
            if changes % CHANGES_AT_ONCE == 0 {
                // While it is away what was changed is noted later.
                let _ = cache.flush().await;
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Options {
    fn audience(self) -> Result<Audience, Refused> {
        if self.rooms.len() > ROOMS_MAX || self.except.len() > ROOMS_MAX {
            return Err(Refused::Rooms);
        }
        // Without a socket there is none that could be wrong.
        Ok(Audience::of_names(self.rooms, self.except, None).unwrap_or_default())
    }
}

/// Counts what can't be done, and says it now and then.
struct Complaints {
    counted: Counter,
    said_at: Option<Instant>,
}

impl Default for Complaints {
    fn default() -> Self {
        Self { counted: counter!("leveret_emitter_refused_total"), said_at: None }
    }
}

impl Complaints {
    fn note(&mut self, namespace: &str, refused: &Refused) {
        self.counted.increment(1);
        if self.said_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            self.said_at = Some(Instant::now());
            tracing::warn!(namespace, %refused, "what an emitter published is not done");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::io::recovery::Target;

    /// `new Emitter(redis).to("a").to("b").except("c").volatile.emit("hi", 7, Buffer.from([1, 2]))`, as
    /// version 5.1.0 publishes it.
    const EVENT: &[u8] =
        b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x93\xa2hi\x07\xc4\x02\x01\x02\xa3nsp\xa1/\
        \x83\xa5rooms\x92\xa1a\xa1b\xa5flags\x81\xa8volatile\xc3\xa6except\x91\xa1c";

    fn targets(names: &[&'static str]) -> Vec<Target<'static>> {
        names.iter().map(|name| Target::of(*name)).collect()
    }

    #[test]
    fn an_event_is_read_as_the_stock_emitter_writes_it() {
        let Order::Event { to, is_volatile, text, attachments } = Order::read(EVENT, "/").unwrap()
        else {
            panic!("an event");
        };
        assert_eq!(text, br#"451-["hi",7,{"_placeholder":true,"num":0}]"#);
        assert_eq!(attachments, [&b"\x01\x02"[..]]);
        assert!(is_volatile);
        assert_eq!((to.to, to.except_rooms), (targets(&["a", "b"]), targets(&["c"])));
        assert!(matches!(Order::read(EVENT, "/other"), Ok(Order::Foreign)));
    }

    #[test]
    fn requests_are_read_as_the_stock_emitter_writes_them() {
        let read = |text: &str| Order::read(text.as_bytes(), "/").unwrap();
        let opts = r#""opts":{"rooms":["a"],"except":[]}"#;
        let Order::Join { to, rooms } = read(&format!(r#"{{"type":2,{opts},"rooms":["x","y"]}}"#))
        else {
            panic!("a join");
        };
        assert_eq!((to.to, rooms), (targets(&["a"]), vec!["x".to_owned(), "y".to_owned()]));
        let leave = read(&format!(r#"{{"type":3,{opts},"rooms":["x"]}}"#));
        assert!(matches!(leave, Order::Leave { .. }));
        let close = read(&format!(r#"{{"type":4,{opts},"close":true}}"#));
        assert!(matches!(close, Order::Disconnect { is_closed: true, .. }));
    }

    #[test]
    fn what_is_none_of_an_emitters_is_refused_with_the_reason() {
        let event = |packet: &str, options: &[u8]| {
            let packet = msgpack::encode(packet, &[]).unwrap();
            [b"\x93\xa1x", &packet[..], options].concat()
        };
        let deep = format!("2[\"hi\",{}{}]", "[".repeat(101), "]".repeat(101));
        let many = format!(r#"{{"type":2,"rooms":[{}"a"]}}"#, "\"a\",".repeat(ROOMS_MAX));
        for (message, reason) in [
            (b"".to_vec(), "neither an event"),
            (b"hello".to_vec(), "neither an event"),
            (b"\x92\xa1x\x80".to_vec(), "neither an event"),
            (b"\x93\xa1x".to_vec(), "ends too early"),
            (b"\x93\x07\x80\x80".to_vec(), "no string"),
            (event("2[\"hi\"]", b"\x00"), "can't be read"),
            (event("27[\"hi\"]", b"\x80"), "no event"),
            (
                b"\x93\xa1x\x83\xa4type\x02\xa4data\x91\xaadisconnect\xa3nsp\xa1/\x80".to_vec(),
                "packet can't be read",
            ),
            (b"\x93\xa1x\x80\x80".to_vec(), "packet can't be read"),
            (EVENT[..EVENT.len() - 1].to_vec(), "ends too early"),
            ([EVENT, b"\x00"].concat(), "bytes behind"),
            (event(&deep, b"\x80"), "deeper than"),
            (b"{}".to_vec(), "missing field"),
            (b"{\"type\":\"2\"}".to_vec(), "can't be read"),
            (b"{\"type\":2,\"rooms\":[7]}".to_vec(), "can't be read"),
            (b"{\"type\":6,\"data\":[\"x\"]}".to_vec(), "serverSideEmit"),
            (b"{\"type\":0,\"uid\":\"x\",\"requestId\":\"y\"}".to_vec(), "type 0"),
            (many.into_bytes(), "more than 1000 rooms"),
        ] {
            let refused = Order::read(&message, "/").expect_err(reason).to_string();
            assert!(refused.contains(reason), "{refused} is not {reason}");
        }
    }

    #[test]
    fn whatever_a_byte_becomes_nothing_panics() {
        for cut in 0..EVENT.len() {
            assert!(Order::read(&EVENT[..cut], "/").is_err(), "{cut}");
        }
        for (at, byte) in (0..EVENT.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut bytes = EVENT.to_vec();
            bytes[at] = byte;
            let _ = Order::read(&bytes, "/");
        }
    }

    #[test]
    fn a_namespace_is_no_pattern() {
        assert_eq!(literally("/a*[b]?\\"), r"/a\*\[b\]\?\\");
    }
}
