//! A transient message from its publisher to a consumer takes one allocation: itself, which its queues share.

use bytes::Bytes;
use leveret::broker::{Broker, ConsumeOptions, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

const MESSAGES: u64 = 10_000;

/// Allocations of `MESSAGES` messages, each taken (and acknowledged) before the next is published.
fn allocations(options: ConsumeOptions) -> u64 {
    let broker = Broker::new(Journal::in_memory(), SystemClock::shared(), Recovery::default());
    let queue = QueueName::new("q").unwrap();
    broker.declare_queue(QueueSpec::transient(queue.clone())).unwrap();
    let mut consumer = broker.consume(&queue, options).unwrap();
    let key = RoutingKey::new("q").unwrap();
    let body = Bytes::from(vec![b'x'; 200]);
    let message = Message::new(ExchangeName::default_exchange(), key, body);
    let mut send = || {
        drop(broker.try_publish(message.clone()).unwrap());
        let delivery = consumer.try_next().expect("it is delivered at once");
        if !options.no_ack {
            drop(delivery.ack());
        }
    };
    // The lists have their size then.
    (0..100).for_each(|_| send());
    allocation_counter::measure(|| (0..MESSAGES).for_each(|_| send())).count_total
}

fn is_one_each(allocations: u64) -> bool {
    (MESSAGES..MESSAGES + MESSAGES / 100).contains(&allocations)
}

#[test]
fn a_transient_message_takes_one_without_acknowledgements() {
    let counted = allocations(ConsumeOptions { no_ack: true, ..ConsumeOptions::default() });
    assert!(is_one_each(counted), "{counted} allocations of {MESSAGES} messages");
}

#[test]
fn a_transient_message_takes_one_with_a_prefetch_and_acknowledgements() {
    let counted = allocations(ConsumeOptions { prefetch: 100, ..ConsumeOptions::default() });
    assert!(is_one_each(counted), "{counted} allocations of {MESSAGES} messages");
}
