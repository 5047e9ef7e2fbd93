//! What of a channel only the embedded engine shows: deliveries that the client has not seen yet, and
//! the order of a queue that changes while it hands out.

use std::collections::BTreeMap;

use leveret::broker::{Broker, Channel, ChannelDelivery, ChannelEvent, ConsumeOptions};
use leveret::model::message::Message;
use leveret::model::topology::QueueSpec;

use super::fixture::{Fixture, PATIENCE, key, name, queue_name, text};

const NO_ACK: ConsumeOptions =
    ConsumeOptions { prefetch: 0, no_ack: true, exclusive: false, priority: 0 };

fn declare(broker: &Broker, queues: &[&str]) {
    for queue in queues {
        broker.declare_queue(QueueSpec::durable(queue_name(queue))).unwrap();
    }
}

fn publish(channel: &mut Channel, queue: &str, bodies: &[&str]) {
    for body in bodies {
        let message = Message::new(name(""), key(queue), (*body).to_owned());
        channel.publish(message, false).unwrap();
    }
}

fn consume(channel: &mut Channel, queue: &str, tag: &str) {
    channel.consume(&queue_name(queue), tag, ConsumeOptions::default()).unwrap();
}

/// Every delivery that is here: (consumer tag, body), and the deliveries.
fn deliveries(channel: &mut Channel) -> Vec<(String, ChannelDelivery)> {
    let mut here = Vec::new();
    while let Some(event) = channel.try_next() {
        match event {
            ChannelEvent::Deliver { consumer_tag, delivery } => {
                here.push((consumer_tag.to_string(), delivery));
            }
            ChannelEvent::Cancelled { consumer_tag, end } => {
                panic!("{consumer_tag} was cancelled: {end:?}")
            }
            ChannelEvent::Blocked { .. } | ChannelEvent::Unblocked => panic!("nothing is short"),
        }
    }
    here
}

fn bodies(channel: &mut Channel) -> Vec<String> {
    deliveries(channel).iter().map(|(_, delivery)| text(delivery.message())).collect()
}

#[tokio::test]
async fn a_dropped_channel_returns_everything_to_its_old_place() {
    let f = Fixture::new();
    declare(&f.engine, &["q", "r"]);
    let mut channel = f.engine.channel(None);
    publish(&mut channel, "q", &["1", "2", "3"]);
    publish(&mut channel, "r", &["4"]);
    channel.qos(2, false);
    consume(&mut channel, "q", "c");
    let (got, left) = channel.get(&queue_name("r"), false).unwrap().unwrap();
    assert_eq!((text(got.message()), left), ("4".to_owned(), 0));
    // One of the two was seen by the client, the other waits in the channel.
    assert!(matches!(channel.try_next(), Some(ChannelEvent::Deliver { .. })));
    drop(channel);
    assert_eq!(f.depth("q").await, (3, 0, 0));
    let redelivered: Vec<bool> = (0..3)
        .map(|_| f.engine.get(&queue_name("q")).unwrap().unwrap())
        .map(|delivery| {
            let redelivered = delivery.redelivered();
            delivery.ack();
            redelivered
        })
        .collect();
    assert_eq!(redelivered, [true, false, false]);
    assert_eq!(f.bodies("r").await, ["4"]);
}

#[tokio::test]
async fn the_next_active_consumer_starts_with_what_the_last_one_held() {
    let f = Fixture::new();
    let spec = QueueSpec::durable(queue_name("q")).single_active_consumer();
    f.engine.declare_queue(spec).unwrap();
    let mut first = f.engine.channel(None);
    let mut second = f.engine.channel(None);
    first.qos(2, false);
    consume(&mut first, "q", "a");
    consume(&mut second, "q", "b");
    publish(&mut second, "q", &["1", "2", "3"]);
    // One of the two was seen by the client, the other waits in the channel.
    assert!(matches!(first.try_next(), Some(ChannelEvent::Deliver { .. })));
    drop(first);
    let seen: Vec<_> = deliveries(&mut second)
        .iter()
        .map(|(_, delivery)| (text(delivery.message()), delivery.redelivered))
        .collect();
    let expected = [("1", true), ("2", false), ("3", false)];
    assert_eq!(seen, expected.map(|(body, redelivered)| (body.to_owned(), redelivered)));
}

#[tokio::test]
async fn cancelling_returns_what_was_not_handed_over_and_leaves_the_others_theirs() {
    let f = Fixture::new();
    declare(&f.engine, &["q", "r"]);
    let mut channel = f.engine.channel(None);
    publish(&mut channel, "q", &["1", "2"]);
    publish(&mut channel, "r", &["3", "4"]);
    consume(&mut channel, "q", "a");
    consume(&mut channel, "r", "b");
    let Some(ChannelEvent::Deliver { delivery, .. }) = channel.try_next() else {
        panic!("a delivery was expected")
    };
    channel.cancel("a");
    assert_eq!(f.bodies("q").await, ["2"]);
    assert_eq!(bodies(&mut channel), ["3", "4"]);
    channel.ack(delivery.delivery_tag, false).unwrap();
    assert_eq!(f.depth("q").await, (1, 0, 0));
}

#[tokio::test]
async fn cancelling_gives_nothing_of_another_queue_to_somebody_else() {
    let f = Fixture::new();
    declare(&f.engine, &["q", "r"]);
    let (mut channel, mut other) = (f.engine.channel(None), f.engine.channel(None));
    publish(&mut channel, "r", &["1", "2", "3"]);
    consume(&mut channel, "q", "a");
    consume(&mut channel, "r", "b");
    consume(&mut other, "r", "c");
    publish(&mut channel, "r", &["4"]);
    publish(&mut channel, "q", &["mine"]);
    let before = f.depth("r").await;
    channel.cancel("a");
    assert_eq!(f.depth("r").await, before);
    let (here, there) = (bodies(&mut channel), bodies(&mut other));
    assert!(here.starts_with(&["1".into(), "2".into(), "3".into()]), "{here:?}");
    assert_eq!([here, there].concat(), ["1", "2", "3", "4"]);
    assert_eq!(f.bodies("q").await, ["mine"]);
}

/// A queue hands out while one of its consumers goes: whoever stays sees every message in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_lets_no_later_message_pass_an_earlier_one() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let engine = f.engine.clone();
    let publisher = std::thread::spawn(move || {
        for number in 0..20_000 {
            let message = Message::new(name(""), key("q"), number.to_string());
            drop(engine.try_publish(message).unwrap());
        }
    });
    let mut channel = f.engine.channel(None);
    channel.consume(&queue_name("q"), "stays", NO_ACK).unwrap();
    let mut seen: Vec<u32> = Vec::new();
    while seen.len() < 20_000 {
        if seen.len().is_multiple_of(50) {
            channel.consume(&queue_name("q"), "goes", NO_ACK).unwrap();
            channel.cancel("goes");
        }
        if let ChannelEvent::Deliver { delivery, .. } = channel.next().await {
            seen.push(text(delivery.message()).parse().unwrap());
        }
    }
    publisher.join().unwrap();
    assert!(seen.is_sorted(), "out of order");
}

#[tokio::test]
async fn more_than_the_line_holds_arrives_in_order() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let mut channel = f.engine.channel(None);
    for number in 0..5_000 {
        publish(&mut channel, "q", &[&number.to_string()]);
    }
    channel.consume(&queue_name("q"), "c", NO_ACK).unwrap();
    let expected: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    assert_eq!(bodies(&mut channel), expected);
    assert_eq!((channel.unsettled_count(), f.depth("q").await), (0, (0, 0, 0)));
}

/// The line is full, so each of its consumers stops, and goes on when there is room.
#[tokio::test]
async fn a_full_line_holds_up_each_of_its_consumers_and_loses_none() {
    let f = Fixture::new();
    let names: Vec<String> = (0..40).map(|number| format!("q{number}")).collect();
    let mut channel = f.engine.channel(None);
    for name in &names {
        declare(&f.engine, &[name]);
        for number in 0..100 {
            publish(&mut channel, name, &[&number.to_string()]);
        }
    }
    for name in &names {
        channel.consume(&queue_name(name), name, NO_ACK).unwrap();
    }
    // What it makes room for is taken up by the others.
    channel.cancel("q0");
    assert_eq!(f.bodies("q0").await.len(), 100);
    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (tag, delivery) in deliveries(&mut channel) {
        seen.entry(tag).or_default().push(text(delivery.message()).parse().unwrap());
    }
    assert_eq!(seen.len(), 39);
    assert!(seen.into_values().all(|numbers| numbers.into_iter().eq(0..100)));
}

#[tokio::test]
async fn a_dropped_channel_of_many_queues_returns_to_each_its_own() {
    let f = Fixture::new();
    let names: Vec<String> = (0..40).map(|number| format!("q{number}")).collect();
    let mut channel = f.engine.channel(None);
    for name in &names {
        declare(&f.engine, &[name]);
        consume(&mut channel, name, name);
    }
    for number in 0..100 {
        for name in &names {
            publish(&mut channel, name, &[&number.to_string()]);
        }
    }
    for _ in 0..500 {
        assert!(matches!(channel.try_next(), Some(ChannelEvent::Deliver { .. })));
    }
    drop(channel);
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for name in &names {
        assert_eq!(f.depth(name).await, (100, 0, 0));
        assert_eq!(f.bodies(name).await, expected);
    }
}

/// Queues hand out while the line is emptied for another one's sake: none of them waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_consumer_misses_that_the_line_has_room() {
    let f = Fixture::new();
    declare(&f.engine, &["q", "r", "s"]);
    let engine = f.engine.clone();
    let publisher = std::thread::spawn(move || {
        for number in 0..20_000 {
            for queue in ["q", "r"] {
                let message = Message::new(name(""), key(queue), number.to_string());
                drop(engine.try_publish(message).unwrap());
            }
        }
    });
    let mut channel = f.engine.channel(None);
    channel.consume(&queue_name("q"), "q", NO_ACK).unwrap();
    channel.consume(&queue_name("r"), "r", NO_ACK).unwrap();
    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for count in 0..40_000 {
        if count % 700 == 0 {
            channel.consume(&queue_name("s"), "s", NO_ACK).unwrap();
            channel.cancel("s");
        }
        let next = tokio::time::timeout(PATIENCE, channel.next()).await.expect("more in time");
        if let ChannelEvent::Deliver { consumer_tag, delivery } = next {
            let number = text(delivery.message()).parse().unwrap();
            seen.entry(consumer_tag.to_string()).or_default().push(number);
        }
    }
    publisher.join().unwrap();
    assert!(seen.into_values().all(|numbers| numbers.into_iter().eq(0..20_000)));
}
