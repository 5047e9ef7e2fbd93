//! What is declared: exchanges, queues, bindings, policies, and how failed deliveries are retried.

mod binding;
mod exchange;
mod policy;
mod queue;
mod retry;

pub use binding::{Binding, Destination};
pub use exchange::{EMIT_EXCHANGE, ExchangeKind, ExchangeSpec};
pub use policy::{AppliesTo, Policy};
pub use queue::{DeadLetter, Overflow, QueueKind, QueueSettings, QueueSpec};
pub use retry::{Backoff, RetryPolicy};
