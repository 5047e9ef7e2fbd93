//! What the floors above call, whichever engine or server answers: [`Broker`] and [`Cache`].
//!
//! Owns: the two enums of back ends and the launch of the embedded engines on one journal. May import:
//! the engines and what is below them. Every method is async and may be answered over a network one
//! day, so nothing here promises more than both kinds of back end can give.

mod broker;
mod cache;
mod embedded;
mod error;
mod redrive;

pub use broker::{
    Broker, Confirm, ConsumeOptions, Consumer, ConsumerEnd, DeleteIf, Delivery, QueueStatus,
};
pub use cache::{Cache, Pushed, RateLimit, Subscription};
pub use embedded::Embedded;
pub use error::BackendError;
pub use redrive::{
    Death, DeathFilter, DeathGroups, Edit, Peeked, Progress, Run, RunState, Selection, Stuck, Tally,
};
