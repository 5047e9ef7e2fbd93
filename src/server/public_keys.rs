//! The public keys that tokens are verified with.

use std::sync::Arc;

use crate::gateway::Authenticator;

/// A PEM text of at least one key that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys(Arc<str>);

impl PublicKeys {
    /// # Errors
    /// When the file can't be read, or holds no public key, or one of another kind than RSA and Ed25519.
    pub fn of_file(path: &str) -> Result<Self, String> {
        let pem = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        Authenticator::of_public_keys(&pem).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self(pem.into()))
    }

    pub fn pem(&self) -> &str {
        &self.0
    }
}
