//! Virtual hosts: namespaces of exchanges, queues, bindings and policies.

use std::sync::Arc;

use super::connection::{ConnectionId, IN_PROCESS};
use super::error::BrokerError;
use super::last_route::LastRoute;
use super::records::{KIND_VHOST, VhostRecord, record};
use super::topology::Topology;
use super::versioned::Versioned;
use super::{Broker, Inner};
use crate::journal::{Commit, Entry, Group, Urgency};
use crate::model::names::{UserName, VhostName};

pub(super) struct Vhost {
    pub name: VhostName,
    /// `None` for the default one, which is always there.
    pub entry: Option<Entry>,
    pub topology: Versioned<Topology>,
}

impl Vhost {
    pub(super) fn new(name: VhostName, entry: Option<Entry>) -> Arc<Self> {
        let topology = Versioned::new(Topology::new(name.clone()));
        Arc::new(Self { name, entry, topology })
    }
}

impl Broker {
    /// The names of all vhosts, sorted.
    pub fn vhosts(&self) -> Vec<VhostName> {
        let mut names: Vec<_> = self.inner.vhosts.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// The vhost that this handle works in.
    pub fn vhost_name(&self) -> &VhostName {
        &self.vhost.name
    }

    /// A handle on another vhost, for the same connection.
    ///
    /// # Errors
    /// An unknown vhost.
    pub fn in_vhost(&self, name: &VhostName) -> Result<Self, BrokerError> {
        let handle = self.inner.handle(name)?;
        Ok(Self { connection: self.connection, user: self.user.clone(), ..handle })
    }

    /// Makes a vhost with the predeclared exchanges; one that is there already stays as it is.
    pub fn create_vhost(&self, name: &VhostName) -> Option<Commit> {
        let mut vhosts = self.inner.vhosts.write();
        if vhosts.contains_key(name) {
            return None;
        }
        let mut group = Group::new();
        group.fact(KIND_VHOST, record(&VhostRecord { name: name.clone() }));
        let appended = self.inner.journal.append(group, Urgency::Now);
        let entry = appended.entries.first().copied();
        vhosts.insert(name.clone(), Vhost::new(name.clone(), entry));
        Some(appended.commit)
    }

    /// Deletes a vhost with everything in it.
    ///
    /// # Errors
    /// An unknown vhost; the default one.
    pub fn delete_vhost(&self, name: &VhostName) -> Result<(), BrokerError> {
        let vhost = self.in_vhost(name)?;
        let Some(entry) = vhost.vhost.entry else {
            let text = format!("deletion of the default vhost '{name}' not allowed");
            return Err(BrokerError::AccessRefused(text));
        };
        self.inner.vhosts.write().remove(name);
        vhost.clear();
        vhost.forget_permissions();
        let mut group = Group::new();
        group.end(entry);
        let _appended = self.inner.journal.append(group, Urgency::Now);
        Ok(())
    }

    /// A handle for a connection of its own.
    pub(super) fn for_connection(&self, connection: ConnectionId, user: Option<UserName>) -> Self {
        Self { connection, user, ..self.clone() }
    }
}

impl Inner {
    /// A handle on a vhost, for the process itself.
    pub(super) fn handle(self: &Arc<Self>, name: &VhostName) -> Result<Broker, BrokerError> {
        let vhost = self.vhosts.read().get(name).cloned();
        let vhost = vhost.ok_or_else(|| BrokerError::NoVhost(name.clone()))?;
        Ok(Broker {
            inner: self.clone(),
            vhost,
            connection: IN_PROCESS,
            user: None,
            last_route: LastRoute::default(),
        })
    }
}
