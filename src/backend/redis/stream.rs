//! A log that many nodes append to and read: a Redis stream.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisError, Value, cmd};
use tokio::time::sleep;

use super::RedisCache;
use super::failure::of_server;
use super::link::{ANSWER_WITHIN, Backoff, CONNECT_WITHIN};
use super::outbox::{Change, RedisAnswer, RedisSent};
use crate::backend::{Around, BackendError, Place, Post, Posted, Read};

/// Entries that the stream keeps, about: what a node may be behind by.
pub const ENTRIES_MAX: usize = 100_000;

/// How long a read waits for an entry.
const BLOCK: Duration = Duration::from_secs(1);

/// Entries of one read.
const READ_MAX: usize = 512;

/// The field of an entry that holds it.
const FIELD: &str = "e";

/// To append. Clones are the same log.
#[derive(Clone)]
pub struct RedisStream {
    cache: RedisCache,
    key: String,
}

/// To read, from where it was made.
pub struct RedisStreamReader {
    stream: RedisStream,
    connection: Option<MultiplexedConnection>,
    backoff: Backoff,
    place: Place,
    /// Entries that were appended up to there, ever.
    count: u64,
}

/// An entry as the server gives it: its id, and fields with their values.
type Entry = (String, Vec<Vec<u8>>);

/// What XINFO says of a stream.
struct Extent {
    added: u64,
    length: u64,
    last: Place,
}

impl RedisStream {
    pub fn new(cache: RedisCache, name: &str) -> Self {
        Self { cache, key: format!("leveret:stream:{name}") }
    }

    /// Appends an entry, in the order of the calls.
    pub fn send(&self, entry: Vec<u8>) -> Result<RedisSent, BackendError> {
        self.cache.outbox.put_silently(Change::Entry { stream: self.key.clone(), entry })
    }

    pub fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<RedisSent, BackendError> {
        self.cache.outbox.put_silently(Change::Message { channel: channel.to_owned(), payload })
    }

    /// As [`Self::send`], with a push to a list in the same step, unless the post was made before.
    pub fn post(&self, entry: Vec<u8>, post: Post) -> Result<RedisAnswer, BackendError> {
        self.cache.outbox.put(Change::Post {
            stream: self.key.clone(),
            entry,
            post: Box::new(post),
        })
    }

    /// The newest of a list, and the entries behind `after`, both of one moment.
    pub async fn around(
        &self,
        after: Place,
        list: &str,
        count: usize,
    ) -> Result<Around, BackendError> {
        const AROUND: &str = "return {redis.call('LRANGE', KEYS[1], 0, ARGV[1]), \
                              redis.call('XRANGE', KEYS[2], '(' .. ARGV[2], '+')}";
        let mut eval = cmd("EVAL");
        eval.arg(AROUND).arg(2).arg(list).arg(&self.key);
        eval.arg(count.saturating_sub(1)).arg(after.to_string());
        let (list, entries): (Vec<Vec<u8>>, Vec<Entry>) = self.cache.link.run(&eval).await?;
        let entries = entries.into_iter().filter_map(|(_, mut fields)| fields.pop());
        Ok(Around {
            list: list.into_iter().map(Bytes::from).collect(),
            entries: entries.map(Bytes::from).collect(),
        })
    }

    /// A reader of what is appended from now on; it waits until the server says where that is.
    pub async fn reader(&self) -> RedisStreamReader {
        let mut reader = RedisStreamReader {
            stream: self.clone(),
            connection: None,
            backoff: Backoff::default(),
            place: Place::default(),
            count: 0,
        };
        loop {
            match reader.extent().await {
                Ok(extent) => {
                    (reader.place, reader.count) = (extent.last, extent.added);
                    return reader;
                }
                Err(_) => {
                    reader.connection = None;
                    sleep(reader.backoff.next()).await;
                }
            }
        }
    }
}

impl RedisAnswer {
    /// What [`POST`] gave.
    pub async fn posted(self) -> Result<Posted, BackendError> {
        let value = self.value().await?;
        let (is_new, id, offset): (bool, String, String) =
            FromRedisValue::from_redis_value(value).map_err(|error| of_server(&error.into()))?;
        Ok(Posted { id, offset: is_new.then_some(offset) })
    }
}

impl RedisStreamReader {
    /// Through where it has read.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next entries, or none after a while. While the server is away it waits for it.
    pub async fn read(&mut self) -> Read {
        loop {
            match self.try_read().await {
                Ok(read) => {
                    self.backoff = Backoff::default();
                    return read;
                }
                Err(error) => {
                    tracing::debug!(
                        error = super::failure::text(&error),
                        "the stream was not read"
                    );
                    self.connection = None;
                    sleep(self.backoff.next()).await;
                }
            }
        }
    }

    async fn try_read(&mut self) -> Result<Read, RedisError> {
        if self.connection.is_none() {
            // Entries may have gone while nobody looked.
            let extent = self.extent().await?;
            if self.has_gap(&extent) {
                (self.place, self.count) = (extent.last, extent.added);
                return Ok(Read::Gap);
            }
        }
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(READ_MAX).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        read.arg("STREAMS").arg(&self.stream.key).arg(self.place.to_string());
        let value: Value = read.query_async(self.connect().await?).await?;
        let entries = entries(value)?;
        let Some((last, _)) = entries.last() else { return Ok(Read::Entries(entries)) };
        let last = *last;
        // Who is far behind may have been overtaken: the entries that were read may be behind those that
        // went. It is asked before anything of this read counts; without an answer it is not done.
        if entries.len() == READ_MAX {
            let extent = self.extent().await?;
            if self.has_gap(&extent) {
                (self.place, self.count) = (extent.last, extent.added);
                return Ok(Read::Gap);
            }
        }
        (self.place, self.count) = (last, self.count + entries.len() as u64);
        Ok(Read::Entries(entries))
    }

    /// The first that is there is behind the next; or there are fewer than were read.
    fn has_gap(&self, extent: &Extent) -> bool {
        extent.added - extent.length.min(extent.added) > self.count || extent.added < self.count
    }

    async fn extent(&mut self) -> Result<Extent, RedisError> {
        let info = cmd("XINFO").arg("STREAM").arg(&self.stream.key).to_owned();
        let value: Value = match info.query_async(self.connect().await?).await {
            Err(error) if error.detail().is_some_and(|text| text.contains("no such key")) => {
                return Ok(Extent { added: 0, length: 0, last: Place::default() });
            }
            other => other?,
        };
        let fields = std::collections::HashMap::<String, Value>::from_redis_value(value)?;
        let number = |name: &str| {
            fields.get(name).and_then(|value| u64::from_redis_value(value.clone()).ok())
        };
        let last = fields.get("last-generated-id");
        let last = last.and_then(|value| String::from_redis_value(value.clone()).ok());
        Ok(Extent {
            added: number("entries-added").unwrap_or_default(),
            length: number("length").unwrap_or_default(),
            last: last.and_then(|last| Place::parse(&last)).unwrap_or_default(),
        })
    }

    async fn connect(&mut self) -> Result<&mut MultiplexedConnection, RedisError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_WITHIN))
                    .set_response_timeout(Some(ANSWER_WITHIN + BLOCK));
                let client = self.stream.cache.link.client();
                client.get_multiplexed_async_connection_with_config(&config).await?
            }
        };
        Ok(self.connection.insert(connection))
    }
}

/// Of XREAD's answer on one stream.
fn entries(value: Value) -> Result<Vec<(Place, Bytes)>, RedisError> {
    if matches!(value, Value::Nil) {
        return Ok(Vec::new());
    }
    let streams = Vec::<(String, Vec<Entry>)>::from_redis_value(value)?;
    let entries = streams.into_iter().flat_map(|(_, entries)| entries);
    Ok(entries
        .filter_map(|(id, mut fields)| Some((Place::parse(&id)?, fields.pop()?.into())))
        .collect())
}

/// The command that appends an entry.
pub fn xadd(stream: &str, entry: &[u8]) -> redis::Cmd {
    let mut add = cmd("XADD");
    add.arg(stream).arg("MAXLEN").arg("~").arg(ENTRIES_MAX).arg("*").arg(FIELD).arg(entry);
    add
}

/// Appends an entry and pushes to a list; a post that has a name and was made before is only told.
/// {is new, message id, offset}
const POST: &str = "local name, id = KEYS[3], ARGV[4] \
     if name ~= '' then \
       local known = redis.call('GET', name) \
       if known then return {0, known, ''} end \
     end \
     redis.call('LPUSH', KEYS[1], ARGV[1]) \
     redis.call('LTRIM', KEYS[1], 0, ARGV[2]) \
     local place = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'e', ARGV[3]) \
     if name ~= '' then redis.call('SET', name, id, 'PX', ARGV[5]) end \
     return {1, id, place}";

/// The command of [`RedisStream::post`].
pub fn post(stream: &str, entry: &[u8], post: &Post) -> redis::Cmd {
    let mut eval = cmd("EVAL");
    eval.arg(POST)
        .arg(3)
        .arg(&post.push.key[..])
        .arg(stream)
        .arg(post.name.as_deref().unwrap_or(""));
    eval.arg(&post.push.value[..]).arg(post.push.keep.max(1) - 1).arg(entry);
    eval.arg(&*post.id).arg(super::values::ttl_ms(post.remembered)).arg(ENTRIES_MAX);
    eval
}
