//! What a channel settles, refuses to settle, and gives back.

use leveret::model::message::Message;
use leveret::model::topology::QueueSpec;

use super::channel_peer::{Delivered, PeerChannel, Refused};
use super::fixture::{key, name, queue_name};
use super::peer::{Peer, on_both};

fn unknown(tag: u64) -> Result<(), Refused> {
    let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    Err(Refused { code: 406, text, closes_connection: false })
}

/// A channel that was given so many of `q`.
async fn holder(f: &Peer, bodies: &[&str]) -> PeerChannel {
    f.queue("q").await;
    let mut channel = f.channel().await;
    channel.publish("q", bodies).await;
    channel.consume("q", "c").await;
    channel.brings(bodies).await;
    channel
}

#[tokio::test]
pub async fn acknowledging_is_single_or_up_to_a_tag_and_tag_zero_is_all() {
    on_both(async |f| {
        let mut channel = holder(f, &["1", "2", "3", "4", "5", "6"]).await;
        channel.ack(2, false).await.unwrap();
        channel.ack(4, true).await.unwrap();
        channel.nack(0, true, true).await.unwrap();
        channel.brings(&["5", "6"]).await;
        channel.ack(0, true).await.unwrap();
        // With nothing outstanding, all of it is no error.
        channel.ack(0, true).await.unwrap();
        channel.close().await;
        f.holds("q", (0, 0, 0)).await;
    })
    .await;
}

#[tokio::test]
pub async fn a_tag_that_is_not_outstanding_is_refused_and_settles_nothing() {
    type Settling = (u64, bool, Option<bool>);
    // What is settled before, then what is refused: a tag, whether all up to it, and whether a nack
    // requeues.
    let cases: [(&[u64], Settling); 8] = [
        (&[], (99, false, None)),
        (&[], (99, true, None)),
        (&[], (99, true, Some(true))),
        (&[], (99, false, Some(false))),
        (&[], (0, false, None)),
        (&[], (0, false, Some(true))),
        (&[2], (2, false, None)),
        (&[2], (2, true, None)),
    ];
    on_both(async |f| {
        for (before, (tag, multiple, nack)) in cases {
            let mut channel = holder(f, &["1", "2", "3"]).await;
            for &tag in before {
                channel.ack(tag, false).await.unwrap();
            }
            let outcome = match nack {
                None => channel.ack(tag, multiple).await,
                Some(requeue) => channel.nack(tag, multiple, requeue).await,
            };
            assert_eq!(outcome, unknown(tag), "{before:?} {multiple} {nack:?}");
            channel.close().await;
            let kept: &[&str] = if before.is_empty() { &["1", "2", "3"] } else { &["1", "3"] };
            f.shows("q", kept).await;
            assert_eq!(f.take_all("q").await, kept);
        }
    })
    .await;
}

#[tokio::test]
async fn a_nack_requeues_in_order_or_dead_letters() {
    on_both(async |f| {
        f.queue("dead").await;
        let spec = QueueSpec::durable(queue_name("q"));
        f.declare(spec.dead_letter(name(""), Some(key("dead")))).await;
        let mut channel = f.channel().await;
        channel.publish("q", &["1", "2", "3"]).await;
        channel.consume("q", "c").await;
        channel.brings(&["1", "2", "3"]).await;
        channel.nack(0, true, true).await.unwrap();
        let again = |(tag, body): (u64, &str)| Delivered {
            consumer_tag: "c".to_owned(),
            delivery_tag: tag,
            redelivered: true,
            body: body.to_owned(),
        };
        assert_eq!(channel.deliveries(3).await, [(4, "1"), (5, "2"), (6, "3")].map(again));
        channel.nack(5, true, false).await.unwrap();
        f.shows("dead", &["1", "2"]).await;
        channel.recover(true).await.unwrap();
        assert_eq!(channel.deliveries(1).await, [again((7, "3"))]);
        // Of two that go back one by one, the later one first, the earlier one leads again.
        channel.publish("q", &["4"]).await;
        channel.brings(&["4"]).await;
        channel.cancel("c").await;
        channel.nack(8, false, true).await.unwrap();
        channel.nack(7, false, true).await.unwrap();
        f.shows("q", &["3", "4"]).await;
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn recovering_to_the_same_consumer_is_not_there() {
    on_both(async |f| {
        let mut channel = holder(f, &["1"]).await;
        let text = "NOT_IMPLEMENTED - requeue=false".to_owned();
        let expected = Refused { code: 540, text, closes_connection: true };
        assert_eq!(channel.recover(false).await, Err(expected));
        channel.close().await;
        f.shows("q", &["1"]).await;
    })
    .await;
}

/// Also what basic.get took, and what one consumer of several held.
#[tokio::test]
async fn a_closed_channel_returns_everything_to_its_old_place() {
    on_both(async |f| {
        f.queue("q").await;
        f.queue("r").await;
        let mut channel = f.channel().await;
        channel.publish("q", &["1", "2", "3"]).await;
        channel.publish("r", &["4", "5"]).await;
        channel.qos(2, false).await;
        channel.consume("q", "c").await;
        channel.brings(&["1", "2"]).await;
        let (got, left) = channel.get("r", false).await.unwrap().unwrap();
        assert_eq!((&*got.body, got.delivery_tag, got.redelivered, left), ("4", 3, false, 1));
        channel.close().await;
        f.holds("q", (3, 0, 0)).await;
        f.holds("r", (2, 0, 0)).await;
        let mut channel = f.channel().await;
        for (queue, body, redelivered) in [
            ("q", "1", true),
            ("q", "2", true),
            ("q", "3", false),
            ("r", "4", true),
            ("r", "5", false),
        ] {
            let (got, _) = channel.get(queue, true).await.unwrap().unwrap();
            assert_eq!((&*got.body, got.redelivered), (body, redelivered));
        }
        assert_eq!(channel.get("q", true).await, Ok(None));
        channel.close().await;
    })
    .await;
}

/// A message in two queues, and ones in a single queue, between them.
#[tokio::test]
async fn settling_many_settles_each_in_its_own_queue() {
    on_both(async |f| {
        f.queue("q").await;
        f.queue("r").await;
        f.bind("q", "amq.fanout", "").await;
        f.bind("r", "amq.fanout", "").await;
        let mut channel = f.channel().await;
        channel.consume("q", "q").await;
        channel.consume("r", "r").await;
        for body in ["1", "2"] {
            channel.publish("q", &[body]).await;
            channel.brings(&[body]).await;
            channel.publish("r", &[body]).await;
            channel.brings(&[body]).await;
            let message = Message::new(name("amq.fanout"), key(""), format!("{body} twice"));
            channel.try_publish(message, false).await.unwrap();
            assert_eq!(channel.deliveries(2).await.len(), 2);
        }
        // 1 q, 2 r, 3 and 4 both, 5 q, 6 r, 7 and 8 both.
        channel.ack(4, true).await.unwrap();
        channel.nack(6, true, true).await.unwrap();
        let again = channel.deliveries(2).await;
        assert!(again.iter().all(|back| back.body == "2" && back.redelivered), "{again:?}");
        channel.nack(8, true, false).await.unwrap();
        channel.close().await;
        f.shows("q", &["2"]).await;
        f.shows("r", &["2"]).await;
    })
    .await;
}
