//! Policies under /api/v1: they hold at once, are kept over a restart, and what is wrong in one is named.

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use leveret::backend::{Broker, Embedded};
use leveret::gateway::{Authenticator, Gateway, GatewayOptions};
use leveret::http::{Access, Api, ApiKey};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;
use serde_json::{Value, json};
use tower::ServiceExt;

const KEY: &str = "open-sesame";

fn api(engines: &Embedded) -> (Router, Broker) {
    let broker = engines.broker();
    let access = Access::Key(ApiKey::new(KEY).unwrap());
    let options = GatewayOptions::new(Authenticator::new(b"for tests alone, and long enough"));
    let gateway = Gateway::new(options, engines.cache(), SystemClock::shared());
    (Api::new(broker.clone(), gateway, access).router(), broker)
}

async fn send(router: &Router, request: Request<Body>) -> (u16, Value) {
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn call(router: &Router, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1/policies{path}"))
        .header("x-api-key", KEY)
        .header("content-type", "application/json");
    let body = body.map(|body| Body::from(body.to_string())).unwrap_or_default();
    send(router, request.body(body).unwrap()).await
}

async fn get(router: &Router, path: &str) -> (u16, Value) {
    call(router, Method::GET, path, None).await
}

async fn put(router: &Router, path: &str, body: Value) -> (u16, Value) {
    call(router, Method::PUT, path, Some(body)).await
}

fn everything() -> Value {
    json!({
        "name": "all of it",
        "pattern": "^orders",
        "priority": -3,
        "apply-to": "queues",
        "definition": {
            "message-ttl": 60_000,
            "expires": 3_600_000,
            "max-length": 1_000,
            "max-length-bytes": 1_000_000,
            "overflow": "reject-publish-dlx",
            "dead-letter-exchange": "",
            "dead-letter-routing-key": "orders.failed",
            "delivery-limit": 5,
            "consumer-timeout": 30_000,
            "alternate-exchange": "amq.fanout",
            "retry": {
                "max-attempts": 4,
                "backoff": "exponential",
                "delay": 2_000,
                "max-delay": 30_000,
                "jitter": 0.25,
            },
        },
    })
}

#[tokio::test]
async fn a_policy_holds_at_once_and_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let engines = Embedded::open(folder.path()).unwrap();
    let (router, broker) = api(&engines);
    let queue = QueueName::new("orders").unwrap();
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let publish = async |broker: &Broker| {
        let (exchange, key) = (ExchangeName::new("").unwrap(), RoutingKey::new("orders").unwrap());
        let message = Message::new(exchange, key, "1").persistent();
        broker.publish(message).await.unwrap().confirmed().await.is_ok()
    };
    let short = json!({
        "pattern": "^orders$",
        "definition": { "max-length": 1, "overflow": "reject-publish" },
    });
    let (status, set) = put(&router, "/short", short).await;
    let shown = json!({
        "name": "short", "pattern": "^orders$", "priority": 0, "apply-to": "all",
        "definition": { "max-length": 1, "overflow": "reject-publish" },
    });
    assert_eq!((status, &set), (200, &shown));
    assert!(publish(&broker).await);
    assert!(!publish(&broker).await, "the queue is full");
    drop((router, broker));
    engines.close().await.unwrap();

    let engines = Embedded::open(folder.path()).unwrap();
    let (router, broker) = api(&engines);
    assert_eq!(get(&router, "/short").await, (200, shown.clone()));
    assert!(!publish(&broker).await, "it is full after a restart too");
    assert_eq!(call(&router, Method::DELETE, "/short", None).await, (200, shown));
    assert!(publish(&broker).await);
    let (status, gone) = call(&router, Method::DELETE, "/short", None).await;
    assert_eq!((status, &gone["error"]), (404, &json!("no policy 'short'")));
    assert_eq!(get(&router, "/short").await.0, 404);
    drop((router, broker));
    engines.close().await.unwrap();
}

/// What is shown can be put again.
#[tokio::test]
async fn every_member_comes_back_as_it_was_given() {
    let engines = Embedded::in_memory(leveret::model::clock::SystemClock::shared());
    let (router, _broker) = api(&engines);
    assert_eq!(get(&router, "").await, (200, json!({ "policies": [] })));
    assert_eq!(put(&router, "/all%20of%20it", everything()).await, (200, everything()));
    let (status, document) = get(&router, "/all%20of%20it").await;
    assert_eq!((status, &document), (200, &everything()));
    assert_eq!(put(&router, "/all%20of%20it", document).await.0, 200);
    for (name, retry) in [
        ("linear", json!({ "backoff": "linear", "delay": 100, "max-delay": 450 })),
        ("fixed", json!({ "backoff": "fixed", "delay": 100 })),
    ] {
        let mut retry = retry;
        retry["max-attempts"] = 2.into();
        retry["jitter"] = 0.0.into();
        let form = json!({ "pattern": "", "priority": 7, "definition": { "retry": retry } });
        let (status, shown) = put(&router, &format!("/{name}"), form.clone()).await;
        assert_eq!((status, &shown["definition"]), (200, &form["definition"]));
    }
    let (_, all) = get(&router, "").await;
    let names: Vec<&str> = all["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[2], "all of it");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let engines = Embedded::in_memory(leveret::model::clock::SystemClock::shared());
    let (router, _broker) = api(&engines);
    let long = "n".repeat(256);
    let cases: [(&str, Value, &str); 17] = [
        ("/name", json!("other"), "name"),
        ("/pattern", json!("("), "pattern"),
        ("/priority", json!("high"), "priority"),
        ("/apply-to", json!("users"), "apply-to"),
        ("/definition/message-ttl", json!(-1), "definition.message-ttl"),
        ("/definition/message-ttl", json!(400_000_000_000_u64), "definition.message-ttl"),
        ("/definition/expires", json!(0), "definition.expires"),
        ("/definition/overflow", json!("drop-tail"), "definition.overflow"),
        ("/definition/dead-letter-exchange", json!(long), "definition.dead-letter-exchange"),
        ("/definition/dead-letter-exchange", json!(null), "definition.dead-letter-routing-key"),
        ("/definition/alternate-exchange", json!(long), "definition.alternate-exchange"),
        ("/definition/ha-mode", json!("all"), "definition.ha-mode"),
        ("/definition/retry/max-attempts", json!(0), "definition.retry.max-attempts"),
        ("/definition/retry/jitter", json!(1.5), "definition.retry.jitter"),
        ("/definition/retry/backoff", json!("fixed"), "definition.retry.max-delay"),
        ("/definition/retry/max-delay", json!(1), "definition.retry.max-delay"),
        ("/definition/retry/delay", json!(u64::MAX), "definition.retry.delay"),
    ];
    for (at, value, field) in cases {
        let mut form = everything();
        let (parent, member) = at.rsplit_once('/').unwrap();
        form.pointer_mut(parent).unwrap()[member] = value;
        let (status, document) = put(&router, "/all%20of%20it", form).await;
        assert_eq!((status, &document["field"]), (400, &json!(field)), "{at}: {document}");
    }
    let (status, document) = put(&router, "/p", json!({ "pattern": "x" })).await;
    assert_eq!((status, &document["error"]), (400, &json!("missing field `definition`")));
    assert_eq!(
        put(&router, &format!("/{long}"), json!({ "pattern": "", "definition": {} })).await.0,
        400
    );
    assert_eq!(get(&router, "?x=1").await.0, 400);
    assert_eq!(get(&router, "").await, (200, json!({ "policies": [] })));
}

#[tokio::test]
async fn nobody_changes_them_without_the_key() {
    let engines = Embedded::in_memory(leveret::model::clock::SystemClock::shared());
    let (router, _broker) = api(&engines);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = Request::builder().method(method).uri("/api/v1/policies/all");
        assert_eq!(send(&router, request.body(Body::empty()).unwrap()).await.0, 401);
    }
}
