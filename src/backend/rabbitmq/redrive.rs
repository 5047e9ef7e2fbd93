//! Dead letters go back to where they died: published there, confirmed, then taken out of their queue.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::RabbitMq;
use super::looking::{Look, Meant, Seen};
use super::origin;
use super::publishing::{Outgoing, publish_alone};
use crate::backend::{BackendError, Edit, Run, Selection, Stuck, Tally};
use crate::broker::shared::{Pace, X_DELIVERY_COUNT, check_bounds, clear_deaths};
use crate::broker::{BrokerError, Death};
use crate::model::message::Message;
use crate::model::names::{ExchangeName, QueueName, RoutingKey};

impl RabbitMq {
    /// Which queues took it is not told where it is routed anew: then none is named.
    pub async fn redrive(
        &self,
        queue: &QueueName,
        id: &str,
        edit: Edit,
    ) -> Result<Option<Vec<QueueName>>, BackendError> {
        let mut look = Look::at(self, queue).await?;
        let mut moved = Ok(None);
        while let Some(seen) = look.next().await? {
            if seen.id().to_string() == id {
                moved = self.move_back(queue, &seen, &edit).await.map(Some);
                break;
            }
        }
        look.end().await?;
        moved
    }

    async fn move_back(
        &self,
        queue: &QueueName,
        seen: &Seen,
        edit: &Edit,
    ) -> Result<Vec<QueueName>, BackendError> {
        let stuck = |why| {
            BackendError::Broker(BrokerError::NotRedrivable { queue: queue.to_string(), why })
        };
        let (message, target) = revived(&seen.message, edit).map_err(stuck)?;
        check_bounds(&message)?;
        let sent = match &target {
            Some(target) => origin::enter(message.clone(), target, 0),
            None => message.clone(),
        };
        let session = self.link.session().await?;
        let nowhere = || match &target {
            Some(target) => Stuck::QueueGone(target.to_string()),
            None => Stuck::Unroutable {
                exchange: message.exchange.to_string(),
                key: message.routing_key.to_string(),
            },
        };
        match publish_alone(&session, Outgoing::new(&sent)?).await {
            Ok(true) => {}
            Ok(false) | Err(BackendError::Broker(BrokerError::NotFound { .. })) => {
                return Err(stuck(nowhere()));
            }
            Err(BackendError::Broker(BrokerError::Nacked { name })) => {
                return Err(stuck(Stuck::QueueFull(name)));
            }
            Err(error) => return Err(error),
        }
        seen.take().await?;
        self.counters.redriven(queue);
        Ok(target.into_iter().collect())
    }

    /// Looks at so many messages as are there at the start, at most 10,000. A message whose
    /// queue is full stays.
    pub async fn start_redrive(
        &self,
        queue: &QueueName,
        selection: Selection,
        per_second: Option<NonZeroU32>,
    ) -> Result<Arc<Run>, BackendError> {
        let there = self.queue(queue).await?.ready;
        let work = Run::begin(self.address.vhost.clone(), queue.clone(), self.clock.clone());
        let run = work.run.clone();
        self.runs.add(&run)?;
        let (broker, queue, moving) = (self.clone(), queue.clone(), run.clone());
        tokio::spawn(async move {
            let moves = broker.move_all(&queue, selection.into(), there, per_second, &moving);
            work.finish(moves).await;
        });
        Ok(run)
    }

    pub fn redrive_run(&self, queue: &QueueName) -> Option<Arc<Run>> {
        self.runs.latest(&self.address.vhost, queue)
    }

    async fn move_all(
        &self,
        queue: &QueueName,
        mut meant: Meant,
        there: usize,
        per_second: Option<NonZeroU32>,
        run: &Run,
    ) -> Result<(), BackendError> {
        let mut pace = per_second.map(Pace::new);
        let mut look = Look::at(self, queue).await?;
        for _ in 0..there {
            if meant.is_done() {
                break;
            }
            let Some(seen) = look.next().await? else { break };
            if !meant.take(&seen) {
                continue;
            }
            if let Some(pace) = &mut pace {
                pace.next().await;
            }
            match self.move_back(queue, &seen, &Edit::default()).await {
                Ok(queues) => run.count(|tally| tally.count_moved(&queues)),
                Err(BackendError::Broker(BrokerError::NotRedrivable { why, .. })) => {
                    run.count(|tally| tally.count_kept(why));
                }
                Err(error) => return Err(error),
            }
        }
        run.count(|tally| tally.missing += meant.missing());
        look.end().await
    }

    pub async fn plan_redrive(
        &self,
        queue: &QueueName,
        selection: Selection,
    ) -> Result<(Tally, bool), BackendError> {
        let mut meant = Meant::from(selection);
        let mut look = Look::at(self, queue).await?;
        let mut tally = Tally::default();
        while !meant.is_done() {
            let Some(seen) = look.next().await? else { break };
            if !meant.take(&seen) {
                continue;
            }
            match revived(&seen.message, &Edit::default()) {
                Ok((_, Some(target))) => match self.queue(&target).await {
                    Ok(_) => tally.count_moved([&target]),
                    Err(BackendError::Broker(BrokerError::NotFound { .. })) => {
                        tally.count_kept(Stuck::QueueGone(target.to_string()));
                    }
                    Err(error) => return Err(error),
                },
                Ok((_, None)) => tally.count_moved([]),
                Err(why) => tally.count_kept(why),
            }
        }
        tally.missing = meant.missing();
        let complete = !look.is_cut();
        look.end().await?;
        Ok((tally, complete))
    }
}

/// The message as it was before it died, with the edit, and the queue that it goes to; `None`: it is routed
/// anew.
fn revived(dead: &Message, edit: &Edit) -> Result<(Message, Option<QueueName>), Stuck> {
    let death = Death::newest(dead).ok_or(Stuck::NotDead)?;
    let target = QueueName::new(death.queue).map_err(|_| Stuck::NotDead)?;
    let mut message = dead.clone();
    if let Ok(exchange) = ExchangeName::new(death.exchange) {
        message.exchange = exchange;
    }
    if let Some(key) = death.routing_key.and_then(|key| RoutingKey::new(key).ok()) {
        message.routing_key = key;
    }
    if let Some(headers) = &edit.headers {
        message.properties.headers = headers.clone();
    }
    clear_deaths(&mut message.properties.headers);
    message.properties.headers.remove(X_DELIVERY_COUNT);
    if let Some(body) = &edit.body {
        message.body = body.clone();
    }
    Ok(match &edit.routing_key {
        Some(key) => {
            message.routing_key = key.clone();
            (message, None)
        }
        None => (message, Some(target)),
    })
}
