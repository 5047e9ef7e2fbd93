//! What an exchange is, asked of the broker.

use super::{BackendError, Broker};
use crate::broker::BrokerError;
use crate::model::names::ExchangeName;
use crate::model::topology::ExchangeSpec;

impl Broker {
    /// An exchange as it was declared; `None`: there is none of this name.
    ///
    /// # Errors
    /// A back end that does not answer.
    pub async fn exchange(
        &self,
        name: &ExchangeName,
    ) -> Result<Option<ExchangeSpec>, BackendError> {
        match self {
            Self::Embedded(broker) => match broker.exchange(name) {
                Ok(spec) => Ok(Some(spec)),
                Err(BrokerError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(broker) => broker.exchange(name).await,
        }
    }
}
