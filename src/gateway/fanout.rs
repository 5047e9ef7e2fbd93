//! Events to frames: each is encoded once, and whoever gets it shares the frame.

use serde::Serialize;

use super::error::Refusal;
use super::websocket::Frame;
use crate::wire::engine_io::MESSAGE;
use crate::wire::socket_io::Namespace;
use crate::wire::socket_io::encode::{self, EncodeError};

/// A user, as events tell of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRef<'a> {
    pub user_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<&'a str>,
}

/// An event with one argument.
///
/// # Errors
/// [`EncodeError`] when the name is reserved or the payload has no JSON form.
pub fn event(name: &str, payload: &(impl Serialize + ?Sized)) -> Result<Frame, EncodeError> {
    let mut packet = message();
    encode::event(&mut packet, Namespace::ROOT, name, None, &[payload])?;
    Ok(Frame::text(&packet))
}

/// An event of the gateway's own.
pub fn own_event(name: &'static str, payload: &impl Serialize) -> Frame {
    let mut packet = message();
    let encoded = encode::event(&mut packet, Namespace::ROOT, name, None, &[payload]);
    debug_assert!(encoded.is_ok(), "{name} and its payload are the gateway's own");
    Frame::text(&packet)
}

/// An acknowledgement with one argument, of the gateway's own.
pub fn ack(id: u64, payload: &impl Serialize) -> Frame {
    let mut packet = message();
    let encoded = encode::ack(&mut packet, Namespace::ROOT, id, &[payload]);
    debug_assert!(encoded.is_ok(), "the payload is the gateway's own");
    Frame::text(&packet)
}

/// What tells a client that its event was refused: the event `error`, and the acknowledgement if it
/// waits for one.
pub fn refusal(refusal: &Refusal, ack_id: Option<u64>) -> impl Iterator<Item = Frame> {
    let text = refusal.to_string();
    let event = own_event("error", &serde_json::json!({ "message": text }));
    let ack = ack_id.map(|id| ack(id, &serde_json::json!({ "error": text })));
    std::iter::once(event).chain(ack)
}

/// A packet of the connection itself.
pub fn packet(write: impl FnOnce(&mut Vec<u8>)) -> Frame {
    let mut packet = message();
    write(&mut packet);
    Frame::text(&packet)
}

fn message() -> Vec<u8> {
    let mut packet = Vec::with_capacity(256);
    packet.push(MESSAGE);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_engine_io_messages() {
        let payload = serde_json::json!({ "userId": "ada" });
        assert_eq!(
            own_event("typing:stop", &payload).payload(),
            r#"42["typing:stop",{"userId":"ada"}]"#
        );
        assert_eq!(ack(7, &payload).payload(), r#"437[{"userId":"ada"}]"#);
        assert!(event("disconnect", &payload).is_err());
    }
}
