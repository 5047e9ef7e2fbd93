//! Commands that wait for a key: BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH, BZPOPMIN, BZPOPMAX, BZMPOP.
//!
//! Owns who waits for what ([`Waiters`]) and what each gets. May import: the types' operations.
//! What always holds: of those that wait for a key the one that came first is served first, at the end of
//! the command, transaction or script that made the key ready, and what it takes is in the same journal
//! group; whoever stops waiting leaves no trace.

mod command;
mod waiters;
mod waiting;

pub use command::BlockingCommand;
pub(super) use command::SPECS;
pub(super) use waiters::Waiters;
pub use waiting::Waiting;
