//! The opening handshake, RFC 6455 section 4.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use sha1::{Digest, Sha1};

/// Joined to the client's key (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version that is spoken.
pub const VERSION: &str = "13";

/// A request that can't be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    #[error("a WebSocket handshake is a GET request of HTTP/1.1")]
    Method,
    #[error("header Upgrade does not ask for websocket")]
    Upgrade,
    #[error("header Connection does not say upgrade")]
    Connection,
    #[error("header Sec-WebSocket-Version is not 13")]
    Version,
    #[error("header Sec-WebSocket-Key is missing or not 16 bytes in base64")]
    Key,
}

impl UpgradeError {
    /// The refusal's head: 426 with the version that is spoken here, or 400.
    pub fn response(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = match self {
            Self::Upgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method | Self::Connection | Self::Key => StatusCode::BAD_REQUEST,
        };
        if response.status() == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        }
        response
    }
}

/// Checks a handshake, and gives the head of the 101 response. No extension is agreed on; of the client's
/// subprotocols the first is, as the stock server does, since a browser closes a connection on which none
/// of those that a page named is. The origin is for the caller to check.
///
/// # Errors
/// An [`UpgradeError`] that names the header, with the response to refuse with.
pub fn accept<B>(request: &Request<B>) -> Result<Response<()>, UpgradeError> {
    if request.method() != Method::GET || request.version() < Version::HTTP_11 {
        return Err(UpgradeError::Method);
    }
    let headers = request.headers();
    if !lists(headers, &UPGRADE, "websocket") {
        return Err(UpgradeError::Upgrade);
    }
    if !lists(headers, &CONNECTION, "upgrade") {
        return Err(UpgradeError::Connection);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(UpgradeError::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(UpgradeError::Key)?.as_bytes();
    if BASE64.decode(key).map_or(true, |nonce| nonce.len() != 16) {
        return Err(UpgradeError::Key);
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let accept = HeaderValue::try_from(BASE64.encode(digest)).map_err(|_| UpgradeError::Key)?;

    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = first_protocol(request.headers()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let first = asked.split(',').next().map(str::trim).filter(|first| !first.is_empty())?;
    HeaderValue::from_str(first).ok()
}

/// Whether one of the comma-separated values of a header is `token`.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<()> {
        Request::get("/socket.io/?EIO=4&transport=websocket")
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(UPGRADE, "WebSocket")
            .header(SEC_WEBSOCKET_VERSION, VERSION)
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let response = accept(&request()).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()[UPGRADE], "websocket");
        assert_eq!(response.headers()[CONNECTION], "upgrade");
    }

    #[test]
    fn each_missing_part_is_named() {
        let without = |name: HeaderName| {
            let mut request = request();
            request.headers_mut().remove(name);
            accept(&request).unwrap_err()
        };
        assert_eq!(without(UPGRADE), UpgradeError::Upgrade);
        assert_eq!(without(CONNECTION), UpgradeError::Connection);
        assert_eq!(without(SEC_WEBSOCKET_VERSION), UpgradeError::Version);
        assert_eq!(without(SEC_WEBSOCKET_KEY), UpgradeError::Key);
        let mut post = request();
        *post.method_mut() = Method::POST;
        assert_eq!(accept(&post).unwrap_err(), UpgradeError::Method);
        let mut old = request();
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(accept(&old).unwrap_err(), UpgradeError::Method);
        let mut short = request();
        short.headers_mut().insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("c2hvcnQ="));
        assert_eq!(accept(&short).unwrap_err(), UpgradeError::Key);
    }

    #[test]
    fn the_first_subprotocol_is_agreed_on() {
        let mut asking = request();
        assert_eq!(accept(&asking).unwrap().headers().get(SEC_WEBSOCKET_PROTOCOL), None);
        for (asked, agreed) in
            [("chat , superchat", Some("chat")), ("one", Some("one")), (", ", None)]
        {
            asking.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(asked));
            let response = accept(&asking).unwrap();
            let answer = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(answer.map(|answer| answer.to_str().unwrap()), agreed);
        }
    }

    #[test]
    fn another_version_is_told_which_is_spoken() {
        let response = UpgradeError::Version.response();
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
    }
}
