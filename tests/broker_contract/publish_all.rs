//! Many messages are published at once, and each fares as if it were published alone.

use std::time::Duration;

use leveret::broker::{Broker, BrokerError, ChannelEvent, ConsumeOptions, Recovery};
use leveret::journal::{FolderStore, Journal, JournalError, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::{Message, Value};
use leveret::model::names::{UserName, VhostName};
use leveret::model::topology::{Binding, ExchangeKind, ExchangeSpec, Overflow, QueueSpec};
use leveret::model::user::Permissions;

use super::fixture::{Fixture, PATIENCE, dying_queue, key, name, queue_name, text, with_headers};

/// More than the engine takes in one visit.
const MANY: usize = 1_000;

fn to(exchange: &str, routing_key: &str, body: impl ToString) -> Message {
    Message::new(name(exchange), key(routing_key), body.to_string()).persistent()
}

fn transient(exchange: &str, routing_key: &str, body: impl ToString) -> Message {
    Message::new(name(exchange), key(routing_key), body.to_string())
}

#[tokio::test]
async fn they_keep_their_order_and_are_all_confirmed() {
    let f = Fixture::new();
    f.queue("q").await;
    let message = |number| match number % 3 {
        0 => transient("", "q", number),
        _ => to("", "q", number),
    };
    let published = f.broker.publish_all((0..MANY).map(message)).await.unwrap();
    assert_eq!((published.confirms.len(), published.unrouted.len()), (MANY, 0));
    assert!(published.confirms.all().await.is_empty());
    let expected: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
    assert_eq!(f.bodies("q").await, expected);
    assert_eq!(f.broker.queue(&queue_name("q")).await.unwrap().published, MANY as u64);
}

#[tokio::test]
async fn none_is_no_error() {
    let f = Fixture::new();
    let mut published = f.broker.publish_all([]).await.unwrap();
    assert!(published.confirms.is_empty() && published.confirms.next().await.is_none());
}

#[tokio::test]
async fn each_goes_where_its_own_key_and_headers_say() {
    let f = Fixture::new();
    for queue in ["a", "b", "both"] {
        f.queue(queue).await;
    }
    f.exchange("direct", ExchangeKind::Direct).await;
    f.exchange("headers", ExchangeKind::Headers).await;
    for (queue, routing_key) in [("a", "a"), ("b", "b"), ("both", "a"), ("both", "b")] {
        f.bind(queue, "direct", routing_key).await;
    }
    for queue in ["a", "b"] {
        let mut binding = Binding::queue(name("headers"), queue_name(queue), key(""));
        binding.arguments = [("to".to_owned(), Value::from(queue))].into_iter().collect();
        f.broker.add_binding(binding).await.unwrap();
    }
    let list = |keys: &[&str]| Value::List(keys.iter().map(|&key| Value::from(key)).collect());
    let messages = [
        to("direct", "a", 1),
        to("direct", "a", 2),
        to("direct", "b", 3),
        to("", "a", 4),
        // Alike but for their headers.
        with_headers("headers", "", "5", [("to", Value::from("a"))]),
        with_headers("headers", "", "6", [("to", Value::from("b"))]),
        to("headers", "", 7),
        to("direct", "a", 8),
        with_headers("direct", "a", "9", [("CC", list(&["b"]))]),
        to("direct", "a", 10),
        with_headers("direct", "none", "11", [("BCC", list(&["b"]))]),
        to("direct", "none", 12),
    ];
    let published = f.broker.publish_all(messages).await.unwrap();
    assert_eq!(published.unrouted, [6, 11]);
    assert!(published.confirms.all().await.is_empty());
    assert_eq!(f.bodies("a").await, ["1", "2", "4", "5", "8", "9", "10"]);
    assert_eq!(f.bodies("b").await, ["3", "6", "9", "11"]);
    assert_eq!(f.bodies("both").await, ["1", "2", "3", "8", "9", "10", "11"]);
    let bcc = f.broker.peek(&queue_name("b"), 10).await.unwrap().pop().unwrap();
    assert!(bcc.message.properties.headers.get("BCC").is_none(), "it was blind");
}

#[tokio::test]
async fn a_full_queue_refuses_its_own_and_no_other() {
    let f = Fixture::new();
    f.queue("q").await;
    let full = QueueSpec::durable(queue_name("full")).length_max(2, Overflow::RejectPublish);
    f.declare(full).await;
    f.exchange("fan", ExchangeKind::Fanout).await;
    f.bind("q", "fan", "").await;
    f.bind("full", "fan", "").await;
    let messages =
        [("", "q"), ("", "full"), ("", "full"), ("", "full"), ("", "q"), ("fan", ""), ("", "q")];
    let numbered = messages.iter().zip(0..).map(|((exchange, key), at)| to(exchange, key, at));
    let published = f.broker.publish_all(numbered).await.unwrap();
    assert!(published.unrouted.is_empty());
    let mut confirms = published.confirms;
    let mut acked = Vec::new();
    while let Some(confirm) = confirms.next().await {
        acked.push(confirm.is_ok());
    }
    assert_eq!(acked, [true, true, true, false, true, false, true]);
    assert_eq!(f.bodies("full").await, ["1", "2"]);
    assert_eq!(f.bodies("q").await, ["0", "4", "5", "6"], "the other queue took it");
    // Awaited as a whole, those that failed are named by their places.
    let again = (0..3).map(|number| to("", if number == 1 { "full" } else { "q" }, number));
    let failed = f.engine.publish_all(again).await.unwrap().confirms.all().await;
    let nacked = BrokerError::Nacked { name: "full".to_owned() };
    assert_eq!(failed, [(1, nacked)]);
}

#[tokio::test]
async fn what_a_consumer_takes_in_between_makes_room_as_it_would_for_single_ones() {
    let f = Fixture::new();
    let spec = QueueSpec::durable(queue_name("q")).length_max(1, Overflow::RejectPublish);
    f.declare(spec).await;
    let mut channel = f.engine.channel(None);
    channel.qos(2, false);
    channel.consume(&queue_name("q"), "c", ConsumeOptions::default()).unwrap();
    let published = f.engine.publish_all((0..4).map(|number| to("", "q", number))).await.unwrap();
    // Two are with the consumer, the third waits, and the fourth is one too many.
    assert_eq!(published.confirms.refused().collect::<Vec<_>>(), [3]);
    assert_eq!(published.confirms.all().await.len(), 1);
    for expected in ["0", "1"] {
        let Some(ChannelEvent::Deliver { delivery, .. }) = channel.try_next() else {
            panic!("a delivery was expected")
        };
        assert_eq!(text(delivery.message()), expected);
    }
}

#[tokio::test]
async fn the_oldest_are_dropped_for_the_newest_of_them() {
    let f = Fixture::new();
    f.queue("dead").await;
    let spec = dying_queue("q", "", Some("dead")).length_max(2, Overflow::DropHead);
    f.declare(spec).await;
    let published = f.broker.publish_all((0..5).map(|number| to("", "q", number))).await.unwrap();
    assert!(published.confirms.all().await.is_empty());
    assert_eq!(f.bodies("q").await, ["3", "4"]);
    assert_eq!(f.bodies("dead").await, ["0", "1", "2"]);
}

/// The one difference that the documentation names: alone, each is dead-lettered before the next is published.
#[tokio::test]
async fn what_they_displace_dies_behind_those_that_are_published_with_it() {
    let f = Fixture::new();
    for (queue, overflow) in [("drop", Overflow::DropHead), ("reject", Overflow::RejectPublishDlx)]
    {
        f.queue("dead").await;
        let spec = dying_queue(queue, "", Some("dead")).length_max(1, overflow);
        f.declare(spec).await;
        let messages = || [to("", queue, 0), to("", queue, 1), to("", "dead", 2)];
        let (dies, stays) = if overflow == Overflow::DropHead { ("0", "1") } else { ("1", "0") };
        for message in messages() {
            let _confirm = f.engine.try_publish(message).unwrap();
        }
        assert_eq!(f.take_all(queue).await, [stays]);
        assert_eq!(f.take_all("dead").await, [dies, "2"], "one by one");
        drop(f.engine.try_publish_all(messages()).unwrap());
        assert_eq!(f.take_all(queue).await, [stays]);
        assert_eq!(f.take_all("dead").await, ["2", dies], "together");
    }
}

#[tokio::test]
async fn an_unknown_exchange_in_the_middle_is_named_by_its_place_and_ends_the_batch() {
    let f = Fixture::new();
    f.queue("q").await;
    for at in [0, 3, MANY / 2] {
        let exchange = |number| if number == at { "gone" } else { "" };
        let messages = (0..MANY).map(|number| to(exchange(number), "q", number));
        let failed = f.broker.publish_all(messages).await.err().unwrap();
        assert_eq!(failed.place, at);
        assert_eq!(failed.error.to_string(), "no exchange 'gone' in vhost '/'");
        assert_eq!(failed.published.confirms.len(), at);
        assert!(failed.published.confirms.all().await.is_empty());
        let expected: Vec<String> = (0..at).map(|number| number.to_string()).collect();
        assert_eq!(f.take_all("q").await, expected);
    }
}

#[tokio::test]
async fn a_message_that_is_none_ends_the_batch_before_it_is_routed() {
    let f = Fixture::new();
    f.queue("q").await;
    let no_list = with_headers("", "q", "1", [("CC", Value::from("q"))]);
    let failed = f.engine.publish_all([to("", "q", 0), no_list, to("", "q", 2)]).await;
    let failed = failed.err().unwrap();
    assert!(matches!((failed.place, &failed.error), (1, BrokerError::Precondition(_))));
    let large = Message::new(name(""), key("q"), vec![0; 128 * 1024 * 1024 + 1]);
    let failed = f.engine.publish_all([to("", "q", 3), large]).await.err().unwrap();
    assert!(matches!((failed.place, &failed.error), (1, BrokerError::Precondition(_))));
    assert_eq!(f.bodies("q").await, ["0", "3"]);
}

#[tokio::test]
async fn a_channel_numbers_them_and_returns_the_mandatory_ones_that_reached_nothing() {
    let f = Fixture::new();
    f.queue("q").await;
    let mut channel = f.engine.channel(None);
    channel.confirm_select();
    channel.publish(to("", "q", 0), false).unwrap();
    let batch = [
        (to("", "q", 1), true),
        (to("", "nowhere", 2), true),
        (to("", "nowhere", 3), false),
        (to("", "q", 4), false),
        (to("", "nowhere", 5), true),
    ];
    let published = channel.publish_all(batch).unwrap();
    assert_eq!(published.first_sequence, Some(2));
    let returned: Vec<(usize, String)> =
        published.returned.iter().map(|(place, message)| (*place, text(message))).collect();
    assert_eq!(returned, [(1, "2".to_owned()), (4, "5".to_owned())]);
    assert!(published.confirms.all().await.is_empty(), "an unroutable one is confirmed");
    let failed = channel.publish_all([(to("", "q", 6), true), (to("gone", "", 7), true)]);
    let failed = failed.err().unwrap();
    assert_eq!((failed.place, failed.published.first_sequence), (1, Some(7)));
    assert_eq!(channel.publish(to("", "q", 8), false).unwrap().sequence, Some(8));
    let mut forged = to("", "q", 9);
    forged.properties.reply_to = Some(leveret::broker::REPLY_TO.to_owned());
    let failed = channel.publish_all([(forged, false)]).err().unwrap();
    assert!(matches!(failed.error, BrokerError::Precondition(_)));
    assert_eq!(f.bodies("q").await, ["0", "1", "4", "6", "8"]);
}

#[tokio::test]
async fn a_priority_is_kept_also_from_those_that_come_with_it() {
    let f = Fixture::new();
    let mut spec = QueueSpec::durable(queue_name("q"));
    spec.priority_max = Some(5);
    f.declare(spec).await;
    let messages = [1, 5, 3, 5].into_iter().map(|priority| {
        let mut message = to("", "q", priority);
        message.properties.priority = Some(priority);
        message
    });
    let mut channel = f.engine.channel(None);
    channel.qos(1, false);
    channel.consume(&queue_name("q"), "c", ConsumeOptions::default()).unwrap();
    f.broker.publish_all(messages).await.unwrap();
    let Some(ChannelEvent::Deliver { delivery, .. }) = channel.try_next() else {
        panic!("a delivery was expected")
    };
    assert_eq!(text(delivery.message()), "1", "it came first, and somebody waited");
    assert_eq!(f.bodies("q").await, ["5", "5", "3"]);
}

#[tokio::test]
async fn what_reaches_no_queue_fills_no_memory_however_long_the_batch_is() {
    let f = Fixture::new();
    f.exchange("nowhere", ExchangeKind::Fanout).await;
    f.broker.set_memory_limit(100_000);
    let many = (0..MANY).map(|_| to("nowhere", "", "x".repeat(1_000)));
    let published = tokio::time::timeout(PATIENCE, f.broker.publish_all(many)).await;
    let published = published.expect("a batch waits for nothing that it holds itself").unwrap();
    assert_eq!(published.unrouted.len(), MANY);
}

#[tokio::test]
async fn under_the_memory_alarm_a_batch_waits_or_is_refused() {
    let f = Fixture::new();
    f.queue("q").await;
    f.broker.set_memory_limit(10_000);
    let large = Message::new(name(""), key("q"), vec![b'x'; 10_000]);
    f.broker.publish(large).await.unwrap().confirmed().await.unwrap();
    let two = || [transient("", "q", 1), to("", "q", 2)];
    let refused = f.engine.try_publish_all(two()).err().unwrap();
    assert!(matches!((refused.place, &refused.error), (0, BrokerError::Alarm(_))));
    let early = tokio::time::timeout(Duration::from_millis(20), f.engine.publish_all(two())).await;
    assert!(early.is_err(), "admitted under the alarm");
    let waiting = tokio::spawn({
        let engine = f.engine.clone();
        async move { engine.publish_all(two()).await.unwrap().confirms.all().await }
    });
    assert_eq!(f.take_all("q").await.len(), 1);
    let failed = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!((failed.len(), f.bodies("q").await), (0, vec!["1".to_owned(), "2".to_owned()]));
}

#[tokio::test]
async fn what_needs_no_journal_goes_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Box::new(FolderStore::open(folder.path()).unwrap());
    let journal = Journal::open(store, JournalOptions::default(), &mut |_, _, _| Ok(())).unwrap();
    let broker = Broker::new(journal.clone(), SystemClock::shared(), Recovery::default());
    broker.declare_queue(QueueSpec::durable(queue_name("q"))).unwrap().unwrap().await.unwrap();
    journal.close();
    let three = || [transient("", "q", 1), to("", "q", 2), transient("", "q", 3)];
    let failed = [broker.try_publish_all(three()), broker.publish_all(three()).await];
    for failed in failed.map(|failed| failed.err().unwrap()) {
        assert_eq!((failed.place, failed.error), (1, BrokerError::Journal(JournalError::Closed)));
        assert!(failed.published.confirms.all().await.is_empty());
    }
    assert_eq!(broker.queue(&queue_name("q")).unwrap().ready, 2);
}

#[tokio::test]
async fn a_user_publishes_only_where_it_may() {
    let f = Fixture::new();
    f.queue("q").await;
    f.exchange("open", ExchangeKind::Fanout).await;
    f.bind("q", "open", "").await;
    let user = UserName::new("u").unwrap();
    f.engine.set_user(&user, "pw").unwrap().await.unwrap();
    let [configure, write, read] = ["", "^open$", ""].map(str::to_owned);
    let given = Permissions { configure, write, read };
    f.engine.set_permissions(&user, given).unwrap().await.unwrap();
    let identity = f.engine.authenticate("u", "pw", true).unwrap();
    let connection = f.engine.connect_as(&identity, &VhostName::default_vhost()).unwrap();
    let three = || [to("open", "", 1), to("", "q", 2), to("open", "", 3)];
    let mut channel = connection.channel(None);
    let on_channel = channel.publish_all(three().map(|message| (message, false)));
    let failed = on_channel.err().unwrap();
    assert!(matches!((failed.place, &failed.error), (1, BrokerError::AccessRefused(_))));
    for failed in [connection.try_publish_all(three()), connection.publish_all(three()).await] {
        let failed = failed.err().unwrap();
        assert!(matches!((failed.place, &failed.error), (1, BrokerError::AccessRefused(_))));
    }
    assert_eq!(f.bodies("q").await, ["1", "1", "1"]);
}

#[tokio::test]
async fn an_internal_exchange_takes_none_of_them() {
    let f = Fixture::new();
    f.queue("q").await;
    let spec = ExchangeSpec::durable(name("inner"), ExchangeKind::Fanout).internal();
    f.broker.declare_exchange(spec).await.unwrap();
    let failed = f.engine.publish_all([to("", "q", 1), to("inner", "", 2)]).await.err().unwrap();
    assert!(matches!((failed.place, &failed.error), (1, BrokerError::AccessRefused(_))));
    assert_eq!(f.bodies("q").await, ["1"]);
}
