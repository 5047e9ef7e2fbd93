//! `POST /api/demo/guest`: a token under a name of one's choice, in development mode only.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::App;
use super::order::Invalid;
use super::problem::unavailable;
use crate::gateway::Claims;
use crate::http::{Json, Problem};
use crate::model::names::UserId;

const TOKEN_TTL: Duration = Duration::from_secs(12 * 60 * 60);
const USERNAME_CHARS_MAX: usize = 40;

#[derive(Deserialize)]
pub(super) struct GuestRequest {
    username: String,
}

pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    request: Result<Json<GuestRequest>, Problem>,
) -> Result<Response, Problem> {
    let Some(authenticator) = &app.guest else {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "guests are admitted in development mode only; ask for a token",
        ));
    };
    let Json(request) = request?;
    let username = username(&request.username)?;
    let user_id = UserId::new(format!("guest-{}", uuid::Uuid::new_v4().simple()))
        .map_err(|error| Invalid::new("username", error.to_string()))?;
    let token = authenticator
        .mint(&Claims {
            user: user_id.clone(),
            username: username.to_owned(),
            rooms: vec!["*".to_owned()],
            expires_at_s: app.clock.now_ms() / 1000 + TOKEN_TTL.as_secs(),
        })
        .map_err(|error| unavailable(&error.to_string()))?;
    let guest = serde_json::json!({ "token": token, "userId": user_id, "username": username });
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, axum::Json(guest)).into_response())
}

fn username(name: &str) -> Result<&str, Invalid> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Invalid::new("username", "must not be empty"));
    }
    if name.chars().count() > USERNAME_CHARS_MAX {
        let reason = format!("must have at most {USERNAME_CHARS_MAX} characters");
        return Err(Invalid::new("username", reason));
    }
    if name.chars().any(char::is_control) {
        return Err(Invalid::new("username", "must not hold control characters"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::username;

    #[test]
    fn a_name_is_trimmed_and_bounded() {
        assert_eq!(username("  Ada Lovelace "), Ok("Ada Lovelace"));
        assert!(username(" \t ").is_err());
        assert!(username(&"é".repeat(40)).is_ok());
        assert!(username(&"é".repeat(41)).is_err());
        assert!(username("a\u{7}b").is_err());
    }
}
