//! Pub/sub of the cache beside the sockets: what is said to them is published on the channels `messages`,
//! `notifications` and `presence`, and what others publish there is said to the sockets.
//!
//! What always holds: what a gateway published itself it does not send a second time; what others
//! published goes to sockets alone, not into a room's list and not back to the channel. Like all
//! pub/sub it comes at most once.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use metrics::{Counter, counter};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::Gateway;
use super::application::Application;
use super::events::{MESSAGE_NEW, NOTIFICATION, is_label};
use crate::backend::{Audience, BackendError, Cache, Saying, Subscription};
use crate::model::names::{RoomId, UserId};
use crate::model::topology::EMIT_EXCHANGE;
use crate::wire::socket_io::check_payload;

const MESSAGES: &str = "messages";
const NOTIFICATIONS: &str = "notifications";
const PRESENCE: &str = "presence";

/// What begins the origins of nodes that are one server together.
const NODE_ORIGIN: &str = "leveret.node.";

/// What may wait to be published; more is lost, and counted.
const WAITING_MAX: usize = 8_192;

/// And how much of it: a publication may be as large as what the server API takes.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// A log line about what others publish wrongly is written no more often than this.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What is said to sockets, on its way to the channels.
pub struct Channels {
    /// Tells this gateway's own publications from others'.
    origin: Box<str>,
    /// Absent while nobody publishes.
    waiting: OnceLock<mpsc::Sender<Waiting>>,
    /// A permit is a byte that may wait.
    room: Arc<Semaphore>,
    lost: Counter,
    malformed: Counter,
}

/// One that waits to be published, and its bytes' place.
struct Waiting {
    channel: &'static str,
    payload: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Who else sends it to sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody: it was said here.
    Here,
    /// Every gateway: it came over the broker.
    Broker,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageOut<'a, M: ?Sized> {
    origin: &'a str,
    room_id: &'a str,
    message: &'a M,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationOut<'a, N: ?Sized> {
    origin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    notification: &'a N,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PresenceOut<'a> {
    origin: &'a str,
    user_id: &'a str,
    status: &'a str,
}

impl Channels {
    /// `has_others`: other nodes send what this one publishes to their own sockets.
    pub fn new(has_others: bool) -> Self {
        let own = Uuid::new_v4();
        let origin = if has_others { format!("{NODE_ORIGIN}{own}") } else { own.to_string() };
        Self {
            origin: origin.into(),
            waiting: OnceLock::new(),
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            lost: counter!("leveret_gateway_channels_lost_total"),
            malformed: counter!("leveret_gateway_channels_malformed_total"),
        }
    }

    /// A message that a room was told.
    pub fn message(&self, source: Source, room: &RoomId, message: &(impl Serialize + ?Sized)) {
        let origin = self.origin_of(source);
        self.publish(MESSAGES, &MessageOut { origin, room_id: room.as_str(), message });
    }

    /// An event that sockets were sent, if it is one that a channel is for.
    pub fn event(
        &self,
        source: Source,
        to: &Audience,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) {
        match (event, to) {
            (MESSAGE_NEW, Audience::Room(room)) => self.message(source, room, payload),
            (NOTIFICATION, to) => {
                let (user_id, room_id, all) = match to {
                    Audience::User(user) => (Some(user.as_str()), None, None),
                    Audience::Room(room) => (None, Some(room.as_str()), None),
                    Audience::All => (None, None, Some(true)),
                };
                let origin = self.origin_of(source);
                let notification = payload;
                let out = NotificationOut { origin, user_id, room_id, all, notification };
                self.publish(NOTIFICATIONS, &out);
            }
            _ => {}
        }
    }

    pub fn presence(&self, user: &UserId, status: &str) {
        let (origin, user_id) = (&*self.origin, user.as_str());
        self.publish(PRESENCE, &PresenceOut { origin, user_id, status });
    }

    /// As [`Self::presence`], to be published beside something else. `None`: nobody publishes.
    pub fn presence_saying(&self, user: &UserId, status: &str) -> Option<Saying> {
        self.waiting.get()?;
        let (origin, user_id) = (&*self.origin, user.as_str());
        let payload = serde_json::to_vec(&PresenceOut { origin, user_id, status }).ok()?;
        Some(Saying::Publish { channel: PRESENCE.to_owned(), payload })
    }

    /// In the order of the calls, and without waiting: pub/sub loses what it can't keep up with.
    fn publish(&self, channel: &'static str, out: &impl Serialize) {
        let Some(waiting) = self.waiting.get() else { return };
        // What has no JSON form was sent to no socket either, and logged there.
        let Ok(payload) = serde_json::to_vec(out) else { return };
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).ok();
        let sent =
            room.and_then(|_room| waiting.try_send(Waiting { channel, payload, _room }).ok());
        if sent.is_none() {
            self.lost.increment(1);
        }
    }

    fn origin_of(&self, source: Source) -> &str {
        match source {
            Source::Here => &self.origin,
            Source::Broker => EMIT_EXCHANGE,
        }
    }

    /// Whether the sockets have been sent it already.
    fn is_echo(&self, origin: Option<&str>) -> bool {
        let by_another_node =
            |origin: &str| self.origin.starts_with(NODE_ORIGIN) && origin.starts_with(NODE_ORIGIN);
        origin.is_some_and(|origin| {
            origin == &*self.origin || origin == EMIT_EXCHANGE || by_another_node(origin)
        })
    }
}

impl Gateway {
    /// Joins the sockets and the cache's channels `messages`, `notifications` and `presence`. The future
    /// does it for as long as the cache lives; it is to be spawned, once a gateway.
    ///
    /// Published are {origin, roomId, message} when a room is told a message; {origin, notification} with
    /// `userId`, `roomId` or `all` (true) when sockets are sent the event `notification`; {origin, userId,
    /// status} when a user's presence changes. The same from others, with another `origin` or none, is
    /// sent to the room's members as `message:new`, to the user, the room or everybody as `notification`,
    /// and to everybody as `presence:changed`. What is not of that form is logged and counted. What comes
    /// while 8,192 publications, or 16 MiB of them, wait for the cache is not published, and counted.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn channels(&self) -> Result<impl Future<Output = ()> + Send + use<>, BackendError> {
        let gateway = self.clone();
        let cache = gateway.application.cache.clone();
        let incoming = Incoming {
            messages: cache.subscribe(MESSAGES).await?,
            notifications: cache.subscribe(NOTIFICATIONS).await?,
            presence: cache.subscribe(PRESENCE).await?,
        };
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        // A second call finds the first one's, and publishes nothing.
        let _ = gateway.application.channels.waiting.set(sender);
        Ok(async move {
            let publishing = publish_all(cache, waiting);
            tokio::join!(publishing, incoming.send_all(&gateway.application));
        })
    }
}

async fn publish_all(cache: Cache, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { channel, payload, _room }) = waiting.recv().await {
        if let Err(error) = cache.publish(channel, payload).await {
            tracing::debug!(channel, %error, "not published");
        }
    }
}

/// What others, and this gateway itself, publish.
struct Incoming {
    messages: Subscription,
    notifications: Subscription,
    presence: Subscription,
}

impl Incoming {
    async fn send_all(mut self, application: &Application) {
        let mut warned_at: Option<Instant> = None;
        loop {
            let (channel, payload) = tokio::select! {
                payload = self.messages.next() => (MESSAGES, payload),
                payload = self.notifications.next() => (NOTIFICATIONS, payload),
                payload = self.presence.next() => (PRESENCE, payload),
            };
            let Some(payload) = payload else { return };
            if let Err(reason) = receive(application, channel, &payload).await {
                application.channels.malformed.increment(1);
                if warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                    warned_at = Some(Instant::now());
                    tracing::warn!(channel, reason, "what was published reaches no socket");
                }
            }
        }
    }
}

/// The member that all have.
#[derive(Deserialize)]
struct Origin<'a> {
    #[serde(borrow, default)]
    origin: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageIn<'a> {
    room_id: RoomId,
    #[serde(borrow)]
    message: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NotificationIn<'a> {
    user_id: Option<UserId>,
    room_id: Option<RoomId>,
    #[serde(default)]
    all: bool,
    #[serde(borrow)]
    notification: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PresenceIn {
    user_id: UserId,
    status: String,
}

/// # Errors
/// Why it can't be sent.
async fn receive(
    application: &Application,
    channel: &'static str,
    payload: &Bytes,
) -> Result<(), String> {
    let Origin { origin } = parse(payload)?;
    if application.channels.is_echo(origin.as_deref()) {
        return Ok(());
    }
    match channel {
        MESSAGES => {
            let MessageIn { room_id, message } = parse(payload)?;
            if !message.get().starts_with('{') {
                return Err("the message is no object".to_owned());
            }
            send(application, &Audience::Room(room_id), MESSAGE_NEW, message).await
        }
        NOTIFICATIONS => {
            let NotificationIn { user_id, room_id, all, notification } = parse(payload)?;
            let to = match (user_id, room_id, all) {
                (Some(user), None, false) => Audience::User(user),
                (None, Some(room), false) => Audience::Room(room),
                (None, None, true) => Audience::All,
                // A user's id that is missing by mistake must not make it everybody's.
                _ => return Err("it has not one of userId, roomId and all: true".to_owned()),
            };
            send(application, &to, NOTIFICATION, notification).await
        }
        _ => {
            let PresenceIn { user_id, status } = parse(payload)?;
            if !is_label(&status) {
                return Err("the status is no short word".to_owned());
            }
            application.pass_on_presence(&user_id, &status);
            Ok(())
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

async fn send(
    application: &Application,
    to: &Audience,
    event: &str,
    payload: &RawValue,
) -> Result<(), String> {
    check_payload(payload).map_err(|error| error.to_string())?;
    application.log_has_room().await;
    if application.lease().is_some() {
        // Every node hears what is published.
        application.emit_here(to, event, payload);
        return Ok(());
    }
    match to {
        Audience::Room(room) => {
            // Its place in the room's order is enough.
            let _ = application.emit_to_room(room, event, payload).await;
        }
        Audience::User(user) => drop(application.emit_to_user(user, event, payload)),
        Audience::All => drop(application.emit_to_all(event, payload)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::RoomId;

    #[test]
    fn what_waits_to_be_published_is_bounded_in_number_and_in_bytes() {
        let waits = |tries: usize, content: &str| {
            let channels = Channels::new(false);
            let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
            channels.waiting.set(sender).unwrap();
            let room = RoomId::new("general").unwrap();
            let count = std::iter::from_fn(|| waiting.try_recv().ok());
            for _ in 0..tries {
                channels.message(Source::Here, &room, content);
            }
            let (count, bytes) =
                count.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.payload.len()));
            // What was published has left its place to others.
            assert_eq!(channels.room.available_permits(), WAITING_BYTES_MAX);
            (count, bytes)
        };
        assert_eq!(waits(WAITING_MAX + 1, "hi").0, WAITING_MAX);
        let (count, bytes) = waits(20, &"x".repeat(1 << 20));
        assert_eq!(count, 15);
        assert!(bytes <= WAITING_BYTES_MAX);
    }
}
