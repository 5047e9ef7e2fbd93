//! What the server refuses, as the embedded broker would have said it.

use lapin::ErrorKind;

use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::model::names::VhostName;

pub(super) const SERVER: &str = "RabbitMQ";

/// The server can't be asked, or its answer was lost: whether it did what it was asked to is unknown.
pub(super) fn unreachable(reason: impl Into<String>) -> BackendError {
    BackendError::Unreachable { server: SERVER, reason: reason.into() }
}

/// What no AMQP server can give.
pub(super) fn unsupported(what: &str, why: &str) -> BackendError {
    BackendError::Unsupported { server: SERVER, reason: format!("{what}: {why}") }
}

pub(super) fn refusal(error: lapin::Error) -> BackendError {
    match error.kind() {
        ErrorKind::ProtocolError(refused) => {
            match of_reply(refused.get_id(), refused.get_message().as_str()) {
                Some(refused) => BackendError::Broker(refused),
                None => unreachable(refused.get_message().to_string()),
            }
        }
        ErrorKind::SerialisationError(reason) => {
            BackendError::Broker(BrokerError::Precondition(format!("it can't be sent: {reason}")))
        }
        _ => unreachable(error.to_string()),
    }
}

/// `None`: it says nothing of the call, but of the connection.
fn of_reply(code: u16, text: &str) -> Option<BrokerError> {
    let reason = text.split_once(" - ").map_or(text, |(_, reason)| reason);
    let owned = || reason.to_owned();
    Some(match code {
        404 => not_found(reason).unwrap_or_else(|| BrokerError::Precondition(owned())),
        403 => BrokerError::AccessRefused(owned()),
        405 => match named(reason, "cannot obtain exclusive access to locked queue '") {
            Some((name, vhost)) => BrokerError::ResourceLocked { name, vhost },
            None => BrokerError::AccessRefused(owned()),
        },
        406 => in_use(reason).unwrap_or_else(|| BrokerError::Precondition(owned())),
        530 => BrokerError::NotAllowed(owned()),
        540 => BrokerError::NotImplemented(owned()),
        503 => BrokerError::CommandInvalid(owned()),
        _ => return None,
    })
}

fn not_found(reason: &str) -> Option<BrokerError> {
    ["queue", "exchange"].into_iter().find_map(|what| {
        let (name, vhost) = named(reason, &format!("no {what} '"))?;
        Some(BrokerError::NotFound { what, name, vhost })
    })
}

fn in_use(reason: &str) -> Option<BrokerError> {
    ["queue", "exchange"].into_iter().find_map(|what| {
        let (name, vhost) = named(reason, &format!("{what} '"))?;
        match reason.rsplit_once('\'')?.1 {
            " in use" => Some(BrokerError::InUse { what, name, vhost }),
            " not empty" => Some(BrokerError::NotEmpty { name, vhost }),
            _ => None,
        }
    })
}

/// The name behind `start`, and the vhost behind that.
fn named(reason: &str, start: &str) -> Option<(String, VhostName)> {
    let (name, rest) = reason.strip_prefix(start)?.split_once("' in vhost '")?;
    let (vhost, _) = rest.split_once('\'')?;
    Some((name.to_owned(), VhostName::new(vhost).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_kept() {
        let cases = [
            (404, "NOT_FOUND - no queue 'q' in vhost '/'"),
            (404, "NOT_FOUND - no exchange 'x' in vhost 'v'"),
            (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"),
            (406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"),
            (406, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"),
            (406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': x"),
            (530, "NOT_ALLOWED - attempt to reuse consumer tag 't'"),
        ];
        for (code, text) in cases {
            assert_eq!(of_reply(code, text).unwrap().reply_text(), text);
        }
        assert_eq!(of_reply(320, "CONNECTION_FORCED - broker forced connection closure"), None);
    }
}
