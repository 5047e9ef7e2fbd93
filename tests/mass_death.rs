//! However much dies at once, it goes step by step: what is uncommitted keeps its bound, and nobody else
//! is held up.

#[path = "journal_crash/disk.rs"]
#[allow(dead_code)]
mod disk;

use std::sync::Arc;
use std::time::Duration;

use leveret::broker::{Broker, BrokerError, ConsumeOptions, DeleteIf, Recovery};
use leveret::journal::{Journal, JournalOptions};
use leveret::model::clock::ManualClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{Overflow, Policy, QueueSpec};

use tokio::time::timeout;

use disk::{Disk, Random};

const UNCOMMITTED_BYTES_MAX: usize = 1024 * 1024;
/// A step, which may pass the bound.
const STEP_BYTES_MAX: usize = 256 * 1024;
const BODY_BYTES: usize = 1024;
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);
const COUNT: u32 = 6_000;

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn message(key: &str, body: Vec<u8>) -> Message {
    let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new(key).unwrap());
    Message::new(exchange, key, body).persistent()
}

fn options() -> JournalOptions {
    JournalOptions {
        uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
        reserve_bytes: 0,
        ..JournalOptions::default()
    }
}

/// Some are dead, and no more than the journal has room for.
fn waits(dead: usize) {
    assert!(dead > 0);
    assert!(dead * BODY_BYTES <= UNCOMMITTED_BYTES_MAX + STEP_BYTES_MAX, "{dead}");
}

fn many_queues(spec: impl Fn(QueueSpec) -> QueueSpec) -> Vec<QueueSpec> {
    (0..200).map(|number| spec(QueueSpec::durable(queue(&format!("dying.{number}"))))).collect()
}

/// A broker with a queue full of messages.
struct Side {
    disk: Disk,
    clock: Arc<ManualClock>,
    broker: Broker,
}

impl Side {
    async fn new(spec: QueueSpec) -> Self {
        Self::with([spec].into()).await
    }

    /// The messages lie in all of the queues, one after the other.
    async fn with(specs: Vec<QueueSpec>) -> Self {
        let disk = Disk::new(Random(7));
        let journal = Journal::open(disk.store(), options(), &mut |_, _, _| Ok(())).unwrap();
        let clock = ManualClock::at(1_000_000);
        let broker = Broker::new(journal, clock.clone(), Recovery::default());
        let dead = RoutingKey::new("dead").unwrap();
        broker.declare_queue(QueueSpec::durable(queue("dead"))).unwrap();
        broker.declare_queue(QueueSpec::durable(queue("other"))).unwrap();
        let names: Vec<String> = specs.iter().map(|spec| spec.name.to_string()).collect();
        for spec in specs {
            let spec = spec.dead_letter(ExchangeName::default_exchange(), Some(dead.clone()));
            broker.declare_queue(spec).unwrap();
        }
        for (number, name) in (0..COUNT).zip(names.iter().cycle()) {
            let mut body = number.to_le_bytes().to_vec();
            body.resize(BODY_BYTES, 0);
            drop(broker.publish(message(name, body)).await.unwrap());
        }
        broker.flush().await.unwrap();
        Self { disk, clock, broker }
    }

    /// Kills all of them while the disk takes nothing, then lets it go on: whichever queue they were in,
    /// they wait, and all arrive.
    async fn die_everywhere(self, kill: impl FnOnce(&Self)) {
        let dead = {
            let _stuck = self.disk.state();
            kill(&self);
            self.broker.tick();
            self.dead()
        };
        waits(dead);
        self.all_arrive().await;
    }

    async fn all_arrive(&self) -> Vec<u32> {
        let _timers = tokio::spawn(self.broker.run_timers());
        let options = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
        let mut dead = self.broker.consume(&queue("dead"), options).unwrap();
        let mut numbers = Vec::new();
        for _ in 0..COUNT {
            let delivery = dead.next().await.unwrap();
            let number = delivery.message().body.first_chunk().unwrap();
            numbers.push(u32::from_le_bytes(*number));
        }
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..COUNT));
        numbers
    }

    /// Loses power, and starts again with a disk that can be read and takes nothing yet.
    async fn die_at_a_start(self) -> Vec<u32> {
        let Self { disk, clock, broker } = self;
        disk.pull_the_plug();
        drop(broker);
        disk.reboot();
        let mut recovery = Recovery::default();
        let mut accept = |entry, kind, payload: &[u8]| recovery.accept(entry, kind, payload);
        let journal = Journal::open(disk.store(), options(), &mut accept).unwrap();
        let (side, dead) = {
            let _stuck = disk.state();
            let broker = Broker::new(journal, clock.clone(), recovery);
            let side = Self { disk: disk.clone(), clock, broker };
            let dead = side.dead();
            (side, dead)
        };
        waits(dead);
        side.all_arrive().await
    }

    fn shorten(&self, pattern: &str, length_max: u64) {
        let spec = QueueSpec::durable(queue("any")).length_max(length_max, Overflow::DropHead);
        let (name, pattern) = ("short".to_owned(), pattern.to_owned());
        let policy = Policy { name, pattern, queue: spec.settings, ..Policy::default() };
        drop(self.broker.set_policy(policy).unwrap());
    }

    fn dead(&self) -> usize {
        self.broker.queue(&queue("dead")).unwrap().ready
    }

    /// Kills all of them while the disk takes nothing, then lets it go on.
    async fn die(self, kill: impl FnOnce(&Self)) {
        {
            let _stuck = self.disk.state();
            kill(&self);
            self.broker.tick();
            let dead = self.dead();
            waits(dead);
            // Whatever else is done there moves no more, and nothing passes what waits in front.
            drop(self.broker.try_publish(message("dying", b"young".to_vec())).unwrap());
            let waits = self.broker.queue(&queue("dying")).unwrap().ready > 1;
            match self.broker.get(&queue("dying")).unwrap() {
                Some(young) => drop(young.ack()),
                None => assert!(waits),
            }
            self.broker.tick();
            assert_eq!(self.dead(), dead);
            // Other queues go on.
            drop(self.broker.try_publish(message("other", b"other".to_vec())).unwrap());
            drop(self.broker.get(&queue("other")).unwrap().expect("the other one").ack());
        }
        assert!(self.all_arrive().await.is_sorted());
        if let Some(young) = self.broker.get(&queue("dying")).unwrap() {
            assert_eq!(&young.message().body[..], b"young");
            drop(young.ack());
        }
        assert_eq!(self.broker.queue(&queue("dying")).unwrap().acked, 1);
    }
}

#[tokio::test]
async fn what_expires_at_once_waits_for_the_journal() {
    let side = Side::new(QueueSpec::durable(queue("dying")).message_ttl_ms(1_000)).await;
    timeout(PATIENCE, side.die(|side| side.clock.advance_ms(1_001))).await.unwrap();
}

#[tokio::test]
async fn what_a_new_length_drops_at_once_waits_for_the_journal() {
    let side = Side::new(QueueSpec::durable(queue("dying"))).await;
    let died = side.die(|side| side.shorten("^dying$", 1));
    timeout(PATIENCE, died).await.unwrap();
}

#[tokio::test]
async fn what_is_rejected_at_once_waits_for_the_journal() {
    let side = Side::new(QueueSpec::durable(queue("dying"))).await;
    let mut channel = side.broker.channel(None);
    channel.consume(&queue("dying"), "all", ConsumeOptions::default()).unwrap();
    for _ in 0..COUNT {
        channel.next().await;
    }
    channel.cancel("all");
    let died = side.die(|_| channel.nack(0, true, false).unwrap());
    timeout(PATIENCE, died).await.unwrap();
}

#[tokio::test]
async fn what_came_back_too_often_at_once_waits_for_the_journal() {
    let side = Side::new(QueueSpec::quorum(queue("dying")).delivery_limit(0)).await;
    let mut channel = side.broker.channel(None);
    channel.consume(&queue("dying"), "all", ConsumeOptions::default()).unwrap();
    for _ in 0..COUNT {
        channel.next().await;
    }
    channel.cancel("all");
    let died = side.die(|_| channel.nack(0, true, true).unwrap());
    timeout(PATIENCE, died).await.unwrap();
}

#[tokio::test]
async fn what_waits_to_die_when_its_queue_is_deleted_arrives_all_the_same() {
    let side = Side::new(QueueSpec::quorum(queue("dying")).delivery_limit(0)).await;
    let mut channel = side.broker.channel(None);
    channel.consume(&queue("dying"), "all", ConsumeOptions::default()).unwrap();
    for _ in 0..COUNT {
        channel.next().await;
    }
    channel.cancel("all");
    channel.nack(0, true, true).unwrap();
    waits(side.dead());
    let if_empty = DeleteIf { empty: true, ..DeleteIf::default() };
    let refused = side.broker.delete_queue(&queue("dying"), if_empty);
    assert!(matches!(refused, Err(BrokerError::NotEmpty { .. })), "{refused:?}");
    side.broker.delete_queue(&queue("dying"), DeleteIf::default()).unwrap();
    timeout(PATIENCE, side.all_arrive()).await.unwrap();
}

#[tokio::test]
async fn what_expires_at_once_in_many_queues_waits_for_the_journal() {
    let side = Side::with(many_queues(|spec| spec.message_ttl_ms(1_000))).await;
    let died = side.die_everywhere(|side| side.clock.advance_ms(1_001));
    timeout(PATIENCE, died).await.unwrap();
}

#[tokio::test]
async fn what_a_new_length_drops_in_many_queues_waits_for_the_journal() {
    let side = Side::with(many_queues(|spec| spec)).await;
    let died = side.die_everywhere(|side| side.shorten("^dying", 0));
    timeout(PATIENCE, died).await.unwrap();
}

#[tokio::test]
async fn what_came_back_too_often_at_a_start_waits_for_the_journal() {
    let side = Side::new(QueueSpec::quorum(queue("dying")).delivery_limit(0)).await;
    let mut channel = side.broker.channel(None);
    channel.consume(&queue("dying"), "all", ConsumeOptions::default()).unwrap();
    for _ in 0..COUNT {
        channel.next().await;
    }
    side.broker.flush().await.unwrap();
    // What is done after the power failure is never written.
    side.disk.pull_the_plug();
    drop(channel);
    let order = timeout(PATIENCE, side.die_at_a_start()).await.unwrap();
    assert!(order.is_sorted());
}

#[tokio::test]
async fn what_expired_before_a_start_waits_for_the_journal() {
    let side = Side::with(many_queues(|spec| spec.message_ttl_ms(1_000))).await;
    side.clock.advance_ms(1_001);
    timeout(PATIENCE, side.die_at_a_start()).await.unwrap();
}
