//! Messages of a higher priority are delivered first.

use leveret::model::message::Message;
use leveret::model::topology::{Overflow, QueueSpec};

use super::fixture::{key, name, queue_name};
use super::peer::{Peer, on_both};

async fn publish(f: &Peer, priorities: &[Option<u8>]) {
    for priority in priorities {
        let body = priority.map_or("none".to_owned(), |priority| priority.to_string());
        let mut message = Message::new(name(""), key("q"), body).persistent();
        message.properties.priority = *priority;
        assert_eq!(f.send(message).await, Ok(true));
    }
}

#[tokio::test]
pub async fn the_highest_is_delivered_first_and_the_oldest_among_equals() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).priorities(3)).await;
        publish(f, &[None, Some(0), Some(1), Some(2), Some(3), Some(9), Some(1)]).await;
        assert_eq!(f.take_all("q").await, ["3", "9", "2", "1", "1", "none", "0"]);
    })
    .await;
}

#[tokio::test]
async fn without_a_maximum_priority_the_order_is_that_of_publishing() {
    on_both(async |f| {
        f.queue("q").await;
        publish(f, &[Some(1), Some(9), Some(0)]).await;
        assert_eq!(f.take_all("q").await, ["1", "9", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_returned_message_finds_its_place_in_its_priority() {
    on_both(async |f| {
        f.declare(QueueSpec::durable(queue_name("q")).priorities(5)).await;
        publish(f, &[Some(1), Some(5)]).await;
        let high = f.get("q").await;
        let low = f.get("q").await;
        low.requeue().await;
        high.requeue().await;
        assert_eq!(f.take_all("q").await, ["5", "1"]);
    })
    .await;
}

#[tokio::test]
pub async fn a_full_queue_drops_from_where_it_delivers() {
    on_both(async |f| {
        let spec = QueueSpec::durable(queue_name("q")).priorities(3);
        f.declare(spec.length_max(2, Overflow::DropHead)).await;
        publish(f, &[Some(3), Some(1), Some(2), Some(0)]).await;
        assert_eq!(f.take_all("q").await, ["1", "0"]);
    })
    .await;
}
