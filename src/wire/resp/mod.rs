//! RESP, the protocol of Redis: requests in, replies out, in its versions 2 and 3.
//!
//! Owns the bytes: how a request is framed ([`Decoder`]) and how each kind of reply is written
//! ([`Writer`]). It knows no command and no reply's meaning, and imports nothing. Source: the RESP
//! specification, and for what it leaves open the texts and limits of Redis 7.0.
//!
//! What always holds: no byte of a request is looked at twice, however it was split on its way; what a
//! request takes in memory is bounded by what arrived of it, twice, and by its [`Limits`].

mod double;
mod inline;
mod request;
#[cfg(test)]
mod tests;
mod writer;

pub use double::format_double;
pub use request::{Decoder, Limits, ProtocolError, Request};
pub use writer::{Version, Writer};
