//! What an HTTP request asks of the engine. Pure; the order of the checks is the stock server's.

use std::collections::HashMap;

use http::header::UPGRADE;
use http::{HeaderMap, Method, Uri};

use crate::gateway::outbound::Transport;
use crate::wire::engine_io::{PROTOCOL, RequestError};

/// A well-formed request. Whether its session exists is not known here.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Handshake(Transport),
    /// The WebSocket of a session that began with polling.
    Upgrade(String),
    Poll(String),
    Data(String),
}

/// The query parameters that count; of one given twice, the last.
#[derive(Debug, Default)]
pub struct Query {
    transport: Option<String>,
    sid: Option<String>,
    protocol: Option<String>,
}

impl Query {
    pub fn of(uri: &Uri) -> Self {
        let parsed = axum::extract::Query::<HashMap<String, String>>::try_from_uri(uri);
        let Ok(axum::extract::Query(mut parameters)) = parsed else { return Self::default() };
        Self {
            transport: parameters.remove("transport"),
            sid: parameters.remove("sid").filter(|sid| !sid.is_empty()),
            protocol: parameters.remove("EIO"),
        }
    }
}

/// Whether the request wants to become a WebSocket.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// # Errors
/// The [`RequestError`] that the client is told.
pub fn asked(method: &Method, query: &Query, is_upgrade: bool) -> Result<Asked, RequestError> {
    let transport = match query.transport.as_deref() {
        Some("polling") => Transport::Polling,
        Some("websocket") => Transport::WebSocket,
        _ => return Err(RequestError::UnknownTransport),
    };
    let is_ours = query.protocol.as_deref().is_some_and(|given| given.parse() == Ok(PROTOCOL));
    // A polling request cannot become a WebSocket, and a WebSocket is nothing else.
    let fits = (transport == Transport::WebSocket) == is_upgrade;
    let Some(sid) = query.sid.clone() else {
        return match () {
            () if method != Method::GET => Err(RequestError::BadHandshakeMethod),
            () if !fits => Err(RequestError::BadRequest),
            () if !is_ours => Err(RequestError::UnsupportedProtocolVersion),
            () => Ok(Asked::Handshake(transport)),
        };
    };
    if !fits || !is_ours {
        return Err(RequestError::BadRequest);
    }
    match (transport, method) {
        (Transport::WebSocket, &Method::GET) => Ok(Asked::Upgrade(sid)),
        (Transport::Polling, &Method::GET) => Ok(Asked::Poll(sid)),
        (Transport::Polling, &Method::POST) => Ok(Asked::Data(sid)),
        _ => Err(RequestError::BadRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, query: &str, is_upgrade: bool) -> Result<Asked, RequestError> {
        let uri = format!("/socket.io/?{query}").parse().unwrap();
        asked(method, &Query::of(&uri), is_upgrade)
    }

    #[test]
    fn requests_are_told_apart() {
        let sid = || "abc".to_owned();
        let cases = [
            (
                Method::GET,
                "EIO=4&transport=polling&t=x",
                false,
                Asked::Handshake(Transport::Polling),
            ),
            (
                Method::GET,
                "EIO=4&transport=websocket",
                true,
                Asked::Handshake(Transport::WebSocket),
            ),
            (Method::GET, "EIO=4&transport=polling&sid=abc", false, Asked::Poll(sid())),
            (Method::POST, "EIO=4&transport=polling&sid=abc", false, Asked::Data(sid())),
            (Method::GET, "EIO=4&transport=websocket&sid=abc", true, Asked::Upgrade(sid())),
        ];
        for (method, query, is_upgrade, expected) in cases {
            assert_eq!(ask(&method, query, is_upgrade), Ok(expected), "{method} {query}");
        }
    }

    #[test]
    fn what_the_stock_server_refuses_is_refused_with_its_code() {
        let cases = [
            (Method::GET, "EIO=4", false, RequestError::UnknownTransport),
            (Method::GET, "EIO=4&transport=webtransport", false, RequestError::UnknownTransport),
            (Method::POST, "EIO=4&transport=polling", false, RequestError::BadHandshakeMethod),
            (Method::GET, "EIO=4&transport=websocket", false, RequestError::BadRequest),
            (Method::GET, "EIO=4&transport=polling", true, RequestError::BadRequest),
            (
                Method::GET,
                "EIO=3&transport=polling",
                false,
                RequestError::UnsupportedProtocolVersion,
            ),
            (Method::GET, "transport=polling", false, RequestError::UnsupportedProtocolVersion),
            (Method::GET, "EIO=3&transport=polling&sid=abc", false, RequestError::BadRequest),
            (Method::PUT, "EIO=4&transport=polling&sid=abc", false, RequestError::BadRequest),
            (Method::GET, "EIO=4&transport=websocket&sid=abc", false, RequestError::BadRequest),
        ];
        for (method, query, is_upgrade, expected) in cases {
            assert_eq!(ask(&method, query, is_upgrade), Err(expected), "{method} {query}");
        }
    }
}
