//! Who a token says its bearer is: JSON Web Tokens (RFC 7519), signed with HS256 by a shared secret, or
//! with RS256 or EdDSA by whoever has the private key of a public one.

use jsonwebtoken::errors::ErrorKind;
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
        covers(self.rooms.iter().map(String::as_str), room)
    }

    /// What of the claims is asked for as long as a socket is there.
    pub(super) fn permit(&self) -> Permit {
        let is_all = self.rooms.iter().any(|pattern| pattern == "*");
        let rooms = self.rooms.iter().map(|pattern| pattern.as_str().into());
        Permit { rooms: (!is_all).then(|| rooms.collect()), expires_at_s: self.expires_at_s }
    }
}

/// Of [`Claims`], in less space: each socket has one.
pub(super) struct Permit {
    /// `None`: all.
    rooms: Option<Box<[Box<str>]>>,
    pub expires_at_s: u64,
}

impl Permit {
    /// As [`Claims::allow`].
    pub fn allow(&self, room: &RoomId) -> bool {
        let covers = |rooms: &[Box<str>]| covers(rooms.iter().map(|pattern| &**pattern), room);
        self.rooms.as_deref().is_none_or(covers)
    }
}

fn covers<'a>(mut patterns: impl Iterator<Item = &'a str>, room: &RoomId) -> bool {
    let name = room.as_str().as_bytes();
    patterns.any(|pattern| glob::matches(pattern.as_bytes(), name))
}

/// The claims as they stand in a token, before the defaults.
#[derive(Deserialize)]
struct RawClaims {
    sub: UserId,
    username: Option<String>,
    #[serde(default)]
    rooms: Vec<String>,
    exp: NumericDate,
}

/// Seconds since the Unix epoch, maybe with a fraction (RFC 7519 section 2), which is dropped.
#[derive(Deserialize)]
#[serde(from = "f64")]
struct NumericDate(u64);

impl From<f64> for NumericDate {
    fn from(seconds: f64) -> Self {
        // What is out of bounds becomes the bound.
        Self(seconds as u64)
    }
}

const USERNAME_CHARS_MAX: usize = 200;
const ROOM_PATTERNS_MAX: usize = 256;

/// Verifies tokens, under a secret, public keys or both, and mints them under the secret.
#[derive(Clone)]
pub struct Authenticator {
    signing: Option<EncodingKey>,
    trusted: Vec<Trusted>,
}

/// A key, and the one algorithm that it is used with: a public key is never taken for a secret.
#[derive(Clone)]
struct Trusted {
    algorithm: Algorithm,
    key: DecodingKey,
    rules: Validation,
}

impl Trusted {
    fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        let mut rules = Validation::new(algorithm);
        rules.leeway = 0;
        // The second of `exp` is refused already (RFC 7519 section 4.1.4); the crate alone accepts it.
        rules.reject_tokens_expiring_in_less_than = 1;
        rules.validate_nbf = true;
        // An audience is for someone else to check: tokens of the application may carry one.
        rules.validate_aud = false;
        Self { algorithm, key, rules }
    }
}

impl Authenticator {
    pub fn new(secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        Self {
            signing: Some(EncodingKey::from_secret(secret)),
            trusted: vec![Trusted::new(Algorithm::HS256, DecodingKey::from_secret(secret))],
        }
    }

    /// Trusts tokens that were signed with the private keys of these public ones: a PEM text of RSA keys
    /// (RS256) and Ed25519 keys (EdDSA), several while keys are changed. It mints none.
    ///
    /// # Errors
    /// [`GatewayError::PublicKey`] when there is no key in the text, or one of another kind.
    pub fn of_public_keys(pem: &str) -> Result<Self, GatewayError> {
        Self { signing: None, trusted: Vec::new() }.and_public_keys(pem)
    }

    /// Trusts tokens under these public keys too; see [`Self::of_public_keys`].
    ///
    /// # Errors
    /// [`GatewayError::PublicKey`].
    pub fn and_public_keys(mut self, pem: &str) -> Result<Self, GatewayError> {
        let mut blocks = pem.split("-----BEGIN ").skip(1).peekable();
        if blocks.peek().is_none() {
            return Err(GatewayError::PublicKey("it holds no PEM block"));
        }
        for block in blocks {
            if !block.starts_with("PUBLIC KEY-----") && !block.starts_with("RSA PUBLIC KEY-----") {
                return Err(GatewayError::PublicKey("a PEM block is no public key"));
            }
            let block = format!("-----BEGIN {block}");
            let rsa =
                DecodingKey::from_rsa_pem(block.as_bytes()).map(|key| (Algorithm::RS256, key));
            let (algorithm, key) = rsa
                .or_else(|_| {
                    let key = DecodingKey::from_ed_pem(block.as_bytes())?;
                    Ok((Algorithm::EdDSA, key))
                })
                .map_err(|_: jsonwebtoken::errors::Error| {
                    GatewayError::PublicKey("a key is neither an RSA nor an Ed25519 key")
                })?;
            self.trusted.push(Trusted::new(algorithm, key));
        }
        Ok(self)
    }

    /// A signed token with these claims.
    ///
    /// # Errors
    /// [`GatewayError::NoSecret`] without a secret, [`GatewayError::Token`] when the token cannot be
    /// encoded.
    pub fn mint(&self, claims: &Claims) -> Result<String, GatewayError> {
        let header = Header::new(Algorithm::HS256);
        let signing = self.signing.as_ref().ok_or(GatewayError::NoSecret)?;
        jsonwebtoken::encode(&header, claims, signing).map_err(GatewayError::Token)
    }

    /// The claims of a token that is trusted and has not expired.
    ///
    /// # Errors
    /// [`GatewayError::Token`] when it is malformed, signed by another key or with another algorithm,
    /// expired, not yet valid, or without `sub` or `exp`; [`GatewayError::Claims`] when a claim is out
    /// of its bounds.
    pub fn verify(&self, token: &str) -> Result<Claims, GatewayError> {
        let raw = self.decode(token).map_err(GatewayError::Token)?;
        let username = raw.username.unwrap_or_else(|| raw.sub.as_str().to_owned());
        if username.chars().count() > USERNAME_CHARS_MAX {
            return Err(GatewayError::Claims { claim: "username" });
        }
        if raw.rooms.len() > ROOM_PATTERNS_MAX {
            return Err(GatewayError::Claims { claim: "rooms" });
        }
        Ok(Claims { user: raw.sub, username, rooms: raw.rooms, expires_at_s: raw.exp.0 })
    }

    fn decode(&self, token: &str) -> Result<RawClaims, jsonwebtoken::errors::Error> {
        let algorithm = jsonwebtoken::decode_header(token)?.alg;
        let mut refusal = ErrorKind::InvalidAlgorithm.into();
        for trusted in self.trusted.iter().filter(|trusted| trusted.algorithm == algorithm) {
            match jsonwebtoken::decode(token, &trusted.key, &trusted.rules) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
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
    fn a_time_may_have_a_fraction() {
        let now_s = SystemClock.now_ms() as f64 / 1000.0;
        let authenticator = Authenticator::new(SECRET);
        let of = |exp: f64, nbf: f64| {
            let claims = serde_json::json!({ "sub": "ada", "iat": nbf, "nbf": nbf, "exp": exp });
            authenticator.verify(&signed(&claims))
        };
        let end_s = now_s.floor() + 3600.0;
        assert_eq!(of(end_s + 0.75, now_s - 0.5).unwrap().expires_at_s, end_s as u64);
        let refused = [(now_s - 0.75, now_s), (-1.5, now_s), (end_s, now_s + 60.5), (1e300, now_s)];
        for (exp, nbf) in refused {
            assert!(of(exp, nbf).is_err(), "{exp} {nbf}");
        }
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

    /// Made for this test with `openssl genpkey -algorithm ed25519`.
    const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOVcCj5IfeZ9ACxxS+de0Pvu94lfTS/Ty0u1ukV25e5A\n-----END PRIVATE KEY-----\n";
    const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAw0VW8ua7ukJtWbZzIzCEjxooEQSLvk+SxJ1dv8WGa1c=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_public_key_verifies_and_is_no_secret() {
        let keys = Authenticator::of_public_keys(ED25519_PUBLIC).unwrap();
        let key = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
        let claims = claims(&["*"]);
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        assert_eq!(keys.verify(&token).unwrap(), claims);
        assert!(Authenticator::new(SECRET).verify(&token).is_err());
        let both = Authenticator::new(SECRET).and_public_keys(ED25519_PUBLIC).unwrap();
        assert_eq!(both.verify(&token).unwrap(), claims);
        assert_eq!(both.verify(&both.mint(&claims).unwrap()).unwrap(), claims);

        // The public key is public: what it signs as a secret proves nothing.
        let forged = Authenticator::new(ED25519_PUBLIC).mint(&claims).unwrap();
        assert!(keys.verify(&forged).is_err() && both.verify(&forged).is_err());
        assert!(matches!(keys.mint(&claims), Err(GatewayError::NoSecret)));
        for text in ["", "key", ED25519, &ED25519_PUBLIC[..60], &ED25519_PUBLIC.replace('M', "N")] {
            let refused = Authenticator::of_public_keys(text);
            assert!(matches!(refused, Err(GatewayError::PublicKey(_))), "{text}");
        }
    }
}
