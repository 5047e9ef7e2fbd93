//! The gateway's sockets: events to them, who they are, what was said in their rooms.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::parameters::{Of, Page, Parameters};
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::Audience;
use crate::gateway::{self, Member, Presence};
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
    let sockets = shared.gateway.emit(&audience, &event, &payload).await;
    let sockets = sockets
        .map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(answer(StatusCode::OK, &json!({ "sockets": sockets })))
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
    let members = shared.gateway.members(&room);
    let (members, more) = page.of(members, |member| member.user.as_str());
    let shown = |member: &Member| {
        let Member { user, username, sockets } = member;
        json!(ShownMember { user_id: user.as_str(), username, sockets: *sockets })
    };
    let members: Vec<_> = members.iter().map(shown).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "roomId": room.as_str(), "members": members, "more": more }),
    ))
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
        let Presence { user, status, sockets } = presence;
        Self { user_id: user.as_str(), status, sockets: *sockets }
    }
}

pub(super) async fn present(
    State(shared): State<Arc<Shared>>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let page = Page::read(&mut parameters)?;
    parameters.end()?;
    let (users, more) = page.of(shared.gateway.present(), |presence| presence.user.as_str());
    let users: Vec<_> = users.iter().map(ShownPresence::from).collect();
    Ok(answer(StatusCode::OK, &json!({ "users": users, "more": more })))
}

pub(super) async fn presence(
    State(shared): State<Arc<Shared>>,
    Of(user): Of<UserId>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let presence = shared.gateway.presence(&user);
    Ok(answer(StatusCode::OK, &ShownPresence::from(&presence)))
}

pub(super) async fn disconnect(
    State(shared): State<Arc<Shared>>,
    Of(user): Of<UserId>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let sockets = shared.gateway.disconnect_user(&user);
    Ok(answer(StatusCode::OK, &json!({ "sockets": sockets })))
}
