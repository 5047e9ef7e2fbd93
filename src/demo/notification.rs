//! The event `notification` to a user.

use serde::Serialize;

use crate::gateway::Gateway;
use crate::model::names::UserId;

/// Tells every socket of the user. Nobody is told later: who must know asks.
pub(super) fn notify(gateway: &Gateway, user_id: &UserId, notification: &impl Serialize) {
    gateway.emit_to_user(user_id, "notification", notification);
}
