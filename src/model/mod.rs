//! Values that every floor shares: names, messages, topology, limits, time.
//!
//! Pure: no IO and no async. It imports nothing from the crate. The one exception is
//! [`clock::SystemClock`], which is the single place that reads the wall clock, so that every other
//! floor can run under virtual time.

pub mod clock;
pub mod glob;
pub mod message;
pub mod names;
pub mod text;
pub mod topology;
pub mod user;
