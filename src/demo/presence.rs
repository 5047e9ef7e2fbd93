//! `POST /api/demo/presence`: who of some users is there, for a page that came after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::App;
use super::order::Invalid;
use crate::http::{Json, Problem};
use crate::model::names::UserId;

const USERS_MAX: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PresenceRequest {
    user_ids: Vec<UserId>,
}

/// Each user's status; `offline` without a live socket.
#[derive(Serialize)]
pub(super) struct PresenceAnswer {
    presence: BTreeMap<UserId, String>,
}

/// What the gateway keeps in `presence:<userId>`.
#[derive(Deserialize)]
struct Presence {
    status: String,
}

pub(super) async fn look_up(
    State(app): State<Arc<App>>,
    Json(request): Json<PresenceRequest>,
) -> Result<axum::Json<PresenceAnswer>, Problem> {
    if request.user_ids.len() > USERS_MAX {
        return Err(Invalid::new("userIds", format!("are more than {USERS_MAX}")).into());
    }
    let mut presence = BTreeMap::new();
    for user_id in request.user_ids {
        let cached = app.cache.get(&format!("presence:{user_id}")).await?;
        let status = cached.and_then(|json| serde_json::from_slice::<Presence>(&json).ok());
        presence.insert(user_id, status.map_or("offline".to_owned(), |presence| presence.status));
    }
    Ok(axum::Json(PresenceAnswer { presence }))
}
