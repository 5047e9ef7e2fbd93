//! [`Packet`] to text, appended to a buffer once.
//!
//! The text is a Socket.IO packet alone; a caller that sends it over Engine.IO begins the buffer with
//! [`crate::wire::engine_io::MESSAGE`], so a broadcast is written in one pass and then shared.

use std::io::Write as _;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::args::{ArgsWriter, ToArgs};
use super::{Body, Namespace, Packet, attachment, is_reserved};

/// An event or acknowledgement that can't be put into words.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("event name {0:?} is reserved")]
    ReservedEvent(String),
    #[error("an argument has no JSON form")]
    Argument(#[source] serde_json::Error),
}

/// Appends an EVENT, or a BINARY_EVENT when an argument holds a [`Binary`](super::Binary); its
/// attachments, which follow as binary messages. With an `id` the receiver is asked for an
/// acknowledgement.
///
/// # Errors
/// An [`EncodeError`]; `out` is then as it was.
pub fn event<A: ToArgs + ?Sized>(
    out: &mut Vec<u8>,
    namespace: Namespace<'_>,
    name: &str,
    id: Option<u64>,
    args: &A,
) -> Result<Vec<Bytes>, EncodeError> {
    if is_reserved(name) {
        return Err(EncodeError::ReservedEvent(name.to_owned()));
    }
    with_args(out, Kinds { plain: b'2', binary: b'5' }, namespace, id, Some(name), args)
}

/// Appends an ACK, or a BINARY_ACK, to the event with this `id`; its attachments as [`event`] has them.
///
/// # Errors
/// An [`EncodeError`]; `out` is then as it was.
pub fn ack<A: ToArgs + ?Sized>(
    out: &mut Vec<u8>,
    namespace: Namespace<'_>,
    id: u64,
    args: &A,
) -> Result<Vec<Bytes>, EncodeError> {
    with_args(out, Kinds { plain: b'3', binary: b'6' }, namespace, Some(id), None, args)
}

/// A packet's type without attachments and with some.
struct Kinds {
    plain: u8,
    binary: u8,
}

fn with_args<A: ToArgs + ?Sized>(
    out: &mut Vec<u8>,
    kinds: Kinds,
    namespace: Namespace<'_>,
    id: Option<u64>,
    name: Option<&str>,
    args: &A,
) -> Result<Vec<Bytes>, EncodeError> {
    let start = out.len();
    head(out, kinds.plain, 0, namespace, id);
    let data = out.len();
    out.push(b'[');
    if let Some(name) = name {
        string(out, name);
    }
    let (written, attachments) =
        attachment::collect(|| args.write(&mut ArgsWriter::new(out, name.is_none())));
    if let Err(error) = written {
        out.truncate(start);
        return Err(EncodeError::Argument(error));
    }
    out.push(b']');
    if !attachments.is_empty() {
        // How many there are shows only now, and stands in front.
        let data = out.split_off(data);
        out.truncate(start);
        head(out, kinds.binary, attachments.len(), namespace, id);
        out.extend_from_slice(&data);
    }
    Ok(attachments)
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

#[expect(clippy::expect_used, reason = "a Vec takes every write, and every str has a JSON form")]
fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a str is always JSON");
}
