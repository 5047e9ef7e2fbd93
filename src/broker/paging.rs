//! How much of the queues stays in memory, and how the rest is read back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::error::BrokerError;
use super::memory::Memory;
use super::queue::{Held, Run};
use super::spread::Spread;
use super::stored::Stored;
use super::{Broker, Inner};
use crate::journal::{Journal, Position, ReadError};

/// How a broker is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerOptions {
    /// Durable messages that are ready are held in memory up to about this many bytes, over all
    /// queues (a message counts in each that it is in); beyond it what lies behind the heads of long queues is on the
    /// disk alone, large messages once they are committed. Each queue keeps a 64th of it, and a 4,096th when
    /// twice as much is held. One that is that long that what comes is only written keeps a 64th in any case.
    pub ready_bytes_max: u64,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self { ready_bytes_max: 64 * 1024 * 1024 }
    }
}

impl BrokerOptions {
    /// What a run weighs at most, unless it is a single message.
    pub(super) fn run_bytes(&self) -> u64 {
        self.ready_bytes_max / RUN_SHARE
    }
}

/// A long queue keeps this share of the bound in memory, in front.
const HEAD_SHARE: u64 = 64;
/// When even short queues are too many together.
const SHORT_HEAD_SHARE: u64 = 4_096;
/// What is read at once.
const RUN_SHARE: u64 = 256;
/// A queue's share is counted to this exactness.
const COUNT_SHARE: u64 = 16_384;

pub(super) struct Pager {
    journal: Journal,
    memory: Arc<Memory>,
    spread: Arc<Spread>,
    options: BrokerOptions,
    resident_bytes: AtomicU64,
    failed: OnceLock<ReadError>,
}

impl Pager {
    pub(super) fn new(
        journal: Journal,
        memory: Arc<Memory>,
        spread: Arc<Spread>,
        options: BrokerOptions,
    ) -> Self {
        Self {
            journal,
            memory,
            spread,
            options,
            resident_bytes: AtomicU64::new(0),
            failed: OnceLock::new(),
        }
    }

    /// A queue holds `now` bytes in memory, where it held `before`.
    pub(super) fn resident_is(&self, before: u64, now: u64) {
        if now >= before {
            self.resident_bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.resident_bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// What a queue may keep; `None`: as much as it likes.
    pub(super) fn head_bytes(&self) -> Option<u64> {
        let max = self.options.ready_bytes_max;
        let resident = self.resident_bytes.load(Ordering::Relaxed);
        match resident {
            _ if resident <= max => None,
            _ if resident <= max.saturating_mul(2) => Some(self.head_bytes_of_long()),
            _ => Some(max / SHORT_HEAD_SHARE),
        }
    }

    /// What a long queue keeps, though there is room for more.
    pub(super) fn head_bytes_of_long(&self) -> u64 {
        self.options.ready_bytes_max / HEAD_SHARE
    }

    pub(super) fn run_bytes(&self) -> u64 {
        self.options.run_bytes()
    }

    pub(super) fn count_bytes(&self) -> u64 {
        self.options.ready_bytes_max / COUNT_SHARE
    }

    /// Whether anything can be read back.
    pub(super) fn keeps(&self) -> bool {
        self.journal.keeps()
    }

    pub(super) fn committed_position(&self) -> Position {
        self.journal.committed_position()
    }

    /// Whether small messages may leave memory before their commit: not while more is uncommitted than is
    /// admitted, since those who do not wait for that are bound by the memory that it takes.
    pub(super) fn reads_uncommitted(&self) -> bool {
        self.journal.has_room(0) && self.journal.reads_uncommitted()
    }

    /// Reads a run back. `None`: it can't be read, which the log says, and [`Pager::readable`].
    pub(super) fn read(&self, run: &Run) -> Option<Vec<Held>> {
        let positions: Vec<Position> = run.positions().collect();
        self.read_held(&positions, run.redelivered)
    }

    /// As [`Pager::read`].
    pub(super) fn read_held(&self, positions: &[Position], redelivered: bool) -> Option<Vec<Held>> {
        let mut held = Vec::with_capacity(positions.len());
        let hold = |stored, position| Held { redelivered, ..Held::new(stored, position) };
        // What another queue has in memory is not read again.
        let mut absent = Vec::with_capacity(positions.len());
        for &position in positions {
            match self.spread.bodies.find(position) {
                Some(stored) => held.push(hold(stored, position)),
                None => absent.push(position),
            }
        }
        let mut malformed = None;
        let read = self.journal.read(&absent, &mut |entry, _, payload| match Stored::paged_in(
            entry,
            payload,
            &self.spread,
            &self.memory,
        ) {
            Ok(stored) => held.push(hold(stored, entry.position)),
            Err(reason) => malformed = Some((entry.position, reason)),
        });
        let outcome = match malformed {
            Some((position, reason)) => {
                let reason = format!("the message at position {}: {reason}", position.0);
                Err(ReadError::Failed { reason: reason.into() })
            }
            None => read,
        };
        // What compaction moved lies elsewhere on the disk.
        held.sort_unstable_by_key(|held| held.position);
        match outcome {
            Ok(()) => Some(held),
            Err(error) => {
                self.failed(error);
                None
            }
        }
    }

    pub(super) fn failed(&self, error: ReadError) {
        tracing::error!(%error, "messages of a queue can't be read");
        let _first = self.failed.set(error);
    }

    /// Whether every message that was asked for was there. That one was not is no passing trouble: it
    /// is said until a restart, which looks at all of the log.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn readable(&self) -> Result<(), BrokerError> {
        match self.failed.get() {
            Some(error) => Err(BrokerError::Unreadable(error.clone())),
            None => Ok(()),
        }
    }
}

impl Broker {
    /// Takes out of memory at once what may leave it by [`BrokerOptions::ready_bytes_max`]. It goes by
    /// itself as messages come; what is not committed then, a tenth of a second later.
    pub fn page_out(&self) {
        self.inner.page_out();
    }
}

impl Inner {
    fn page_out(&self) {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        for vhost in vhosts {
            let queues: Vec<_> = vhost.topology.read().queues.values().cloned().collect();
            for queue in queues {
                self.run(&queue, queue.page_out(self.now_ms()));
            }
        }
    }
}
