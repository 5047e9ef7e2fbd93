//! One worker: takes a queue's deliveries one after the other and settles each.

use std::time::Duration;

use tokio::sync::watch;

use crate::backend::{BackendError, Broker, Cache, Consumer, Delivery, Tx};
use crate::model::message::Message;

/// How long a delivery waits when the back ends take no writes for the moment.
const BACKEND_PAUSE: Duration = Duration::from_secs(1);

/// Why a message was not processed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The message is at fault: an attempt is used up.
    #[error("{0}")]
    Message(String),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What a worker does with a message: it says what is to follow, and the worker acknowledges with that.
pub(super) trait Handler: Send + Sync + 'static {
    /// `failures`: attempts at it that failed before.
    fn handle(
        &self,
        message: &Message,
        failures: u32,
    ) -> impl Future<Output = Result<Tx, Failure>> + Send;

    /// All that it said was done, apart from the acknowledgement, which follows. Not called where they are one
    /// commit.
    fn applied(&self, _: &Message) -> impl Future<Output = Result<(), BackendError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// How a delivery is settled together with what follows from it.
#[derive(Clone)]
pub(super) enum Settling {
    InOneCommit,
    /// First the effects, then the acknowledgement: a crash in between repeats the effects.
    Apart {
        broker: Broker,
        cache: Cache,
    },
}

impl Settling {
    pub(super) fn between(broker: &Broker, cache: &Cache) -> Self {
        match broker.commits_with(cache) {
            true => Self::InOneCommit,
            false => Self::Apart { broker: broker.clone(), cache: cache.clone() },
        }
    }
}

/// Works until `stop` turns true or the queue is gone; a delivery in hand is finished first.
pub(super) async fn run(
    name: &'static str,
    mut consumer: Consumer,
    mut stop: watch::Receiver<bool>,
    settling: Settling,
    handler: impl Handler,
) {
    loop {
        let delivery = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            delivery = consumer.next() => delivery,
        };
        let Some(delivery) = delivery else {
            tracing::warn!(worker = name, "the queue is gone, so its worker ends");
            return;
        };
        if let Err(error) = process(delivery, &mut stop, &settling, &handler).await {
            tracing::warn!(worker = name, %error, "a delivery could not be settled");
        }
    }
}

/// Handles one delivery and settles it.
async fn process(
    mut delivery: Delivery,
    stop: &mut watch::Receiver<bool>,
    settling: &Settling,
    handler: &impl Handler,
) -> Result<(), BackendError> {
    loop {
        let handled = match handler.handle(delivery.message(), delivery.retry_count()).await {
            Ok(effects) => match settling {
                Settling::InOneCommit => delivery.ack_with(|tx| *tx = effects).await,
                Settling::Apart { broker, cache } => {
                    let applied = async {
                        effects.apply(broker, cache).await?;
                        handler.applied(delivery.message()).await
                    };
                    match applied.await {
                        Ok(()) => return delivery.ack().await,
                        Err(error) => Err(error),
                    }
                }
            }
            .map_err(Failure::Backend),
            Err(failure) => Err(failure),
        };
        match handled {
            Ok(()) => return Ok(()),
            // A full disk is not the message's fault, so it costs no attempt: wait for space.
            Err(Failure::Backend(error)) if error.is_retryable() => {
                tokio::select! {
                    () = stopped(stop) => return delivery.requeue().await,
                    () = tokio::time::sleep(BACKEND_PAUSE) => {}
                }
            }
            Err(failure) => return delivery.fail(&failure.to_string()).await,
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the application was dropped without `stop`: that stops its workers as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
