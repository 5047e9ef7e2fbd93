//! The RESP listener as a client sees it: bytes in, bytes out, over a stream in memory.

mod blocking;
mod connections;
mod fixture;
mod pause;
mod pubsub;
mod scripts;
mod transactions;
