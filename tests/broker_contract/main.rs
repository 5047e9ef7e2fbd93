//! What the broker promises, written over the port, so that every back end can be held to it.
//! One file a promise.

mod confirms;
mod dead_letters;
mod declare;
mod delivery;
mod fixture;
mod redrive;
mod retry;
mod routing;
mod ttl;
