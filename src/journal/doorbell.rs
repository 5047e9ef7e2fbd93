//! How the writer's thread waits for work, and is called.
//!
//! Waking a thread that sleeps takes about as long as all else of a small commit but the disk's part. So when
//! it was called soon after it had lain down, it looks out for a while the next time before it sleeps: who
//! waits for each commit before the next append is served by a thread that is there. As soon as it looked
//! out in vain it sleeps at once again.
//!
//! It sleeps at a pipe. Linux takes it that who writes to a pipe will soon wait, and where no processor is
//! idle it wakes the reader on the writer's: so the thread that waited for the disk, and is to wait again,
//! leaves its processor to the one that it calls. Called through a condition variable, that one was
//! often put behind a busy publisher, for milliseconds, while this processor and the disk were idle.

use std::hint::spin_loop;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long it looks out: a wake-up of each of two threads, and what they do between.
const LOOK_OUT: Duration = Duration::from_micros(150);

/// For one waiter, which holds the lock of what the callers change.
pub(super) struct Doorbell {
    /// Has one byte at most: who rings first while the waiter sleeps writes it.
    bell: (PipeReader, PipeWriter),
    sleeps: AtomicBool,
    rung: AtomicBool,
    looks_out: AtomicBool,
    /// With one core only, who looks out would keep those away that are to ring.
    may_look_out: bool,
}

impl Doorbell {
    /// # Errors
    /// No more files may be opened.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            bell: io::pipe()?,
            sleeps: AtomicBool::new(false),
            rung: AtomicBool::new(false),
            looks_out: AtomicBool::new(false),
            may_look_out: available_parallelism().is_ok_and(|cores| cores.get() > 1),
        })
    }

    /// What the waiter waits for may have come: it was changed under the lock before.
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        if self.sleeps.swap(false, Ordering::AcqRel) {
            // An empty pipe takes a byte, and its reader lives as long as it.
            let _written = (&self.bell.1).write_all(&[0]);
        }
    }

    /// Waits for a ring. May return without one.
    pub(super) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.sleep(guard, None);
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
        let is_late = self.sleep(guard, Some(until));
        let was_soon = !is_late && began.elapsed() < LOOK_OUT;
        self.looks_out.store(was_soon && self.may_look_out, Ordering::Relaxed);
        is_late
    }

    /// True when it ended for the time.
    fn sleep<T>(&self, guard: &mut MutexGuard<'_, T>, until: Option<Instant>) -> bool {
        // Before the lock is let go: who changes something then writes.
        self.sleeps.store(true, Ordering::Release);
        MutexGuard::unlocked(guard, || {
            let reader = &self.bell.0;
            let timeout = until
                .map(|until| until.saturating_duration_since(Instant::now()))
                .and_then(|timeout| Timespec::try_from(timeout).ok());
            let outcome = poll(&mut [PollFd::new(reader, PollFlags::IN)], timeout.as_ref());
            // Whoever took the mark has written, or is about to.
            if self.sleeps.swap(false, Ordering::AcqRel) {
                return outcome == Ok(0);
            }
            let mut reader = reader;
            let _read = reader.read_exact(&mut [0]);
            false
        })
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
        let (asked, bell) = (Mutex::new(0), Doorbell::new().unwrap());
        let answers = std::sync::mpsc::channel();
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
        let (lock, bell) = (Mutex::new(()), Doorbell::new().unwrap());
        let mut guard = lock.lock();
        bell.looks_out.store(true, Ordering::Relaxed);
        assert!(!bell.wait_until(&mut guard, Instant::now()), "it looked out");
        assert!(bell.wait_until(&mut guard, Instant::now()), "it slept");
    }
}
