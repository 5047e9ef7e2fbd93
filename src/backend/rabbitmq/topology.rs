//! Declarations and counts: each is one call to the server.

use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;

use super::RabbitMq;
use super::declared::{bind, declare_exchange, declare_queue};
use super::refusal::unsupported;
use super::values::{short, table};
use crate::backend::{BackendError, DeleteIf, QueueStatus};
use crate::broker::BrokerError;
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{Binding, Destination, ExchangeSpec, QueueSpec};

impl RabbitMq {
    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Result<(), BackendError> {
        self.declared.has_room()?;
        let session = self.link.session().await?;
        declare_exchange(&session, &spec).await?;
        self.declared.exchange(spec);
        Ok(())
    }

    /// The retry policy is remembered here: whoever consumes the queue declares it first.
    pub async fn declare_queue(&self, spec: QueueSpec) -> Result<(), BackendError> {
        self.declared.has_room()?;
        let session = self.link.session().await?;
        declare_queue(&session, &spec).await?;
        self.declared.queue(spec);
        Ok(())
    }

    /// As it was declared through this process: a server tells of no exchange how it was declared.
    pub async fn exchange(
        &self,
        name: &ExchangeName,
    ) -> Result<Option<ExchangeSpec>, BackendError> {
        match self.check_exchange(name).await {
            Err(BackendError::Broker(BrokerError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => match self.declared.exchange_spec(name) {
                Some(spec) => Ok(Some(spec)),
                None => Err(unsupported(
                    "telling how an exchange was declared",
                    "AMQP has no call for it",
                )),
            },
        }
    }

    pub async fn delete_exchange(
        &self,
        name: &ExchangeName,
        if_unused: bool,
    ) -> Result<(), BackendError> {
        let session = self.link.session().await?;
        let options = ExchangeDeleteOptions { if_unused, ..Default::default() };
        let exchange = short(name.as_str())?;
        session
            .call(move |channel| async move { channel.exchange_delete(exchange, options).await })
            .await?;
        self.declared.forget_exchange(name);
        self.publisher.forget_exchange(name);
        Ok(())
    }

    pub async fn delete_queue(
        &self,
        name: &QueueName,
        only: DeleteIf,
    ) -> Result<usize, BackendError> {
        let session = self.link.session().await?;
        let options = QueueDeleteOptions {
            if_unused: only.unused,
            if_empty: only.empty,
            ..Default::default()
        };
        let queue = short(name.as_str())?;
        let count = session
            .call(move |channel| async move { channel.queue_delete(queue, options).await })
            .await?;
        self.declared.forget_queue(name);
        Ok(count as usize)
    }

    pub async fn purge(&self, name: &QueueName) -> Result<usize, BackendError> {
        let session = self.link.session().await?;
        let queue = short(name.as_str())?;
        let purge = move |channel: lapin::Channel| async move {
            channel.queue_purge(queue, QueuePurgeOptions::default()).await
        };
        session.call(purge).await.map(|count| count as usize)
    }

    pub async fn add_binding(&self, binding: Binding) -> Result<(), BackendError> {
        self.declared.has_room()?;
        let session = self.link.session().await?;
        bind(&session, &binding).await?;
        self.declared.binding(binding);
        Ok(())
    }

    pub async fn unbind(&self, binding: Binding) -> Result<(), BackendError> {
        let session = self.link.session().await?;
        let (source, key) = (short(binding.source.as_str())?, short(binding.key.as_str())?);
        let arguments = table(&binding.arguments)?;
        match &binding.destination {
            Destination::Queue(queue) => {
                let queue = short(queue.as_str())?;
                let unbind = move |channel: lapin::Channel| async move {
                    channel.queue_unbind(queue, source, key, arguments).await
                };
                session.call(unbind).await?;
            }
            Destination::Exchange(name) => {
                let name = short(name.as_str())?;
                let options = ExchangeUnbindOptions::default();
                let unbind = move |channel: lapin::Channel| async move {
                    channel.exchange_unbind(name, source, key, options, arguments).await
                };
                session.call(unbind).await?;
            }
        }
        self.declared.forget_binding(&binding);
        Ok(())
    }

    /// AMQP tells how many messages are ready and how many consumers there are; the rest is zero.
    pub async fn queue(&self, name: &QueueName) -> Result<QueueStatus, BackendError> {
        let session = self.link.session().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = short(name.as_str())?;
        let declare = move |channel: lapin::Channel| async move {
            channel.queue_declare(queue, options, FieldTable::default()).await
        };
        let counts = session.call(declare).await?;
        Ok(QueueStatus {
            name: name.clone(),
            ready: counts.message_count() as usize,
            ready_bytes: 0,
            on_disk: 0,
            unacked: 0,
            delayed: 0,
            consumers: counts.consumer_count() as usize,
            published: 0,
            delivered: 0,
            acked: 0,
        })
    }

    /// Those that were declared through this process: AMQP has no list of queues.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, BackendError> {
        let mut all = Vec::new();
        for name in self.declared.queue_names() {
            match self.queue(&name).await {
                Ok(status) => all.push(status),
                // Deleted by somebody else, by itself, or another node's for the moment.
                Err(BackendError::Broker(
                    BrokerError::NotFound { .. } | BrokerError::ResourceLocked { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Why policies can't be had.
    pub fn no_policies(&self) -> BackendError {
        unsupported(
            "setting and listing policies",
            "AMQP has no call for it, so it is done with rabbitmqctl or the management interface; a \
             retry policy is declared with its queue",
        )
    }

    /// Why no path of a message can be had.
    pub fn no_paths(&self) -> BackendError {
        unsupported("telling the path of a message", "a server keeps no trace of one")
    }

    /// # Errors
    /// An unknown exchange.
    pub(super) async fn check_exchange(&self, name: &ExchangeName) -> Result<(), BackendError> {
        let session = self.link.session().await?;
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let exchange = short(name.as_str())?;
        // A passive declaration is not compared with what is there.
        let kind = lapin::ExchangeKind::Direct;
        session
            .call(move |channel| async move {
                channel.exchange_declare(exchange, kind, options, FieldTable::default()).await
            })
            .await
    }
}
