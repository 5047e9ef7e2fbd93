//! What can be changed while the cache runs, in the words of Redis's CONFIG.

use std::sync::atomic::Ordering;

use super::engine::{AppendFsync, Cache};
use super::keyspace::Keyspace;
use super::notifications::Events;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub appendfsync: AppendFsync,
    /// Memory that keys may take, in bytes; 0 is no limit.
    pub maxmemory_bytes: usize,
    pub maxmemory_policy: EvictionPolicy,
    /// Keys that are looked at to find the one to evict.
    pub maxmemory_samples: usize,
    pub notify_keyspace_events: Events,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            appendfsync: AppendFsync::default(),
            maxmemory_bytes: 0,
            maxmemory_policy: EvictionPolicy::default(),
            maxmemory_samples: 5,
            notify_keyspace_events: Events::NONE,
        }
    }
}

/// Which keys go when memory runs out: Redis's `maxmemory-policy`. The volatile ones take only keys with
/// a deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    #[default]
    NoEviction,
    AllKeysLru,
    VolatileLru,
    AllKeysLfu,
    VolatileLfu,
    AllKeysRandom,
    VolatileRandom,
    /// The nearest deadline first.
    VolatileTtl,
}

impl EvictionPolicy {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::VolatileLru, "volatile-lru"),
        (Self::VolatileLfu, "volatile-lfu"),
        (Self::VolatileRandom, "volatile-random"),
        (Self::VolatileTtl, "volatile-ttl"),
        (Self::AllKeysLru, "allkeys-lru"),
        (Self::AllKeysLfu, "allkeys-lfu"),
        (Self::AllKeysRandom, "allkeys-random"),
        (Self::NoEviction, "noeviction"),
    ];

    /// As CONFIG has it.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }

    /// The policy of this name, in lower case.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, other)| *other == name).map(|(policy, _)| policy)
    }

    /// Whether it counts how often a key is used, not when.
    pub(super) fn counts_uses(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }
}

impl Cache {
    pub fn settings(&self) -> Settings {
        *self.shared.settings.lock()
    }

    /// Changes settings, from the next command on. Whoever holds the keyspace may call it.
    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.shared.settings.lock();
        change(&mut settings);
        self.shared.settings_changed.store(true, Ordering::Release);
        drop(settings);
        // It may have to make room.
        self.shared.earlier_deadline.notify_one();
    }

    /// Lets the keyspace know of changes.
    pub(super) fn follow_settings(&self, keyspace: &mut Keyspace) {
        if self.shared.settings_changed.load(Ordering::Acquire) {
            let settings = self.shared.settings.lock();
            self.shared.settings_changed.store(false, Ordering::Release);
            keyspace.configure(&settings);
        }
    }
}
