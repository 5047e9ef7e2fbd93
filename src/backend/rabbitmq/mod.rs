//! The broker port on a real RabbitMQ.
//!
//! Owns: the connections to the server, what was declared through them, messages that are not confirmed
//! yet, and the parts of the port that AMQP does not have (retries, delays, redrive), carried by queues of
//! their own. May import: the embedded broker, whose words and forms it keeps. The only module that
//! names lapin. What always holds:
//! - a confirm is given once the server confirmed, and a publish that is not confirmed fails;
//! - a message leaves one queue for another by a confirmed publish and then an acknowledgement: it may be
//!   there twice after a crash, it is never lost;
//! - several processes on one server declare the same under the same names;
//! - what waits in this process is bounded.

mod address;
mod consuming;
mod counters;
mod declared;
mod delay;
mod delivery;
mod dial;
mod flight;
mod line;
mod link;
mod looking;
mod origin;
mod publishing;
mod redrive;
mod refusal;
mod retry;
mod session;
mod topology;
mod values;

use std::sync::Arc;

use tokio::sync::watch;

pub use address::Address;
pub use consuming::Consumer;
pub use delivery::Delivery;
pub use publishing::{Confirm, Confirms};

use super::{Alarm, BackendError};
use crate::broker::BrokerError;
use crate::broker::shared::Runs;
use crate::model::clock::SharedClock;
use crate::model::message::Message;
use crate::model::names::{ExchangeName, RoutingKey};
use counters::Counters;
use declared::Declared;
use delay::Delays;
use link::Link;
use publishing::{Outgoing, Publisher, publish_alone};

/// A broker on a server. Clones share its connections.
#[derive(Clone)]
pub struct RabbitMq(Arc<Inner>);

pub struct Inner {
    address: Address,
    clock: SharedClock,
    declared: Arc<Declared>,
    link: Arc<Link>,
    publisher: Publisher,
    delays: Delays,
    counters: Counters,
    runs: Runs,
    /// Turns true when every consumer is to end.
    cancelled: watch::Sender<bool>,
}

impl std::ops::Deref for RabbitMq {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl RabbitMq {
    /// Connects. A server that can't be reached is tried again for five seconds.
    ///
    /// # Errors
    /// [`BackendError::Unreachable`]; the server's refusal, such as of the password.
    pub async fn connect(address: Address, clock: SharedClock) -> Result<Self, BackendError> {
        let declared = Arc::<Declared>::default();
        let link = Arc::new(Link::start(address.clone(), declared.clone()).await?);
        Ok(Self(Arc::new(Inner {
            address,
            clock,
            declared,
            publisher: Publisher::start(link.clone()),
            link,
            delays: Delays::default(),
            counters: Counters::default(),
            runs: Runs::default(),
            cancelled: watch::Sender::new(false),
        })))
    }

    pub fn cancel_consumers(&self) {
        self.cancelled.send_replace(true);
    }

    pub async fn close(&self) {
        self.runs.cancel_all();
        self.cancel_consumers();
        self.link.close().await;
    }

    pub fn alarms(&self) -> Vec<Alarm> {
        let session = self.link.session_now().ok();
        session.and_then(|session| session.blocked()).map(Alarm::Blocked).into_iter().collect()
    }

    /// Has a message confirmed that is for nobody: only what publishes hears of an alarm.
    pub async fn ready(&self) -> Result<(), BackendError> {
        let session = self.link.session_now()?;
        let blocked =
            |reason| Err(BackendError::Broker(BrokerError::Alarm(Alarm::Blocked(reason))));
        if let Some(reason) = session.blocked() {
            return blocked(reason);
        }
        let probe = Message::new(
            ExchangeName::default_exchange(),
            RoutingKey::new("leveret.probe").map_err(BrokerError::from)?,
            "",
        );
        let sent = publish_alone(&session, Outgoing::new(&probe)?);
        tokio::select! {
            sent = sent => sent.map(|_| ()),
            reason = session.next_alarm() => blocked(reason),
        }
    }
}
