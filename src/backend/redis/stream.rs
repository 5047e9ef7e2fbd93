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
use crate::backend::{Around, BackendError, LogEntry, Place, Post, Posted, Read};

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
    epoch: u64,
}

/// An entry as the server gives it: its id, and fields with their values.
type Entry = (String, Vec<Vec<u8>>);

/// Begins the log if there is none, and says what it is: its epoch, how many entries there ever were and are,
/// where the last one is, and the time. The stream is there from then on, so one that is not was lost. So was
/// the end of one that has fewer entries than were read, or not the last that was read though some before
/// it, as after a crash of a server that had answered too soon: then it is another log from here on, for all.
const LOOK: &str = "local is_there = redis.call('EXISTS', KEYS[1]) == 1 \
     if not is_there then \
       redis.call('XGROUP', 'CREATE', KEYS[1], 'leveret', '$', 'MKSTREAM') \
       redis.call('XGROUP', 'DESTROY', KEYS[1], 'leveret') \
     end \
     local info, of = redis.call('XINFO', 'STREAM', KEYS[1]), {} \
     for i = 1, #info, 2 do of[info[i]] = info[i + 1] end \
     local is_lost = not is_there or redis.call('EXISTS', KEYS[2]) == 0 \
     if not is_lost and redis.call('GET', KEYS[2]) == ARGV[2] then \
       local read = redis.call('XREVRANGE', KEYS[1], ARGV[3], '-', 'COUNT', 1)[1] \
       is_lost = tonumber(ARGV[4]) > of['entries-added'] or (read and read[1] ~= ARGV[3]) \
     end \
     if is_lost then redis.call('SET', KEYS[2], ARGV[1]) end \
     return {redis.call('GET', KEYS[2]), of['entries-added'], of['length'], \
       of['last-generated-id'], redis.call('TIME')[1]}";

/// What [`LOOK`] says of a stream.
struct Extent {
    epoch: u64,
    added: u64,
    length: u64,
    last: Place,
    now_s: u64,
}

impl RedisStream {
    pub fn new(cache: RedisCache, name: &str) -> Self {
        Self { cache, key: format!("leveret:stream:{name}") }
    }

    pub fn key(&self) -> &str {
        &self.key
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

    /// A reader of what is appended from now on, and what was in the time before; it waits until the
    /// server says where that is.
    pub async fn reader(
        &self,
        before: Duration,
        bytes_max: usize,
    ) -> (RedisStreamReader, Vec<LogEntry>) {
        let mut reader = RedisStreamReader {
            stream: self.clone(),
            connection: None,
            backoff: Backoff::default(),
            place: Place::default(),
            count: 0,
            epoch: 0,
        };
        loop {
            match reader.begin(before, bytes_max).await {
                Ok(entries) => return (reader, entries),
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

    pub fn position(&self) -> u64 {
        self.count
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Begins at the end, and reads what is before it.
    async fn begin(
        &mut self,
        before: Duration,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, RedisError> {
        let extent = self.extent().await?;
        self.stand_at(&extent);
        let since_ms = extent.now_s.saturating_sub(before.as_secs()) * 1_000;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let (mut end, mut position) = (extent.last.to_string(), extent.added);
        loop {
            let mut range = cmd("XREVRANGE");
            range.arg(&self.stream.key).arg(&end).arg(since_ms).arg("COUNT").arg(READ_MAX);
            let page: Vec<Entry> = range.query_async(self.connect().await?).await?;
            let is_last = page.len() < READ_MAX;
            for (id, mut fields) in page {
                let (Some(place), Some(value)) = (Place::parse(&id), fields.pop()) else {
                    continue;
                };
                bytes += value.len();
                if bytes > bytes_max {
                    break;
                }
                entries.push(LogEntry { place, position, bytes: value.into() });
                position -= 1;
                end = format!("({id}");
            }
            if is_last || bytes > bytes_max {
                break;
            }
        }
        entries.reverse();
        Ok(entries)
    }

    fn stand_at(&mut self, extent: &Extent) {
        (self.place, self.count, self.epoch) = (extent.last, extent.added, extent.epoch);
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
        if self.connection.is_none() && self.passed_gap().await? {
            // Entries had gone while nobody looked.
            return Ok(Read::Gap);
        }
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(READ_MAX).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        read.arg("STREAMS").arg(&self.stream.key).arg(self.place.to_string());
        let value: Value = read.query_async(self.connect().await?).await?;
        let entries = entries(value)?;
        // Who is far behind may have been overtaken: the entries that were read may be behind those that
        // went. Where there are none, the stream may be another one. It is asked before anything of this
        // read counts; without an answer it is not done.
        if (entries.is_empty() || entries.len() == READ_MAX) && self.passed_gap().await? {
            return Ok(Read::Gap);
        }
        let numbered = entries.into_iter().zip(self.count + 1..);
        let entries: Vec<LogEntry> = numbered
            .map(|((place, bytes), position)| LogEntry { place, position, bytes })
            .collect();
        if let Some(last) = entries.last() {
            (self.place, self.count) = (last.place, last.position);
        }
        Ok(Read::Entries(entries))
    }

    /// Whether entries have gone that were not read: then it stands at the end.
    async fn passed_gap(&mut self) -> Result<bool, RedisError> {
        let extent = self.extent().await?;
        let has_gap = self.has_gap(&extent);
        if has_gap {
            self.stand_at(&extent);
        }
        Ok(has_gap)
    }

    /// It is another log; or the first that is there is behind the next; or there are fewer than were read.
    fn has_gap(&self, extent: &Extent) -> bool {
        extent.epoch != self.epoch
            || extent.added - extent.length.min(extent.added) > self.count
            || extent.added < self.count
    }

    async fn extent(&mut self) -> Result<Extent, RedisError> {
        let (epoch, _) = uuid::Uuid::new_v4().as_u64_pair();
        let key = &self.stream.key;
        let mut look = cmd("EVAL");
        look.arg(LOOK).arg(2).arg(key).arg(format!("{key}:epoch")).arg(format!("{epoch:016x}"));
        look.arg(format!("{:016x}", self.epoch)).arg(self.place.to_string()).arg(self.count);
        let (epoch, added, length, last, now_s): (String, u64, u64, String, u64) =
            look.query_async(self.connect().await?).await?;
        let last = Place::parse(&last).unwrap_or_default();
        let epoch = u64::from_str_radix(&epoch, 16).unwrap_or_default();
        Ok(Extent { epoch, added, length, last, now_s })
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
