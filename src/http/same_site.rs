//! Keeps other sites' pages away from routes that ask for no credential.
//!
//! Two ways lead a visitor's browser here. A page elsewhere sends a request: its `Origin` gives it away.
//! Or a page's own host name is made to resolve to this address (DNS rebinding): then its `Host` does.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};

use super::Problem;

/// Middleware: 403 unless the request comes from a page of this server or of `client_origins`, or from no
/// page at all.
pub async fn guard(
    State(client_origins): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    if admits(request.headers(), &client_origins) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::FORBIDDEN, "this origin may not call this API").into_response()
}

pub(super) fn admits(headers: &HeaderMap, client_origins: &[String]) -> bool {
    let host = match headers.get(header::HOST).map(|host| host.to_str()) {
        // Browsers always send one.
        None => return headers.get(header::ORIGIN).is_none(),
        Some(Ok(host)) => host,
        Some(Err(_)) => return false,
    };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if !cannot_be_rebound(authority.host(), client_origins) {
        return false;
    }
    match headers.get(header::ORIGIN).map(|origin| origin.to_str()) {
        None => true,
        Some(Ok(origin)) => {
            client_origins.iter().any(|allowed| allowed == origin)
                || authority_of(origin).is_some_and(|from| from.eq_ignore_ascii_case(host))
        }
        Some(Err(_)) => false,
    }
}

/// A name that no stranger controls: an address, `localhost`, or the host of a configured origin.
fn cannot_be_rebound(host: &str, client_origins: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || client_origins.iter().any(|origin| {
            let authority = authority_of(origin).and_then(|text| text.parse::<Authority>().ok());
            authority.is_some_and(|authority| authority.host().eq_ignore_ascii_case(host))
        })
}

fn authority_of(origin: &str) -> Option<&str> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        admits(&headers, &["https://shop.example".to_owned()])
    }

    #[test]
    fn this_server_s_pages_and_programs_are_admitted() {
        assert!(check(Some("127.0.0.1:3001"), None));
        assert!(check(Some("127.0.0.1:3001"), Some("http://127.0.0.1:3001")));
        assert!(check(Some("LocalHost:3001"), Some("http://localhost:3001")));
        assert!(check(Some("[::1]:3001"), Some("http://[::1]:3001")));
        assert!(check(Some("shop.example"), Some("https://shop.example")));
        assert!(check(None, None));
    }

    #[test]
    fn a_configured_client_is_admitted() {
        assert!(check(Some("localhost:3001"), Some("https://shop.example")));
    }

    #[test]
    fn another_site_s_page_is_refused() {
        assert!(!check(Some("127.0.0.1:3001"), Some("https://evil.example")));
        assert!(!check(Some("127.0.0.1:3001"), Some("http://127.0.0.1:8080")));
        assert!(!check(Some("127.0.0.1:3001"), Some("null")));
        assert!(!check(None, Some("https://evil.example")));
    }

    #[test]
    fn a_rebound_host_is_refused_even_with_its_own_origin() {
        assert!(!check(Some("evil.example:3001"), Some("http://evil.example:3001")));
        assert!(!check(Some("evil.example:3001"), None));
        assert!(!check(Some("localhost.evil.example"), None));
    }
}
