//! Events for sockets, as messages on the exchange that the gateway listens to.

use serde::Serialize;

use super::{BackendError, Broker};
use crate::broker::BrokerError;
use crate::model::message::Message;
use crate::model::names::{ExchangeName, NameError, RoomId, RoutingKey, UserId};
use crate::model::topology::EMIT_EXCHANGE;

/// Whose sockets get an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// The members of a room.
    Room(RoomId),
    /// All sockets of a user.
    User(UserId),
    All,
}

impl Audience {
    fn routing_key(&self) -> Result<RoutingKey, NameError> {
        match self {
            Self::Room(room) => RoutingKey::new(format!("room.{room}")),
            Self::User(user) => RoutingKey::new(format!("user.{user}")),
            Self::All => RoutingKey::new("all"),
        }
    }

    /// Reads a routing key of the exchange; `None` when it names nobody.
    pub fn of_routing_key(key: &str) -> Option<Self> {
        match key.split_once('.') {
            Some(("room", room)) => RoomId::new(room).ok().map(Self::Room),
            Some(("user", user)) => UserId::new(user).ok().map(Self::User),
            _ => (key == "all").then_some(Self::All),
        }
    }
}

/// An event as a transient message: nobody is there to see it after a restart.
pub(super) fn event(
    audience: &Audience,
    name: &str,
    payload: &(impl Serialize + ?Sized),
) -> Result<Message, BackendError> {
    let body = serde_json::to_vec(payload)
        .map_err(|error| BrokerError::Precondition(format!("an event's payload: {error}")))?;
    let exchange = ExchangeName::new(EMIT_EXCHANGE).map_err(BrokerError::from)?;
    let key = audience.routing_key().map_err(BrokerError::from)?;
    let mut message = Message::new(exchange, key, body);
    message.properties.kind = Some(name.to_owned());
    message.properties.content_type = Some("application/json".to_owned());
    Ok(message)
}

impl Broker {
    /// Sends the sockets of `audience` the event `name`, at most once.
    ///
    /// # Errors
    /// A payload without a JSON form; as [`Broker::try_publish`].
    pub async fn emit(
        &self,
        audience: &Audience,
        name: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<(), BackendError> {
        // A transient message is confirmed as soon as it is routed.
        self.publish(event(audience, name, payload)?).await?.confirmed().await
    }
}
