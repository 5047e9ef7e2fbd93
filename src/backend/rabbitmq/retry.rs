//! What becomes of a failed delivery: it waits for its next attempt, or it is dead-lettered. The copy is
//! confirmed before the original is acknowledged, so a crash in between leaves one too many, never one
//! too few.

use super::RabbitMq;
use super::delay::{Delay, retry_delay_ms};
use super::delivery::{Delivery, Settled};
use super::origin;
use super::publishing::{Outgoing, publish_alone};
use super::refusal::unreachable;
use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::broker::shared::{CC, X_LAST_ERROR, X_RETRY_COUNT, add_death};
use crate::model::message::Message;
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{DeadLetter, RetryPolicy};

impl RabbitMq {
    /// Whether a retry policy or a dead-letter exchange, as far as is known here, takes what fails in
    /// that queue.
    pub(super) fn takes_failed(&self, queue: &QueueName) -> bool {
        let settings = self.declared.settings(queue);
        settings.is_some_and(|known| known.retry.is_some() || known.dead_letter.is_some())
    }

    /// Says how the original is to be settled.
    ///
    /// # Errors
    /// The copy was not confirmed.
    pub(super) async fn carry_on(
        &self,
        delivery: &Delivery,
        error: &str,
    ) -> Result<Settled, BackendError> {
        let Some(settings) = self.declared.settings(&delivery.queue) else {
            // Whatever its policy is, the server's part of it is all that is known of it.
            return Ok(Settled::Reject);
        };
        let failures = delivery.failures.saturating_add(1);
        match (&settings.retry, &settings.dead_letter) {
            (Some(policy), _) if failures < policy.attempts_max => {
                self.retry_later(delivery, policy, failures).await?;
                self.counters.retried(&delivery.queue);
                Ok(Settled::Ack)
            }
            (retry, Some(to)) => {
                let counted = if retry.is_some() { failures } else { 0 };
                let how = self.bury(delivery, to, error, counted).await?;
                self.counters.dead_lettered(&delivery.queue);
                Ok(how)
            }
            // A policy on the server may know where it goes.
            (_, None) => Ok(Settled::Reject),
        }
    }

    async fn retry_later(
        &self,
        delivery: &Delivery,
        policy: &RetryPolicy,
        failures: u32,
    ) -> Result<(), BackendError> {
        let ms = retry_delay_ms(policy, failures);
        let delay = Delay { ms, to: ExchangeName::default_exchange() };
        let mut message = delivery.message.clone();
        message.properties.headers.remove(X_RETRY_COUNT);
        let message = origin::enter(message, &delivery.queue, failures);
        let session = self.link.session().await?;
        // Another time if the queue expired in between.
        for _ in 0..2 {
            self.delays.declare(&session, &delay).await?;
            let mut outgoing = Outgoing::new(&message)?;
            outgoing.exchange = super::values::short(&delay.name())?;
            match publish_alone(&session, outgoing).await {
                Ok(true) => return Ok(()),
                Ok(false) | Err(BackendError::Broker(BrokerError::NotFound { .. })) => {
                    self.delays.forget(&delay);
                }
                Err(error) => return Err(error),
            }
        }
        Err(unreachable(format!("the queue {} does not stay", delay.name())))
    }

    /// Publishes the dead letter, with what only we know of its death.
    async fn bury(
        &self,
        delivery: &Delivery,
        to: &DeadLetter,
        error: &str,
        failures: u32,
    ) -> Result<Settled, BackendError> {
        let message = self.dead_letter(delivery, to, error, failures);
        let session = self.link.session().await?;
        match publish_alone(&session, Outgoing::new(&message)?).await {
            Ok(_) => Ok(Settled::Ack),
            // A missing exchange, or a full queue, drops it: the server does so by itself.
            Err(BackendError::Broker(_)) => Ok(Settled::Reject),
            Err(error) => Err(error),
        }
    }

    fn dead_letter(
        &self,
        delivery: &Delivery,
        to: &DeadLetter,
        error: &str,
        failures: u32,
    ) -> Message {
        let original = &delivery.message;
        let mut message = original.clone();
        message.exchange = to.exchange.clone();
        let expiration_ms = message.properties.expiration_ms.take();
        let headers = &mut message.properties.headers;
        headers.remove(X_RETRY_COUNT);
        let queue = delivery.queue.as_str();
        add_death(headers, queue, original, "rejected", expiration_ms, self.clock.now_ms());
        if let Some(key) = &to.routing_key {
            message.routing_key = key.clone();
            headers.remove(CC);
        }
        headers.set(X_LAST_ERROR, error);
        if failures > 0 {
            headers.set(X_RETRY_COUNT, i64::from(failures));
        }
        message
    }
}
