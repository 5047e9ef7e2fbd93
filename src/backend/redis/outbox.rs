//! Changes that are handed over without waiting, and sent in that order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use redis::{Pipeline, Value, cmd, pipe};
use tokio::sync::{mpsc, oneshot};

use super::link::Link;
use super::{RedisCache, stream};
use crate::backend::{BackendError, Post, Push};

/// Changes that may wait to be sent; more are refused.
const WAITING_MAX: usize = 65_536;
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Changes that are sent together.
const BATCH_MAX: usize = 512;

/// In the text of each call, as nothing between two changes may be sent again.
const PUSHES: &str = "for i, key in ipairs(KEYS) do \
     redis.call('LPUSH', key, ARGV[2 * i - 1]) \
     redis.call('LTRIM', key, 0, ARGV[2 * i]) end";

pub enum Change {
    Message {
        channel: String,
        payload: Vec<u8>,
    },
    Entry {
        stream: String,
        entry: Vec<u8>,
    },
    Post {
        stream: String,
        entry: Vec<u8>,
        post: Box<Post>,
    },
    Pushes(Vec<Push>),
    /// The newest elements of a list stay, this many.
    Trim(String, usize),
    Fields {
        key: String,
        fields: Vec<(String, Vec<u8>)>,
    },
    FieldRemoval {
        key: String,
        fields: Vec<String>,
    },
    Removal(Vec<String>),
    Script {
        script: &'static str,
        key: String,
        args: Vec<Vec<u8>>,
    },
    /// Changes nothing: its answer says that all before it were answered.
    Mark,
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Message { channel, payload } => channel.len() + payload.len(),
            Self::Entry { stream, entry } => stream.len() + entry.len(),
            Self::Post { stream, entry, post } => {
                stream.len() + entry.len() + post.push.key.len() + post.push.value.len()
            }
            Self::Pushes(pushes) => {
                pushes.iter().map(|push| push.key.len() + push.value.len() + PUSHES.len()).sum()
            }
            Self::Trim(key, _) => key.len(),
            Self::Fields { key, fields } => {
                let bytes = fields.iter().map(|(field, value)| field.len() + value.len());
                key.len() + bytes.sum::<usize>()
            }
            Self::FieldRemoval { key, fields } => {
                key.len() + fields.iter().map(String::len).sum::<usize>()
            }
            Self::Removal(keys) => keys.iter().map(String::len).sum(),
            Self::Script { script, key, args } => {
                script.len() + key.len() + args.iter().map(Vec::len).sum::<usize>()
            }
            Self::Mark => 0,
        }
    }

    fn add_to(&self, pipeline: &mut Pipeline) {
        let mut command = match self {
            Self::Message { channel, payload } => {
                let mut publish = cmd("PUBLISH");
                publish.arg(channel).arg(&payload[..]);
                publish
            }
            Self::Entry { stream, entry } => stream::xadd(stream, entry),
            Self::Post { stream, entry, post } => stream::post(stream, entry, post),
            Self::Pushes(pushes) => {
                let mut eval = cmd("EVAL");
                eval.arg(PUSHES).arg(pushes.len());
                for push in pushes {
                    eval.arg(&push.key[..]);
                }
                for push in pushes {
                    eval.arg(&push.value[..]).arg(push.keep.max(1) - 1);
                }
                eval
            }
            Self::Trim(key, keep) => {
                let mut trim = cmd("LTRIM");
                // From behind the last to the first is nothing, and the key goes.
                let (first, last) = if *keep == 0 { (1, 0) } else { (0, *keep - 1) };
                trim.arg(key).arg(first).arg(last);
                trim
            }
            Self::Fields { key, fields } => {
                let mut set = cmd("HSET");
                set.arg(key);
                for (field, value) in fields {
                    set.arg(field).arg(&value[..]);
                }
                set
            }
            Self::FieldRemoval { key, fields } => {
                let mut remove = cmd("HDEL");
                remove.arg(key).arg(fields);
                remove
            }
            Self::Removal(keys) => {
                let mut remove = cmd("DEL");
                remove.arg(keys);
                remove
            }
            Self::Script { script, key, args } => {
                let mut eval = cmd("EVAL");
                eval.arg(script).arg(1).arg(key).arg(args);
                eval
            }
            Self::Mark => cmd("PING"),
        };
        pipeline.add_command(std::mem::take(&mut command));
    }
}

struct Waiting {
    change: Change,
    done: oneshot::Sender<Result<Value, BackendError>>,
}

#[derive(Clone)]
pub struct Outbox {
    waiting: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
}

/// A change that is on its way to the server.
#[must_use = "a change is only safe once it is answered"]
pub struct RedisAnswer(oneshot::Receiver<Result<Value, BackendError>>);

impl RedisAnswer {
    /// Waits for the server's answer. Changes are answered in the order in which they were made.
    ///
    /// # Errors
    /// When it refused the change, or was not reached: then whether it was made is unknown.
    pub async fn value(self) -> Result<Value, BackendError> {
        let gone = || BackendError::CacheUnreachable("its connection was closed".into());
        self.0.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// As [`RedisAnswer`], where nobody asks what was answered.
#[must_use = "a change is only safe once it is durable"]
pub struct RedisSent {
    answer: RedisAnswer,
    known: Option<Result<(), BackendError>>,
}

impl RedisSent {
    /// # Errors
    /// As [`RedisAnswer::value`].
    pub async fn durable(self) -> Result<(), BackendError> {
        match self.known {
            Some(outcome) => outcome,
            None => self.answer.value().await.map(drop),
        }
    }

    /// What came of it, if that is known already.
    pub fn outcome(&mut self) -> Option<Result<(), BackendError>> {
        if self.known.is_none()
            && let Ok(answer) = self.answer.0.try_recv()
        {
            self.known = Some(answer.map(drop));
        }
        self.known.clone()
    }
}

impl Outbox {
    pub fn start(link: Link) -> Self {
        let (waiting, changes) = mpsc::channel(WAITING_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(send_all(link, changes, Arc::clone(&bytes)));
        Self { waiting, bytes }
    }

    pub fn put(&self, change: Change) -> Result<RedisAnswer, BackendError> {
        let full = || BackendError::CacheUnreachable("too much waits to be sent to it".into());
        let bytes = change.bytes();
        if self.bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            return Err(full());
        }
        let (done, sent) = oneshot::channel();
        // Before it is taken, so that the count does not go below zero.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.waiting.try_send(Waiting { change, done }).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(full());
        }
        Ok(RedisAnswer(sent))
    }

    pub fn put_silently(&self, change: Change) -> Result<RedisSent, BackendError> {
        self.put(change).map(|answer| RedisSent { answer, known: None })
    }

    /// Waits until all that was handed over before was answered, whatever the answer was.
    pub async fn drained(&self) -> Result<(), BackendError> {
        self.put_silently(Change::Mark)?.durable().await
    }
}

/// Runs until every outbox of the connection is gone.
async fn send_all(link: Link, mut changes: mpsc::Receiver<Waiting>, bytes: Arc<AtomicUsize>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while changes.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut pipeline = pipe();
        pipeline.ignore_errors();
        for waiting in &batch {
            waiting.change.add_to(&mut pipeline);
        }
        bytes
            .fetch_sub(batch.iter().map(|waiting| waiting.change.bytes()).sum(), Ordering::Relaxed);
        let answers = link.pipeline(&pipeline).await;
        let mut answers = answers.map(Vec::into_iter);
        for Waiting { done, .. } in batch.drain(..) {
            let outcome = match &mut answers {
                Ok(answers) => answers.next().unwrap_or_else(|| {
                    Err(BackendError::CacheLost("it left out an answer".into()))
                }),
                Err(error) => Err(error.clone()),
            };
            // Whoever made the change may not wait for it; one that failed is told all the same.
            if let Err(Err(error)) = done.send(outcome) {
                tracing::error!(%error, "a change was not made that nobody waits for");
                metrics::counter!("leveret_redis_unmade_total").increment(1);
            }
        }
    }
}

impl RedisCache {
    pub fn send_pushes(
        &self,
        pushes: impl IntoIterator<Item = Push>,
    ) -> Result<RedisSent, BackendError> {
        self.outbox.put_silently(Change::Pushes(pushes.into_iter().collect()))
    }

    pub fn send_trim(&self, key: &str, keep: usize) -> Result<RedisSent, BackendError> {
        self.outbox.put_silently(Change::Trim(key.to_owned(), keep))
    }

    /// Of no fields nothing is sent but a word that changes nothing.
    pub fn send_fields(
        &self,
        key: &str,
        fields: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<RedisSent, BackendError> {
        let fields: Vec<_> = fields.into_iter().collect();
        self.outbox.put_silently(match fields.is_empty() {
            true => Change::Mark,
            false => Change::Fields { key: key.to_owned(), fields },
        })
    }

    /// As [`Self::send_fields`].
    pub fn send_field_removal(
        &self,
        key: &str,
        fields: &[String],
    ) -> Result<RedisSent, BackendError> {
        self.outbox.put_silently(match fields.is_empty() {
            true => Change::Mark,
            false => Change::FieldRemoval { key: key.to_owned(), fields: fields.to_vec() },
        })
    }

    pub fn send_removal(&self, keys: &[&str]) -> Result<RedisSent, BackendError> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.outbox.put_silently(Change::Removal(keys))
    }

    /// Over a connection of its own, as whoever calls it may not wait.
    pub fn load_list(&self, key: &str) -> Result<Vec<Bytes>, BackendError> {
        let values: Vec<Vec<u8>> = self.link.at_once(cmd("LRANGE").arg(key).arg(0).arg(-1))?;
        Ok(values.into_iter().map(Bytes::from).collect())
    }

    /// As [`Self::load_list`].
    pub fn load_hash(&self, key: &str) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = self.link.at_once(cmd("HGETALL").arg(key))?;
        Ok(fields.into_iter().map(|(field, value)| (field.into(), value.into())).collect())
    }
}
