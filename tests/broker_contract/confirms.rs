//! A confirm comes for every message, and pipelined ones all resolve.

use leveret::model::message::Message;

use super::fixture::{key, name};
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
