//! Error answers: RFC 9457 problem documents that also carry the member `error`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::order::Invalid;
use crate::backend::BackendError;

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: String,
    /// The field that a 400 is about.
    field: Option<&'static str>,
    retry_after_s: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), field: None, retry_after_s: None }
    }

    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// `reset_ms`: until the next call would be allowed.
    pub fn too_many_requests(reset_ms: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
        problem.retry_after_s = Some(reset_ms.div_ceil(1000).max(1));
        problem
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, invalid.to_string());
        problem.field = Some(invalid.field);
        problem
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Journal(_) => Self::unavailable(error.to_string()),
            BackendError::Broker(_) | BackendError::Cache(_) => {
                tracing::error!(%error, "a back end refused a call of the demo");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.error,
            "error": self.error,
        });
        if let (Some(members), Some(field)) = (document.as_object_mut(), self.field) {
            members.insert("field".to_owned(), field.into());
        }
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], document.to_string())
                .into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
