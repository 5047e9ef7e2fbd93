//! A dead letter goes back to where it died, as it was, or mended; many do in a run that can be paced,
//! watched and cancelled; and looking changes nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use leveret::backend::{
    BackendError, Death, DeathFilter, DeleteIf, Edit, Run, RunState, Selection, Stuck,
};
use leveret::broker::BrokerError;
use leveret::model::message::{Headers, Message};
use leveret::model::topology::{ExchangeKind, Overflow, QueueSpec};

use super::fixture::{Fixture, dying_queue, key, name, next, queue_name, text};

async fn one_dead(f: &Fixture) -> String {
    f.exchange("events", ExchangeKind::Topic).await;
    f.exchange("dlx", ExchangeKind::Direct).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "failed").await;
    f.broker.declare_queue(dying_queue("q", "dlx", Some("failed"))).await.unwrap();
    f.bind("q", "events", "order.*").await;
    f.publish("events", "order.created", "broken").await;
    let mut consumer = f.consume("q", 1).await;
    next(&mut consumer).await.fail("no").await.unwrap();
    let peeked = f.broker.peek(&queue_name("dead"), 10).await.unwrap();
    assert_eq!(peeked.len(), 1);
    peeked[0].id.clone()
}

#[tokio::test]
async fn a_redriven_message_is_as_it_was_before_it_died() {
    let f = Fixture::new();
    let id = one_dead(&f).await;
    assert!(f.broker.redrive(&queue_name("dead"), &id, Edit::default()).await.unwrap().is_some());
    assert_eq!(f.depth("dead").await, (0, 0, 0));
    let mut consumer = f.consume("q", 1).await;
    let delivery = next(&mut consumer).await;
    let message: &Message = delivery.message();
    assert_eq!(
        (message.exchange.as_str(), message.routing_key.as_str()),
        ("events", "order.created")
    );
    assert_eq!(text(message), "broken");
    assert!(message.properties.headers.is_empty());
    assert!(message.properties.persistent);
    assert_eq!(delivery.retry_count(), 0);
}

#[tokio::test]
async fn a_redriven_message_can_be_mended() {
    let f = Fixture::new();
    let id = one_dead(&f).await;
    let edit = Edit { body: Some("mended".into()), ..Edit::default() };
    assert!(f.broker.redrive(&queue_name("dead"), &id, edit).await.unwrap().is_some());
    assert_eq!(f.bodies("q").await, ["mended"]);
}

#[tokio::test]
async fn an_unknown_id_redrives_nothing_and_a_living_message_is_refused() {
    let f = Fixture::new();
    let _id = one_dead(&f).await;
    for id in ["999999", "not a number"] {
        let none = f.broker.redrive(&queue_name("dead"), id, Edit::default()).await.unwrap();
        assert!(none.is_none());
    }
    f.broker
        .publish(Message::new(name(""), key("dead"), "alive").persistent())
        .await
        .unwrap()
        .confirmed()
        .await
        .unwrap();
    let peeked = f.broker.peek(&queue_name("dead"), 10).await.unwrap();
    let refused = f.broker.redrive(&queue_name("dead"), &peeked[1].id, Edit::default()).await;
    assert!(
        matches!(refused, Err(BackendError::Broker(BrokerError::NotRedrivable { .. }))),
        "{refused:?}"
    );
    assert_eq!(f.bodies("dead").await, ["broken", "alive"]);
}

/// A dead-letter queue `dead` for whatever dies in `a` and `b`.
async fn stand() -> Fixture {
    let f = Fixture::new();
    f.exchange("dlx", ExchangeKind::Fanout).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "").await;
    for queue in ["a", "b"] {
        f.declare(dying_queue(queue, "dlx", None)).await;
    }
    f
}

/// Publishes the bodies to `queue` and fails each with `error`.
async fn kill(f: &Fixture, queue: &str, error: &str, bodies: &[&str]) {
    for body in bodies {
        f.publish("", queue, body).await;
        let delivery = f.broker.get(&queue_name(queue)).await.unwrap().unwrap();
        delivery.fail(error).await.unwrap();
    }
}

fn all() -> Selection {
    Selection::Matching(DeathFilter::default())
}

fn with_error(part: &str) -> Selection {
    Selection::Matching(DeathFilter { error: Some(part.to_owned()), ..DeathFilter::default() })
}

async fn start(f: &Fixture, selection: Selection) -> Arc<Run> {
    f.broker.start_redrive(&queue_name("dead"), selection, None).await.unwrap()
}

async fn until(run: &Run, what: impl Fn(&Run) -> bool) {
    let seen = async {
        while !what(run) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_tells_its_death() {
    let f = stand().await;
    kill(&f, "a", "no stock", &["one"]).await;
    let peeked = f.broker.peek(&queue_name("dead"), 1).await.unwrap();
    let death = Death::newest(&peeked[0].message).unwrap();
    assert_eq!((death.queue, death.reason, death.count), ("a", "rejected", 1));
    assert_eq!((death.exchange, death.routing_key), ("", Some("a")));
    assert_eq!(death.error, Some("no stock"));
    assert!(death.at_s.is_some());
}

#[tokio::test]
async fn looking_changes_neither_order_nor_flags() {
    let f = stand().await;
    kill(&f, "a", "x", &["1", "2", "3"]).await;
    for _ in 0..2 {
        let first = f.broker.peek(&queue_name("dead"), 2).await.unwrap();
        let rest = f.broker.peek_after(&queue_name("dead"), &first[1].id, 10).await.unwrap();
        let seen: Vec<_> = first.iter().chain(&rest).map(|peeked| text(&peeked.message)).collect();
        assert_eq!(seen, ["1", "2", "3"]);
        f.broker.dead_letter_groups(&queue_name("dead")).await.unwrap();
    }
    let mut consumer = f.consume("dead", 0).await;
    for body in ["1", "2", "3"] {
        let delivery = next(&mut consumer).await;
        assert_eq!((text(delivery.message()).as_str(), delivery.redelivered()), (body, false));
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn dead_letters_are_grouped_by_what_killed_them() {
    let f = stand().await;
    kill(&f, "a", "no stock", &["1", "2"]).await;
    kill(&f, "b", "no stock", &["333"]).await;
    kill(&f, "a", "timeout", &["4", "5", "6"]).await;
    f.publish("", "dead", "alive").await;
    let found = f.broker.dead_letter_groups(&queue_name("dead")).await.unwrap();
    let groups: Vec<_> = found
        .groups
        .iter()
        .map(|g| (g.queue.as_str(), g.error.as_deref(), g.count, g.body_bytes))
        .collect();
    assert_eq!(
        groups,
        [
            ("a", Some("timeout"), 3, 3),
            ("a", Some("no stock"), 2, 2),
            ("b", Some("no stock"), 1, 3)
        ]
    );
    assert_eq!((found.alive, found.ungrouped, found.complete), (1, 0, true));
}

#[tokio::test]
async fn a_run_sends_all_back_in_order_each_to_where_it_died() {
    let f = stand().await;
    kill(&f, "a", "x", &["1", "2"]).await;
    kill(&f, "b", "x", &["3"]).await;
    kill(&f, "a", "x", &["4"]).await;
    let run = start(&f, all()).await;
    let progress = run.ended().await;
    assert_eq!((progress.state, progress.tally.moved), (RunState::Done, 4));
    assert_eq!(progress.tally.queues[&queue_name("a")], 3);
    assert_eq!(f.bodies("a").await, ["1", "2", "4"]);
    assert_eq!(f.bodies("b").await, ["3"]);
    assert_eq!(f.depth("dead").await, (0, 0, 0));
    let remembered = f.broker.redrive_run(&queue_name("dead")).unwrap();
    assert_eq!(remembered.progress().tally.moved, 4);
}

#[tokio::test]
async fn a_run_takes_only_what_is_meant() {
    let f = stand().await;
    kill(&f, "a", "no stock: hare", &["1"]).await;
    kill(&f, "a", "timeout", &["2"]).await;
    kill(&f, "b", "no stock: fox", &["3", "4"]).await;
    let tally = start(&f, with_error("no stock")).await.ended().await.tally;
    assert_eq!((tally.moved, tally.kept), (3, 0));
    assert_eq!(f.bodies("dead").await, ["2"]);

    kill(&f, "b", "timeout", &["5"]).await;
    let from_b = DeathFilter { queue: Some("b".to_owned()), ..DeathFilter::default() };
    start(&f, Selection::Matching(from_b)).await.ended().await;
    assert_eq!(f.bodies("dead").await, ["2"]);

    let id = f.broker.peek(&queue_name("dead"), 1).await.unwrap()[0].id.clone();
    let ids = vec!["7777".to_owned(), id, "no id".to_owned()];
    let tally = start(&f, Selection::Ids(ids)).await.ended().await.tally;
    assert_eq!((tally.moved, tally.missing), (1, 2));
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_where_and_changes_nothing() {
    let f = stand().await;
    kill(&f, "a", "x", &["1", "2"]).await;
    kill(&f, "b", "x", &["3"]).await;
    f.publish("", "dead", "alive").await;
    f.broker.delete_queue(&queue_name("b"), DeleteIf::default()).await.unwrap();
    for _ in 0..2 {
        let (tally, complete) = f.broker.plan_redrive(&queue_name("dead"), all()).await.unwrap();
        assert!(complete);
        assert_eq!((tally.moved, tally.kept), (2, 2));
        assert_eq!(tally.queues[&queue_name("a")], 2);
        assert_eq!(tally.stuck[&Stuck::QueueGone("b".to_owned())], 1);
        assert_eq!(tally.stuck[&Stuck::NotDead], 1);
    }
    assert_eq!(f.bodies("dead").await, ["1", "2", "3", "alive"]);
    assert_eq!(f.depth("a").await, (0, 0, 0));
}

#[tokio::test]
async fn a_message_whose_queue_is_gone_stays_with_the_reason() {
    let f = stand().await;
    kill(&f, "b", "x", &["1"]).await;
    kill(&f, "a", "x", &["2"]).await;
    f.broker.delete_queue(&queue_name("b"), DeleteIf::default()).await.unwrap();
    let id = f.broker.peek(&queue_name("dead"), 1).await.unwrap()[0].id.clone();
    let refused = f.broker.redrive(&queue_name("dead"), &id, Edit::default()).await;
    let reason = refused.unwrap_err().to_string();
    assert!(reason.contains("the queue 'b' that it died in is gone"), "{reason}");

    let progress = start(&f, all()).await.ended().await;
    assert_eq!(progress.state, RunState::Done);
    assert_eq!((progress.tally.moved, progress.tally.kept), (1, 1));
    assert_eq!(f.bodies("dead").await, ["1"]);
    let peeked = f.broker.peek(&queue_name("dead"), 1).await.unwrap();
    assert_eq!((peeked[0].id.as_str(), peeked[0].redelivered), (id.as_str(), false));
}

#[tokio::test]
async fn a_full_queue_is_never_flooded_and_a_run_waits_for_it() {
    for overflow in [Overflow::DropHead, Overflow::RejectPublish] {
        let f = Fixture::new();
        f.queue("dead").await;
        let mut spec = dying_queue("small", "", Some("dead"));
        spec.settings.length_max = Some(1);
        spec.settings.overflow = Some(overflow);
        f.declare(spec).await;
        kill(&f, "small", "x", &["1", "2"]).await;
        f.publish("", "small", "resident").await;

        let id = f.broker.peek(&queue_name("dead"), 1).await.unwrap()[0].id.clone();
        let refused = f.broker.redrive(&queue_name("dead"), &id, Edit::default()).await;
        assert!(refused.unwrap_err().to_string().contains("the queue 'small' is full"));
        assert_eq!(f.bodies("small").await, ["resident"]);

        let run = start(&f, all()).await;
        until(&run, |run| run.progress().waits_for.is_some()).await;
        assert_eq!(run.progress().waits_for.unwrap(), "the queue 'small' is full");
        let mut consumer = f.consume("small", 1).await;
        for body in ["resident", "1", "2"] {
            let delivery = next(&mut consumer).await;
            assert_eq!(text(delivery.message()), body);
            delivery.ack().await.unwrap();
        }
        assert_eq!(run.ended().await.state, RunState::Done);
        assert_eq!(f.depth("dead").await, (0, 0, 0));
    }
}

#[tokio::test]
async fn what_can_never_fit_stays_and_holds_nothing_up() {
    let f = Fixture::new();
    f.queue("dead").await;
    f.declare(dying_queue("q", "", Some("dead"))).await;
    kill(&f, "q", "x", &["a long body", "tiny"]).await;
    f.broker.delete_queue(&queue_name("q"), DeleteIf::default()).await.unwrap();
    let mut spec = QueueSpec::durable(queue_name("q"));
    spec.settings.length_bytes_max = Some(5);
    f.declare(spec).await;
    let progress = start(&f, all()).await.ended().await;
    assert_eq!(progress.tally.stuck[&Stuck::NeverFits("q".to_owned())], 1);
    assert_eq!(f.bodies("q").await, ["tiny"]);
    assert_eq!(f.bodies("dead").await, ["a long body"]);
}

#[tokio::test]
async fn a_message_that_dies_again_does_not_keep_the_run_going() {
    let f = stand().await;
    kill(&f, "a", "x", &["1", "2", "3"]).await;
    let mut consumer = f.consume("a", 0).await;
    let killer = tokio::spawn(async move {
        while let Some(delivery) = consumer.next().await {
            delivery.fail("again").await.unwrap();
        }
    });
    let progress = start(&f, all()).await.ended().await;
    assert_eq!((progress.state, progress.tally.moved), (RunState::Done, 3));
    killer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_pace() {
    if crate::PAGED {
        // Paused time runs on while a thread waits for the disk.
        return;
    }
    let f = stand().await;
    let bodies: Vec<String> = (0..21).map(|number| number.to_string()).collect();
    kill(&f, "a", "x", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let began = tokio::time::Instant::now();
    let rate = NonZeroU32::new(10);
    let run = f.broker.start_redrive(&queue_name("dead"), all(), rate).await.unwrap();
    tokio::time::sleep(Duration::from_millis(950)).await;
    let halfway = run.progress();
    assert_eq!((halfway.state, halfway.tally.moved), (RunState::Running, 10));
    assert_eq!(run.ended().await.tally.moved, 21);
    let took = began.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(2_050)).contains(&took), "{took:?}");
    assert_eq!(f.bodies("a").await, bodies);
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_cancelled_and_only_one_is_at_a_time() {
    let f = stand().await;
    kill(&f, "a", "x", &["1", "2", "3"]).await;
    let slow = NonZeroU32::new(1);
    let dead = queue_name("dead");
    let run = f.broker.start_redrive(&dead, all(), slow).await.unwrap();
    let second = f.broker.start_redrive(&dead, all(), slow).await;
    assert!(second.err().unwrap().to_string().contains("is being redriven already"));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    run.cancel();
    let progress = run.ended().await;
    assert_eq!((progress.state, progress.tally.moved), (RunState::Cancelled, 2));
    assert_eq!(f.bodies("dead").await, ["3"]);
    assert_eq!(start(&f, all()).await.ended().await.state, RunState::Done);
}

#[tokio::test]
async fn an_edit_changes_headers_and_a_new_key_routes_anew() {
    let f = stand().await;
    f.exchange("events", ExchangeKind::Direct).await;
    f.bind("a", "events", "wrong").await;
    f.queue("c").await;
    f.bind("c", "events", "right").await;
    f.publish("events", "wrong", "1").await;
    f.broker.get(&queue_name("a")).await.unwrap().unwrap().fail("wrong").await.unwrap();
    let dead = queue_name("dead");
    let peeked = f.broker.peek(&dead, 1).await.unwrap().remove(0);

    let nowhere = Edit { routing_key: Some(key("nowhere")), ..Edit::default() };
    let refused = f.broker.redrive(&dead, &peeked.id, nowhere).await;
    let reason = refused.unwrap_err().to_string();
    assert!(reason.contains("the exchange 'events' takes 'nowhere' to no queue"), "{reason}");

    // As a person would send them back: with what was shown of the death.
    let mut headers: Headers = peeked.message.properties.headers.clone();
    headers.set("tenant", "hare");
    let edit = Edit { headers: Some(headers), routing_key: Some(key("right")), body: None };
    let queues = f.broker.redrive(&dead, &peeked.id, edit).await.unwrap().unwrap();
    assert_eq!(queues, [queue_name("c")]);
    let message = f.broker.peek(&queue_name("c"), 1).await.unwrap().remove(0).message;
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("events", "right"));
    let headers: Vec<_> = message.properties.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(headers, ["tenant"]);
}

#[tokio::test]
async fn what_is_not_wanted_back_is_discarded_and_nothing_else() {
    let f = stand().await;
    kill(&f, "a", "spam", &["1", "2"]).await;
    kill(&f, "a", "no stock", &["3", "4"]).await;
    let dead = queue_name("dead");
    assert_eq!(f.broker.discard(&dead, with_error("spam")).await.unwrap(), 2);
    let id = f.broker.peek(&dead, 1).await.unwrap()[0].id.clone();
    let ids = Selection::Ids(vec![id.clone(), id, "none".to_owned()]);
    assert_eq!(f.broker.discard(&dead, ids).await.unwrap(), 1);
    assert_eq!(f.bodies("dead").await, ["4"]);
}

#[tokio::test]
async fn a_queue_counts_what_it_took_and_gave() {
    let f = stand().await;
    kill(&f, "a", "x", &["1"]).await;
    f.publish("", "a", "2").await;
    assert_eq!(f.take_all("a").await, ["2"]);
    let status = f.broker.queue(&queue_name("a")).await.unwrap();
    assert_eq!((status.published, status.delivered, status.acked), (2, 2, 1));
}

#[tokio::test]
async fn what_lies_behind_a_redriven_message_expires_in_time() {
    let (f, clock) = Fixture::frozen();
    let id = one_dead(&f).await;
    let mut short = Message::new(name(""), key("dead"), "short").persistent();
    short.properties.expiration_ms = Some(10);
    f.broker.publish(short).await.unwrap().confirmed().await.unwrap();
    let redriven = f.broker.redrive(&queue_name("dead"), &id, Edit::default()).await.unwrap();
    assert!(redriven.is_some());
    f.pass_ms(&clock, 11);
    assert_eq!(f.depth("dead").await, (0, 0, 0));
}
