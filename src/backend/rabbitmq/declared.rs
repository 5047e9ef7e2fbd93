//! What was declared through this process: declared again on every new connection, since the server may
//! have forgotten it, and asked for what a server does not know (the retry policy of a queue).

use indexmap::{IndexMap, IndexSet};
use lapin::ExchangeKind;
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use parking_lot::Mutex;

use super::session::Session;
use super::values::{exchange_arguments, precondition, queue_arguments, short, table};
use crate::backend::BackendError;
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{Binding, Destination, ExchangeSpec, QueueSettings, QueueSpec};

/// Exchanges, queues and bindings, each at most.
const DECLARED_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Declared(Mutex<Known>);

#[derive(Default, Clone)]
struct Known {
    exchanges: IndexMap<ExchangeName, ExchangeSpec>,
    queues: IndexMap<QueueName, QueueSpec>,
    bindings: IndexSet<Binding>,
}

impl Declared {
    /// # Errors
    /// There are too many: asked before the server is.
    pub fn has_room(&self) -> Result<(), BackendError> {
        let known = self.0.lock();
        let fullest = known.exchanges.len().max(known.queues.len()).max(known.bindings.len());
        match fullest < DECLARED_MAX {
            true => Ok(()),
            false => Err(precondition(format!(
                "more than {DECLARED_MAX} declarations can't be restored after a lost connection"
            ))),
        }
    }

    pub fn exchange(&self, spec: ExchangeSpec) {
        self.0.lock().exchanges.insert(spec.name.clone(), spec);
    }

    pub fn queue(&self, spec: QueueSpec) {
        self.0.lock().queues.insert(spec.name.clone(), spec);
    }

    pub fn binding(&self, binding: Binding) {
        self.0.lock().bindings.insert(binding);
    }

    pub fn forget_exchange(&self, name: &ExchangeName) {
        let mut known = self.0.lock();
        known.exchanges.shift_remove(name);
        known.bindings.retain(|binding| {
            binding.source != *name && binding.destination != Destination::Exchange(name.clone())
        });
    }

    pub fn forget_queue(&self, name: &QueueName) {
        let mut known = self.0.lock();
        known.queues.shift_remove(name);
        known.bindings.retain(|binding| binding.destination != Destination::Queue(name.clone()));
    }

    pub fn forget_binding(&self, binding: &Binding) {
        self.0.lock().bindings.shift_remove(binding);
    }

    /// `None`: another process declared it.
    pub fn exchange_spec(&self, name: &ExchangeName) -> Option<ExchangeSpec> {
        self.0.lock().exchanges.get(name).cloned()
    }

    /// `None`: another process declared it.
    pub fn settings(&self, queue: &QueueName) -> Option<QueueSettings> {
        self.0.lock().queues.get(queue).map(|spec| spec.settings.clone())
    }

    /// Sorted by name.
    pub fn queue_names(&self) -> Vec<QueueName> {
        let mut names: Vec<_> = self.0.lock().queues.keys().cloned().collect();
        names.sort();
        names
    }

    /// Declares everything on a new connection. What the server refuses (somebody declared it otherwise
    /// meanwhile) is logged and left out.
    ///
    /// # Errors
    /// A connection that ended.
    pub async fn restore(&self, session: &Session) -> Result<(), BackendError> {
        let known = self.0.lock().clone();
        for spec in known.exchanges.values() {
            accepted(declare_exchange(session, spec).await, spec.name.as_str())?;
        }
        for spec in known.queues.values() {
            accepted(declare_queue(session, spec).await, spec.name.as_str())?;
        }
        for binding in &known.bindings {
            accepted(bind(session, binding).await, binding.source.as_str())?;
        }
        Ok(())
    }
}

impl Declared {
    /// Declares a queue of this process alone again, with its bindings. False: it has none of this name.
    ///
    /// # Errors
    /// The server's refusal; a connection that ended.
    pub async fn restore_exclusive(
        &self,
        session: &Session,
        queue: &QueueName,
    ) -> Result<bool, BackendError> {
        let known = self.0.lock().clone();
        let Some(spec) = known.queues.get(queue).filter(|spec| spec.exclusive) else {
            return Ok(false);
        };
        declare_queue(session, spec).await?;
        let destination = Destination::Queue(queue.clone());
        for binding in known.bindings.iter().filter(|it| it.destination == destination) {
            bind(session, binding).await?;
        }
        Ok(true)
    }
}

fn accepted(outcome: Result<(), BackendError>, name: &str) -> Result<(), BackendError> {
    match outcome {
        Err(error) if !error.is_retryable() => {
            tracing::warn!(name, %error, "not restored in RabbitMQ");
            Ok(())
        }
        other => other,
    }
}

pub(super) async fn declare_exchange(
    session: &Session,
    spec: &ExchangeSpec,
) -> Result<(), BackendError> {
    let options = ExchangeDeclareOptions {
        durable: spec.durable,
        auto_delete: spec.auto_delete,
        internal: spec.internal,
        ..Default::default()
    };
    let (name, arguments) = (short(spec.name.as_str())?, exchange_arguments(spec)?);
    let kind = ExchangeKind::Custom(spec.kind.as_str().to_owned());
    session
        .call(move |channel| async move {
            channel.exchange_declare(name, kind, options, arguments).await
        })
        .await
}

pub(super) async fn declare_queue(session: &Session, spec: &QueueSpec) -> Result<(), BackendError> {
    let options = QueueDeclareOptions {
        durable: spec.durable,
        exclusive: spec.exclusive,
        auto_delete: spec.auto_delete,
        ..Default::default()
    };
    let (name, arguments) = (short(spec.name.as_str())?, queue_arguments(spec)?);
    let declare = move |channel: lapin::Channel| async move {
        channel.queue_declare(name, options, arguments).await
    };
    session.call(declare).await.map(|_| ())
}

pub(super) async fn bind(session: &Session, binding: &Binding) -> Result<(), BackendError> {
    let (source, key) = (short(binding.source.as_str())?, short(binding.key.as_str())?);
    let arguments = table(&binding.arguments)?;
    match &binding.destination {
        Destination::Queue(queue) => {
            let queue = short(queue.as_str())?;
            let options = QueueBindOptions::default();
            session
                .call(move |channel| async move {
                    channel.queue_bind(queue, source, key, options, arguments).await
                })
                .await
        }
        Destination::Exchange(name) => {
            let name = short(name.as_str())?;
            let options = ExchangeBindOptions::default();
            session
                .call(move |channel| async move {
                    channel.exchange_bind(name, source, key, options, arguments).await
                })
                .await
        }
    }
}
