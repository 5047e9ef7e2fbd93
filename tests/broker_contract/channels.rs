//! An AMQP channel without its wire: tags, confirms, returns, prefetch, direct reply-to.

use leveret::broker::{
    Broker, BrokerError, Channel, ChannelDelivery, ChannelEvent, ConsumeOptions, ConsumerEnd,
    DeleteIf, REPLY_TO,
};
use leveret::model::message::Message;
use leveret::model::topology::QueueSpec;

use super::fixture::{Fixture, key, name, queue_name, text};

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

fn ready(broker: &Broker, queue: &str) -> usize {
    broker.queue_status(&queue_name(queue)).unwrap().ready
}

#[tokio::test]
async fn acknowledging_is_single_or_up_to_a_tag_and_tag_zero_is_all() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let mut channel = f.engine.channel(None);
    publish(&mut channel, "q", &["1", "2", "3", "4", "5", "6"]);
    consume(&mut channel, "q", "c");
    let tags: Vec<u64> = deliveries(&mut channel).iter().map(|(_, d)| d.delivery_tag).collect();
    assert_eq!(tags, [1, 2, 3, 4, 5, 6]);
    channel.ack(2, false).unwrap();
    assert_eq!(channel.unsettled_count(), 5);
    channel.ack(4, true).unwrap();
    assert_eq!(channel.unsettled_count(), 2);
    channel.ack(0, true).unwrap();
    assert_eq!(channel.unsettled_count(), 0);
    // With nothing outstanding, all of it is no error.
    channel.ack(0, true).unwrap();
    assert_eq!(f.depth("q").await, (0, 0, 0));
}

#[tokio::test]
async fn a_tag_that_is_not_outstanding_is_refused_and_settles_nothing() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let mut channel = f.engine.channel(None);
    publish(&mut channel, "q", &["1"]);
    consume(&mut channel, "q", "c");
    assert_eq!(bodies(&mut channel), ["1"]);
    for outcome in [channel.ack(99, false), channel.ack(99, true), channel.nack(99, true, true)] {
        let error = outcome.unwrap_err();
        assert_eq!(error.reply_text(), "PRECONDITION_FAILED - unknown delivery tag 99");
    }
    assert_eq!(channel.ack(0, false).unwrap_err(), BrokerError::UnknownDeliveryTag(0));
    channel.ack(1, false).unwrap();
    assert_eq!(channel.ack(1, false).unwrap_err(), BrokerError::UnknownDeliveryTag(1));
}

#[tokio::test]
async fn a_nack_requeues_in_order_or_dead_letters() {
    let f = Fixture::new();
    declare(&f.engine, &["dead"]);
    let spec = QueueSpec::durable(queue_name("q")).dead_letter(name(""), Some(key("dead")));
    f.engine.declare_queue(spec).unwrap();
    let mut channel = f.engine.channel(None);
    publish(&mut channel, "q", &["1", "2", "3"]);
    consume(&mut channel, "q", "c");
    assert_eq!(bodies(&mut channel), ["1", "2", "3"]);
    channel.nack(0, true, true).unwrap();
    let again = deliveries(&mut channel);
    assert!(again.iter().all(|(_, delivery)| delivery.redelivered));
    let order: Vec<_> = again.iter().map(|(_, d)| (d.delivery_tag, text(d.message()))).collect();
    assert_eq!(order, [(4, "1".to_owned()), (5, "2".to_owned()), (6, "3".to_owned())]);
    channel.nack(5, true, false).unwrap();
    assert_eq!(f.bodies("dead").await, ["1", "2"]);
    channel.recover(true).unwrap();
    assert_eq!(bodies(&mut channel), ["3"]);
    assert_eq!(channel.recover(false).unwrap_err().reply_code(), Some(540));
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
async fn consumer_tags_are_unique_in_a_channel_and_made_when_empty() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let mut channel = f.engine.channel(None);
    consume(&mut channel, "q", "t");
    let again = channel.consume(&queue_name("q"), "t", ConsumeOptions::default()).unwrap_err();
    assert_eq!(again.reply_text(), "NOT_ALLOWED - attempt to reuse consumer tag 't'");
    assert!(again.closes_connection());
    let made = channel.consume(&queue_name("q"), "", ConsumeOptions::default()).unwrap();
    assert!(made.starts_with("amq.ctag-"));
    channel.cancel("t");
    consume(&mut channel, "q", "t");
    consume(&mut f.engine.channel(None), "q", "t");
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

/// A message in two queues, and ones in a single queue, transient and not, between them.
#[tokio::test]
async fn settling_many_settles_each_in_its_own_queue() {
    let f = Fixture::new();
    declare(&f.engine, &["q", "r"]);
    f.bind("q", "amq.fanout", "").await;
    f.bind("r", "amq.fanout", "").await;
    let mut channel = f.engine.channel(None);
    for (exchange, to, body) in
        [("", "q", "1"), ("amq.fanout", "", "2"), ("", "r", "3"), ("amq.fanout", "", "4")]
    {
        f.publish(exchange, to, body).await;
        let transient = Message::new(name(exchange), key(to), format!("{body}t"));
        channel.publish(transient, false).unwrap();
    }
    consume(&mut channel, "q", "q");
    consume(&mut channel, "r", "r");
    assert_eq!(deliveries(&mut channel).len(), 12);
    channel.ack(5, true).unwrap();
    assert_eq!((f.depth("q").await, f.depth("r").await), ((0, 1, 0), (0, 6, 0)));
    channel.nack(9, true, true).unwrap();
    assert_eq!(deliveries(&mut channel).len(), 4);
    channel.nack(0, true, false).unwrap();
    assert_eq!((f.depth("q").await, f.depth("r").await), ((0, 0, 0), (0, 0, 0)));
    f.engine.flush().await.unwrap();
}

#[tokio::test]
async fn a_consumer_whose_queue_goes_is_told_so() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let mut channel = f.engine.channel(None);
    consume(&mut channel, "q", "c");
    f.engine.delete_queue(&queue_name("q"), DeleteIf::default()).unwrap();
    match channel.next().await {
        ChannelEvent::Cancelled { consumer_tag, end } => {
            assert_eq!((&*consumer_tag, end), ("c", ConsumerEnd::QueueDeleted));
        }
        _ => panic!("nothing was published, and nothing is short"),
    }
    declare(&f.engine, &["q"]);
    consume(&mut channel, "q", "c");
}

#[tokio::test]
async fn prefetch_is_each_consumers_or_the_whole_channels() {
    let f = Fixture::new();
    declare(&f.engine, &["q", "r"]);
    let mut channel = f.engine.channel(None);
    publish(&mut channel, "q", &["1", "2", "3", "4"]);
    publish(&mut channel, "r", &["5", "6", "7", "8"]);
    channel.qos(3, true);
    channel.qos(2, false);
    consume(&mut channel, "q", "a");
    consume(&mut channel, "r", "b");
    assert_eq!(bodies(&mut channel), ["1", "2", "5"]);
    // A get counts for neither.
    assert!(channel.get(&queue_name("r"), false).unwrap().is_some());
    assert!(bodies(&mut channel).is_empty());
    channel.ack(1, false).unwrap();
    assert_eq!(bodies(&mut channel).len(), 1);
    channel.ack(0, true).unwrap();
    assert_eq!(bodies(&mut channel).len(), 3);
    channel.qos(0, true);
    channel.ack(0, true).unwrap();
    let mut rest = 0;
    loop {
        let more = bodies(&mut channel).len();
        if more == 0 {
            break;
        }
        rest += more;
        channel.ack(0, true).unwrap();
    }
    assert_eq!(rest, 0);
    assert_eq!((ready(&f.engine, "q"), ready(&f.engine, "r")), (0, 0));
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

#[tokio::test]
async fn a_mandatory_message_without_a_queue_returns_and_is_confirmed() {
    let f = Fixture::new();
    declare(&f.engine, &["q"]);
    let mut channel = f.engine.channel(None);
    channel.confirm_select();
    let message = |queue: &str| Message::new(name(""), key(queue), "1").persistent();
    let routed = channel.publish(message("q"), true).unwrap();
    assert_eq!((routed.sequence, routed.returned.is_none()), (Some(1), true));
    routed.confirm.await.unwrap();
    let unrouted = channel.publish(message("nowhere"), true).unwrap();
    assert_eq!(unrouted.sequence, Some(2));
    assert_eq!(unrouted.returned.as_ref().map(text).as_deref(), Some("1"));
    unrouted.confirm.await.unwrap();
    assert!(channel.publish(message("nowhere"), false).unwrap().returned.is_none());
    assert_eq!(f.engine.channel(None).publish(message("q"), false).unwrap().sequence, None);
}

#[tokio::test]
async fn a_message_says_who_sent_it_or_nothing() {
    let f = Fixture::new();
    let mut channel = f.engine.channel(Some("guest".to_owned()));
    let mut message = Message::new(name(""), key("q"), "1");
    message.properties.user_id = Some("guest".to_owned());
    assert!(channel.publish(message.clone(), false).is_ok());
    message.properties.user_id = Some("bob".to_owned());
    let refused = channel.publish(message, false).err().map(|error| error.reply_text());
    let expected =
        "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'";
    assert_eq!(refused.as_deref(), Some(expected));
}

#[tokio::test]
async fn replies_come_directly_without_a_queue_of_ones_own() {
    let f = Fixture::new();
    declare(&f.engine, &["requests"]);
    let mut client = f.engine.channel(None);
    let mut server = f.engine.channel(None);
    let mut request = Message::new(name(""), key("requests"), "question");
    request.properties.reply_to = Some(REPLY_TO.to_owned());
    let text_of = |error: BrokerError| error.reply_text();
    assert_eq!(
        client.publish(request.clone(), false).err().map(text_of).as_deref(),
        Some("PRECONDITION_FAILED - fast reply consumer does not exist")
    );
    let reply_to = queue_name(REPLY_TO);
    assert_eq!(
        client.consume(&reply_to, "", ConsumeOptions::default()).err().map(text_of).as_deref(),
        Some("PRECONDITION_FAILED - reply consumer cannot acknowledge")
    );
    client.consume(&reply_to, "replies", NO_ACK).unwrap();
    assert_eq!(
        client.consume(&reply_to, "more", NO_ACK).err().map(text_of).as_deref(),
        Some("PRECONDITION_FAILED - reply consumer already set")
    );
    client.publish(request, false).unwrap();
    let (asked, _) = server.get(&queue_name("requests"), true).unwrap().unwrap();
    let to = asked.message().properties.reply_to.clone().unwrap();
    assert!(to.starts_with("amq.rabbitmq.reply-to.") && to.len() < 255);
    server.publish(Message::new(name(""), key(&to), "answer"), true).unwrap();
    let answers = deliveries(&mut client);
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (answers[0].0.as_str(), text(answers[0].1.message())),
        ("replies", "answer".to_owned())
    );
    assert_eq!(f.engine.queues().len(), 1);
    drop(client);
    // Nobody waits any more.
    let late = server.publish(Message::new(name(""), key(&to), "late"), true).unwrap();
    assert!(late.returned.is_some());
}
