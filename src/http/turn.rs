//! A future that goes on at once when it wakes itself.
//!
//! hyper's connection does, whenever a request with a body has come: its service asks the connection for the
//! body, by a wake-up. Tokio has a task that was woken while it ran wait its turn, and wakes another thread that
//! might take it. That thread's wake-up costs more than the request, and the next one is read there, far from
//! what this thread has in its caches.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// How often a future goes on before others get the thread.
const TURNS_MAX: usize = 4;

/// The same future, for a task that is nothing else.
pub(super) fn undisturbed<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    let turn = Arc::new(Turn::default());
    let waker = Waker::from(Arc::clone(&turn));
    poll_fn(move |context| turn.poll(future.as_mut(), &waker, context))
}

#[derive(Default)]
struct Turn(Mutex<State>);

#[derive(Default)]
struct State {
    phase: Phase,
    /// The task's.
    waker: Option<Waker>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Waiting,
    Polling,
    /// Woken while it was polled.
    Woken,
}

impl Turn {
    fn poll<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        waker: &Waker,
        context: &Context<'_>,
    ) -> Poll<F::Output> {
        for _ in 0..TURNS_MAX {
            self.begin(context.waker());
            let polled = future.as_mut().poll(&mut Context::from_waker(waker));
            if polled.is_ready() || self.end() == Phase::Polling {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn begin(&self, waker: &Waker) {
        let mut state = self.0.lock();
        state.phase = Phase::Polling;
        if !state.waker.as_ref().is_some_and(|before| before.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }

    /// What it came to meanwhile.
    fn end(&self) -> Phase {
        std::mem::take(&mut self.0.lock().phase)
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.0.lock();
        if state.phase != Phase::Waiting {
            state.phase = Phase::Woken;
            return;
        }
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A future that wakes itself so often before it waits for nothing, and how often its task was woken by
    /// its first poll and by a wake-up from elsewhere.
    fn wakes(itself: usize) -> (usize, usize, usize) {
        let counter = Arc::new(Counter::default());
        let task = Waker::from(Arc::clone(&counter));
        let (mut polls, seen) = (0, Mutex::new(None));
        let future = poll_fn(|context| {
            polls += 1;
            if polls <= itself {
                context.waker().wake_by_ref();
            }
            *seen.lock() = Some(context.waker().clone());
            Poll::<()>::Pending
        });
        let mut future = Box::pin(undisturbed(future));
        assert!(future.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
        let first = counter.0.load(Ordering::Relaxed);
        let waker = seen.lock().take();
        waker.expect("it was polled").wake();
        drop(future);
        (polls, first, counter.0.load(Ordering::Relaxed) - first)
    }

    #[test]
    fn who_wakes_itself_goes_on_without_its_task_being_woken() {
        assert_eq!(wakes(0), (1, 0, 1));
        assert_eq!(wakes(2), (3, 0, 1));
    }

    #[test]
    fn who_does_not_stop_lets_others_have_the_thread() {
        assert_eq!(wakes(usize::MAX), (TURNS_MAX, 1, 1));
    }

    #[test]
    fn a_wake_up_from_another_thread_during_a_poll_is_not_lost() {
        let mut polls = 0;
        let future = poll_fn(|context| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            std::thread::spawn(move || waker.wake()).join().unwrap();
            Poll::Pending
        });
        let task = Arc::new(Counter::default());
        let mut future = Box::pin(undisturbed(future));
        let waker = Waker::from(Arc::clone(&task));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_wake_up_from_another_thread_is_not_lost() {
        for _ in 0..1_000 {
            let (told, hears) = tokio::sync::oneshot::channel();
            let teller = std::thread::spawn(move || told.send(7));
            assert_eq!(undisturbed(hears).await, Ok(7));
            assert_eq!(teller.join().unwrap(), Ok(()));
        }
    }
}
