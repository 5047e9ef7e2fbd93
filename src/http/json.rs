//! JSON bodies in, with errors that name the field.

use std::time::Duration;

use axum::RequestExt;
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use http::{StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Problem;

/// A body that has not arrived after this time is given up: a slow sender holds a connection, no more.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON request body, read within the router's body limit.
///
/// # Errors
/// A [`Problem`]: 415 without a JSON content type, 413 past the body limit (at once, if its length is said), 408 when the body does
/// not arrive in time, 400 for bytes that are no JSON object and for a field that does not fit (it is named).
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(&request) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json",
            ));
        }
        let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
        let announced = request.body().size_hint().lower();
        let request = request.with_limited_body();
        // What says itself that it is too large is not waited for.
        if request.body().size_hint().upper().is_some_and(|bytes_max| announced > bytes_max) {
            return Err(too_large());
        }
        let body = tokio::time::timeout(BODY_READ_TIMEOUT, Bytes::from_request(request, state))
            .await
            .map_err(|_| {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")
            })?
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => too_large(),
                _ => Problem::new(StatusCode::BAD_REQUEST, "The body could not be read"),
            })?;
        parse(&body).map(Self)
    }
}

fn is_json(request: &Request) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let not_json = |error: &serde_json::Error| {
        Problem::new(StatusCode::BAD_REQUEST, "The body is not valid JSON")
            .detail(error.to_string())
    };
    let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
    // A derived `Deserialize` takes the fields of a struct as an array too.
    if body.trim_ascii_start().first() != Some(&b'{') && is_json() {
        return Err(Problem::field("body", "is not a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.inner();
        let reason = without_place(&cause.to_string());
        if !cause.is_data() {
            // So are reported an enum with one key too many or none, and JSON that is too deep.
            return match is_json() {
                true => {
                    Problem::field(&path, "is in none of the forms that are taken").detail(reason)
                }
                false => not_json(cause),
            };
        }
        match path.as_str() {
            // The document as a whole: a missing field is named by the reason itself.
            "." => Problem::new(StatusCode::BAD_REQUEST, reason),
            _ => Problem::field(&path, &reason),
        }
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// Cuts serde_json's "at line 1 column 20": the field says it better.
fn without_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(reason, _)| reason).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use serde_json::Value;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Order {
        user_id: String,
        total: f64,
    }

    async fn read(content_type: &str, body: impl Into<Body>) -> Result<Order, (u16, Value)> {
        let request =
            Request::builder().header("content-type", content_type).body(body.into()).unwrap();
        match Json::<Order>::from_request(request, &()).await {
            Ok(Json(order)) => Ok(order),
            Err(problem) => {
                let status = problem.status().as_u16();
                let bytes = problem.into_response().into_body().collect().await.unwrap().to_bytes();
                Err((status, serde_json::from_slice(&bytes).unwrap()))
            }
        }
    }

    #[tokio::test]
    async fn reads_a_body_whatever_the_charset_says() {
        let order = read("Application/JSON; charset=utf-8", r#"{"userId":"u1","total":1}"#).await;
        assert_eq!(order, Ok(Order { user_id: "u1".into(), total: 1.0 }));
    }

    #[tokio::test]
    async fn names_the_field_that_does_not_fit() {
        let (status, document) =
            read("application/json", r#"{"userId":"u1","total":"7"}"#).await.unwrap_err();
        assert_eq!((status, &document["field"]), (400, &Value::from("total")));
        assert_eq!(document["error"], "total: invalid type: string \"7\", expected f64");
    }

    #[tokio::test]
    async fn names_the_field_that_is_missing() {
        let (status, document) = read("application/json", r#"{"userId":"u1"}"#).await.unwrap_err();
        assert_eq!((status, &document["error"]), (400, &Value::from("missing field `total`")));
    }

    #[tokio::test]
    async fn refuses_what_is_no_json() {
        for body in ["", "{", "{\"userId\":\"u1\",\"total\":1} x", "\u{1}\u{2}"] {
            let (status, document) = read("application/json", body).await.unwrap_err();
            assert_eq!(status, 400, "{body:?}");
            assert_eq!(document["error"], "The body is not valid JSON", "{body:?}");
        }
    }

    #[tokio::test]
    async fn says_of_json_that_it_does_not_fit() {
        for body in ["[\"u1\", 1]", " \"u1\"", "null", "7"] {
            let (status, document) = read("application/json", body).await.unwrap_err();
            assert_eq!((status, &document["error"]), (400, &"body: is not a JSON object".into()));
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum To {
            Room(String),
            All,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Emit {
            to: To,
        }
        for body in [r#"{"to":{"room":"r","user":"u"}}"#, r#"{"to":{}}"#] {
            let problem = parse::<Emit>(body.as_bytes()).unwrap_err();
            let bytes = problem.into_response().into_body().collect().await.unwrap().to_bytes();
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(document["error"], "to: is in none of the forms that are taken", "{body}");
            assert_eq!(document["detail"], "expected value", "{body}");
        }
        let room = parse(br#"{"to":{"room":"r"}}"#);
        assert!(matches!(room, Ok(Emit { to: To::Room(room) }) if room == "r"));
        assert!(matches!(parse(br#"{"to":"all"}"#), Ok(Emit { to: To::All })));
    }

    #[tokio::test]
    async fn refuses_another_content_type() {
        let (status, _) = read("text/plain", "{}").await.unwrap_err();
        assert_eq!(status, 415);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_a_body_that_does_not_arrive() {
        let (status, _) = read("application/json", Body::new(Never(None))).await.unwrap_err();
        assert_eq!(status, 408);
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_at_once_what_says_that_it_is_too_large() {
        for bytes_max in [1, usize::MAX] {
            let mut request = Request::new(Body::new(Never(Some(1 << 30))));
            request.headers_mut().insert("content-type", "application/json".parse().unwrap());
            let app = axum::Router::new()
                .route("/", axum::routing::any(async |_: Json<Order>| ()))
                .layer(axum::extract::DefaultBodyLimit::max(bytes_max));
            let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
            // Nothing of it ever comes: without a bound it is waited for.
            assert_eq!(response.status().as_u16(), if bytes_max == 1 { 413 } else { 408 });
        }
    }

    /// Nothing of it ever comes, though it may say how long it is.
    struct Never(Option<u64>);

    impl hyper::body::Body for Never {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            self.0.map(hyper::body::SizeHint::with_exact).unwrap_or_default()
        }
    }
}
