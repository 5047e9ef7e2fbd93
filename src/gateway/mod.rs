//! To be filled.

pub mod websocket;
