//! The body of a POST.

use std::error::Error;

use axum::extract::Request;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::order::Invalid;
use super::problem::Problem;

const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Reads a JSON body as text. Its media type must say JSON: a browser sends that across sites only after
/// asking (a preflight), which a plain form never does.
pub(super) async fn read_json(request: Request) -> Result<String, Problem> {
    if !says_json(request.headers()) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type must be application/json",
        ));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| unread(&*error))?.to_bytes();
    String::from_utf8(body.into())
        .map_err(|_| Invalid::new("body", "is not valid JSON: it is not UTF-8").into())
}

fn says_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Too large, by this limit or by one of the server's, or cut off by the client.
fn unread<'e>(error: &'e (dyn Error + 'static)) -> Problem {
    let mut causes =
        std::iter::successors(Some(error), |&error: &&'e (dyn Error + 'static)| error.source());
    if causes.any(|cause| cause.is::<LengthLimitError>()) {
        let text = format!("the body has more than {BODY_BYTES_MAX} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text);
    }
    Problem::new(StatusCode::BAD_REQUEST, "the body could not be read to its end")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::IntoResponse;

    use super::*;

    async fn status(content_type: Option<&str>, body: Vec<u8>) -> StatusCode {
        let mut request = Request::builder();
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Body::from(body)).unwrap();
        read_json(request)
            .await
            .map_or_else(|problem| problem.into_response().status(), |_| StatusCode::OK)
    }

    #[tokio::test]
    async fn only_json_up_to_the_limit_is_read() {
        let json = Some("application/json; charset=utf-8");
        assert_eq!(status(json, b"{}".to_vec()).await, StatusCode::OK);
        assert_eq!(status(Some("Application/Merge-Patch+JSON"), vec![]).await, StatusCode::OK);
        let unsupported = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        assert_eq!(status(None, b"{}".to_vec()).await, unsupported);
        assert_eq!(status(Some("text/plain"), b"{}".to_vec()).await, unsupported);
        assert_eq!(status(json, vec![b' '; BODY_BYTES_MAX]).await, StatusCode::OK);
        let too_large = status(json, vec![b' '; BODY_BYTES_MAX + 1]).await;
        assert_eq!(too_large, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(status(json, vec![0xff]).await, StatusCode::BAD_REQUEST);
    }
}
