//! What a restart keeps, in order or not.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use leveret::broker::{
    Broker, ConsumeOptions, DeathFilter, Delivery, Edit, Recovery, Redrive, RunState, Selection,
};
use leveret::journal::{FolderStore, Journal, JournalOptions};
use leveret::model::clock::{ManualClock, SharedClock, SystemClock};
use leveret::model::message::{Message, Value};
use leveret::model::names::VhostName;
use leveret::model::topology::{
    Binding, ExchangeKind, ExchangeSpec, Policy, QueueSettings, QueueSpec,
};

use super::fixture::{key, name, queue_name, text};

struct Open {
    journal: Journal,
    broker: Broker,
}

fn open(folder: &Path) -> Open {
    open_at(folder, SystemClock::shared())
}

fn open_at(folder: &Path, clock: SharedClock) -> Open {
    let mut recovery = Recovery::default();
    let store = Box::new(FolderStore::open(folder).unwrap());
    let journal = Journal::open(store, JournalOptions::default(), &mut |entry, kind, payload| {
        recovery.accept(entry, kind, payload)
    })
    .unwrap();
    let broker = Broker::new(journal.clone(), clock, recovery);
    Open { journal, broker }
}

impl Open {
    async fn publish(&self, queue: &str, body: &str) {
        let message = Message::new(name(""), key(queue), body.to_owned()).persistent();
        self.broker.publish(message).await.unwrap().confirm.await.unwrap();
    }

    fn get(&self, queue: &str) -> Delivery {
        self.broker.get(&queue_name(queue)).unwrap().expect("a message")
    }

    /// A stop in order.
    async fn stop(self) {
        self.broker.cancel_consumers();
        self.broker.close().await.unwrap();
        self.journal.close();
    }

    /// Everything that was appended is on disk, and then the process is gone. What it held in hand is
    /// not settled: its drop comes too late to be written.
    async fn crash(self, in_hand: Vec<Delivery>) {
        self.journal.flush().await.unwrap();
        self.journal.close();
        drop(in_hand);
    }
}

/// One message is alone in its queue, one shares its body with another queue's.
#[tokio::test]
async fn what_was_acknowledged_together_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    for queue in ["q", "r"] {
        first.broker.declare_queue(QueueSpec::durable(queue_name(queue))).unwrap();
        let binding = Binding::queue(name("amq.fanout"), queue_name(queue), key(""));
        first.broker.bind(binding).unwrap();
    }
    for (exchange, to, body) in [("", "q", "1"), ("amq.fanout", "", "2"), ("amq.fanout", "", "3")] {
        let message = Message::new(name(exchange), key(to), body).persistent();
        first.broker.publish(message).await.unwrap().confirm.await.unwrap();
    }
    let mut channel = first.broker.channel(None);
    channel.consume(&queue_name("q"), "c", ConsumeOptions::default()).unwrap();
    let mut in_hand = Vec::new();
    while let Some(event) = channel.try_next() {
        in_hand.push(event);
    }
    assert_eq!(in_hand.len(), 3);
    channel.ack(2, true).unwrap();
    first.crash(Vec::new()).await;
    drop(channel);

    let second = open(folder.path());
    let left = second.get("q");
    assert_eq!((text(left.message()), left.redelivered()), ("3".to_owned(), true));
    assert!(second.broker.get(&queue_name("q")).unwrap().is_none());
    for body in ["2", "3"] {
        let other = second.get("r");
        assert_eq!(text(other.message()), body);
        drop(other.ack());
    }
    drop(left);
    second.stop().await;
}

#[tokio::test]
async fn topology_policies_and_vhosts_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let tenant = VhostName::new("tenant").unwrap();
    drop(first.broker.create_vhost(&tenant));
    let broker = first.broker.in_vhost(&tenant).unwrap();
    let headers = ExchangeSpec::durable(name("h"), ExchangeKind::Headers);
    let front = ExchangeSpec::durable(name("front"), ExchangeKind::Fanout).alternate(name("h"));
    for spec in [headers.clone(), front.clone()] {
        broker.declare_exchange(spec).unwrap();
    }
    broker.declare_exchange(ExchangeSpec::transient(name("t"), ExchangeKind::Fanout)).unwrap();
    let spec = QueueSpec::quorum(queue_name("q")).delivery_limit(4).message_ttl_ms(60_000);
    broker.declare_queue(spec.clone()).unwrap();
    broker.declare_queue(QueueSpec::transient(queue_name("t"))).unwrap();
    broker.declare_queue(QueueSpec::durable(queue_name("e")).exclusive()).unwrap();
    let arguments = [("a".to_owned(), Value::Int(1))].into_iter().collect();
    let bindings = [
        Binding::queue(name("h"), queue_name("q"), key("")).with_arguments(arguments),
        Binding::exchange(name("front"), name("h"), key("")),
    ];
    for binding in &bindings {
        broker.bind(binding.clone()).unwrap();
    }
    broker.bind(Binding::queue(name("h"), queue_name("t"), key(""))).unwrap();
    let short = QueueSettings { length_max: Some(1), ..QueueSettings::default() };
    let policy =
        Policy { name: "p".into(), pattern: "q".into(), queue: short, ..Policy::default() };
    broker.set_policy(policy.clone()).unwrap().await.unwrap();
    first.stop().await;

    let second = open(folder.path());
    let broker = second.broker.in_vhost(&tenant).unwrap();
    assert_eq!(broker.exchange(&name("h")).unwrap(), headers);
    assert_eq!(broker.exchange(&name("front")).unwrap(), front);
    assert!(broker.exchange(&name("t")).is_err());
    assert_eq!(broker.queue_spec(&queue_name("q")).unwrap(), spec);
    assert_eq!(broker.queues().len(), 1);
    let restored = broker.bindings();
    assert!(restored.len() == 2 && bindings.iter().all(|binding| restored.contains(binding)));
    assert_eq!(broker.policies(), [policy]);
    for body in ["1", "2"] {
        let mut message = Message::new(name("front"), key(""), body).persistent();
        message.properties.headers.set("a", 1);
        broker.publish(message).await.unwrap().confirm.await.unwrap();
    }
    assert_eq!(broker.queue_status(&queue_name("q")).unwrap().ready, 1);
    second.broker.delete_vhost(&tenant).unwrap();
    second.stop().await;
    assert_eq!(open(folder.path()).broker.vhosts(), [VhostName::default_vhost()]);
}

#[tokio::test]
async fn after_a_stop_in_order_only_what_was_delivered_is_flagged() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.broker.declare_queue(QueueSpec::durable(queue_name("q"))).unwrap();
    for body in ["delivered", "never"] {
        first.publish("q", body).await;
    }
    first.get("q").requeue();
    first.stop().await;
    for never_was in [false, true] {
        let again = open(folder.path());
        let seen: Vec<_> = [again.get("q"), again.get("q")]
            .map(|delivery| {
                let seen = (text(delivery.message()), delivery.redelivered());
                std::mem::forget(delivery);
                seen
            })
            .into();
        assert_eq!(seen[0], ("delivered".to_owned(), true));
        assert_eq!(seen[1], ("never".to_owned(), never_was));
        again.stop().await;
    }
}

#[tokio::test]
async fn after_a_crash_whatever_may_have_been_delivered_is_flagged() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.broker.declare_queue(QueueSpec::durable(queue_name("q"))).unwrap();
    first.publish("q", "1").await;
    first.crash(Vec::new()).await;
    let second = open(folder.path());
    let delivery = second.get("q");
    assert!(delivery.redelivered());
    delivery.ack().expect("a durable message").await.unwrap();
    second.crash(Vec::new()).await;
    assert_eq!(open(folder.path()).broker.queues()[0].ready, 0);
}

#[tokio::test]
async fn a_message_that_ends_the_process_each_time_reaches_its_delivery_limit() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.broker.declare_queue(QueueSpec::durable(queue_name("dead"))).unwrap();
    let spec = QueueSpec::quorum(queue_name("q")).delivery_limit(2);
    first.broker.declare_queue(spec.dead_letter(name(""), Some(key("dead")))).unwrap();
    first.publish("q", "poison").await;
    let mut running = first;
    for count in 0..3 {
        let delivery = running.get("q");
        assert_eq!(delivery.delivery_count(), count);
        running.crash(vec![delivery]).await;
        running = open(folder.path());
    }
    assert!(running.broker.get(&queue_name("q")).unwrap().is_none());
    let dead = running.get("dead");
    let reason = dead.message().properties.headers.get("x-first-death-reason").cloned();
    assert_eq!(reason, Some(Value::from("delivery_limit")));
    dead.ack();
}

#[tokio::test]
async fn failures_delays_and_their_times_survive() {
    use leveret::model::topology::{Backoff, RetryPolicy};
    let folder = tempfile::tempdir().unwrap();
    const HOUR_MS: u64 = 3_600_000;
    let clock = ManualClock::at(1_000_000);
    let first = open_at(folder.path(), clock.clone());
    let retry =
        RetryPolicy { attempts_max: 3, backoff: Backoff::Fixed { delay_ms: HOUR_MS }, jitter: 0.0 };
    first.broker.declare_queue(QueueSpec::durable(queue_name("q")).retry(retry)).unwrap();
    first.publish("q", "1").await;
    first.get("q").fail("no");
    let later = Message::new(name(""), key("q"), "2").persistent();
    let later = later.delayed(Duration::from_millis(2 * HOUR_MS));
    first.broker.publish(later).await.unwrap().confirm.await.unwrap();
    first.stop().await;

    clock.advance_ms(HOUR_MS / 2);
    let second = open_at(folder.path(), clock.clone());
    let after_ms = |pass_ms| {
        clock.advance_ms(pass_ms);
        second.broker.tick();
        let status = second.broker.queue_status(&queue_name("q")).unwrap();
        (status.ready, status.delayed)
    };
    // Each when its time has come since it was failed or published: the stop counts.
    assert_eq!(after_ms(0), (0, 2));
    assert_eq!(after_ms(HOUR_MS / 2 - 1), (0, 2));
    assert_eq!(after_ms(1), (1, 1));
    let failed = second.get("q");
    assert_eq!((text(failed.message()).as_str(), failed.retry_count()), ("1", 1));
    failed.ack();
    assert_eq!(after_ms(HOUR_MS - 1), (0, 1));
    assert_eq!(after_ms(1), (1, 0));
    assert_eq!(text(second.get("q").message()), "2");
}

#[tokio::test]
async fn a_message_settled_in_one_of_its_queues_comes_back_in_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    for queue in ["a", "b", "c"] {
        first.broker.declare_queue(QueueSpec::durable(queue_name(queue))).unwrap();
        let binding = Binding::queue(name("amq.fanout"), queue_name(queue), key(""));
        first.broker.bind(binding).unwrap();
    }
    let message = Message::new(name("amq.fanout"), key(""), "1").persistent();
    first.broker.publish(message).await.unwrap().confirm.await.unwrap();
    first.get("a").ack().expect("a durable message").await.unwrap();
    first.get("b").requeue();
    first.stop().await;
    let second = open(folder.path());
    let ready: Vec<usize> = second.broker.queues().iter().map(|status| status.ready).collect();
    assert_eq!(ready, [0, 1, 1]);
    let (b, c) = (second.get("b"), second.get("c"));
    assert_eq!((b.redelivered(), c.redelivered()), (true, false));
    for delivery in [b, c] {
        delivery.ack().expect("a durable message").await.unwrap();
    }
    second.stop().await;
    let third = open(folder.path());
    assert!(third.broker.queues().iter().all(|status| status.ready == 0));
}

#[tokio::test]
async fn a_redrive_that_a_crash_ends_leaves_each_message_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.broker.declare_queue(QueueSpec::durable(queue_name("dead"))).unwrap();
    let spec = QueueSpec::durable(queue_name("q")).dead_letter(name(""), Some(key("dead")));
    first.broker.declare_queue(spec).unwrap();
    for number in 0..200 {
        first.publish("q", &number.to_string()).await;
        first.get("q").fail("broken");
    }
    let everything = Redrive {
        selection: Selection::Matching(DeathFilter::default()),
        per_second: NonZeroU32::new(10_000),
    };
    let (run, work) = first.broker.start_redrive(&queue_name("dead"), everything).unwrap();
    let work = tokio::spawn(work);
    while run.progress().tally.moved < 50 {
        tokio::task::yield_now().await;
    }
    work.abort();
    assert_eq!(run.ended().await.state, RunState::Cancelled);
    let moved = run.progress().tally.moved;
    first.crash(Vec::new()).await;

    let second = open(folder.path());
    let bodies = |queue| {
        let peeked = second.broker.peek(&queue_name(queue), 1_000).unwrap();
        peeked.iter().map(|peeked| text(&peeked.message)).collect::<Vec<_>>()
    };
    let (back, still_dead) = (bodies("q"), bodies("dead"));
    assert_eq!(back.len() as u64, moved);
    let all: Vec<_> = back.into_iter().chain(still_dead).collect();
    assert_eq!(all, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_journal_that_takes_nothing_leaves_dead_letters_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    open.broker.declare_queue(QueueSpec::durable(queue_name("dead"))).unwrap();
    let spec = QueueSpec::durable(queue_name("q")).dead_letter(name(""), Some(key("dead")));
    open.broker.declare_queue(spec).unwrap();
    open.publish("q", "kept").await;
    open.get("q").fail("broken");
    open.journal.flush().await.unwrap();
    open.journal.close();

    let dead = queue_name("dead");
    let id = open.broker.peek(&dead, 1).unwrap()[0].position;
    assert!(open.broker.redrive(&dead, id, Edit::default()).is_err());
    let everything =
        Redrive { selection: Selection::Matching(DeathFilter::default()), per_second: None };
    let (run, work) = open.broker.start_redrive(&dead, everything).unwrap();
    work.await;
    let RunState::Failed(reason) = run.progress().state else { panic!("it did not fail") };
    assert!(reason.contains("closed"), "{reason}");
    assert_eq!(open.broker.peek(&dead, 9).unwrap().len(), 1);
}
