//! Users of the broker: how their passwords are kept, and what they may do in a vhost.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A password as RabbitMQ keeps it (`rabbit_password_hashing_sha256`): base64 of four bytes of salt and
/// the SHA-256 of salt and password. Definitions move in both directions unchanged; and a login has to
/// stay cheap, since AMQP clients connect often and strangers may try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(String);

const SALT_BYTES: usize = 4;

impl PasswordHash {
    /// The hash of `password` with the salt of the caller's choice: random bytes.
    pub fn new(password: &str, salt: [u8; SALT_BYTES]) -> Self {
        let mut bytes = salt.to_vec();
        bytes.extend(digest(&salt, password));
        Self(BASE64_STANDARD.encode(bytes))
    }

    /// Reads a hash that RabbitMQ exported; `None` when it is of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let bytes_expected = SALT_BYTES + Sha256::output_size();
        (bytes.len() == bytes_expected).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the same time however much of the hash is right.
    pub fn verifies(&self, password: &str) -> bool {
        let Ok(bytes) = BASE64_STANDARD.decode(&self.0) else { return false };
        let Some((salt, hash)) = bytes.split_at_checked(SALT_BYTES) else { return false };
        let given = digest(salt, password);
        let difference = given.iter().zip(hash).fold(0, |all, (a, b)| all | (a ^ b));
        hash.len() == given.len() && difference == 0
    }
}

fn digest(salt: &[u8], password: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(salt);
    hasher.update(password.as_bytes());
    hasher.finalize().into()
}

/// What a user may do in one vhost: regular expressions that match anywhere in a name. An empty one
/// matches no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: String,
    /// Publish to an exchange; bind to a queue or an exchange.
    pub write: String,
    /// Consume and get from a queue, purge it; bind from an exchange.
    pub read: String,
}

impl Permissions {
    /// Everything.
    pub fn all() -> Self {
        let all = || ".*".to_owned();
        Self { configure: all(), write: all(), read: all() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash() {
        let hash = PasswordHash::new("geheim", [1, 2, 3, 4]);
        assert!(hash.verifies("geheim"));
        assert!(!hash.verifies("Geheim") && !hash.verifies(""));
        assert_eq!(PasswordHash::parse(hash.as_str()), Some(hash));
    }

    #[test]
    fn rabbitmq_s_own_example_verifies() {
        // From RabbitMQ's documentation of the algorithm: salt 908D C60A, password `test12`.
        let hash = PasswordHash::parse("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR").unwrap();
        assert!(hash.verifies("test12"));
        assert!(!hash.verifies("test13"));
    }

    #[test]
    fn another_form_is_refused() {
        for text in ["", "x", "kI3GCqW5", "not base64!"] {
            assert_eq!(PasswordHash::parse(text), None, "{text}");
        }
    }
}
