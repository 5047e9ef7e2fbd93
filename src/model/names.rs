//! Names that were checked once, at the edge, and need no second look.

use std::borrow::Borrow;
use std::fmt;

use ecow::EcoString;
use serde::{Deserialize, Serialize, Serializer};

/// A name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLong { what: &'static str, bytes: usize, bytes_max: usize },
    #[error("{what} contains a control character")]
    ControlCharacter { what: &'static str },
}

/// What a name may look like.
struct Rule {
    what: &'static str,
    bytes_max: usize,
    empty_allowed: bool,
    control_allowed: bool,
}

impl Rule {
    fn check(&self, name: &str) -> Result<(), NameError> {
        let what = self.what;
        if name.is_empty() && !self.empty_allowed {
            return Err(NameError::Empty { what });
        }
        if name.len() > self.bytes_max {
            return Err(NameError::TooLong { what, bytes: name.len(), bytes_max: self.bytes_max });
        }
        if !self.control_allowed && name.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter { what });
        }
        Ok(())
    }
}

/// A name of up to 15 bytes lies where it is used; the copies of a longer one share it.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(EcoString);

        impl $type {
            /// Checks `name` against the rule of this kind of name.
            ///
            /// # Errors
            /// A [`NameError`] that says what is wrong with it.
            pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
                const RULE: Rule = $rule;
                let name = name.as_ref();
                RULE.check(name)?;
                Ok(Self(EcoString::from(name)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;
            fn try_from(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        // As a text, without a copy of it.
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// An exchange; the empty name is the default exchange. AMQP 0-9-1 short strings hold 255 bytes.
    ExchangeName, Rule { what: "the exchange name", bytes_max: 255, empty_allowed: true, control_allowed: false }
}
name! {
    /// A queue.
    QueueName, Rule { what: "the queue name", bytes_max: 255, empty_allowed: false, control_allowed: false }
}
name! {
    /// A virtual host: a namespace of exchanges, queues, bindings and policies.
    VhostName, Rule { what: "the vhost name", bytes_max: 255, empty_allowed: false, control_allowed: false }
}
name! {
    /// A user of the broker.
    UserName, Rule { what: "the user name", bytes_max: 255, empty_allowed: false, control_allowed: false }
}
name! {
    /// A routing or binding key.
    RoutingKey, Rule { what: "the routing key", bytes_max: 255, empty_allowed: true, control_allowed: true }
}
name! {
    /// A room that clients may name. Personal rooms and sockets are not rooms of this type.
    RoomId, Rule { what: "the room", bytes_max: 200, empty_allowed: false, control_allowed: false }
}
name! {
    /// A user, as the `sub` claim of a token has it.
    UserId, Rule { what: "the user id", bytes_max: 200, empty_allowed: false, control_allowed: false }
}

impl ExchangeName {
    /// The default exchange, which routes to the queue that the routing key names.
    pub fn default_exchange() -> Self {
        Self(EcoString::new())
    }

    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl RoutingKey {
    /// The key that fanout exchanges are published to with.
    pub fn empty() -> Self {
        Self(EcoString::new())
    }
}

impl VhostName {
    /// `/`, which is always there.
    pub fn default_vhost() -> Self {
        Self(EcoString::inline("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_are_made() {
        assert_eq!(QueueName::new(""), Err(NameError::Empty { what: "the queue name" }));
        assert!(QueueName::new("q".repeat(255)).is_ok());
        assert!(matches!(
            QueueName::new("q".repeat(256)),
            Err(NameError::TooLong { bytes: 256, .. })
        ));
        assert!(matches!(RoomId::new("a\nb"), Err(NameError::ControlCharacter { .. })));
        assert!(ExchangeName::new("").is_ok_and(|name| name.is_default()));
        assert!(serde_json::from_str::<UserId>("\"\"").is_err());
    }
}
