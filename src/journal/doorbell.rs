//! How the writer's thread waits for work, and is called.
//!
//! Waking a thread that sleeps takes about as long as all else of a small commit but the disk's part. So when
//! it was called soon after it had lain down, it looks out for a while the next time before it sleeps: who
//! waits for each commit before the next append is served by a thread that is there. As soon as it looked
//! out in vain it sleeps at once again.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, MutexGuard};

/// How long it looks out: a wake-up of each of two threads, and what they do between.
const LOOK_OUT: Duration = Duration::from_micros(150);

/// For one waiter, which holds the lock of what the callers change.
pub(super) struct Doorbell {
    bell: Condvar,
    rung: AtomicBool,
    looks_out: AtomicBool,
    /// With one core only, who looks out would keep those away that are to ring.
    may_look_out: bool,
}

impl Doorbell {
    pub(super) fn new() -> Self {
        Self {
            bell: Condvar::new(),
            rung: AtomicBool::new(false),
            looks_out: AtomicBool::new(false),
            may_look_out: available_parallelism().is_ok_and(|cores| cores.get() > 1),
        }
    }

    /// What the waiter waits for may have come: it was changed under the lock before.
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Waits for a ring. May return without one.
    pub(super) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.bell.wait(guard);
    }

    /// As [`Doorbell::wait`], until then at most: true when that was why it ended.
    pub(super) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> bool {
        if self.looks_out.load(Ordering::Relaxed) {
            self.rung.store(false, Ordering::Relaxed);
            let is_rung = MutexGuard::unlocked(guard, || self.look_out());
            self.looks_out.store(is_rung, Ordering::Relaxed);
            // It may ring before the lock is held again: the waiter has to look before it sleeps.
            return false;
        }
        let began = Instant::now();
        let is_late = self.bell.wait_until(guard, until).timed_out();
        let was_soon = !is_late && began.elapsed() < LOOK_OUT;
        self.looks_out.store(was_soon && self.may_look_out, Ordering::Relaxed);
        is_late
    }

    /// Whether it rang meanwhile.
    fn look_out(&self) -> bool {
        const LOOKS: usize = 32;
        let until = Instant::now() + LOOK_OUT;
        loop {
            for _ in 0..LOOKS {
                if self.rung.load(Ordering::Acquire) {
                    return true;
                }
                spin_loop();
            }
            if Instant::now() >= until {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Whoever rings and waits for the answer before the next is answered each time, at any pace.
    #[test]
    fn no_ring_is_missed() {
        const ROUNDS: u32 = 3_000;
        let (asked, bell, answers) = (Mutex::new(0), Doorbell::new(), std::sync::mpsc::channel());
        std::thread::scope(|scope| {
            let (asked, bell, answer) = (&asked, &bell, answers.0);
            scope.spawn(move || {
                let mut seen = 0;
                let mut guard = asked.lock();
                while seen < ROUNDS {
                    while *guard == seen {
                        let until = Instant::now() + Duration::from_secs(20);
                        assert!(!bell.wait_until(&mut guard, until), "round {seen}");
                    }
                    seen = *guard;
                    answer.send(seen).unwrap();
                }
            });
            for round in 1..=ROUNDS {
                *asked.lock() = round;
                bell.ring();
                assert_eq!(answers.1.recv(), Ok(round));
                if round % 100 == 0 {
                    // Longer than it looks out.
                    std::thread::sleep(4 * LOOK_OUT);
                }
            }
        });
    }

    #[test]
    fn it_ends_in_time_without_a_ring() {
        let (lock, bell) = (Mutex::new(()), Doorbell::new());
        let mut guard = lock.lock();
        bell.looks_out.store(true, Ordering::Relaxed);
        assert!(!bell.wait_until(&mut guard, Instant::now()), "it looked out");
        assert!(bell.wait_until(&mut guard, Instant::now()), "it slept");
    }
}
