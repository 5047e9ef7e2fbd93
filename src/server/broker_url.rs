//! Where the broker is, when it is a server of its own.

use super::Error;
use super::layer::{Layer, Text};

/// The URL of a RabbitMQ. It may hold a password, so it has no `Debug`.
#[derive(Clone)]
pub struct BrokerUrl(#[cfg(feature = "rabbitmq")] pub(super) crate::backend::Address);

impl BrokerUrl {
    /// Without credentials.
    #[cfg(feature = "rabbitmq")]
    pub(super) fn shown(&self) -> String {
        self.0.to_string()
    }

    /// Settings have none in this build.
    #[cfg(not(feature = "rabbitmq"))]
    pub(super) fn shown(&self) -> String {
        String::new()
    }

    #[cfg(feature = "rabbitmq")]
    fn parse(url: &str) -> Result<Self, String> {
        crate::backend::Address::parse(url).map(Self)
    }

    #[cfg(not(feature = "rabbitmq"))]
    fn parse(_: &str) -> Result<Self, String> {
        Err("this build has no client for RabbitMQ: build with --features rabbitmq, or unset it"
            .to_owned())
    }
}

/// `None`: the broker of this process.
///
/// # Errors
/// [`Error::Usage`]: no URL of AMQP's, or a build without its client.
pub(super) fn broker_url(layer: &Layer) -> Result<Option<BrokerUrl>, Error> {
    let Some(Text { value, origin }) = &layer.broker_url else { return Ok(None) };
    let name = origin.name("broker-url");
    BrokerUrl::parse(value).map(Some).map_err(|reason| Error::Usage(format!("{name}: {reason}")))
}
