//! The embedded cache: Redis 7 semantics in process.
//!
//! Owns: commands as values, the keyspace, expiry, pub/sub, and what the journal says of keys. May
//! import: `model` and `journal`.
//!
//! A [`Command`] is parsed once, run by the keyspace without IO or a look at the clock, and answered
//! by a [`Reply`]; the typed methods of [`Cache`] call the same operations. One lock guards the
//! keyspace and is taken once a pipeline.
//!
//! What always holds:
//! - A pipeline's changes are one journal group: all of them survive a crash, or none.
//! - What is recorded is the state of the keys that a pipeline changed, never the commands: a key's
//!   value, each element of a list, each piece of a long string, and a key's absolute deadline are facts
//!   of their own. So a push, a trim or a bit costs what it touches, and a new deadline never rewrites a
//!   value.
//! - The journal takes the group while the keyspace lock is held, so positions rise in the order in
//!   which the changes became visible.
//! - An expired key is never seen, whether or not its memory has been taken back yet.
//! - No empty list is a key.
//! - Locks are taken in the order keyspace, pub/sub registry, mailbox; none is held across an await.
//!   Under the keyspace's, [`Cache::transact`] lets its caller take others: nobody who holds one of those
//!   may call the cache.

mod bits;
mod blocking;
mod command;
mod compare;
mod deadline;
mod engine;
mod error;
mod expiry;
mod get_or_set;
mod hash;
mod invalidate;
mod key;
mod keyspace;
mod list;
mod lock;
mod long_double;
mod notifications;
mod pick;
mod pop_of_many;
mod promptly;
mod pubsub;
mod rate_limit;
mod reply;
mod scan;
pub mod script;
mod server;
mod set;
mod settings;
mod sorted_set;
mod string;
mod transaction;
mod typed;
mod visit;
mod watch;

pub use bits::{
    BitRange, BitUnit, BitfieldKind, BitfieldOp, BitfieldStep, BitsCommand, BitwiseOp, Overflow,
};
pub use blocking::{BlockingCommand, Waiting};
pub use command::{
    Command, Flags, Keys, Spec, parse_integer, subcommand as refused_subcommand,
    unknown as unknown_command,
};
pub use deadline::Deadline;
pub use engine::{AppendFsync, Cache, Executed};
pub use error::CacheError;
pub use hash::HashCommand;
pub use key::{ExpireIf, KeyCommand, ObjectQuestion, Sort};
pub use keyspace::Recovery;
pub use list::{End, ListCommand, Search};
pub use notifications::Events;
pub use pick::Pick;
pub use promptly::CappedPush;
pub use pubsub::{Channels, PubSubCommand, Published, Subscriber, SubscriberLimits, Topic};
pub use rate_limit::RateLimit;
pub use reply::Reply;
pub use scan::{Scan, ScanFilter};
pub use server::ServerCommand;
pub use set::{Operation, SetCommand};
pub use settings::{EvictionPolicy, Settings};
pub use sorted_set::{
    AddIf, Added, Aggregate, Combination, Extreme, LexBound, LexRange, Limit, Options, RangeBy,
    RangeQuery, Score, ScoreBound, ScoreRange, SortedSetCommand,
};
pub use string::{GetExTtl, LcsForm, LcsMatches, SetCondition, SetTtl, StringCommand};
pub use transaction::Change;
pub use typed::{Pushed, TimeToLive, Written};
pub use visit::Visit;
pub use watch::Watch;
