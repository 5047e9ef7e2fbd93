//! What the floors above call, whichever engine or server answers: [`Broker`] and [`Cache`].
//!
//! Owns: the two enums of back ends and the launch of the embedded engines on one journal. May import:
//! the engines and what is below them. Every method is async and may be answered over a network one
//! day, so nothing here promises more than both kinds of back end can give.

mod broker;
mod cache;
mod confirms;
mod delivery;
mod embedded;
mod emit;
mod error;
mod prompt;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod redrive;
mod tx;

pub use broker::{
    Alarm, Broker, Caused, ConsumeOptions, ConsumerEnd, DeleteIf, Event, Explanation, QueueStatus,
    Step,
};
pub use cache::{Cache, Pushed, RateLimit, Subscription};
pub use confirms::{Confirm, Confirms, PublishAllError, PublishedAll};
pub use delivery::{Consumer, Delivery};
pub use embedded::Embedded;
pub use emit::Audience;
pub use error::BackendError;
pub use prompt::{Push, Sent};
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{Address, RabbitMq};
pub use redrive::{
    Death, DeathFilter, DeathGroups, Edit, Peeked, Progress, Run, RunState, Selection, Stuck, Tally,
};
pub use tx::Tx;
