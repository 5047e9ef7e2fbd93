//! The page at `/demo`, served from the binary.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;

use crate::http::{Asset, SCRIPT};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const ASSETS: [Asset; 7] = [
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
];

pub(super) fn router() -> Router {
    ASSETS
        .into_iter()
        .fold(Router::new(), |router, asset| router.merge(asset.router()))
        .route("/demo/", get(|| std::future::ready(Redirect::permanent("/demo"))))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode, header};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn every_file_is_served_with_its_type() {
        for asset in ASSETS {
            let request = Request::get(asset.path).body(Body::empty()).unwrap();
            let response = router().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{}", asset.path);
            assert_eq!(response.headers()[header::CONTENT_TYPE], asset.content_type);
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
