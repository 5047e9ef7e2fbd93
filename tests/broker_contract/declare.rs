//! Declaring again is harmless, declaring otherwise is refused and names the property.

use leveret::backend::BackendError;
use leveret::broker::BrokerError;
use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};

use super::fixture::{Fixture, dying_queue, key, name, queue_name};

fn property(error: Option<BackendError>) -> &'static str {
    match error {
        Some(BackendError::Broker(BrokerError::Inequivalent { property, .. })) => property,
        other => panic!("expected an inequivalent declaration, got {other:?}"),
    }
}

#[tokio::test]
async fn the_same_declaration_twice_changes_nothing() {
    let f = Fixture::new();
    f.queue("q").await;
    f.publish("", "q", "1").await;
    f.queue("q").await;
    assert_eq!(f.bodies("q").await, ["1"]);
    f.exchange("x", ExchangeKind::Topic).await;
    f.exchange("x", ExchangeKind::Topic).await;
    f.bind("q", "x", "#").await;
    f.bind("q", "x", "#").await;
    f.publish("x", "k", "2").await;
    assert_eq!(f.bodies("q").await, ["1", "2"]);
}

#[tokio::test]
async fn another_declaration_under_the_same_name_names_what_differs() {
    let f = Fixture::new();
    f.queue("q").await;
    let transient = QueueSpec::transient(queue_name("q"));
    assert_eq!(property(f.broker.declare_queue(transient).await.err()), "durable");
    let short = QueueSpec::durable(queue_name("q")).message_ttl_ms(5);
    assert_eq!(property(f.broker.declare_queue(short).await.err()), "x-message-ttl");
    let dying = dying_queue("q", "dlx", None);
    assert_eq!(property(f.broker.declare_queue(dying).await.err()), "x-dead-letter-exchange");
    f.exchange("x", ExchangeKind::Topic).await;
    let fanout = ExchangeSpec::durable(name("x"), ExchangeKind::Fanout);
    assert_eq!(property(f.broker.declare_exchange(fanout).await.err()), "type");
}

#[tokio::test]
async fn reserved_names_and_the_default_exchange_are_refused() {
    let f = Fixture::new();
    f.queue("q").await;
    let refused = |error: Option<BackendError>| {
        matches!(error, Some(BackendError::Broker(BrokerError::AccessRefused(_))))
    };
    let own = |exchange: &str| ExchangeSpec::durable(name(exchange), ExchangeKind::Direct);
    assert!(refused(f.broker.declare_exchange(own("amq.mine")).await.err()));
    assert!(refused(f.broker.declare_exchange(own("")).await.err()));
    assert!(refused(f.broker.declare_queue(QueueSpec::durable(queue_name("amq.q"))).await.err()));
    assert!(refused(f.broker.bind(&queue_name("q"), &name(""), &key("q")).await.err()));
    assert!(f.broker.declare_exchange(own("amq.direct")).await.is_ok());
}

#[tokio::test]
async fn binding_and_consuming_what_is_not_there_is_refused() {
    let f = Fixture::new();
    f.queue("q").await;
    let missing = |error: Option<BackendError>| match error {
        Some(BackendError::Broker(BrokerError::NotFound { what, .. })) => what,
        other => panic!("expected not found, got {other:?}"),
    };
    assert_eq!(
        missing(f.broker.bind(&queue_name("q"), &name("x"), &key("k")).await.err()),
        "exchange"
    );
    assert_eq!(
        missing(f.broker.bind(&queue_name("r"), &name("amq.topic"), &key("k")).await.err()),
        "queue"
    );
    assert_eq!(missing(f.broker.consume(&queue_name("r"), 1).await.err()), "queue");
}
