//! Whether the user of a connection may do what it asks for.
//!
//! As RabbitMQ has it: declaring and deleting take *configure*; publishing takes *write* on the exchange;
//! consuming, getting and purging take *read* on the queue; a binding takes *write* on what it leads to
//! and *read* on what it comes from; a new queue with a dead-letter exchange also *read* on itself and
//! *write* on that exchange, and so does a new exchange with an alternate one. The process itself has
//! no user and is not asked.

use std::sync::atomic::Ordering;

use regex::{Regex, RegexBuilder};

use super::Broker;
use super::error::BrokerError;
use crate::model::names::{ExchangeName, QueueName};
use crate::model::topology::{Destination, ExchangeSpec, QueueSpec};

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Configure,
    Write,
    Read,
}

/// # Errors
/// A pattern that is no regular expression. An empty one is, and matches no name.
pub(super) fn compile(pattern: &str) -> Result<Regex, BrokerError> {
    let text = if pattern.is_empty() { "^$" } else { pattern };
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| {
        BrokerError::Precondition(format!("bad pattern '{pattern}' of permissions: {error}"))
    })
}

impl Broker {
    pub(super) fn check_queue(&self, access: Access, name: &QueueName) -> Result<(), BrokerError> {
        self.check("queue", access, name.as_str())
    }

    pub(super) fn check_exchange(
        &self,
        access: Access,
        name: &ExchangeName,
    ) -> Result<(), BrokerError> {
        let name = if name.is_default() { "amq.default" } else { name.as_str() };
        self.check("exchange", access, name)
    }

    pub(super) fn check_destination(
        &self,
        access: Access,
        destination: &Destination,
    ) -> Result<(), BrokerError> {
        match destination {
            Destination::Queue(name) => self.check_queue(access, name),
            Destination::Exchange(name) => self.check_exchange(access, name),
        }
    }

    /// What a new queue takes beside *configure*.
    pub(super) fn check_new_queue(&self, spec: &QueueSpec) -> Result<(), BrokerError> {
        let Some(dead_letter) = &spec.settings.dead_letter else { return Ok(()) };
        self.check_queue(Access::Read, &spec.name)?;
        self.check_exchange(Access::Write, &dead_letter.exchange)
    }

    /// What a new exchange takes beside *configure*.
    pub(super) fn check_new_exchange(&self, spec: &ExchangeSpec) -> Result<(), BrokerError> {
        let Some(alternate) = &spec.alternate else { return Ok(()) };
        self.check_exchange(Access::Read, &spec.name)?;
        self.check_exchange(Access::Write, alternate)
    }

    /// Counts the changes of users: what was permitted may be remembered until it moves.
    pub(super) fn users_generation(&self) -> u64 {
        self.inner.users_changed.load(Ordering::Acquire)
    }

    fn check(&self, what: &'static str, access: Access, name: &str) -> Result<(), BrokerError> {
        let Some(user) = &self.user else { return Ok(()) };
        let vhost = &self.vhost.name;
        if self.inner.users.read().permits(user, vhost, access, name) {
            return Ok(());
        }
        let text =
            format!("access to {what} '{name}' in vhost '{vhost}' refused for user '{user}'");
        Err(BrokerError::AccessRefused(text))
    }
}
