//! Problem documents (RFC 9457), the form of every error that leaves an HTTP route.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

/// An error as a client sees it: `application/problem+json` with the members `type`, `title`,
/// `status` and `detail` (RFC 9457, section 3.1), and always `error`, which is the one text that
/// clients of the plain `{"error": "..."}` form read.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    error: String,
    detail: Option<String>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `error` is a short sentence for people, the same for every occurrence of this problem.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), detail: None, members: Map::new(), headers: Vec::new() }
    }

    /// 400, for a body whose `field` does not hold what it must. The field's name is the member `field`.
    pub fn field(field: &str, reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{field}: {reason}")).with("field", field)
    }

    /// What is special about this occurrence. Without it, `detail` repeats `error`.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// An extension member (RFC 9457, section 3.2). The standard members can't be replaced.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Says when a retry makes sense (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = self.members;
        let title = self.status.canonical_reason().unwrap_or("Error");
        // `about:blank`: the problem means no more than its status (RFC 9457, section 4.2.1).
        document.insert("type".into(), "about:blank".into());
        document.insert("title".into(), title.into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("detail".into(), self.detail.unwrap_or_else(|| self.error.clone()).into());
        document.insert("error".into(), self.error.into());

        let mut response = (self.status, Value::Object(document).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn document(problem: Problem) -> (http::response::Parts, Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn carries_the_standard_members_and_error() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "Order not found");
        let (parts, document) = document(problem).await;
        assert_eq!(parts.status, 404);
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Not Found", "status": 404,
            "detail": "Order not found", "error": "Order not found",
        });
        assert_eq!(document, expected);
    }

    #[tokio::test]
    async fn an_extension_member_does_not_replace_a_standard_one() {
        let problem = Problem::field("total", "must be a finite number")
            .with("status", 200)
            .detail("it was null");
        let (_, document) = document(problem).await;
        assert_eq!(document["status"], 400);
        assert_eq!(document["field"], "total");
        assert_eq!(document["error"], "total: must be a finite number");
        assert_eq!(document["detail"], "it was null");
    }

    #[tokio::test]
    async fn a_retry_is_announced_in_seconds() {
        let problem =
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests").retry_after(42);
        let (parts, document) = document(problem).await;
        assert_eq!(parts.headers["retry-after"], "42");
        assert_eq!(document["error"], "Too many requests");
    }
}
