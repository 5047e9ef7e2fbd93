//! What the simulation found, each as short as it can be told.

use leveret::broker::{Broker, ConsumeOptions, Recovery};
use leveret::journal::{Journal, JournalOptions};
use leveret::model::clock::{ManualClock, SystemClock};
use leveret::model::message::Message;
use leveret::model::topology::QueueSpec;

use crate::disk::{Disk, Random};
use crate::names::{exchange_name, key, queue_name};

/// The broker of that disk; with `without_power` the journal opens and writes nothing after that.
fn open(disk: &Disk, without_power: bool) -> (Journal, Broker) {
    let mut recovery = Recovery::default();
    let journal =
        Journal::open(disk.store(), JournalOptions::default(), &mut |entry, kind, payload| {
            recovery.accept(entry, kind, payload)
        })
        .unwrap();
    if without_power {
        disk.pull_the_plug();
    }
    (journal.clone(), Broker::new(journal, SystemClock::shared(), recovery))
}

#[tokio::test]
async fn a_stop_in_order_says_nothing_of_a_life_after_it_that_wrote_nothing() {
    let disk = Disk::new(Random(1));
    let (journal, broker) = open(&disk, false);
    broker.declare_queue(QueueSpec::durable(queue_name("q"))).unwrap();
    let message = Message::new(exchange_name(""), key("q"), "1").persistent();
    broker.publish(message).await.unwrap().confirm.await.unwrap();
    broker.close().await.unwrap();
    journal.close();

    let (journal, broker) = open(&disk, true);
    let delivery = broker.get(&queue_name("q")).unwrap().unwrap();
    assert!(!delivery.redelivered());
    journal.close();
    drop(delivery);
    disk.reboot();

    let (_journal, broker) = open(&disk, false);
    assert!(broker.get(&queue_name("q")).unwrap().unwrap().redelivered());
}

#[tokio::test]
async fn a_delivery_that_is_settled_already_changes_nothing_when_it_fails() {
    let clock = ManualClock::at(1_000);
    let broker = Broker::new(Journal::in_memory(), clock.clone(), Recovery::default());
    let queue = queue_name("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).unwrap();
    let options = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
    let mut consumer = broker.consume(&queue, options).unwrap();
    broker.publish(Message::new(exchange_name(""), key("q"), "1")).await.unwrap();
    let settled = consumer.try_next().unwrap();
    drop(consumer);

    let mut late = Message::new(exchange_name(""), key("q"), "2");
    late.properties.expiration_ms = Some(3);
    broker.publish(late).await.unwrap();
    clock.advance_ms(5);
    settled.fail("no");
    assert_eq!(broker.queues()[0].ready, 1, "its time is the timer's to see");
    broker.tick();
    assert_eq!(broker.queues()[0].ready, 0);
}
