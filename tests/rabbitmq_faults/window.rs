//! How messages go out, and what they hold meanwhile.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;

use leveret::backend::Broker;
use leveret::model::names::QueueName;
use leveret::model::topology::QueueSpec;

use crate::{PATIENCE, connect, delete, next, server, text, to, unique};

async fn declared(broker: &Broker, what: &str) -> QueueName {
    let queue = unique(what);
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    queue
}

/// On one thread: while the test stands still no task of the port runs.
#[tokio::test]
async fn a_message_alone_is_handed_over_by_its_publisher() {
    let Some(url) = server() else { return };
    let broker = connect(&url).await.unwrap();
    let queue = declared(&broker, "alone").await;
    broker.publish(to(&queue, "first")).await.unwrap().confirmed().await.unwrap();
    let (arrived, arrives) = mpsc::channel();
    let (there, from) = (url.clone(), queue.clone());
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = connect(&there).await.unwrap();
            let mut consumer = broker.consume(&from, 100).await.unwrap();
            for _ in 0..2 {
                let delivery = next(&mut consumer).await;
                arrived.send(text(delivery.message())).unwrap();
                delivery.ack().await.unwrap();
            }
        });
    });
    assert_eq!(arrives.recv_timeout(PATIENCE).unwrap(), "first");
    let mut publishing = pin!(broker.publish(to(&queue, "alone")));
    let published = poll_fn(|context| Poll::Ready(publishing.as_mut().poll(context))).await;
    let Poll::Ready(confirm) = published else { panic!("it waits for somebody") };
    assert_eq!(arrives.recv_timeout(PATIENCE).unwrap(), "alone");
    confirm.unwrap().confirmed().await.unwrap();
    elsewhere.join().unwrap();
    delete(&broker, &[&queue]).await;
}

/// Confirms that nobody asks for give their shares of the window back when others need them.
#[tokio::test]
async fn more_than_the_window_goes_out_though_nobody_waits_for_confirms() {
    let Some(url) = server() else { return };
    let broker = connect(&url).await.unwrap();
    let queue = declared(&broker, "unasked").await;
    let large = "x".repeat(8 << 20);
    let mut confirms = Vec::new();
    let publish = |body: String| tokio::time::timeout(PATIENCE, broker.publish(to(&queue, body)));
    // 64 MiB is what the window holds.
    for _ in 0..9 {
        confirms.push(publish(large.clone()).await.expect("a share in time").unwrap());
    }
    broker.purge(&queue).await.unwrap();
    for number in 0..20_000 {
        let confirm = publish(number.to_string()).await.expect("a share in time").unwrap();
        if number % 2 == 0 {
            confirms.push(confirm);
        }
    }
    assert!(broker.try_publish(to(&queue, "more")).await.is_ok());
    for confirm in confirms {
        tokio::time::timeout(PATIENCE, confirm.confirmed()).await.expect("in time").unwrap();
    }
    delete(&broker, &[&queue]).await;
}

/// Whether a message goes out at once or through the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_publisher_stay_in_order_however_many_are_in_flight() {
    let Some(url) = server() else { return };
    let broker = connect(&url).await.unwrap();
    let queue = declared(&broker, "order").await;
    let mut confirms = Vec::new();
    for number in 0..3_000_u32 {
        confirms.push(broker.publish(to(&queue, number.to_string())).await.unwrap());
        if number.is_power_of_two() || number % 97 == 0 {
            for confirm in confirms.drain(..) {
                confirm.confirmed().await.unwrap();
            }
        }
    }
    for confirm in confirms {
        confirm.confirmed().await.unwrap();
    }
    let mut consumer = broker.consume(&queue, 100).await.unwrap();
    for number in 0..3_000_u32 {
        let delivery = next(&mut consumer).await;
        assert_eq!(text(delivery.message()), number.to_string());
        delivery.ack().await.unwrap();
    }
    delete(&broker, &[&queue]).await;
}
