//! The codecs of the protocols that a client speaks: bytes in, values out, and back.
//!
//! Owns the bytes of RESP requests and replies and the text of Engine.IO and Socket.IO packets, and nothing of their meaning: a session, a room or
//! an acknowledgement is not known here. It imports from `model` only, does no IO and reads no clock.
//!
//! What always holds: a value that a parser gave was checked completely, so what encodes it again gives
//! an equivalent packet; a parser borrows from its input and allocates no more than a small multiple
//! of it; whatever the input, the answer is a value or an error, never a panic.

pub mod engine_io;
pub mod resp;
pub mod socket_io;
