//! An acknowledgement with effects, the power going at each of its writes and syncs.

use leveret::backend::{Broker, Cache, Delivery, Embedded};
use leveret::journal::JournalOptions;
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

use crate::disk::{Disk, Random};

/// Seeds a point at which the power goes: what was not synced has many fates.
const SEEDS_A_POINT: u64 = 6;
/// More operations than any way of settling takes.
const POINTS_MAX: u64 = 200;

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn message(exchange: &str, key: &str) -> Message {
    let (exchange, key) = (ExchangeName::new(exchange).unwrap(), RoutingKey::new(key).unwrap());
    Message::new(exchange, key, "a body").persistent()
}

fn open(disk: &Disk) -> Embedded {
    let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
    Embedded::open_on(disk.store(), options, SystemClock::shared()).unwrap()
}

/// Whether the input was on disk before it was taken.
#[derive(Clone, Copy, PartialEq)]
enum Input {
    Confirmed,
    /// It may never be written: it is settled before that.
    InFlight,
}

/// The ways to settle an input and do what follows from it.
#[derive(Clone, Copy)]
enum Way {
    /// One group.
    AckWith,
    /// The canary: each effect, and then the acknowledgement, by itself.
    OneByOne,
}

impl Way {
    /// Whether all of it was committed.
    async fn settle(self, mut delivery: Delivery, broker: &Broker, cache: &Cache) -> bool {
        match self {
            Self::AckWith => {
                let settled = delivery.ack_with(|tx| {
                    tx.publish(message("", "out"));
                    tx.set("state", "done").incr("count").lpush("log", "entry");
                });
                settled.await.is_ok()
            }
            Self::OneByOne => {
                let Ok(confirm) = broker.publish(message("", "out")).await else { return false };
                confirm.confirmed().await.is_ok()
                    && cache.set("state", "done", None).await.is_ok()
                    && cache.flush().await.is_ok()
                    && delivery.ack_with(|_| {}).await.is_ok()
            }
        }
    }
}

async fn depth(broker: &Broker, name: &str) -> usize {
    broker.peek(&queue(name), 10).await.unwrap().len()
}

/// The power goes at the `point`-th operation after the input is in hand. `Ok`: whether it went at all.
async fn play(way: Way, input: Input, point: u64, seed: u64) -> Result<bool, String> {
    let disk = Disk::new(Random(seed));
    let leveret = open(&disk);
    let (broker, cache) = (leveret.broker(), leveret.cache());
    // The input lies in two queues: one of them keeps it.
    for name in ["in", "audit", "out"] {
        broker.declare_queue(QueueSpec::durable(queue(name))).await.unwrap();
    }
    let (fanout, none) = (ExchangeName::new("amq.fanout").unwrap(), RoutingKey::new("").unwrap());
    for name in ["in", "audit"] {
        broker.bind(&queue(name), &fanout, &none).await.unwrap();
    }
    if input == Input::InFlight {
        disk.state().until_crash = Some(point);
    }
    let confirm = broker.publish(message("amq.fanout", "")).await.unwrap();
    if input == Input::Confirmed {
        confirm.confirmed().await.unwrap();
        disk.state().until_crash = Some(point);
    }
    let delivery = broker.get(&queue("in")).await.unwrap().unwrap();
    let confirmed = way.settle(delivery, &broker, &cache).await;
    let crashed = disk.state().crashed;
    disk.pull_the_plug();
    drop((broker, cache));
    let _ = leveret.close().await;
    disk.reboot();

    let leveret = open(&disk);
    let (broker, cache) = (leveret.broker(), leveret.cache());
    let kept = depth(&broker, "audit").await == 1;
    // Without a trace of the input nothing may have followed from it.
    let settled = depth(&broker, "in").await == 0 && (kept || input == Input::Confirmed);
    let published = depth(&broker, "out").await == 1;
    let set = cache.get("state").await.unwrap().is_some();
    let whole = match way {
        Way::AckWith => {
            let counted = cache.get("count").await.unwrap().as_deref() == Some(b"1");
            let logged = cache.list_range("log", 0, -1).await.unwrap().len() == 1;
            counted == settled && logged == settled
        }
        Way::OneByOne => true,
    };
    leveret.close().await.unwrap();
    if published != settled || set != settled || !whole {
        let found = format!("settled: {settled}, published: {published}, set: {set}");
        return Err(format!("seed {seed}, point {point}: half done: {found}"));
    }
    if confirmed && !settled {
        return Err(format!("seed {seed}, point {point}: it was confirmed and is undone"));
    }
    if !kept && (confirmed || input == Input::Confirmed) {
        return Err(format!("seed {seed}, point {point}: the other queue lost the input"));
    }
    Ok(crashed)
}

/// Plays every point until the power does not go any more: how many there were.
async fn every_point(way: Way, input: Input) -> Result<u64, String> {
    for point in 1..POINTS_MAX {
        let mut crashed = false;
        for seed in 0..SEEDS_A_POINT {
            crashed |= play(way, input, point, point * SEEDS_A_POINT + seed).await?;
        }
        if !crashed {
            return Ok(point);
        }
    }
    Err("the power always went".to_owned())
}

#[tokio::test]
async fn an_acknowledgement_and_its_effects_survive_together_or_not_at_all() {
    for input in [Input::Confirmed, Input::InFlight] {
        let points = every_point(Way::AckWith, input).await.unwrap();
        // A small commit is one write and one sync.
        assert!(points > 2, "the power went at {} points only", points - 1);
    }
}

#[tokio::test]
async fn the_check_catches_effects_that_are_committed_one_by_one() {
    let error = every_point(Way::OneByOne, Input::Confirmed).await.unwrap_err();
    assert!(error.contains("half done"), "{error}");
}
