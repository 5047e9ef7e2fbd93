//! What holds publishers off, and who hears of it.

use tokio::sync::watch;

use super::Broker;
use super::error::BrokerError;
use crate::journal::JournalError;

/// A resource is short: publishers wait, consumers go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    #[error("the messages take {used_bytes} bytes of memory, over the limit of {limit_bytes}")]
    Memory { used_bytes: usize, limit_bytes: usize },
    #[error("{0}")]
    Disk(JournalError),
    /// A server's own alarm, in its words (connection.blocked).
    #[error("RabbitMQ takes no messages: {0}")]
    Blocked(String),
}

impl Alarm {
    /// As connection.blocked names the resource.
    fn resource(&self) -> &str {
        match self {
            Self::Memory { .. } => "memory",
            Self::Disk(_) => "disk",
            Self::Blocked(reason) => reason,
        }
    }
}

/// Sees the alarms change, for one that has to tell others.
pub(super) struct Watch {
    memory: watch::Receiver<bool>,
    /// `None`: the journal has no disk.
    disk: Option<watch::Receiver<bool>>,
    /// What the others were told last.
    is_blocked: bool,
    is_due: bool,
}

impl Broker {
    /// The alarms that are on now.
    pub fn alarms(&self) -> Vec<Alarm> {
        let disk = match self.inner.journal.writable() {
            Err(error @ JournalError::DiskAlarm { .. }) => Some(Alarm::Disk(error)),
            _ => None,
        };
        self.inner.memory.alarm().into_iter().chain(disk).collect()
    }

    /// Why publishers are blocked, in RabbitMQ's words (connection.blocked); `None`: they are not.
    pub fn blocked_reason(&self) -> Option<String> {
        let alarms = self.alarms();
        let resources: Vec<_> = alarms.iter().map(Alarm::resource).collect();
        (!resources.is_empty()).then(|| format!("low on {}", resources.join(" & ")))
    }

    /// Publishers wait while the messages in memory weigh more than this. Without a limit they never do.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.inner.memory.set_limit(bytes);
    }

    /// # Errors
    /// The memory alarm.
    pub(super) fn check_memory(&self) -> Result<(), BrokerError> {
        match self.inner.memory.is_alarmed() {
            false => Ok(()),
            true => {
                self.inner.memory.alarm().map_or(Ok(()), |alarm| Err(BrokerError::Alarm(alarm)))
            }
        }
    }

    pub(super) fn watch_alarms(&self) -> Watch {
        Watch {
            memory: self.inner.memory.changes(),
            disk: self.inner.journal.disk_alarm(),
            is_blocked: false,
            is_due: true,
        }
    }
}

impl Watch {
    /// Whether publishers are blocked, if that is not what the others were told last. Cheap when nothing
    /// changed.
    pub(super) fn news(&mut self) -> Option<bool> {
        let Self { memory, disk, .. } = self;
        let changed = |watch: &watch::Receiver<bool>| watch.has_changed().unwrap_or(false);
        if !self.is_due && !changed(memory) && !disk.as_ref().is_some_and(changed) {
            return None;
        }
        self.is_due = false;
        let low_on_disk = disk.as_mut().is_some_and(|disk| *disk.borrow_and_update());
        let is_blocked = *memory.borrow_and_update() || low_on_disk;
        let was_blocked = std::mem::replace(&mut self.is_blocked, is_blocked);
        (is_blocked != was_blocked).then_some(is_blocked)
    }

    /// Resolves when an alarm was raised or ended: [`Watch::news`] is to be looked at. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let Self { memory, disk, is_due, .. } = self;
        let disk = async {
            if let Some(disk) = disk
                && disk.changed().await.is_ok()
            {
                return;
            }
            // No disk, or a journal that is gone: neither changes any more.
            std::future::pending().await
        };
        tokio::select! {
            Ok(()) = memory.changed() => {}
            () = disk => {}
        }
        *is_due = true;
    }
}
