//! Presence over several nodes: a user is there while any node has a socket of it, and a node that stops
//! renewing its lease has none.
//!
//! What always holds: of a user whose last node is gone one of the others tells, once; nobody is taken for
//! gone by a node that could not renew its own lease all the while.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::application::Application;
use super::presence;
use super::roster::{OFFLINE, ONLINE};
use crate::backend::{BackendError, Leases};
use crate::model::names::UserId;

/// Renewals in a lease: two may fail.
const RENEWALS: u32 = 3;

/// This node's part.
pub struct NodeLease {
    leases: Leases,
    node: String,
    lease: Duration,
}

impl NodeLease {
    pub fn new(leases: Leases, lease: Duration) -> Self {
        Self { leases, node: Uuid::new_v4().to_string(), lease }
    }

    /// Notes whether the user has a socket here, and tells everybody what that changes over all nodes.
    /// Whether the user is there, on whichever node.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn note(
        &self,
        application: &Application,
        user: &UserId,
        is_here: bool,
    ) -> Result<bool, BackendError> {
        if is_here {
            let held = self.leases.hold(user.as_str(), &self.node, self.lease).await?;
            if held.is_first {
                application.announce_presence(user, ONLINE);
            }
            if held.had_no_lease {
                application.note_all_users();
            }
            return Ok(true);
        }
        let is_gone = self.leases.give_up(user.as_str(), &self.node).await?;
        if is_gone {
            application.announce_presence(user, OFFLINE);
        }
        Ok(!is_gone)
    }
}

/// Renews this node's lease and looks for others that did not, until the application is dropped.
pub async fn keep(application: Weak<Application>) {
    let mut renewals = {
        let Some(application) = application.upgrade() else { return };
        let Some(own) = application.lease() else { return };
        interval((own.lease / RENEWALS).max(Duration::from_millis(1)))
    };
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut steady_since: Option<Instant> = None;
    loop {
        renewals.tick().await;
        let Some(application) = application.upgrade() else { return };
        let Some(own) = application.lease() else { return };
        match own.leases.renew(&own.node, own.lease).await {
            Ok(was_gone) => {
                if was_gone {
                    application.note_all_users();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "this node's lease was not renewed");
                steady_since = None;
                continue;
            }
        }
        // When the cache was away for all of them, the others get the time to renew theirs.
        let since = *steady_since.get_or_insert_with(Instant::now);
        if since.elapsed() < own.lease {
            continue;
        }
        if let Err(error) = take_over(&application, own).await {
            tracing::debug!(%error, "nodes that are gone were not looked for");
        }
    }
}

async fn take_over(application: &Application, own: &NodeLease) -> Result<(), BackendError> {
    loop {
        let (has_more, gone) = own.leases.take_over(presence::KEY_PREFIX).await?;
        for user in gone.into_iter().filter_map(|user| UserId::new(user).ok()) {
            application.announce_presence(&user, OFFLINE);
        }
        if !has_more {
            return Ok(());
        }
    }
}
