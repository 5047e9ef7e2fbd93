//! When exchanges go, and with what words they are refused.

use leveret::model::topology::{Binding, ExchangeKind, ExchangeSpec};

use super::fixture::{key, name, queue_name};
use super::peer::{Peer, on_both};

async fn auto_delete(f: &Peer, exchange: &str) {
    let spec = ExchangeSpec::durable(name(exchange), ExchangeKind::Fanout).auto_delete();
    f.declare_exchange(spec).await.unwrap();
}

/// The real server does not list its bindings through AMQP.
fn assert_no_bindings(f: &Peer) {
    if let Peer::Embedded(f) = f {
        assert!(f.engine.bindings().is_empty());
    }
}

#[tokio::test]
async fn an_auto_delete_exchange_goes_with_its_last_binding_and_never_before_the_first() {
    on_both(async |f| {
        auto_delete(f, "x").await;
        f.exchange("y", ExchangeKind::Fanout).await;
        for queue in ["a", "b"] {
            f.queue(queue).await;
        }
        // Being bound to is no use of its own.
        let to_it = Binding::exchange(name("y"), name("x"), key(""));
        f.add_binding(to_it.clone()).await.unwrap();
        f.unbind(to_it).await.unwrap();
        assert!(f.has_exchange("x").await);
        f.bind("a", "x", "").await;
        f.bind("b", "x", "").await;
        f.unbind(Binding::queue(name("x"), queue_name("a"), key(""))).await.unwrap();
        assert!(f.has_exchange("x").await);
        f.delete_queue("b", Default::default()).await.unwrap();
        assert!(!f.has_exchange("x").await);
    })
    .await;
}

#[tokio::test]
async fn a_chain_of_auto_delete_exchanges_goes_from_its_end() {
    on_both(async |f| {
        for exchange in ["a", "b", "c"] {
            auto_delete(f, exchange).await;
        }
        f.queue("q").await;
        for (from, to) in [("a", "b"), ("b", "c")] {
            let binding = Binding::exchange(name(from), name(to), key(""));
            f.add_binding(binding).await.unwrap();
        }
        f.bind("q", "c", "").await;
        f.delete_queue("q", Default::default()).await.unwrap();
        for exchange in ["a", "b", "c"] {
            assert!(!f.has_exchange(exchange).await);
        }
        assert_no_bindings(f);
    })
    .await;
}

#[tokio::test]
async fn deleting_takes_the_bindings_along_and_if_unused_asks_first() {
    on_both(async |f| {
        f.exchange("x", ExchangeKind::Fanout).await;
        f.exchange("y", ExchangeKind::Fanout).await;
        f.queue("q").await;
        f.bind("q", "x", "").await;
        f.add_binding(Binding::exchange(name("y"), name("x"), key(""))).await.unwrap();
        assert_eq!(
            f.delete_exchange("x", true).await.unwrap_err(),
            "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use"
        );
        f.delete_exchange("x", false).await.unwrap();
        assert_no_bindings(f);
        // Being bound to is no use, and one that is gone is no error.
        f.delete_exchange("y", true).await.unwrap();
        f.delete_exchange("y", true).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn system_exchanges_stay() {
    on_both(async |f| {
        assert_eq!(
            f.delete_exchange("amq.direct", false).await.unwrap_err(),
            "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
        );
        assert_eq!(
            f.delete_exchange("", false).await.unwrap_err(),
            "ACCESS_REFUSED - operation not permitted on the default exchange"
        );
        for exchange in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"] {
            assert!(f.has_exchange(exchange).await);
        }
    })
    .await;
}
