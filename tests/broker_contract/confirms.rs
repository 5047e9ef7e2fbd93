//! A confirm comes for every message, and pipelined ones all resolve.

use leveret::model::message::Message;

use super::fixture::{Fixture, key, name, refusal};
use super::peer::on_both;

#[tokio::test]
async fn many_publishes_in_flight_are_all_confirmed() {
    on_both(async |f| {
        f.queue("q").await;
        let mut confirms = Vec::new();
        for number in 0..1_000 {
            let message = Message::new(name(""), key("q"), number.to_string()).persistent();
            confirms.push(f.post(message).await);
        }
        for confirm in confirms {
            confirm.confirmed().await;
        }
        f.holds("q", (1_000, 0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_delivery_may_precede_the_confirm() {
    on_both(async |f| {
        f.queue("q").await;
        let mut consumer = f.consume("q", 1).await;
        let message = Message::new(name(""), key("q"), "1").persistent();
        let confirm = f.post(message).await;
        consumer.next().await.ack().await;
        confirm.confirmed().await;
    })
    .await;
}

#[tokio::test]
async fn a_body_over_128_mib_is_refused() {
    let f = Fixture::new();
    f.queue("q").await;
    let body = vec![0; 128 * 1024 * 1024 + 1];
    let published = f.broker.try_publish(Message::new(name(""), key("q"), body)).await;
    let text = "message size 134217729 is larger than configured max size 134217728";
    assert_eq!(refusal(published), format!("PRECONDITION_FAILED - {text}"));
}
