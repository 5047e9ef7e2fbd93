//! Room for new keys: which of the others go when memory runs out.
//!
//! Recency and frequency are sampled, as Redis does it: of some random keys the least used one goes.

use super::slot::{Slot, SlotId};
use super::{DATABASES, Database, Keyspace};
use crate::cache::command::Access;
use crate::cache::error::CacheError;
use crate::cache::notifications::Events;
use crate::cache::settings::{EvictionPolicy, Settings};
use crate::model::clock::UnixMs;

/// Keys that one command evicts at most: it goes on then, and the rest goes with the next ones.
const EVICTED_MAX: usize = 128;

#[derive(Default)]
pub(super) struct Eviction {
    /// 0 is no limit.
    bytes_max: usize,
    policy: EvictionPolicy,
    samples: usize,
    /// Keys that went.
    pub evicted: u64,
}

/// A unit of the time of an access: 2^32 of them are 13 years.
const TICK_MS: u64 = 100;
/// For every time as long without an access a key's uses count one less: Redis's `lfu-decay-time`.
const DECAY_MS: u64 = 60_000;
/// How much rarer every further use is counted: Redis's `lfu-log-factor`.
const LOG_FACTOR: usize = 10;
/// Uses that a new key is taken to have, so that it is not the first to go.
const USES_AT_FIRST: u32 = 5;
/// The lowest bits of a slot's access are its uses, the others the time, when uses are counted.
const USES_BITS: u32 = 8;

impl Keyspace {
    pub(in crate::cache) fn configure(&mut self, settings: &Settings) {
        let eviction = &mut self.eviction;
        if eviction.policy.counts_uses() != settings.maxmemory_policy.counts_uses() {
            // What was counted means something else now.
            let (first, databases) = (self.now_ms, &self.databases);
            let access = access_at(settings.maxmemory_policy, first);
            databases
                .iter()
                .flat_map(Database::slots)
                .for_each(|(_, slot)| slot.access.set(access));
        }
        eviction.bytes_max = settings.maxmemory_bytes;
        eviction.policy = settings.maxmemory_policy;
        eviction.samples = settings.maxmemory_samples.clamp(1, 64);
        self.notifications.wanted = settings.notify_keyspace_events;
    }

    /// Evicts until a command that may add data fits in. Where nothing may go, one that grows is refused.
    pub(in crate::cache) fn make_room(&mut self, access: Access) -> Result<(), CacheError> {
        let mut left = EVICTED_MAX;
        while self.is_full() && left > 0 {
            let Some(id) = self.victim() else {
                let grows = access == Access::Grow;
                return if grows { Err(CacheError::OutOfMemory) } else { Ok(()) };
            };
            if let Some(slot) = self.slot_at(id) {
                self.notify_of(id.db, Events::EVICTED, "evicted", &slot.key);
            }
            self.remove_slot(id);
            self.eviction.evicted += 1;
            left -= 1;
        }
        Ok(())
    }

    /// As [`Keyspace::make_room`], for nobody: whether more has to go.
    pub(in crate::cache) fn evict_some(&mut self) -> bool {
        let before = self.eviction.evicted;
        // To let a command go on that does not grow is no error.
        let _ = self.make_room(Access::Shrink);
        self.is_full() && self.eviction.evicted > before
    }

    fn is_full(&self) -> bool {
        self.eviction.bytes_max > 0 && self.bytes > self.eviction.bytes_max
    }

    /// The access of a slot that is used now for the first time.
    pub(super) fn first_access(&self) -> u32 {
        access_at(self.eviction.policy, self.now_ms)
    }

    /// A slot is used.
    pub(super) fn use_slot(&self, slot: &Slot) {
        let access = if self.eviction.policy.counts_uses() {
            let uses = self.uses(slot);
            // The more uses are counted, the rarer one more is.
            let odds = uses.saturating_sub(USES_AT_FIRST) as usize * LOG_FACTOR + 1;
            let counts = uses < u32::from(u8::MAX) && self.random_below(odds) == 0;
            decays(self.now_ms) << USES_BITS | (uses + u32::from(counts))
        } else {
            ticks(self.now_ms)
        };
        slot.access.set(access);
    }

    /// OBJECT IDLETIME, in milliseconds; `None` when uses are counted instead.
    pub(in crate::cache) fn idle_ms(&self, slot: &Slot) -> Option<u64> {
        let idle_ticks = ticks(self.now_ms).wrapping_sub(slot.access.get());
        (!self.eviction.policy.counts_uses()).then(|| u64::from(idle_ticks) * TICK_MS)
    }

    /// OBJECT FREQ; `None` when uses are not counted.
    pub(in crate::cache) fn frequency(&self, slot: &Slot) -> Option<u32> {
        self.eviction.policy.counts_uses().then(|| self.uses(slot))
    }

    /// How often a slot was used, on a logarithmic scale that goes down with time.
    fn uses(&self, slot: &Slot) -> u32 {
        let access = slot.access.get();
        let since = decays(self.now_ms).wrapping_sub(access >> USES_BITS) << USES_BITS >> USES_BITS;
        (access & ((1 << USES_BITS) - 1)).saturating_sub(since)
    }

    /// The higher, the sooner it goes.
    fn rank(&self, id: SlotId) -> u32 {
        let Some(slot) = self.slot_at(id) else { return 0 };
        if self.eviction.policy.counts_uses() {
            u32::MAX - self.uses(slot)
        } else {
            ticks(self.now_ms).wrapping_sub(slot.access.get())
        }
    }

    fn victim(&self) -> Option<SlotId> {
        let samples = self.eviction.samples;
        let worst = |ids: &mut dyn Iterator<Item = SlotId>| ids.max_by_key(|id| self.rank(*id));
        match self.eviction.policy {
            EvictionPolicy::NoEviction => None,
            EvictionPolicy::AllKeysRandom => self.random_slot(),
            EvictionPolicy::AllKeysLru | EvictionPolicy::AllKeysLfu => {
                worst(&mut (0..samples).filter_map(|_| self.random_slot()))
            }
            EvictionPolicy::VolatileTtl => self.deadlines.first().map(|(_, id)| *id),
            EvictionPolicy::VolatileRandom => self.random_expiring(),
            EvictionPolicy::VolatileLru | EvictionPolicy::VolatileLfu => {
                worst(&mut (0..samples).flat_map(|_| self.random_expiring()))
            }
        }
    }

    /// A key of any database.
    fn random_slot(&self) -> Option<SlotId> {
        let mut nth = self.random_below(self.len_of_all());
        let (db, database) = (0..DATABASES as u8).zip(&self.databases).find(|(_, database)| {
            let is_there = nth < database.len();
            nth = nth.saturating_sub(database.len());
            is_there
        })?;
        let at = database.random(|end| self.random_below(end))?;
        Some(SlotId { at, db })
    }

    /// A key with a deadline. Where few of the keys have one it is found by a random time, which favours
    /// those whose deadline follows a long gap.
    fn random_expiring(&self) -> Option<SlotId> {
        const TRIES: usize = 32;
        self.deadlines.first()?;
        let is_expiring = |id: &SlotId| self.slot_at(*id).is_some_and(|slot| slot.expiry.is_some());
        (0..TRIES)
            .map_while(|_| self.random_slot())
            .find(is_expiring)
            .or_else(|| self.next_expiring())
    }

    /// The key whose deadline follows a random time.
    fn next_expiring(&self) -> Option<SlotId> {
        let [first, last] = [self.deadlines.first(), self.deadlines.last()];
        let at_ms = first.zip(last).map_or(0, |((first, _), (last, _))| {
            let span_ms = usize::try_from(last - first).unwrap_or(usize::MAX);
            first + self.random_below(span_ms.saturating_add(1)) as UnixMs
        });
        let from: (UnixMs, SlotId) = (at_ms, SlotId { at: 0, db: 0 });
        self.deadlines.range(from..).next().map(|(_, id)| *id)
    }
}

fn ticks(now_ms: UnixMs) -> u32 {
    // It goes round, as the difference of two of them does.
    (now_ms / TICK_MS) as u32
}

fn decays(now_ms: UnixMs) -> u32 {
    (now_ms / DECAY_MS) as u32
}

fn access_at(policy: EvictionPolicy, now_ms: UnixMs) -> u32 {
    if policy.counts_uses() { decays(now_ms) << USES_BITS | USES_AT_FIRST } else { ticks(now_ms) }
}
