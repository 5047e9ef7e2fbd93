//! Messages of a higher priority are delivered first.

use leveret::model::message::Message;
use leveret::model::topology::{Overflow, QueueSpec};

use super::fixture::{Fixture, key, name, queue_name};

async fn publish(f: &Fixture, priorities: &[Option<u8>]) {
    for priority in priorities {
        let body = priority.map_or("none".to_owned(), |priority| priority.to_string());
        let mut message = Message::new(name(""), key("q"), body).persistent();
        message.properties.priority = *priority;
        f.broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }
}

#[tokio::test]
async fn the_highest_is_delivered_first_and_the_oldest_among_equals() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).priorities(3)).await;
    publish(&f, &[None, Some(0), Some(1), Some(2), Some(3), Some(9), Some(1)]).await;
    assert_eq!(f.take_all("q").await, ["3", "9", "2", "1", "1", "none", "0"]);
}

#[tokio::test]
async fn without_a_maximum_priority_the_order_is_that_of_publishing() {
    let f = Fixture::new();
    f.queue("q").await;
    publish(&f, &[Some(1), Some(9), Some(0)]).await;
    assert_eq!(f.take_all("q").await, ["1", "9", "0"]);
}

#[tokio::test]
async fn a_returned_message_finds_its_place_in_its_priority() {
    let f = Fixture::new();
    f.declare(QueueSpec::durable(queue_name("q")).priorities(5)).await;
    publish(&f, &[Some(1), Some(5)]).await;
    let high = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    let low = f.broker.get(&queue_name("q")).await.unwrap().unwrap();
    low.requeue().await.unwrap();
    high.requeue().await.unwrap();
    assert_eq!(f.take_all("q").await, ["5", "1"]);
}

#[tokio::test]
async fn a_full_queue_drops_from_where_it_delivers() {
    let f = Fixture::new();
    let spec = QueueSpec::durable(queue_name("q")).priorities(3);
    f.declare(spec.length_max(2, Overflow::DropHead)).await;
    publish(&f, &[Some(3), Some(1), Some(2), Some(0)]).await;
    assert_eq!(f.take_all("q").await, ["1", "0"]);
}
