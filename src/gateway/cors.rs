//! Which pages may use the gateway from a browser.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

/// How long a browser may remember a preflight's answer, in seconds.
const MAX_AGE_S: &str = "600";

/// What the stock server answers, whichever of them it takes.
const METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE";

/// Origins, beside the gateway's own, whose pages may connect with credentials.
pub struct Cors {
    origins: Vec<String>,
    /// Every page may, without credentials.
    any: bool,
    credentials: bool,
}

/// Where a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// No browser, or a page of this host.
    Own,
    /// A page of a listed origin.
    Listed(&'a HeaderValue),
    /// Any page, where every page may.
    Anyone,
    Foreign,
}

impl Cors {
    pub fn new(origins: &[String], credentials: bool) -> Self {
        let normal = |origin: &String| origin.trim_end_matches('/').to_ascii_lowercase();
        let any = origins.iter().any(|origin| origin == "*");
        Self { origins: origins.iter().map(normal).collect(), any, credentials }
    }

    pub fn origin<'a>(&self, headers: &'a HeaderMap) -> Origin<'a> {
        let Some(origin) = headers.get(ORIGIN) else { return Origin::Own };
        let Ok(text) = origin.to_str() else {
            return if self.any { Origin::Anyone } else { Origin::Foreign };
        };
        if self.origins.iter().any(|listed| listed.eq_ignore_ascii_case(text)) {
            return Origin::Listed(origin);
        }
        let authority = text.split_once("://").map(|(_, authority)| authority);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match (authority, host) {
            (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host) => Origin::Own,
            _ if self.any => Origin::Anyone,
            _ => Origin::Foreign,
        }
    }

    /// Lets a page of a listed origin read the answer.
    pub fn allow(&self, origin: &Origin<'_>, answer: &mut HeaderMap) {
        answer.append(VARY, HeaderValue::from_static("Origin"));
        match origin {
            Origin::Listed(origin) => {
                answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, (*origin).clone());
                if self.credentials {
                    let allowed = HeaderValue::from_static("true");
                    answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
                }
            }
            Origin::Anyone => {
                answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Origin::Own | Origin::Foreign => {}
        }
    }

    /// Answers a preflight (Fetch standard, "CORS-preflight request").
    pub fn preflight(origin: &Origin<'_>, request: &HeaderMap, answer: &mut HeaderMap) {
        if !matches!(origin, Origin::Listed(_) | Origin::Anyone) {
            return;
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("chat.example:3001"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[test]
    fn own_and_listed_pages_are_told_from_foreign_ones() {
        let cors = Cors::new(&["http://localhost:3000/".to_owned()], true);
        assert_eq!(cors.origin(&headers(None)), Origin::Own);
        assert_eq!(cors.origin(&headers(Some("https://CHAT.example:3001"))), Origin::Own);
        assert!(matches!(
            cors.origin(&headers(Some("http://localhost:3000"))),
            Origin::Listed(origin) if origin == "http://localhost:3000"
        ));
        for foreign in ["http://evil.example", "null", "http://localhost:3000.evil.example"] {
            assert_eq!(cors.origin(&headers(Some(foreign))), Origin::Foreign, "{foreign}");
        }
    }

    #[test]
    fn only_a_listed_page_is_allowed_with_credentials() {
        let (listed, foreign) = ("http://localhost:3000", "http://evil.example");
        let allowed = |origins: &[&str], credentials, origin| {
            let origins: Vec<_> = origins.iter().map(|&origin| origin.to_owned()).collect();
            let cors = Cors::new(&origins, credentials);
            let headers = headers(Some(origin));
            let mut answer = HeaderMap::new();
            cors.allow(&cors.origin(&headers), &mut answer);
            assert_eq!(answer[VARY], "Origin");
            let text = |name| answer.get(name).map(|value| value.to_str().unwrap().to_owned());
            (text(ACCESS_CONTROL_ALLOW_ORIGIN), text(ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some())
        };
        assert_eq!(allowed(&[listed], true, listed), (Some(listed.to_owned()), true));
        assert_eq!(allowed(&[listed], false, listed), (Some(listed.to_owned()), false));
        assert_eq!(allowed(&[listed], true, foreign), (None, false));
        assert_eq!(allowed(&[listed, "*"], true, foreign), (Some("*".to_owned()), false));
        assert_eq!(allowed(&[listed, "*"], true, listed), (Some(listed.to_owned()), true));
    }
}
