//! When queues have to be looked at again: retries that fall due, messages that expire, and the rest of
//! what died when that was too much for one step.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::{DEAD_BYTES_MAX, Queue};
use super::records::QueueId;
use super::{Broker, Inner};
use crate::model::clock::UnixMs;

/// The wall clock may be set back or jump: no sleep is longer than this.
const SLEEP_MAX: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Timers {
    due: Mutex<Plans>,
    /// Queues in which more is dead than a step takes. They go on when the journal has room, so that
    /// however much dies at once, what is uncommitted keeps its bound.
    unfinished: Mutex<AHashMap<QueueId, Weak<Queue>>>,
    changed: Notify,
}

#[derive(Default)]
struct Plans {
    heap: BinaryHeap<Reverse<Due>>,
    /// With so many of them, those of queues that are gone leave: each holds a queue's memory.
    swept_at: usize,
}

impl Plans {
    const SWEPT_AT_MIN: usize = 1_024;

    fn push(&mut self, due: Due) {
        if self.heap.len() >= self.swept_at.max(Self::SWEPT_AT_MIN) {
            self.heap.retain(|Reverse(due)| due.queue.strong_count() > 0);
            self.swept_at = 2 * self.heap.len();
        }
        self.heap.push(Reverse(due));
    }

    fn next_ms(&self) -> Option<UnixMs> {
        self.heap.peek().map(|next| next.0.at_ms)
    }
}

struct Due {
    at_ms: UnixMs,
    queue: Weak<Queue>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at_ms == other.at_ms
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at_ms.cmp(&other.at_ms)
    }
}

impl Timers {
    /// A queue asks for a look at `at_ms`. It asks again only for an earlier time, or after the look.
    pub(super) fn arm(&self, queue: &Arc<Queue>, at_ms: UnixMs) {
        let mut due = self.due.lock();
        let is_next = due.next_ms().is_none_or(|next_ms| at_ms < next_ms);
        due.push(Due { at_ms, queue: Arc::downgrade(queue) });
        drop(due);
        if is_next {
            self.changed.notify_one();
        }
    }

    fn take_due(&self, now_ms: UnixMs) -> Vec<Arc<Queue>> {
        let mut due = self.due.lock();
        let mut queues = Vec::new();
        while due.next_ms().is_some_and(|next_ms| next_ms <= now_ms) {
            queues.extend(due.heap.pop().and_then(|Reverse(due)| due.queue.upgrade()));
        }
        queues
    }

    pub(super) fn go_on_with(&self, queue: &Arc<Queue>) {
        self.unfinished.lock().insert(queue.id, Arc::downgrade(queue));
        self.changed.notify_one();
    }

    fn is_unfinished(&self) -> bool {
        !self.unfinished.lock().is_empty()
    }

    fn next_ms(&self) -> Option<UnixMs> {
        self.due.lock().next_ms()
    }
}

impl Broker {
    /// Does what has fallen due by the broker's clock, as far as the journal has room for it:
    /// [`Broker::run_timers`] without waiting.
    pub fn tick(&self) {
        self.inner.tick();
        while self.inner.timers.is_unfinished() && self.inner.has_room() {
            self.inner.go_on();
        }
    }

    /// Drives retries and expiry. Ends when the broker is dropped, or with its task.
    pub fn run_timers(&self) -> impl Future<Output = ()> + Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        let timers = self.inner.timers.clone();
        async move {
            while let Some(now_ms) = inner.upgrade().map(|inner| inner.tick()) {
                let wait = timers.next_ms().map_or(SLEEP_MAX, |next_ms| {
                    Duration::from_millis(next_ms.saturating_sub(now_ms))
                });
                // No broker is held during a sleep, so that this task keeps none alive; the broker's
                // end is a change, which gives the journal back.
                let waits = inner.upgrade().filter(|_| timers.is_unfinished());
                let journal = waits.map(|inner| inner.journal.clone());
                let room = async {
                    match journal {
                        Some(journal) => journal.room(DEAD_BYTES_MAX).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = timers.changed.notified() => {}
                    () = tokio::time::sleep(wait.min(SLEEP_MAX)) => {}
                    () = room => {}
                }
                // Others are served between two steps.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timers.changed.notify_one();
    }
}

impl Inner {
    /// The time by which it looked.
    fn tick(&self) -> UnixMs {
        let now_ms = self.now_ms();
        for queue in self.timers.take_due(now_ms) {
            self.tick_queue(&queue, now_ms);
        }
        self.go_on();
        now_ms
    }

    /// Does what is due in a queue. However many queues have dead ones at once, they take a step only
    /// while there is room for it.
    pub(super) fn tick_queue(&self, queue: &Arc<Queue>, now_ms: UnixMs) {
        let effects = queue.tick(now_ms, self.has_room());
        self.run(queue, effects);
    }

    fn has_room(&self) -> bool {
        self.journal.has_room(DEAD_BYTES_MAX)
    }

    /// One more step for each queue that did not finish, while there is room.
    pub(super) fn go_on(&self) {
        if !self.has_room() {
            return;
        }
        let unfinished = std::mem::take(&mut *self.timers.unfinished.lock());
        for queue in unfinished.into_values().filter_map(|queue| queue.upgrade()) {
            match self.has_room() {
                true => self.run(&queue, queue.proceed(self.now_ms())),
                false => self.timers.go_on_with(&queue),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DeleteIf, Recovery};
    use super::*;
    use crate::journal::Journal;
    use crate::model::clock::ManualClock;
    use crate::model::message::Message;
    use crate::model::names::{ExchangeName, QueueName, RoutingKey};
    use crate::model::topology::QueueSpec;

    #[test]
    fn plans_that_were_overtaken_are_not_made_anew() {
        let clock = ManualClock::at(1_000_000);
        let broker = Broker::new(Journal::in_memory(), clock.clone(), Recovery::default());
        broker.declare_queue(QueueSpec::durable(QueueName::new("q").unwrap())).unwrap();
        let delayed = |delay_ms: i64| {
            let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new("q").unwrap());
            let mut message = Message::new(exchange, key, "later");
            message.properties.headers.set("x-delay", delay_ms);
            drop(broker.try_publish(message).unwrap());
        };
        // Each is due before those that came earlier, and has a plan of its own.
        (0..100).for_each(|number| delayed(10_000 - number));
        delayed(20_000);
        assert_eq!(broker.inner.timers.due.lock().heap.len(), 100);
        clock.advance_ms(10_000);
        broker.tick();
        assert_eq!(broker.inner.timers.due.lock().heap.len(), 1);
    }

    #[test]
    fn a_queue_that_went_is_not_looked_at_again() {
        let clock = ManualClock::at(1_000_000);
        let broker = Broker::new(Journal::in_memory(), clock.clone(), Recovery::default());
        let name = QueueName::new("q").unwrap();
        broker.declare_queue(QueueSpec::durable(name.clone()).expires_ms(50)).unwrap();
        let to = (ExchangeName::default_exchange(), RoutingKey::new("q").unwrap());
        drop(broker.try_publish(Message::new(to.0, to.1, "held")).unwrap());
        let _held = broker.get(&name).unwrap().unwrap();
        clock.advance_ms(60);
        // It goes with the first, and the second is of the plan that was made before.
        (0..3).for_each(|_| broker.tick());
        assert!(broker.queues().is_empty());
        assert_eq!(broker.inner.timers.next_ms(), None);
    }

    #[test]
    fn queues_that_went_before_their_time_leave_nothing() {
        let clock = ManualClock::at(1_000_000);
        let broker = Broker::new(Journal::in_memory(), clock, Recovery::default());
        for number in 0..10 * Plans::SWEPT_AT_MIN {
            let name = QueueName::new(format!("q{number}")).unwrap();
            broker.declare_queue(QueueSpec::durable(name.clone()).expires_ms(86_400_000)).unwrap();
            broker.delete_queue(&name, DeleteIf::default()).unwrap();
        }
        let plans = broker.inner.timers.due.lock().heap.len();
        assert!(plans <= Plans::SWEPT_AT_MIN, "{plans}");
    }
}
