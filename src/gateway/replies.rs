//! Replies of workers to client events: each finds who waits for it by its correlation id.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::error::Refusal;
use crate::backend::Consumer;
use crate::model::names::{QueueName, UserId};
use crate::wire::socket_io::{ArgsWriter, ToArgs, check_payload};

/// Events that may wait for a reply at a time.
const WAITING_MAX: usize = 100_000;

/// And those of one user, whatever its sockets are.
const USER_WAITING_MAX: usize = 1_000;

/// Who waits, and where replies come to.
pub struct Replies {
    queue: QueueName,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By correlation id.
    senders: AHashMap<Box<str>, oneshot::Sender<Bytes>>,
    /// How many replies each user waits for; nobody waits for none. One that has come counts until the
    /// client is answered.
    counts: AHashMap<UserId, usize>,
}

/// One reply that may come; dropped, it is not waited for any more.
pub struct Awaited {
    pub correlation_id: Box<str>,
    pub body: oneshot::Receiver<Bytes>,
    user: UserId,
    replies: Arc<Replies>,
}

impl Replies {
    pub fn new(queue: QueueName) -> Self {
        Self { queue, waiting: Mutex::default() }
    }

    /// What goes into `reply_to`.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// # Errors
    /// [`Refusal::TooManyReplies`], [`Refusal::TooManyRepliesOfUser`].
    pub fn expect(self: &Arc<Self>, user: &UserId) -> Result<Awaited, Refusal> {
        let correlation_id: Box<str> = Uuid::new_v4().to_string().into();
        let (sender, body) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.senders.len() >= WAITING_MAX {
            return Err(Refusal::TooManyReplies);
        }
        let count = waiting.counts.entry(user.clone()).or_default();
        if *count >= USER_WAITING_MAX {
            return Err(Refusal::TooManyRepliesOfUser { replies_max: USER_WAITING_MAX });
        }
        *count += 1;
        waiting.senders.insert(correlation_id.clone(), sender);
        Ok(Awaited { correlation_id, body, user: user.clone(), replies: Arc::clone(self) })
    }

    /// Hands replies over for as long as the broker lives.
    pub async fn take_all(self: Arc<Self>, mut replies: Consumer) {
        while let Some(delivery) = replies.next().await {
            let message = delivery.message();
            let id = message.properties.correlation_id.as_deref();
            let waits = id.and_then(|id| self.waiting.lock().senders.remove(id));
            match waits {
                // Whoever waited may have given up at this moment.
                Some(waits) => drop(waits.send(message.body.clone())),
                None => tracing::debug!(correlation_id = id, "nobody waits for a reply"),
            }
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut waiting = self.replies.waiting.lock();
        waiting.senders.remove(&self.correlation_id);
        if let Some(count) = waiting.counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                waiting.counts.remove(&self.user);
            }
        }
    }
}

/// The arguments that an acknowledgement gets.
#[derive(Debug)]
pub struct ReplyArgs(Vec<Box<RawValue>>);

impl ReplyArgs {
    /// A JSON array holds the arguments; any other JSON value is the only one, and nothing is none.
    ///
    /// # Errors
    /// Why the body can't be sent on.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| format!("the body is no JSON: {error}");
        let args: Vec<Box<RawValue>> = match body.trim_ascii_start().first() {
            None => Vec::new(),
            Some(b'[') => serde_json::from_slice(body).map_err(unreadable)?,
            Some(_) => vec![serde_json::from_slice(body).map_err(unreadable)?],
        };
        args.iter().try_for_each(|arg| check_payload(arg)).map_err(|error| error.to_string())?;
        Ok(Self(args))
    }
}

impl ToArgs for ReplyArgs {
    fn write(&self, args: &mut ArgsWriter<'_>) -> Result<(), serde_json::Error> {
        self.0.iter().try_for_each(|arg| args.arg(arg))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_arguments_or_the_only_one() {
        let read = |body: &str| {
            let args = ReplyArgs::read(body.as_bytes())?;
            Ok::<_, String>(args.0.iter().map(|arg| arg.get().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(r#"{"ok":true}"#).unwrap(), [r#"{"ok":true}"#]);
        assert_eq!(read(r#" [null, [1]]"#).unwrap(), ["null", "[1]"]);
        assert_eq!(read("\"done\"").unwrap(), ["\"done\""]);
        assert!(read("").unwrap().is_empty() && read("[]").unwrap().is_empty());
        for body in ["{", "[1", "ok", "1e400", "[1e400]", r#""\ud800""#] {
            assert!(read(body).is_err(), "{body}");
        }
        assert!(read(&format!("{}{}", "[".repeat(150), "]".repeat(150))).is_err());
    }

    #[test]
    fn who_gives_up_is_not_waited_for() {
        let replies = Arc::new(Replies::new(QueueName::new("replies").unwrap()));
        let ada = UserId::new("ada").unwrap();
        let (first, second) = (replies.expect(&ada).unwrap(), replies.expect(&ada).unwrap());
        assert_ne!(first.correlation_id, second.correlation_id);
        drop(first);
        assert_eq!(replies.waiting.lock().senders.len(), 1);
        drop(second);
        let waiting = replies.waiting.lock();
        assert!(waiting.senders.is_empty() && waiting.counts.is_empty());
    }

    #[test]
    fn no_user_takes_the_places_of_all() {
        let replies = Arc::new(Replies::new(QueueName::new("replies").unwrap()));
        let (ada, bob) = (UserId::new("ada").unwrap(), UserId::new("bob").unwrap());
        let mut awaited: Vec<Awaited> =
            (0..USER_WAITING_MAX).map(|_| replies.expect(&ada).unwrap()).collect();
        let refused = replies.expect(&ada).err().map(|refusal| refusal.to_string());
        assert_eq!(refused.as_deref(), Some("1000 events of yours wait for a reply already"));
        let _others = replies.expect(&bob).unwrap();
        awaited.pop();
        drop(replies.expect(&ada).unwrap());
    }
}
