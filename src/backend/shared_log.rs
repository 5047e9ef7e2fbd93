//! A log that several nodes append to and read. Where the cache is in this process there is one node, and no
//! such log.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

#[cfg(feature = "redis")]
use super::redis::{RedisAnswer, RedisStream, RedisStreamReader};
use super::{BackendError, Cache, Push, Sent};

/// To append; clones are the same log.
#[derive(Clone)]
pub struct SharedLog(Log);

#[derive(Clone)]
enum Log {
    #[cfg(feature = "redis")]
    Redis(RedisStream),
}

/// To read, from where it was made.
pub struct SharedLogReader(Reader);

enum Reader {
    #[cfg(feature = "redis")]
    Redis(RedisStreamReader),
}

/// The place of an entry: they rise in the order of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub ms: u64,
    pub sequence: u64,
}

/// An entry of the log.
#[derive(Debug)]
pub struct LogEntry {
    pub place: Place,
    /// How many there have been in this epoch of the log, this one included: the same for every reader.
    pub position: u64,
    pub bytes: Bytes,
}

/// What a read gave.
#[derive(Debug)]
pub enum Read {
    Entries(Vec<LogEntry>),
    /// Entries are gone that were not read, or the log has another epoch; the next read begins behind them.
    Gap,
}

/// An entry that is also an element of a list.
pub struct Post {
    pub push: Push,
    /// What its sender calls it: one that has the same name was made before, and is not made again.
    pub name: Option<String>,
    /// What it is called otherwise.
    pub id: String,
    /// How long its name is known.
    pub remembered: Duration,
}

/// Something that is said or done beside a change, in the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// On a channel of the cache.
    Publish { channel: String, payload: Vec<u8> },
    /// In a log: see [`SharedLog::saying`].
    Append { stream: String, entry: Vec<u8> },
    /// A key of the cache goes.
    Remove { key: String },
}

/// A post on its way.
#[must_use = "a post is only safe once it is answered"]
pub struct Posting(Way);

enum Way {
    #[cfg(feature = "redis")]
    Redis(RedisAnswer),
}

/// A post that was made, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub id: String,
    /// `None`: it was made before.
    pub offset: Option<String>,
}

/// The newest of a list and what the log holds behind a place, both of one moment.
pub struct Around {
    pub list: Vec<Bytes>,
    pub entries: Vec<Bytes>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

impl Place {
    /// `None`: the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, sequence) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl Cache {
    /// The log of this name that all nodes on the cache share. `None`: this process is the only node.
    pub fn shared_log(&self, name: &str) -> Option<SharedLog> {
        match self {
            Self::Embedded(_) => {
                let _ = name;
                None
            }
            #[cfg(feature = "redis")]
            Self::Redis(cache) => {
                Some(SharedLog(Log::Redis(RedisStream::new(cache.clone(), name))))
            }
        }
    }
}

impl SharedLog {
    /// Appends an entry, in the order of the calls.
    ///
    /// # Errors
    /// Too much waits to be appended.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub fn send(&self, entry: Vec<u8>) -> Result<Sent, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Log::Redis(ref stream) => Ok(stream.send(entry)?.into()),
        }
    }

    /// Publishes on a channel of the cache, in the order of the calls.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<Sent, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Log::Redis(ref stream) => Ok(stream.publish(channel, payload)?.into()),
        }
    }

    /// As [`Self::send`], with a push to a list in the same step.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub fn post(&self, entry: Vec<u8>, post: Post) -> Result<Posting, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Log::Redis(ref stream) => Ok(Posting(Way::Redis(stream.post(entry, post)?))),
        }
    }

    /// The appending of an entry, beside something else.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub fn saying(&self, entry: Vec<u8>) -> Saying {
        match self.0 {
            #[cfg(feature = "redis")]
            Log::Redis(ref stream) => Saying::Append { stream: stream.key().to_owned(), entry },
        }
    }

    /// The newest `count` of a list, and the entries behind `after`.
    ///
    /// # Errors
    /// A back end that does not answer.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub async fn around(
        &self,
        after: Place,
        list: &str,
        count: usize,
    ) -> Result<Around, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Log::Redis(ref stream) => Box::pin(stream.around(after, list, count)).await,
        }
    }

    /// A reader of what is appended from now on, and what was in the time before, the oldest first and so
    /// much of the newest as has about these bytes. It waits for the back end.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables))]
    pub async fn reader(
        &self,
        before: Duration,
        bytes_max: usize,
    ) -> (SharedLogReader, Vec<LogEntry>) {
        match self.0 {
            #[cfg(feature = "redis")]
            Log::Redis(ref stream) => {
                let (reader, entries) = stream.reader(before, bytes_max).await;
                (SharedLogReader(Reader::Redis(reader)), entries)
            }
        }
    }
}

impl SharedLogReader {
    /// The next entries, or none after a while. While the back end is away it waits for it. What was not
    /// given because the call was dropped is given by the next.
    pub async fn read(&mut self) -> Read {
        match self.0 {
            #[cfg(feature = "redis")]
            Reader::Redis(ref mut reader) => reader.read().await,
        }
    }

    /// Through where it has read.
    pub fn place(&self) -> Place {
        match self.0 {
            #[cfg(feature = "redis")]
            Reader::Redis(ref reader) => reader.place(),
        }
    }

    /// As [`Self::place`], by how many entries there were.
    pub fn position(&self) -> u64 {
        match self.0 {
            #[cfg(feature = "redis")]
            Reader::Redis(ref reader) => reader.position(),
        }
    }

    /// Which log it is: a number that was drawn when it began, and is another one after it was lost.
    pub fn epoch(&self) -> u64 {
        match self.0 {
            #[cfg(feature = "redis")]
            Reader::Redis(ref reader) => reader.epoch(),
        }
    }
}

impl Posting {
    /// Waits until it is made.
    ///
    /// # Errors
    /// When it was refused, or the back end was not reached: then whether it was made is unknown.
    pub async fn posted(self) -> Result<Posted, BackendError> {
        match self.0 {
            #[cfg(feature = "redis")]
            Way::Redis(answer) => answer.posted().await,
        }
    }
}
