//! [`Packet`] to text, appended to a buffer once.
//!
//! The text is a Socket.IO packet alone; a caller that sends it over Engine.IO begins the buffer with
//! [`crate::wire::engine_io::MESSAGE`], so a broadcast is written in one pass and then shared.

use std::io::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Body, Namespace, Packet, is_reserved};

/// An event or acknowledgement that can't be put into words.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("event name {0:?} is reserved")]
    ReservedEvent(String),
    #[error("an argument has no JSON form")]
    Argument(#[source] serde_json::Error),
}

/// Appends an EVENT. With an `id` the receiver is asked for an acknowledgement.
///
/// # Errors
/// An [`EncodeError`]; `out` is then as it was.
pub fn event<A: Serialize>(
    out: &mut Vec<u8>,
    namespace: Namespace<'_>,
    name: &str,
    id: Option<u64>,
    args: &[A],
) -> Result<(), EncodeError> {
    if is_reserved(name) {
        return Err(EncodeError::ReservedEvent(name.to_owned()));
    }
    let start = out.len();
    head(out, b'2', 0, namespace, id);
    out.push(b'[');
    string(out, name);
    for arg in args {
        out.push(b',');
        argument(out, start, arg)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends an ACK to the event with this `id`.
///
/// # Errors
/// An [`EncodeError`]; `out` is then as it was.
pub fn ack<A: Serialize>(
    out: &mut Vec<u8>,
    namespace: Namespace<'_>,
    id: u64,
    args: &[A],
) -> Result<(), EncodeError> {
    let start = out.len();
    head(out, b'3', 0, namespace, Some(id));
    out.push(b'[');
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        argument(out, start, arg)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends the server's CONNECT: the socket's id, and the private id that lets it resume, if any.
pub fn connect(out: &mut Vec<u8>, namespace: Namespace<'_>, sid: &str, pid: Option<&str>) {
    head(out, b'0', 0, namespace, None);
    out.extend_from_slice(br#"{"sid":"#);
    string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(br#","pid":"#);
        string(out, pid);
    }
    out.push(b'}');
}

/// Appends a CONNECT_ERROR; `data` reaches the client as `error.data`.
pub fn connect_error(
    out: &mut Vec<u8>,
    namespace: Namespace<'_>,
    message: &str,
    data: Option<&RawValue>,
) {
    head(out, b'4', 0, namespace, None);
    out.extend_from_slice(br#"{"message":"#);
    string(out, message);
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data.get().as_bytes());
    }
    out.push(b'}');
}

/// Appends a DISCONNECT. The stock client does not reconnect after it.
pub fn disconnect(out: &mut Vec<u8>, namespace: Namespace<'_>) {
    head(out, b'1', 0, namespace, None);
}

impl Packet<'_> {
    /// Appends the packet; with attachments it is a BINARY_EVENT or BINARY_ACK, and the
    /// attachments follow it as binary messages in the order of their numbers.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let namespace = self.namespace;
        match &self.body {
            Body::Connect { auth } => {
                head(out, b'0', 0, namespace, None);
                out.extend_from_slice(auth.map_or("", RawValue::get).as_bytes());
            }
            Body::Disconnect => disconnect(out, namespace),
            Body::Event { id, name, args, attachments } => {
                let kind = if *attachments == 0 { b'2' } else { b'5' };
                head(out, kind, *attachments, namespace, *id);
                out.push(b'[');
                string(out, name);
                for arg in args {
                    out.push(b',');
                    out.extend_from_slice(arg.get().as_bytes());
                }
                out.push(b']');
            }
            Body::Ack { id, args, attachments } => {
                let kind = if *attachments == 0 { b'3' } else { b'6' };
                head(out, kind, *attachments, namespace, Some(*id));
                out.push(b'[');
                for (index, arg) in args.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(arg.get().as_bytes());
                }
                out.push(b']');
            }
            Body::ConnectError { error } => {
                head(out, b'4', 0, namespace, None);
                out.extend_from_slice(error.get().as_bytes());
            }
        }
    }
}

fn head(
    out: &mut Vec<u8>,
    kind: u8,
    attachments: usize,
    namespace: Namespace<'_>,
    id: Option<u64>,
) {
    out.push(kind);
    // Writing to a Vec can't fail.
    if attachments > 0 {
        let _ = write!(out, "{attachments}-");
    }
    if namespace != Namespace::ROOT {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        let _ = write!(out, "{id}");
    }
}

fn argument(out: &mut Vec<u8>, start: usize, arg: &impl Serialize) -> Result<(), EncodeError> {
    serde_json::to_writer(&mut *out, arg).map_err(|error| {
        out.truncate(start);
        EncodeError::Argument(error)
    })
}

#[expect(clippy::expect_used, reason = "a Vec takes every write, and every str has a JSON form")]
fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a str is always JSON");
}
