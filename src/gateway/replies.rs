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
use crate::model::names::QueueName;
use crate::wire::socket_io::{ArgsWriter, ToArgs, check_payload};

/// Events that may wait for a reply at a time.
const WAITING_MAX: usize = 100_000;

/// Who waits, and where replies come to.
pub struct Replies {
    queue: QueueName,
    waiting: Mutex<AHashMap<Box<str>, oneshot::Sender<Bytes>>>,
}

/// One reply that may come; dropped, it is not waited for any more.
pub struct Awaited {
    pub correlation_id: Box<str>,
    pub body: oneshot::Receiver<Bytes>,
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
    /// [`Refusal::TooManyReplies`].
    pub fn expect(self: &Arc<Self>) -> Result<Awaited, Refusal> {
        let correlation_id: Box<str> = Uuid::new_v4().to_string().into();
        let (sender, body) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            return Err(Refusal::TooManyReplies);
        }
        waiting.insert(correlation_id.clone(), sender);
        Ok(Awaited { correlation_id, body, replies: Arc::clone(self) })
    }

    /// Hands replies over for as long as the broker lives.
    pub async fn take_all(self: Arc<Self>, mut replies: Consumer) {
        while let Some(delivery) = replies.next().await {
            let message = delivery.message();
            let id = message.properties.correlation_id.as_deref();
            let waits = id.and_then(|id| self.waiting.lock().remove(id));
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
        self.replies.waiting.lock().remove(&self.correlation_id);
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
        let (first, second) = (replies.expect().unwrap(), replies.expect().unwrap());
        assert_ne!(first.correlation_id, second.correlation_id);
        drop(first);
        assert_eq!(replies.waiting.lock().len(), 1);
        drop(second);
        assert!(replies.waiting.lock().is_empty());
    }
}
