//! Alternate exchanges, bindings between exchanges, and the keys that headers add.

use leveret::backend::DeleteIf;
use leveret::model::message::{Message, Value};
use leveret::model::topology::{Binding, ExchangeKind, ExchangeSpec};

use super::fixture::{key, name, queue_name, text, with_headers};
use super::peer::{Peer, on_both};

async fn chain(f: &Peer, from: &str, to: &str, routing_key: &str) {
    f.add_binding(Binding::exchange(name(from), name(to), key(routing_key))).await.unwrap();
}

#[tokio::test]
async fn what_matches_nothing_goes_to_the_alternate_exchange() {
    on_both(async |f| {
        f.exchange("rest", ExchangeKind::Fanout).await;
        f.queue("rest").await;
        f.bind("rest", "rest", "").await;
        let spec = ExchangeSpec::durable(name("x"), ExchangeKind::Direct).alternate(name("rest"));
        f.declare_exchange(spec).await.unwrap();
        f.queue("q").await;
        f.bind("q", "x", "k").await;
        f.publish("x", "k", "known").await;
        f.publish("x", "other", "unknown").await;
        f.shows("q", &["known"]).await;
        f.shows("rest", &["unknown"]).await;
        // It does so too for what another exchange passed on.
        f.exchange("front", ExchangeKind::Fanout).await;
        chain(f, "front", "x", "").await;
        f.publish("front", "other", "passed on").await;
        f.shows("rest", &["unknown", "passed on"]).await;
    })
    .await;
}

#[tokio::test]
pub async fn an_alternate_exchange_that_is_not_there_leads_nowhere_and_alternates_end() {
    on_both(async |f| {
        for (exchange, alternate) in [("a", "b"), ("b", "a"), ("c", "nowhere")] {
            let spec = ExchangeSpec::durable(name(exchange), ExchangeKind::Direct);
            f.declare_exchange(spec.alternate(name(alternate))).await.unwrap();
        }
        for exchange in ["a", "c"] {
            let message = Message::new(name(exchange), key("k"), "1");
            assert!(f.comes_back(message).await);
        }
    })
    .await;
}

#[tokio::test]
async fn exchanges_pass_messages_on_in_cycles_too_and_each_queue_gets_one() {
    on_both(async |f| {
        f.exchange("a", ExchangeKind::Fanout).await;
        f.exchange("b", ExchangeKind::Topic).await;
        f.exchange("c", ExchangeKind::Direct).await;
        chain(f, "a", "b", "").await;
        chain(f, "b", "c", "order.#").await;
        chain(f, "c", "a", "order.new").await;
        for queue in ["q", "r"] {
            f.queue(queue).await;
        }
        f.bind("q", "a", "").await;
        f.bind("q", "b", "#").await;
        f.bind("q", "c", "order.new").await;
        f.bind("r", "c", "order.new").await;
        f.publish("b", "order.new", "1").await;
        f.publish("a", "user.new", "2").await;
        f.shows("q", &["1", "2"]).await;
        f.shows("r", &["1"]).await;
        f.unbind(Binding::exchange(name("b"), name("c"), key("order.#"))).await.unwrap();
        f.publish("b", "order.new", "3").await;
        f.shows("r", &["1"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_internal_exchange_takes_messages_from_exchanges_alone() {
    on_both(async |f| {
        let spec = ExchangeSpec::durable(name("inner"), ExchangeKind::Fanout).internal();
        f.declare_exchange(spec).await.unwrap();
        f.queue("q").await;
        f.bind("q", "inner", "").await;
        f.exchange("outer", ExchangeKind::Fanout).await;
        chain(f, "outer", "inner", "").await;
        f.publish("outer", "", "1").await;
        f.shows("q", &["1"]).await;
        assert_eq!(
            f.send(Message::new(name("inner"), key(""), "2")).await.unwrap_err(),
            "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'"
        );
    })
    .await;
}

#[tokio::test]
pub async fn cc_and_bcc_add_keys_and_bcc_is_not_delivered() {
    on_both(async |f| {
        for queue in ["a", "b", "c"] {
            f.queue(queue).await;
        }
        let list = |keys: &[&str]| Value::List(keys.iter().map(|&key| Value::from(key)).collect());
        let headers = [("CC", list(&["b", "a"])), ("BCC", list(&["c"]))];
        let message = with_headers("", "a", "1", headers);
        assert_eq!(f.send(message).await, Ok(true));
        for queue in ["a", "b", "c"] {
            let delivery = f.get(queue).await;
            assert_eq!(text(delivery.message()), "1");
            let headers = &delivery.message().properties.headers;
            assert_eq!((headers.get("CC"), headers.get("BCC")), (Some(&list(&["b", "a"])), None));
            delivery.ack().await;
            f.holds(queue, (0, 0, 0)).await;
        }
        let strange = with_headers("", "a", "1", [("CC", Value::from("b"))]);
        assert_eq!(
            f.send(strange).await.unwrap_err(),
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
        );
    })
    .await;
}

/// A publisher that stays with one exchange and key is not stuck to where they led before.
#[tokio::test]
async fn who_publishes_the_same_way_again_and_again_follows_every_change() {
    on_both(async |f| {
        let thrice = async |exchange: &str, body: &str| {
            for _ in 0..3 {
                f.publish(exchange, "k", body).await;
            }
        };
        f.exchange("x", ExchangeKind::Direct).await;
        f.queue("q").await;
        f.queue("r").await;
        f.bind("q", "x", "k").await;
        thrice("x", "1").await;
        f.bind("r", "x", "k").await;
        thrice("x", "2").await;
        let binding = Binding::queue(name("x"), queue_name("q"), key("k"));
        f.unbind(binding).await.unwrap();
        thrice("x", "3").await;
        f.shows("q", &["1", "1", "1", "2", "2", "2"]).await;
        f.shows("r", &["2", "2", "2", "3", "3", "3"]).await;
        // A queue of the same name is another one.
        f.delete_queue("r", DeleteIf::default()).await.unwrap();
        assert!(f.comes_back(Message::new(name("x"), key("k"), "nowhere")).await);
        f.queue("r").await;
        f.bind("r", "x", "k").await;
        thrice("x", "4").await;
        // More keys, and none the next time.
        let more = Value::List(vec![Value::from("q")]);
        let message = with_headers("", "r", "5", [("CC", more)]);
        for _ in 0..3 {
            f.publish("", "r", "5").await;
            assert_eq!(f.send(message.clone()).await, Ok(true));
        }
        f.shows("r", &["4", "4", "4", "5", "5", "5", "5", "5", "5"]).await;
        f.shows("q", &["1", "1", "1", "2", "2", "2", "5", "5", "5"]).await;
        f.delete_exchange("x", false).await.unwrap();
        let gone = f.send(Message::new(name("x"), key("k"), "6")).await.unwrap_err();
        assert_eq!(gone, "NOT_FOUND - no exchange 'x' in vhost '/'");
    })
    .await;
}
