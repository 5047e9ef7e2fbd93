//! Vhosts keep names apart.

use leveret::broker::BrokerError;
use leveret::model::message::Message;
use leveret::model::names::VhostName;
use leveret::model::topology::{Policy, QueueSettings, QueueSpec};

use super::fixture::{Fixture, key, name, queue_name};

#[tokio::test]
async fn the_same_name_in_two_vhosts_is_two_queues() {
    let f = Fixture::new();
    f.queue("q").await;
    let tenant = VhostName::new("tenant").unwrap();
    assert!(matches!(f.engine.in_vhost(&tenant), Err(BrokerError::NoVhost(_))));
    f.engine.create_vhost(&tenant);
    let other = f.engine.in_vhost(&tenant).unwrap();
    let missing = other.queue_status(&queue_name("q")).unwrap_err();
    assert_eq!(missing.reply_text(), "NOT_FOUND - no queue 'q' in vhost 'tenant'");
    let short = QueueSettings { length_max: Some(1), ..QueueSettings::default() };
    let policy = Policy { name: "short".into(), queue: short, ..Policy::default() };
    other.set_policy(policy).unwrap().await.unwrap();
    // Dead letters stay in their vhost too.
    let dead = |spec: QueueSpec| spec.dead_letter(name(""), Some(key("dead")));
    for queue in ["q", "dead"] {
        other.declare_queue(dead(QueueSpec::durable(queue_name(queue)))).unwrap();
    }
    f.queue("dead").await;
    for body in ["1", "2"] {
        other.try_publish(Message::new(name(""), key("q"), body)).unwrap();
    }
    assert_eq!(other.queue_status(&queue_name("q")).unwrap().ready, 1);
    assert_eq!(other.queue_status(&queue_name("dead")).unwrap().ready, 1);
    assert_eq!((f.depth("q").await.0, f.depth("dead").await.0), (0, 0));
}

#[tokio::test]
async fn deleting_a_vhost_ends_everything_in_it_and_the_default_one_stays() {
    let f = Fixture::new();
    let tenant = VhostName::new("tenant").unwrap();
    f.engine.create_vhost(&tenant);
    let other = f.engine.in_vhost(&tenant).unwrap();
    other.declare_queue(QueueSpec::durable(queue_name("q"))).unwrap();
    let mut consumer = other.consume(&queue_name("q"), Default::default()).unwrap();
    f.engine.delete_vhost(&tenant).unwrap();
    assert!(consumer.next().await.is_none());
    assert_eq!(f.engine.vhosts(), [VhostName::default_vhost()]);
    assert!(f.engine.delete_vhost(&VhostName::default_vhost()).is_err());
}
