//! What the floors above call, whichever engine or server answers: [`Broker`] and [`Cache`].
//!
//! Owns: the two enums of back ends and the launch of the embedded engines on one journal. May import:
//! the engines and what is below them. Every method is async and may be answered over a network one
//! day, so nothing here promises more than both kinds of back end can give.

mod broker;
mod cache;
mod delivery;
mod embedded;
mod emit;
mod error;
mod exchange;
mod joining;
mod leases;
mod owned;
mod prompt;
mod publishing;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod redrive;
mod shared_log;
mod tx;

#[cfg(feature = "redis")]
pub use self::redis::{ConnectError, RedisCache};
pub use broker::{
    Alarm, Broker, Caused, ConsumeOptions, ConsumerEnd, DeleteIf, Event, Explanation, QueueStatus,
    Step,
};
pub use cache::{Cache, Pushed, RateLimit, Subscription};
pub use delivery::{Consumer, Delivery};
pub use embedded::Embedded;
pub use emit::Audience;
pub use error::BackendError;
pub use leases::{Held, Holding, Holds, Leases};
pub use owned::{Owned, OwnedHashes};
pub use prompt::{Push, Sent};
pub use publishing::{Confirm, Confirms, PublishAllError, PublishedAll};
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{Address, RabbitMq};
pub use redrive::{
    Death, DeathFilter, DeathGroups, Edit, Peeked, Progress, Run, RunState, Selection, Stuck, Tally,
};
pub use shared_log::{
    Around, LogEntry, Place, Post, Posted, Posting, Read, Saying, SharedLog, SharedLogReader,
};
pub use tx::Tx;
