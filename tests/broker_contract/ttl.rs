//! Messages expire at the head of the queue, by the lower of the two times to live.

use leveret::model::message::Message;
use leveret::model::topology::{ExchangeKind, Overflow, QueueSpec};

use super::fixture::{Fixture, dying_queue, key, name, queue_name, text};
use super::peer::{Peer, on_both};

async fn with_dead_letters(f: &Peer, message_ttl_ms: Option<u64>) {
    f.exchange("dlx", ExchangeKind::Fanout).await;
    f.queue("dead").await;
    f.bind("dead", "dlx", "").await;
    let mut spec = dying_queue("q", "dlx", None);
    spec.settings.message_ttl_ms = message_ttl_ms;
    f.declare(spec).await;
}

async fn publish_with_expiration(f: &Peer, body: &str, expiration_ms: u64) {
    let mut message = Message::new(name(""), key("q"), body.to_owned()).persistent();
    message.properties.expiration_ms = Some(expiration_ms);
    assert_eq!(f.send(message).await, Ok(true));
}

#[tokio::test]
pub async fn a_queue_ttl_expires_messages_into_the_dead_letter_exchange() {
    on_both(async |f| {
        with_dead_letters(f, Some(30)).await;
        f.publish("", "q", "1").await;
        let mut dead = f.consume("dead", 1).await;
        let delivery = dead.next().await;
        assert_eq!(text(delivery.message()), "1");
        let headers = &delivery.message().properties.headers;
        assert_eq!(
            headers.get("x-first-death-reason").and_then(|value| value.as_text()),
            Some("expired")
        );
        f.holds("q", (0, 0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn the_lower_of_message_and_queue_ttl_wins_and_the_expiration_is_removed() {
    on_both(async |f| {
        with_dead_letters(f, Some(3_600_000)).await;
        publish_with_expiration(f, "1", 20).await;
        let mut dead = f.consume("dead", 1).await;
        let delivery = dead.next().await;
        assert_eq!(delivery.message().properties.expiration_ms, None);
    })
    .await;
}

#[tokio::test]
async fn a_message_expires_only_when_it_is_at_the_head() {
    on_both(async |f| {
        with_dead_letters(f, None).await;
        f.publish("", "q", "stays").await;
        publish_with_expiration(f, "goes", 1).await;
        let mut consumer = f.consume("q", 1).await;
        let head = consumer.next().await;
        assert_eq!(text(head.message()), "stays");
        let mut dead = f.consume("dead", 1).await;
        assert_eq!(text(dead.next().await.message()), "goes");
    })
    .await;
}

#[tokio::test]
async fn ttl_zero_is_delivered_at_once_or_expires() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("now")).message_ttl_ms(0)).await;
        f.publish("", "now", "lost").await;
        let mut consumer = f.consume("now", 5).await;
        f.publish("", "now", "taken").await;
        assert_eq!(text(consumer.next().await.message()), "taken");
    })
    .await;
}

/// Publishers that fill it, each beside the others.
#[tokio::test]
async fn a_full_queue_keeps_its_length_whoever_fills_it() {
    const PUBLISHERS: usize = 4;
    let f = Fixture::new();
    f.queue("dead").await;
    let spec = dying_queue("short", "", Some("dead")).length_max(10, Overflow::DropHead);
    f.declare(spec).await;
    std::thread::scope(|scope| {
        for _ in 0..PUBLISHERS {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let message = Message::new(name(""), key("short"), b"x".to_vec());
                    drop(f.engine.try_publish(message).unwrap());
                    let ready = f.engine.queue_status(&queue_name("short")).unwrap().ready;
                    assert!(ready <= 10 + PUBLISHERS, "{ready}");
                }
            });
        }
    });
    assert_eq!(f.depth("short").await.0, 10);
    assert_eq!(f.depth("dead").await.0, PUBLISHERS * 5_000 - 10);
}

/// Of one rejection, so many bytes that they are more than a step.
#[tokio::test]
async fn what_is_rejected_at_once_keeps_its_order_whoever_goes_on_with_it() {
    const COUNT: u32 = 1_000;
    let f = Fixture::new();
    f.queue("dead").await;
    f.declare(dying_queue("q", "", Some("dead"))).await;
    let body = |number: u32| [&number.to_le_bytes()[..], &[7; 10_000]].concat();
    let mut channel = f.engine.channel(None);
    for _round in 0..5 {
        let mut last = 0;
        for number in 0..COUNT {
            let message = Message::new(name(""), key("q"), body(number));
            drop(f.engine.try_publish(message).unwrap());
            last = channel.get(&queue_name("q"), false).unwrap().unwrap().0.delivery_tag;
        }
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    f.engine.tick();
                }
            });
            channel.nack(last, true, false).unwrap();
            while f.engine.queue_status(&queue_name("dead")).unwrap().ready < COUNT as usize {
                std::thread::yield_now();
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        for number in 0..COUNT {
            let letter = f.broker.get(&queue_name("dead")).await.unwrap().unwrap();
            assert!(letter.message().body[..] == body(number), "{number}");
            letter.ack().await.unwrap();
        }
    }
}

/// A queue that delays: whoever finds out that a message has expired, the letters keep the order.
#[tokio::test]
async fn dead_letters_keep_the_order_whoever_buries() {
    const COUNT: u32 = 20_000;
    let f = Fixture::new();
    f.queue("dead").await;
    f.declare(dying_queue("waiting", "", Some("dead")).message_ttl_ms(1)).await;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    f.engine.tick();
                }
            });
        }
        for number in 0..COUNT {
            let message = Message::new(name(""), key("waiting"), number.to_le_bytes().to_vec());
            drop(f.engine.try_publish(message).unwrap());
        }
        while f.engine.queue_status(&queue_name("dead")).unwrap().ready < COUNT as usize {
            std::thread::yield_now();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for number in 0..COUNT {
        let letter = f.broker.get(&queue_name("dead")).await.unwrap().unwrap();
        assert_eq!(letter.message().body[..], number.to_le_bytes());
        letter.ack().await.unwrap();
    }
}
