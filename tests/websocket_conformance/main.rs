//! The WebSocket as it is served, against RFC 6455, case by case in the order of the Autobahn test
//! suite's sections, which every raw frame here was written after. The server is `leveret ws-echo`.

mod client;
mod closing;
mod fragmentation;
mod framing;
mod handshake;
mod limits;
mod utf8;
