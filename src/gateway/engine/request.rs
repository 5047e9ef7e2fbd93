//! What an HTTP request asks of the engine. Pure; the order of the checks is the stock server's.

use std::collections::HashMap;

use http::header::UPGRADE;
use http::{HeaderMap, Method, Uri};

use crate::gateway::outbound::Transport;
use crate::wire::engine_io::{PROTOCOL, RequestError};

/// A request that begins a session, or belongs to one.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Handshake(Transport),
    /// Whether the session exists is not known here, and goes before what is wrong with the request.
    OfSession {
        sid: String,
        request: Result<SessionRequest, RequestError>,
    },
}

/// What is asked of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRequest {
    /// A WebSocket, for a session that began with polling.
    Upgrade,
    Poll,
    Data,
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
    let request = match (transport, method) {
        _ if !fits || !is_ours => Err(RequestError::BadRequest),
        (Transport::WebSocket, &Method::GET) => Ok(SessionRequest::Upgrade),
        (Transport::Polling, &Method::GET) => Ok(SessionRequest::Poll),
        (Transport::Polling, &Method::POST) => Ok(SessionRequest::Data),
        _ => Err(RequestError::BadRequest),
    };
    Ok(Asked::OfSession { sid, request })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, query: &str, is_upgrade: bool) -> Result<Asked, RequestError> {
        let uri = format!("/socket.io/?{query}").parse().unwrap();
        asked(method, &Query::of(&uri), is_upgrade)
    }

    fn of_session(request: Result<SessionRequest, RequestError>) -> Result<Asked, RequestError> {
        Ok(Asked::OfSession { sid: "abc".to_owned(), request })
    }

    #[test]
    fn requests_are_told_apart() {
        let (get, post) = (Method::GET, Method::POST);
        let polling = Ok(Asked::Handshake(Transport::Polling));
        let websocket = Ok(Asked::Handshake(Transport::WebSocket));
        assert_eq!(ask(&get, "EIO=4&transport=polling&t=x", false), polling);
        assert_eq!(ask(&get, "EIO=4&transport=websocket", true), websocket);
        let cases = [
            (&get, "EIO=4&transport=polling&sid=abc", false, SessionRequest::Poll),
            (&post, "EIO=4&transport=polling&sid=abc", false, SessionRequest::Data),
            (&get, "EIO=4&transport=websocket&sid=abc", true, SessionRequest::Upgrade),
        ];
        for (method, query, is_upgrade, expected) in cases {
            assert_eq!(ask(method, query, is_upgrade), of_session(Ok(expected)), "{query}");
        }
    }

    #[test]
    fn what_the_stock_server_refuses_is_refused_with_its_code() {
        use RequestError::{
            BadHandshakeMethod, BadRequest, UnknownTransport, UnsupportedProtocolVersion,
        };
        let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
        let cases = [
            (&get, "EIO=4", false, Err(UnknownTransport)),
            (&get, "EIO=4&transport=webtransport", false, Err(UnknownTransport)),
            (&post, "EIO=4&transport=polling", false, Err(BadHandshakeMethod)),
            (&get, "EIO=4&transport=websocket", false, Err(BadRequest)),
            (&get, "EIO=4&transport=polling", true, Err(BadRequest)),
            (&get, "EIO=3&transport=polling", false, Err(UnsupportedProtocolVersion)),
            (&get, "transport=polling", false, Err(UnsupportedProtocolVersion)),
            (&get, "EIO=3&transport=polling&sid=abc", false, of_session(Err(BadRequest))),
            (&put, "EIO=4&transport=polling&sid=abc", false, of_session(Err(BadRequest))),
            (&get, "EIO=4&transport=websocket&sid=abc", false, of_session(Err(BadRequest))),
        ];
        for (method, query, is_upgrade, expected) in cases {
            assert_eq!(ask(method, query, is_upgrade), expected, "{method} {query}");
        }
    }
}
