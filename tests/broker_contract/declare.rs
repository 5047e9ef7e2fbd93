//! Declaring again is harmless, declaring otherwise is refused and names the property.

use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};

use super::fixture::{dying_queue, name, queue_name};
use super::peer::on_both;

#[tokio::test]
async fn the_same_declaration_twice_changes_nothing() {
    on_both(async |f| {
        f.queue("q").await;
        f.publish("", "q", "1").await;
        f.queue("q").await;
        f.shows("q", &["1"]).await;
        f.exchange("x", ExchangeKind::Topic).await;
        f.exchange("x", ExchangeKind::Topic).await;
        f.bind("q", "x", "#").await;
        f.bind("q", "x", "#").await;
        f.publish("x", "k", "2").await;
        f.shows("q", &["1", "2"]).await;
    })
    .await;
}

#[tokio::test]
pub async fn another_declaration_under_the_same_name_names_what_differs() {
    on_both(async |f| {
        f.queue("q").await;
        let other = [
            (
                QueueSpec::transient(queue_name("q")),
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
                 received 'false' but current is 'true'",
            ),
            (
                QueueSpec::durable(queue_name("q")).message_ttl_ms(5),
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': \
                 received the value '5' of type 'signedint' but current is none",
            ),
            (
                dying_queue("q", "dlx", None),
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in \
                 vhost '/': received the value 'dlx' of type 'longstr' but current is none",
            ),
        ];
        for (spec, refusal) in other {
            assert_eq!(f.try_declare(spec).await.unwrap_err(), refusal);
        }
        f.exchange("x", ExchangeKind::Topic).await;
        let fanout = ExchangeSpec::durable(name("x"), ExchangeKind::Fanout);
        assert_eq!(
            f.declare_exchange(fanout).await.unwrap_err(),
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': received \
             'fanout' but current is 'topic'"
        );
    })
    .await;
}

#[tokio::test]
pub async fn reserved_names_and_the_default_exchange_are_refused() {
    on_both(async |f| {
        f.queue("q").await;
        let own = |exchange: &str| ExchangeSpec::durable(name(exchange), ExchangeKind::Direct);
        let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
        assert_eq!(
            f.declare_exchange(own("amq.mine")).await.unwrap_err(),
            "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
        );
        assert_eq!(f.declare_exchange(own("")).await.unwrap_err(), default);
        assert_eq!(
            f.try_declare(QueueSpec::durable(queue_name("amq.q"))).await.unwrap_err(),
            "ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'"
        );
        assert_eq!(f.try_bind("q", "", "q").await.unwrap_err(), default);
        assert!(f.declare_exchange(own("amq.direct")).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn binding_and_consuming_what_is_not_there_is_refused() {
    on_both(async |f| {
        f.queue("q").await;
        let no_queue = "NOT_FOUND - no queue 'r' in vhost '/'";
        assert_eq!(
            f.try_bind("q", "x", "k").await.unwrap_err(),
            "NOT_FOUND - no exchange 'x' in vhost '/'"
        );
        assert_eq!(f.try_bind("r", "amq.topic", "k").await.unwrap_err(), no_queue);
        let consumer = f.try_consume("r", Default::default()).await;
        assert_eq!(consumer.map(|_| ()).unwrap_err(), no_queue);
    })
    .await;
}
