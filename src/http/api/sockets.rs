//! The gateway's sockets: events to them, who they are, what was said in their rooms.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::parameters::{Of, Page, Parameters};
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::Audience;
use crate::gateway::{self, GatewayError, Gathered, Member, Presence};
use crate::http::{Json, Problem};
use crate::model::names::{RoomId, UserId};

/// What a room's list keeps.
const MESSAGES_MAX: usize = 100;
const MESSAGES_DEFAULT: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum To {
    Room(RoomId),
    User(UserId),
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Emit {
    audience: To,
    event: String,
    payload: Box<RawValue>,
}

/// Answers when the event is queued for the sockets that there are, and with recovery is durable.
pub(super) async fn emit(
    State(shared): State<Arc<Shared>>,
    parameters: Parameters,
    Json(Emit { audience, event, payload }): Json<Emit>,
) -> Result<Response, Problem> {
    parameters.end()?;
    if gateway::is_reserved(&event) {
        return Err(Problem::field("event", &format!("'{event}' is reserved by Socket.IO")));
    }
    gateway::check_payload(&payload)
        .map_err(|error| Problem::field("payload", &error.to_string()))?;
    let audience = match audience {
        To::Room(room) => Audience::Room(room),
        To::User(user) => Audience::User(user),
        To::All => Audience::All,
    };
    let (sent, all) = tokio::join!(
        shared.gateway.emit(&audience, &event, &payload),
        shared.gateway.count(&audience)
    );
    let here = sent.map_err(unavailable)?;
    // It is sent, though nobody may know to how many of the others.
    let Gathered { value, missing_nodes } =
        all.unwrap_or(Gathered { value: here, missing_nodes: 1 });
    Ok(answer(StatusCode::OK, &with_missing(json!({ "sockets": value }), missing_nodes)))
}

fn unavailable(error: GatewayError) -> Problem {
    match error {
        GatewayError::Backend(error) => refusal(error),
        error => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Says of what several nodes know when some of them did not answer.
fn with_missing(mut shown: Value, missing_nodes: usize) -> Value {
    if let (Value::Object(members), 1..) = (&mut shown, missing_nodes) {
        members.insert("missingNodes".to_owned(), missing_nodes.into());
    }
    shown
}

pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    Of(room): Of<RoomId>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let count = parameters.number("count", 1..=MESSAGES_MAX, MESSAGES_DEFAULT)?;
    parameters.end()?;
    let messages = shared.gateway.history(&room, count).await.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &json!({ "roomId": room.as_str(), "messages": messages })))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownMember<'a> {
    user_id: &'a str,
    username: &'a str,
    sockets: usize,
}

pub(super) async fn members(
    State(shared): State<Arc<Shared>>,
    Of(room): Of<RoomId>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let page = Page::read(&mut parameters)?;
    parameters.end()?;
    let Gathered { value, missing_nodes } =
        shared.gateway.members(&room, &page.part()).await.map_err(refusal)?;
    let (members, more) = page.of(value, |member| member.user.as_str());
    let shown = |member: &Member| {
        let Member { user, username, sockets } = member;
        json!(ShownMember { user_id: user.as_str(), username, sockets: *sockets })
    };
    let members: Vec<_> = members.iter().map(shown).collect();
    let shown = json!({ "roomId": room.as_str(), "members": members, "more": more });
    Ok(answer(StatusCode::OK, &with_missing(shown, missing_nodes)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownPresence<'a> {
    user_id: &'a str,
    status: &'a str,
    sockets: usize,
}

impl<'a> From<&'a Presence> for ShownPresence<'a> {
    fn from(presence: &'a Presence) -> Self {
        let Presence { user, status, sockets, .. } = presence;
        Self { user_id: user.as_str(), status, sockets: *sockets }
    }
}

pub(super) async fn present(
    State(shared): State<Arc<Shared>>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let page = Page::read(&mut parameters)?;
    parameters.end()?;
    let Gathered { value, missing_nodes } =
        shared.gateway.present(&page.part()).await.map_err(refusal)?;
    let (users, more) = page.of(value, |presence| presence.user.as_str());
    let users: Vec<_> = users.iter().map(ShownPresence::from).collect();
    let shown = json!({ "users": users, "more": more });
    Ok(answer(StatusCode::OK, &with_missing(shown, missing_nodes)))
}

pub(super) async fn presence(
    State(shared): State<Arc<Shared>>,
    Of(user): Of<UserId>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let Gathered { value, missing_nodes } =
        shared.gateway.presence(&user).await.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &with_missing(json!(ShownPresence::from(&value)), missing_nodes)))
}

pub(super) async fn disconnect(
    State(shared): State<Arc<Shared>>,
    Of(user): Of<UserId>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let gone = shared.gateway.disconnect_user_counted(&user).await;
    let Gathered { value, missing_nodes } = gone.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &with_missing(json!({ "sockets": value }), missing_nodes)))
}
