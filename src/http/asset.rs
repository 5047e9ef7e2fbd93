//! Files that are part of the binary.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// No inline script or style, nothing from elsewhere, no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The content type of scripts.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The browser client, which any page may load.
const CLIENT: Asset =
    Asset { path: "/leveret.js", content_type: SCRIPT, body: include_str!("leveret.js") };

/// How the client says where Socket.IO is served.
const CLIENT_PATH: &str = "const PATH = \"/socket.io/\";";

/// The route of the browser client, which looks for Socket.IO at `gateway_path`: a plain path, that has
/// nothing in it that a script would have to escape.
pub(super) fn client(gateway_path: &str) -> Router {
    let body = CLIENT.body.replace(CLIENT_PATH, &format!("const PATH = \"{gateway_path}\";"));
    CLIENT.router_of(body.into())
}

/// One embedded file, and where it is served.
#[derive(Clone, Copy)]
pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static str,
}

impl Asset {
    /// The route that serves it.
    pub fn router(self) -> Router {
        self.router_of(Bytes::from_static(self.body.as_bytes()))
    }

    fn router_of(self, body: Bytes) -> Router {
        let tag = entity_tag(&body);
        let answer =
            move |headers: HeaderMap| std::future::ready(self.answer(&body, &tag, &headers));
        Router::new().route(self.path, get(answer))
    }

    /// The file, or 304 when the browser has this very one. Browsers ask each time, so that a new
    /// binary's file shows at once.
    fn answer(self, body: &Bytes, tag: &HeaderValue, request: &HeaderMap) -> Response {
        let headers: [(HeaderName, HeaderValue); 6] = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::ETAG, tag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if request.get(header::IF_NONE_MATCH) == Some(tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, body.clone()).into_response()
    }
}

fn entity_tag(body: &[u8]) -> HeaderValue {
    let tag = format!("\"{:08x}-{:x}\"", crc32fast::hash(body), body.len());
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(tag: Option<&HeaderValue>) -> Response {
        let mut request = Request::get(CLIENT.path);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        CLIENT.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_served_with_its_type_and_policy_and_once_a_browser() {
        let response = get(None).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], SCRIPT);
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
        let tag = response.headers()[header::ETAG].clone();
        assert_eq!(get(Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
        let other = HeaderValue::from_static("\"other\"");
        assert_eq!(get(Some(&other)).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn the_client_looks_for_the_gateway_where_it_is() {
        assert!(CLIENT.body.contains(CLIENT_PATH));
        let request = Request::get(CLIENT.path).body(Body::empty()).unwrap();
        let response = client("/chat/").oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = str::from_utf8(&body).unwrap();
        assert!(body.contains("const PATH = \"/chat/\";") && !body.contains(CLIENT_PATH));
    }

    #[test]
    fn the_client_makes_no_page_of_what_it_receives() {
        for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!CLIENT.body.contains(banned), "{banned}");
        }
    }
}
