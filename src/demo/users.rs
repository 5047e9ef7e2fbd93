//! The worker of the queue `user-events-queue`: keeps `user:<id>` in the cache and greets who is new.

use serde_json::{Map, Value};

use super::worker::{Failure, Handler};
use crate::backend::{Audience, Cache, Tx};
use crate::model::message::Message;
use crate::model::names::UserId;

/// Bytes of one cached user: updates add members, and nothing takes them away.
const USER_BYTES_MAX: usize = 64 * 1024;

/// Keeps what is known of each user.
pub(super) struct Directory {
    pub cache: Cache,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Registered,
    Updated,
    Deleted,
}

impl Change {
    fn of(message: &Message) -> Result<Self, Failure> {
        match message.routing_key.as_str() {
            "user.registered" => Ok(Self::Registered),
            "user.updated" => Ok(Self::Updated),
            "user.deleted" => Ok(Self::Deleted),
            other => Err(Failure::Message(format!("'{other}' is no event of a user"))),
        }
    }
}

impl Handler for Directory {
    async fn handle(&self, message: &Message, _: u32) -> Result<Tx, Failure> {
        let change = Change::of(message)?;
        let (user_id, members) = parse(&message.body).map_err(Failure::Message)?;
        let key = format!("user:{user_id}");
        let mut tx = Tx::new();
        if change == Change::Deleted {
            tx.delete(key);
            return Ok(tx);
        }
        let known = self.cache.get(&key).await?;
        let user = merged(known.as_deref(), members);
        let username = user.get("username").and_then(Value::as_str).unwrap_or(user_id.as_str());
        let greeting = serde_json::json!({
            "type": "welcome", "userId": user_id, "message": format!("Welcome, {username}!"),
        });
        let json = Value::Object(user).to_string();
        if json.len() > USER_BYTES_MAX {
            let error = format!("the user would take {} bytes, over {USER_BYTES_MAX}", json.len());
            return Err(Failure::Message(error));
        }
        tx.set(key, json);
        // Registered twice, the user is known: one greeting.
        if change == Change::Registered && known.is_none() {
            tx.emit(&Audience::User(user_id), "notification", &greeting);
        }
        Ok(tx)
    }
}

/// The event's user and all its members.
fn parse(body: &[u8]) -> Result<(UserId, Map<String, Value>), String> {
    let members: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| format!("the body is no JSON object: {error}"))?;
    let user_id = members.get("userId").and_then(Value::as_str).ok_or("userId is missing")?;
    let user_id = UserId::new(user_id).map_err(|error| error.to_string())?;
    Ok((user_id, members))
}

/// What was known, with the event's members over it: an update may hold only what changed.
fn merged(known: Option<&[u8]>, members: Map<String, Value>) -> Map<String, Value> {
    let mut user: Map<String, Value> =
        known.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    user.extend(members);
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let (user_id, members) = parse(br#"{"userId":"ada","username":"Ada"}"#).unwrap();
        assert_eq!(user_id.as_str(), "ada");
        let user = merged(Some(br#"{"userId":"ada","email":"a@example.org"}"#), members);
        assert_eq!(user["email"], "a@example.org");
        assert_eq!(user["username"], "Ada");
    }

    #[test]
    fn a_body_without_a_user_is_refused() {
        assert!(parse(b"nope").is_err());
        assert!(parse(b"[]").is_err());
        assert!(parse(br#"{"userId":""}"#).is_err());
    }
}
