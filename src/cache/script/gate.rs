//! Turns: while a script runs, the others wait, and do so in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};
use tokio::time::Instant;

use crate::cache::error::CacheError;

/// Who may work on the keyspace as a client: many short pipelines, or one script. Both queue in the
/// order in which they come, so neither starves the other.
pub(in crate::cache) struct Gate {
    turns: Arc<RwLock<()>>,
    running: Mutex<Option<Running>>,
    /// Scripts that run longer make the others busy; 0: never.
    limit_ms: AtomicU64,
}

struct Running {
    since: Instant,
    /// It has changed something, or tried to.
    wrote: bool,
    killed: bool,
}

/// Redis's `lua-time-limit`.
const LIMIT_MS: u64 = 5_000;

impl Default for Gate {
    fn default() -> Self {
        Self {
            turns: Arc::default(),
            running: Mutex::new(None),
            limit_ms: AtomicU64::new(LIMIT_MS),
        }
    }
}

/// As long as it lives, no script begins.
pub struct Turn<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>);

/// The turn of a script: nobody else has one.
pub(super) struct ScriptTurn {
    gate: Arc<Gate>,
    _turn: OwnedRwLockWriteGuard<()>,
}

/// A script was told to stop.
pub(super) struct Killed;

impl Gate {
    pub(super) fn try_turn(&self) -> Option<Turn<'_>> {
        self.turns.try_read().ok().map(Turn)
    }

    pub(super) async fn turn(&self) -> Result<Turn<'_>, CacheError> {
        self.unless_busy(self.turns.read()).await.map(Turn)
    }

    /// Waits for as long as scripts run.
    pub(super) async fn turn_however_late(&self) -> Turn<'_> {
        Turn(self.turns.read().await)
    }

    pub(super) async fn script_turn(self: &Arc<Self>) -> Result<ScriptTurn, CacheError> {
        let turn = match Arc::clone(&self.turns).try_write_owned() {
            Ok(turn) => turn,
            Err(_) => self.unless_busy(Arc::clone(&self.turns).write_owned()).await?,
        };
        *self.running.lock() = Some(Running { since: Instant::now(), wrote: false, killed: false });
        Ok(ScriptTurn { gate: Arc::clone(self), _turn: turn })
    }

    /// Waits for `turn` until the script that runs is over its time.
    async fn unless_busy<T>(&self, turn: impl Future<Output = T>) -> Result<T, CacheError> {
        tokio::pin!(turn);
        loop {
            let busy_from = match self.limit_ms.load(Ordering::Relaxed) {
                0 => None,
                limit_ms => {
                    let since = self.running.lock().as_ref().map(|running| running.since);
                    since.map(|since| since + Duration::from_millis(limit_ms))
                }
            };
            let look_again_at = match busy_from {
                Some(at) if at <= Instant::now() => {
                    // A turn that is to be had is taken nevertheless: the script may have just ended.
                    return tokio::select! {
                        biased;
                        turn = &mut turn => Ok(turn),
                        () = std::future::ready(()) => Err(CacheError::Busy),
                    };
                }
                Some(at) => at,
                None => Instant::now() + Duration::from_millis(LIMIT_MS),
            };
            if let Ok(turn) = tokio::time::timeout_at(look_again_at, &mut turn).await {
                return Ok(turn);
            }
        }
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_limit(&self, limit: Duration) {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.limit_ms.store(limit_ms, Ordering::Relaxed);
    }

    /// Tells the script that runs to stop.
    pub(super) fn kill(&self) -> Result<(), CacheError> {
        match self.running.lock().as_mut() {
            None => Err(CacheError::NotBusy),
            Some(Running { wrote: true, .. }) => Err(CacheError::Unkillable),
            Some(running) => {
                running.killed = true;
                Ok(())
            }
        }
    }
}

impl ScriptTurn {
    /// A script of its own begins: a transaction may have several.
    pub(super) fn begin(&self) {
        if let Some(running) = self.gate.running.lock().as_mut() {
            running.since = Instant::now();
        }
    }

    /// It has ended: whoever stops the next one does not stop what was this one's.
    pub(super) fn end(&self) {
        if let Some(running) = self.gate.running.lock().as_mut() {
            running.wrote = false;
            running.killed = false;
        }
    }

    pub(super) fn is_killed(&self) -> bool {
        self.gate.running.lock().as_ref().is_some_and(|running| running.killed)
    }

    /// Notes that the script changes something, after which it can't be killed any more.
    pub(super) fn write(&self) -> Result<(), Killed> {
        match self.gate.running.lock().as_mut() {
            Some(Running { killed: true, .. }) => Err(Killed),
            Some(running) => {
                running.wrote = true;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Drop for ScriptTurn {
    fn drop(&mut self) {
        *self.gate.running.lock() = None;
    }
}
