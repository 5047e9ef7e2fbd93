//! The page at `/demo` and the browser client at `/leveret.js`, served from the binary.

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// No inline script or style, nothing from elsewhere, no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// One embedded file.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const ASSETS: [Asset; 8] = [
    Asset { path: "/demo", content_type: HTML, body: include_str!("page/index.html") },
    Asset { path: "/demo/style.css", content_type: STYLE, body: include_str!("page/style.css") },
    Asset { path: "/demo/app.js", content_type: SCRIPT, body: include_str!("page/app.js") },
    Asset { path: "/demo/chat.js", content_type: SCRIPT, body: include_str!("page/chat.js") },
    Asset { path: "/demo/orders.js", content_type: SCRIPT, body: include_str!("page/orders.js") },
    Asset { path: "/demo/view.js", content_type: SCRIPT, body: include_str!("page/view.js") },
    Asset {
        path: "/demo/hare.svg",
        content_type: "image/svg+xml",
        body: include_str!("page/hare.svg"),
    },
    Asset { path: "/leveret.js", content_type: SCRIPT, body: include_str!("../http/leveret.js") },
];

pub(super) fn router() -> Router {
    ASSETS
        .into_iter()
        .fold(Router::new(), |router, asset| {
            let tag = entity_tag(asset.body);
            router.route(
                asset.path,
                get(move |headers: HeaderMap| std::future::ready(answer(asset, &tag, &headers))),
            )
        })
        .route("/demo/", get(|| std::future::ready(Redirect::permanent("/demo"))))
}

/// The file, or 304 when the browser has this very one. Browsers ask each time, so that a new binary's
/// page shows at once.
fn answer(asset: Asset, tag: &HeaderValue, request: &HeaderMap) -> Response {
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if request.get(header::IF_NONE_MATCH) == Some(tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.body).into_response()
}

fn entity_tag(body: &str) -> HeaderValue {
    let tag = format!("\"{:08x}-{:x}\"", crc32fast::hash(body.as_bytes()), body.len());
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str, tag: Option<&HeaderValue>) -> Response {
        let mut request = Request::get(path);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_and_policy() {
        for asset in ASSETS {
            let response = get(asset.path, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{}", asset.path);
            assert_eq!(response.headers()[header::CONTENT_TYPE], asset.content_type);
            assert_eq!(
                response.headers()[header::CONTENT_SECURITY_POLICY],
                CONTENT_SECURITY_POLICY
            );
            let tag = response.headers()[header::ETAG].clone();
            assert_eq!(get(asset.path, Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
            let other = HeaderValue::from_static("\"other\"");
            assert_eq!(get(asset.path, Some(&other)).await.status(), StatusCode::OK);
        }
    }

    #[test]
    fn the_page_keeps_its_own_policy() {
        let page = include_str!("page/index.html");
        for banned in ["<style", "style=", " onclick", " onload", "javascript:", "http://", "//cdn"]
        {
            assert!(!page.contains(banned), "{banned}");
        }
        for asset in ASSETS.iter().filter(|asset| asset.content_type == SCRIPT) {
            for banned in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!asset.body.contains(banned), "{}: {banned}", asset.path);
            }
        }
    }
}
