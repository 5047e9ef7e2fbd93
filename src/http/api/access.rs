//! Who may call the API.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Shared;
use crate::http::{Problem, same_site};

const KEY_HEADER: &str = "x-api-key";
/// Below this a key can be guessed.
const SAFE_CHARACTERS_MIN: usize = 16;

/// A shared secret of the server and its callers. It is never shown: no `Debug`, no `Display`.
#[derive(Clone)]
pub struct ApiKey(Arc<str>);

/// A key that no HTTP header can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key consists of visible ASCII characters, at least one")]
pub struct ApiKeyError;

impl ApiKey {
    /// # Errors
    /// An empty key, or one with blanks or characters beyond ASCII.
    pub fn new(text: &str) -> Result<Self, ApiKeyError> {
        match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(Arc::from(text))),
            false => Err(ApiKeyError),
        }
    }

    /// Whether it can be guessed by trying.
    pub fn is_short(&self) -> bool {
        self.0.len() < SAFE_CHARACTERS_MIN
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes as long for a wrong key as for the right one of that length.
    fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let differ = own.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b));
        own.len() == given.len() && std::hint::black_box(differ) == 0
    }
}

/// What a caller has to show.
#[derive(Clone)]
pub enum Access {
    /// `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    Key(ApiKey),
    /// Nothing, but pages of other sites are kept out, as a browser on this machine may visit them.
    Loopback,
}

impl Access {
    /// What it takes for a server that listens on `address`; `None` without a key where others can
    /// reach it.
    pub fn of(address: IpAddr, key: Option<ApiKey>) -> Option<Self> {
        match key {
            Some(key) => Some(Self::Key(key)),
            None => address.is_loopback().then_some(Self::Loopback),
        }
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Key(key) => match shown(headers) {
                Some(given) if key.is(given) => Ok(()),
                Some(_) => Err(unauthorized("The API key is wrong")),
                None => Err(unauthorized("An API key is required")),
            },
            Self::Loopback if same_site::admits(headers, &[]) => Ok(()),
            Self::Loopback => {
                Err(Problem::new(StatusCode::FORBIDDEN, "this origin may not call this API"))
            }
        }
    }
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(KEY_HEADER) {
        return key.to_str().ok();
    }
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn unauthorized(error: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, error)
        .detail("send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Middleware: 401 or 403 before a byte of the body is read.
pub(super) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    match shared.access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(access: &Access, headers: &[(&'static str, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        access.check(&headers).map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    #[test]
    fn a_key_is_taken_in_either_header_and_nothing_else_is() {
        let access = Access::Key(ApiKey::new("open-sesame").unwrap());
        assert_eq!(status(&access, &[("authorization", "Bearer open-sesame")]), 200);
        assert_eq!(status(&access, &[("authorization", "bearer  open-sesame")]), 200);
        assert_eq!(status(&access, &[("x-api-key", "open-sesame")]), 200);
        // The key is the proof: whichever page holds it may call.
        let page = [("x-api-key", "open-sesame"), ("origin", "https://ops.example")];
        assert_eq!(status(&access, &page), 200);
        for wrong in ["open-sesam", "open-sesame1", "Open-sesame", ""] {
            assert_eq!(status(&access, &[("x-api-key", wrong)]), 401, "{wrong}");
        }
        assert_eq!(status(&access, &[("authorization", "Basic open-sesame")]), 401);
        assert_eq!(status(&access, &[]), 401);
    }

    #[test]
    fn without_a_key_programs_on_this_machine_may_and_other_sites_pages_may_not() {
        let access = Access::of("127.0.0.1".parse().unwrap(), None).unwrap();
        assert_eq!(status(&access, &[("host", "127.0.0.1:3001")]), 200);
        let page = [("host", "127.0.0.1:3001"), ("origin", "https://evil.example")];
        assert_eq!(status(&access, &page), 403);
        assert_eq!(status(&access, &[("host", "evil.example:3001")]), 403);
    }

    #[test]
    fn an_address_that_others_reach_takes_a_key() {
        let public = "192.0.2.1".parse().unwrap();
        assert!(Access::of(public, None).is_none());
        assert!(Access::of(public, ApiKey::new("k").ok()).is_some());
        for bad in ["", "two words", "schlüssel", "tab\t"] {
            assert!(ApiKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
