//! Who a token says its bearer is: JSON Web Tokens (RFC 7519) signed with HS256.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::GatewayError;
use crate::model::glob;
use crate::model::names::{RoomId, UserId};

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// `sub`.
    #[serde(rename = "sub")]
    pub user: UserId,
    /// What other users see; the subject when the token does not name it.
    pub username: String,
    /// Glob patterns of the rooms that may be joined; none by default, `*` for all.
    pub rooms: Vec<String>,
    /// When the token ends, in seconds since the Unix epoch.
    #[serde(rename = "exp")]
    pub expires_at_s: u64,
}

impl Claims {
    /// Whether a pattern of the token covers the room.
    pub fn allow(&self, room: &RoomId) -> bool {
        let name = room.as_str().as_bytes();
        self.rooms.iter().any(|pattern| glob::matches(pattern.as_bytes(), name))
    }
}

/// The claims as they stand in a token, before the defaults.
#[derive(Deserialize)]
struct RawClaims {
    sub: UserId,
    username: Option<String>,
    #[serde(default)]
    rooms: Vec<String>,
    exp: u64,
}

const USERNAME_CHARS_MAX: usize = 200;
const ROOM_PATTERNS_MAX: usize = 256;

/// Mints and verifies tokens under one secret. Clones share nothing but the secret's value.
#[derive(Clone)]
pub struct Authenticator {
    signing: EncodingKey,
    verifying: DecodingKey,
    rules: Validation,
}

impl Authenticator {
    pub fn new(secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = 0;
        // The second of `exp` is refused already (RFC 7519 section 4.1.4); the crate alone accepts it.
        rules.reject_tokens_expiring_in_less_than = 1;
        rules.validate_nbf = true;
        // An audience is for someone else to check: tokens of the application may carry one.
        rules.validate_aud = false;
        Self {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            rules,
        }
    }

    /// A signed token with these claims.
    ///
    /// # Errors
    /// [`GatewayError::Token`] when the token cannot be encoded.
    pub fn mint(&self, claims: &Claims) -> Result<String, GatewayError> {
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, claims, &self.signing).map_err(GatewayError::Token)
    }

    /// The claims of a token that this secret signed and that has not expired.
    ///
    /// # Errors
    /// [`GatewayError::Token`] when it is malformed, signed by another key or with another algorithm,
    /// expired, not yet valid, or without `sub` or `exp`; [`GatewayError::Claims`] when a claim is out
    /// of its bounds.
    pub fn verify(&self, token: &str) -> Result<Claims, GatewayError> {
        let raw = jsonwebtoken::decode::<RawClaims>(token, &self.verifying, &self.rules)
            .map_err(GatewayError::Token)?
            .claims;
        let username = raw.username.unwrap_or_else(|| raw.sub.as_str().to_owned());
        if username.chars().count() > USERNAME_CHARS_MAX {
            return Err(GatewayError::Claims { claim: "username" });
        }
        if raw.rooms.len() > ROOM_PATTERNS_MAX {
            return Err(GatewayError::Claims { claim: "rooms" });
        }
        Ok(Claims { user: raw.sub, username, rooms: raw.rooms, expires_at_s: raw.exp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::{Clock, SystemClock};

    const SECRET: &str = "a secret of at least thirty-two bytes";

    fn in_an_hour() -> u64 {
        SystemClock.now_ms() / 1000 + 3600
    }

    fn claims(rooms: &[&str]) -> Claims {
        Claims {
            user: UserId::new("ada").unwrap(),
            username: "Ada".to_owned(),
            rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
            expires_at_s: in_an_hour(),
        }
    }

    fn signed(claims: &serde_json::Value) -> String {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    }

    #[test]
    fn a_minted_token_says_what_went_in() {
        let authenticator = Authenticator::new(SECRET);
        let token = authenticator.mint(&claims(&["general", "team-*"])).unwrap();
        assert_eq!(authenticator.verify(&token).unwrap(), claims(&["general", "team-*"]));
    }

    #[test]
    fn username_and_rooms_have_defaults() {
        let authenticator = Authenticator::new(SECRET);
        let token = signed(&serde_json::json!({ "sub": "ada", "exp": in_an_hour() }));
        let claims = authenticator.verify(&token).unwrap();
        assert_eq!(claims.username, "ada");
        assert!(!claims.allow(&RoomId::new("general").unwrap()));
    }

    #[test]
    fn room_patterns_decide() {
        let claims = claims(&["general", "team-*"]);
        for (room, allowed) in [("general", true), ("team-1", true), ("other", false)] {
            assert_eq!(claims.allow(&RoomId::new(room).unwrap()), allowed, "{room}");
        }
    }

    #[test]
    fn what_is_not_a_valid_token_is_refused() {
        let authenticator = Authenticator::new(SECRET);
        let foreign = Authenticator::new("another secret of thirty-two bytes");
        let mut expired = claims(&["*"]);
        expired.expires_at_s = SystemClock.now_ms() / 1000;
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.";
        let refused = [
            String::new(),
            "not.a.token".to_owned(),
            unsigned.to_owned(),
            foreign.mint(&claims(&["*"])).unwrap(),
            authenticator.mint(&expired).unwrap(),
            signed(&serde_json::json!({ "sub": "ada" })),
            signed(&serde_json::json!({ "exp": in_an_hour() })),
            signed(&serde_json::json!({ "sub": "", "exp": in_an_hour() })),
            signed(&serde_json::json!({ "sub": "ada", "rooms": "*", "exp": in_an_hour() })),
        ];
        for token in refused {
            assert!(authenticator.verify(&token).is_err(), "{token}");
        }
        let long = "n".repeat(USERNAME_CHARS_MAX + 1);
        let token =
            signed(&serde_json::json!({ "sub": "a", "username": long, "exp": in_an_hour() }));
        assert!(matches!(
            authenticator.verify(&token),
            Err(GatewayError::Claims { claim: "username" })
        ));
    }
}
