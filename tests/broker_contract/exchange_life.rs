//! When exchanges go, and with what words they are refused.

use leveret::model::topology::{Binding, ExchangeKind, ExchangeSpec};

use super::fixture::{Fixture, key, name, queue_name, refusal};

async fn auto_delete(f: &Fixture, exchange: &str) {
    let spec = ExchangeSpec::durable(name(exchange), ExchangeKind::Fanout).auto_delete();
    f.broker.declare_exchange(spec).await.unwrap();
}

fn is_there(f: &Fixture, exchange: &str) -> bool {
    f.engine.exchange(&name(exchange)).is_ok()
}

#[tokio::test]
async fn an_auto_delete_exchange_goes_with_its_last_binding_and_never_before_the_first() {
    let f = Fixture::new();
    auto_delete(&f, "x").await;
    f.exchange("y", ExchangeKind::Fanout).await;
    for queue in ["a", "b"] {
        f.queue(queue).await;
    }
    // Being bound to is no use of its own.
    let to_it = Binding::exchange(name("y"), name("x"), key(""));
    f.broker.add_binding(to_it.clone()).await.unwrap();
    f.broker.unbind(to_it).await.unwrap();
    assert!(is_there(&f, "x"));
    f.bind("a", "x", "").await;
    f.bind("b", "x", "").await;
    f.broker.unbind(Binding::queue(name("x"), queue_name("a"), key(""))).await.unwrap();
    assert!(is_there(&f, "x"));
    f.broker.delete_queue(&queue_name("b"), Default::default()).await.unwrap();
    assert!(!is_there(&f, "x"));
}

#[tokio::test]
async fn a_chain_of_auto_delete_exchanges_goes_from_its_end() {
    let f = Fixture::new();
    for exchange in ["a", "b", "c"] {
        auto_delete(&f, exchange).await;
    }
    f.queue("q").await;
    for (from, to) in [("a", "b"), ("b", "c")] {
        let binding = Binding::exchange(name(from), name(to), key(""));
        f.broker.add_binding(binding).await.unwrap();
    }
    f.bind("q", "c", "").await;
    f.broker.delete_queue(&queue_name("q"), Default::default()).await.unwrap();
    assert!(!["a", "b", "c"].iter().any(|exchange| is_there(&f, exchange)));
    assert!(f.engine.bindings().is_empty());
}

#[tokio::test]
async fn deleting_takes_the_bindings_along_and_if_unused_asks_first() {
    let f = Fixture::new();
    f.exchange("x", ExchangeKind::Fanout).await;
    f.exchange("y", ExchangeKind::Fanout).await;
    f.queue("q").await;
    f.bind("q", "x", "").await;
    f.broker.add_binding(Binding::exchange(name("y"), name("x"), key(""))).await.unwrap();
    assert_eq!(
        refusal(f.broker.delete_exchange(&name("x"), true).await),
        "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use"
    );
    f.broker.delete_exchange(&name("x"), false).await.unwrap();
    assert!(f.engine.bindings().is_empty());
    // Being bound to is no use, and one that is gone is no error.
    f.broker.delete_exchange(&name("y"), true).await.unwrap();
    f.broker.delete_exchange(&name("y"), true).await.unwrap();
}

#[tokio::test]
async fn system_exchanges_stay() {
    let f = Fixture::new();
    assert_eq!(
        refusal(f.broker.delete_exchange(&name("amq.direct"), false).await),
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    assert_eq!(
        refusal(f.broker.delete_exchange(&name(""), false).await),
        "ACCESS_REFUSED - operation not permitted on the default exchange"
    );
    for exchange in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"] {
        assert!(is_there(&f, exchange));
    }
}
