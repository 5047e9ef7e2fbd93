//! The API under /api/v1, called in process: what it answers, what it refuses and by which name, and that
//! a consumer over HTTP loses nothing.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
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

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const SECRET: &[u8] = b"for tests alone, and long enough for anyone";

struct Stand {
    api: Api,
    broker: Broker,
    _engines: Embedded,
}

impl Stand {
    /// Queues `jobs`, whose dead letters go to `dead`, and `dead`.
    async fn new() -> Self {
        Self::with(Access::Loopback).await
    }

    async fn with(access: Access) -> Self {
        let engines = Embedded::in_memory(SystemClock::shared());
        let broker = engines.broker();
        let dead = RoutingKey::new("dead").unwrap();
        let default = ExchangeName::new("").unwrap();
        for spec in [
            QueueSpec::durable(queue("dead")),
            QueueSpec::durable(queue("jobs")).dead_letter(default, Some(dead)),
        ] {
            broker.declare_queue(spec).await.unwrap();
        }
        let options = GatewayOptions::new(Authenticator::new(SECRET));
        let gateway = Gateway::new(options, engines.cache(), SystemClock::shared());
        let api = Api::new(broker.clone(), gateway, access);
        Self { api, broker, _engines: engines }
    }

    fn router(&self) -> Router {
        self.api.router()
    }

    async fn publish(&self, to: &str, body: impl Into<Vec<u8>>) {
        let (exchange, key) = (ExchangeName::new("").unwrap(), RoutingKey::new(to).unwrap());
        let message = Message::new(exchange, key, body.into()).persistent();
        self.broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }

    async fn kill(&self, body: &str, error: &str) {
        self.publish("jobs", body).await;
        let delivery = self.broker.get(&queue("jobs")).await.unwrap().unwrap();
        delivery.fail(error).await.unwrap();
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| Body::from(body.to_string())).unwrap_or_default();
        self.send(request.body(body).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let answer = self.router().oneshot(request).await.unwrap();
        let status = answer.status();
        if !status.is_success() {
            let kind = answer.headers()["content-type"].to_str().unwrap();
            assert_eq!(kind, "application/problem+json");
        }
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        if !status.is_success() {
            assert!(document["error"].is_string(), "{document}");
            assert_eq!(document["status"], status.as_u16());
        }
        (status.as_u16(), document)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, document) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{document}");
        document
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn consume(&self, path: &str) -> Lines {
        let request = Request::post(format!("/api/v1/queues/{path}")).body(Body::empty()).unwrap();
        let answer = self.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Lines { body: answer.into_body() }
    }

    /// Waits until `ready` messages are in the queue and nobody holds any.
    async fn at_rest(&self, name: &str, ready: usize) {
        let seen = async {
            loop {
                let status = self.broker.queue(&queue(name)).await.unwrap();
                if (status.ready, status.unacked) == (ready, 0) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the queue comes to rest");
    }
}

/// A consumer's stream; each frame is a line.
struct Lines {
    body: Body,
}

impl Lines {
    async fn next(&mut self) -> Option<Value> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a line");
        let data = frame?.unwrap().into_data().unwrap();
        Some(serde_json::from_slice(&data).unwrap())
    }
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

#[tokio::test]
async fn queues_are_listed_page_by_page_with_depths() {
    let stand = Stand::new().await;
    stand.publish("jobs", "1").await;
    let found = stand.get("/queues").await;
    let names: Vec<_> = found["queues"].as_array().unwrap().iter().map(|q| &q["name"]).collect();
    assert_eq!(names, ["dead", "jobs"]);
    assert_eq!(found["more"], false);
    let jobs = stand.get("/queues/jobs").await;
    assert_eq!((&jobs["ready"], &jobs["readyBytes"]), (&json!(1), &json!(1)));
    assert!(jobs["rates"]["publish"].is_number());

    let first = stand.get("/queues?limit=1").await;
    assert_eq!((&first["queues"][0]["name"], &first["more"]), (&json!("dead"), &json!(true)));
    let rest = stand.get("/queues?limit=1&after=dead").await;
    assert_eq!((&rest["queues"][0]["name"], &rest["more"]), (&json!("jobs"), &json!(false)));
}

#[tokio::test]
async fn a_message_is_published_with_everything_and_shown_the_same() {
    let stand = Stand::new().await;
    let message = json!({
        "exchange": "", "routingKey": "jobs", "body": "AP8=", "bodyEncoding": "base64",
        "headers": { "n": 1, "list": [true, null, "x"], "bytes": { "$base64": "AQ==" } },
        "properties": { "persistent": true, "contentType": "a/b", "priority": 3, "type": "t" },
    });
    let (status, answer) = stand.post("/publish", message.clone()).await;
    assert_eq!((status, answer), (200, json!({ "routed": true })));
    let shown = stand.get("/queues/jobs/messages").await["messages"][0].clone();
    for member in ["exchange", "routingKey", "body", "bodyEncoding", "headers", "properties"] {
        assert_eq!(shown[member], message[member], "{member}");
    }
    assert_eq!((&shown["bodyBytes"], &shown["truncated"]), (&json!(2), &json!(false)));

    let nowhere = json!({ "exchange": "", "routingKey": "nowhere" });
    assert_eq!(stand.post("/publish", nowhere).await, (200, json!({ "routed": false })));
}

#[tokio::test]
async fn a_message_is_published_for_later() {
    let stand = Stand::new().await;
    let later = json!({ "exchange": "", "routingKey": "jobs", "body": "1", "delayMs": 3_600_000 });
    assert_eq!(stand.post("/publish", later).await, (200, json!({ "routed": true })));
    let now = json!({ "exchange": "", "routingKey": "jobs", "body": "2", "delayMs": 0 });
    assert_eq!(stand.post("/publish", now).await, (200, json!({ "routed": true })));
    let jobs = stand.get("/queues/jobs").await;
    assert_eq!((&jobs["ready"], &jobs["delayed"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let stand = Stand::new().await;
    let long = "q".repeat(256);
    let gets = [
        ("/queues?limit=0".to_owned(), 400, "limit"),
        ("/queues?limit=many".to_owned(), 400, "limit"),
        ("/queues?page=2".to_owned(), 400, "page"),
        ("/queues/jobs/messages?count=1&count=2".to_owned(), 400, "count"),
        ("/queues/jobs/messages?count=1001".to_owned(), 400, "count"),
        ("/queues/jobs/messages?after=x".to_owned(), 400, "after"),
        ("/queues/jobs/messages?bodyBytes=-1".to_owned(), 400, "bodyBytes"),
        (format!("/queues/{long}"), 400, "queue"),
        ("/queues/nope".to_owned(), 404, "no queue 'nope'"),
        ("/queues/nope/groups".to_owned(), 404, "no queue 'nope'"),
        ("/queues/jobs/redrive".to_owned(), 404, "is not being redriven"),
    ];
    for (path, expected, named) in gets {
        let (status, problem) = stand.call(Method::GET, &path, None).await;
        assert_eq!(status, expected, "{path}");
        assert!(problem["error"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let posts = [
        ("/publish", json!({ "exchange": "" }), 400, "routingKey"),
        ("/publish", json!({ "exchange": "x", "routingKey": "k" }), 404, "no exchange 'x'"),
        ("/publish", json!({ "exchange": "", "routingKey": "k", "bdy": "" }), 400, "bdy"),
        (
            "/publish",
            json!({ "exchange": "", "routingKey": "k", "body": "?", "bodyEncoding": "base64" }),
            400,
            "body",
        ),
        (
            "/publish",
            json!({ "exchange": "", "routingKey": "k", "properties": { "priority": 256 } }),
            400,
            "properties.priority",
        ),
        (
            "/publish",
            json!({ "exchange": "", "routingKey": "k", "headers": { "h": deep } }),
            400,
            "nested",
        ),
        (
            "/publish",
            json!({ "exchange": "", "routingKey": "k", "delayMs": 1, "headers": { "x-delay": 2 } }),
            400,
            "delayMs",
        ),
        ("/publish", json!({ "exchange": "", "routingKey": "k", "delayMs": -1 }), 400, "delayMs"),
        ("/queues/dead/redrive", json!({ "ratePerSecond": 0 }), 400, "ratePerSecond"),
        ("/queues/dead/redrive", json!({ "ids": ["x"] }), 400, "ids"),
        ("/queues/dead/redrive", json!({ "ids": [], "error": "x" }), 400, "ids"),
        ("/queues/nope/redrive", json!({}), 404, "no queue 'nope'"),
        ("/queues/dead/messages/7/redrive", json!({}), 404, "no ready message '7'"),
        ("/queues/dead/messages/x/redrive", json!({}), 404, "no ready message 'x'"),
        ("/consumers/x/settle", json!({}), 404, "no consumer 'x'"),
    ];
    for (path, body, expected, named) in posts {
        let (status, problem) = stand.post(path, body.clone()).await;
        assert_eq!(status, expected, "{path} {body}");
        assert!(problem["error"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let payloads = [
        (nested(100), 200),
        (nested(101), 400),
        ("1e400".into(), 400),
        (r#""\ud800""#.into(), 400),
    ];
    for (payload, expected) in payloads {
        let body = format!(r#"{{"audience":"all","event":"news","payload":{payload}}}"#);
        let request = Request::post("/api/v1/emit").header("content-type", "application/json");
        let (status, answer) = stand.send(request.body(body.into()).unwrap()).await;
        assert_eq!(status, expected, "{payload}: {answer}");
        assert!(status == 200 || answer["field"] == "payload", "{answer}");
    }
    let (status, problem) = stand.call(Method::POST, "/queues/jobs/consume?noAck=1", None).await;
    assert_eq!((status, &problem["field"]), (400, &json!("noAck")));
}

#[tokio::test]
async fn long_bodies_are_cut_and_a_list_of_them_ends() {
    let stand = Stand::new().await;
    for _ in 0..10 {
        stand.publish("jobs", vec![b'x'; 1_000_000]).await;
    }
    let cut = stand.get("/queues/jobs/messages").await;
    let messages = cut["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 10);
    assert_eq!(messages[0]["body"].as_str().unwrap().len(), 4096);
    assert_eq!(
        (&messages[0]["bodyBytes"], &messages[0]["truncated"]),
        (&json!(1_000_000), &json!(true))
    );
    let whole = stand.get("/queues/jobs/messages?bodyBytes=1048576").await;
    let shown = whole["messages"].as_array().unwrap();
    assert_eq!(shown.len(), 5, "bounded in bytes");
    let last = shown[4]["id"].as_str().unwrap();
    let rest = stand.get(&format!("/queues/jobs/messages?bodyBytes=0&after={last}")).await;
    assert_eq!(rest["messages"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_queue_is_purged() {
    let stand = Stand::new().await;
    stand.publish("jobs", "1").await;
    stand.publish("jobs", "2").await;
    let purged = stand.call(Method::DELETE, "/queues/jobs/messages", None).await;
    assert_eq!(purged, (200, json!({ "purged": 2 })));
    assert_eq!(stand.get("/queues/jobs").await["ready"], 0);
}

#[tokio::test]
async fn only_what_is_named_is_removed() {
    let stand = Stand::new().await;
    for (body, error) in [("1", "spam"), ("2", "no stock"), ("3", "spam"), ("4", "no stock")] {
        stand.kill(body, error).await;
    }
    let remove = async |query: &str| {
        stand.call(Method::DELETE, &format!("/queues/dead/messages?{query}"), None).await
    };
    assert_eq!(remove("error=spam&queue=jobs").await, (200, json!({ "purged": 2 })));
    assert_eq!(remove("reason=expired").await, (200, json!({ "purged": 0 })));
    assert_eq!(remove("eror=spam").await.0, 400);
    assert_eq!(remove("ids=1,x").await.0, 400);
    let first = stand.get("/queues/dead/messages").await["messages"][0].clone();
    let ids = format!("ids={},99999999", first["id"].as_str().unwrap());
    assert_eq!(remove(&ids).await, (200, json!({ "purged": 1 })));
    assert_eq!(stand.get("/queues/dead/messages").await["messages"][0]["body"], "4");
}

#[tokio::test]
async fn dead_letters_are_grouped_planned_and_redriven() {
    let stand = Stand::new().await;
    stand.kill("1", "no stock").await;
    stand.kill("2", "timeout").await;
    stand.kill("3", "no stock").await;
    stand.publish("dead", "alive").await;

    let groups = stand.get("/queues/dead/groups").await;
    assert_eq!((&groups["alive"], &groups["complete"]), (&json!(1), &json!(true)));
    let first = &groups["groups"][0];
    assert_eq!((&first["error"], &first["count"]), (&json!("no stock"), &json!(2)));
    assert_eq!((&first["queue"], &first["reason"]), (&json!("jobs"), &json!("rejected")));

    let shown = stand.get("/queues/dead/messages?count=1").await["messages"][0].clone();
    assert_eq!(shown["death"]["error"], "no stock");
    assert_eq!(shown["id"], first["sample"]);

    let (status, plan) = stand.post("/queues/dead/redrive", json!({ "dryRun": true })).await;
    assert_eq!((status, &plan["moved"], &plan["kept"]), (200, &json!(3), &json!(1)));
    assert_eq!(plan["queues"], json!({ "jobs": 3 }));
    assert_eq!(plan["stuck"][0]["reason"], "it has no x-death");
    assert_eq!(stand.get("/queues/dead").await["ready"], 4);

    let meant = json!({ "error": "stock" });
    assert_eq!(stand.post("/queues/dead/redrive", meant).await.0, 202);
    let run = stand.get("/queues/dead/redrive?waitSeconds=20").await;
    assert_eq!((&run["state"], &run["moved"]), (&json!("done"), &json!(2)));
    assert!(run["endedAt"].as_u64() >= run["startedAt"].as_u64());
    assert_eq!(stand.get("/queues/jobs").await["ready"], 2);
}

#[tokio::test]
async fn under_the_memory_alarm_publishers_are_told_and_dead_letters_still_go_back() {
    let stand = Stand::new().await;
    stand.kill("1", "x").await;
    stand.broker.set_memory_limit(1);
    for persistent in [false, true] {
        let properties = json!({ "persistent": persistent });
        let message = json!({ "exchange": "", "routingKey": "jobs", "properties": properties });
        let (status, problem) = stand.post("/publish", message).await;
        assert_eq!(status, 503);
        assert!(problem["error"].as_str().unwrap().contains("memory"), "{problem}");
    }
    assert_eq!(stand.post("/queues/dead/redrive", json!({})).await.0, 202);
    let run = stand.get("/queues/dead/redrive?waitSeconds=20").await;
    assert_eq!((&run["state"], &run["moved"]), (&json!("done"), &json!(1)));
}

#[tokio::test]
async fn a_paced_redrive_is_watched_and_cancelled() {
    let stand = Stand::new().await;
    for body in ["1", "2", "3"] {
        stand.kill(body, "x").await;
    }
    let slow = json!({ "ratePerSecond": 1 });
    assert_eq!(stand.post("/queues/dead/redrive", slow.clone()).await.0, 202);
    assert_eq!(stand.post("/queues/dead/redrive", slow).await.0, 409);
    let running = stand.get("/queues/dead/redrive").await;
    assert_eq!(running["state"], "running");
    let (status, run) = stand.call(Method::DELETE, "/queues/dead/redrive", None).await;
    assert_eq!((status, &run["state"]), (200, &json!("cancelled")));
    let left = stand.get("/queues/dead").await["ready"].as_u64().unwrap();
    assert_eq!(left + run["moved"].as_u64().unwrap(), 3);
}

#[tokio::test]
async fn one_dead_letter_is_mended() {
    let stand = Stand::new().await;
    stand.kill("brken", "x").await;
    let id = stand.get("/queues/dead/messages").await["messages"][0]["id"].clone();
    let path = format!("/queues/dead/messages/{}/redrive", id.as_str().unwrap());
    let edit = json!({ "body": "mended", "headers": { "by": "hand" } });
    assert_eq!(stand.post(&path, edit).await, (200, json!({ "queues": ["jobs"] })));
    let shown = stand.get("/queues/jobs/messages").await["messages"][0].clone();
    assert_eq!((&shown["body"], &shown["headers"]), (&json!("mended"), &json!({ "by": "hand" })));

    stand.publish("dead", "alive").await;
    let id = stand.get("/queues/dead/messages").await["messages"][0]["id"].clone();
    let path = format!("/queues/dead/messages/{}/redrive", id.as_str().unwrap());
    assert_eq!(stand.post(&path, json!({})).await.0, 409);
}

#[tokio::test]
async fn a_consumer_over_http_settles_each_way() {
    let stand = Stand::new().await;
    for body in ["1", "2", "3", "4"] {
        stand.publish("jobs", body).await;
    }
    let mut lines = stand.consume("jobs/consume?prefetch=3").await;
    let opened = lines.next().await.unwrap();
    let consumer = opened["consumer"].as_str().unwrap().to_owned();
    for tag in 1..=3 {
        let delivery = lines.next().await.unwrap();
        assert_eq!((&delivery["tag"], &delivery["body"]), (&json!(tag), &json!(tag.to_string())));
    }
    let path = format!("/consumers/{consumer}/settle");
    let settle = json!({ "ack": [1, 99], "fail": [{ "tag": 2, "error": "no" }] });
    let answer = stand.post(&path, settle).await;
    assert_eq!(answer, (200, json!({ "settled": 2, "unknown": [99] })));
    assert_eq!(lines.next().await.unwrap()["body"], "4");
    assert_eq!(stand.post(&path, json!({ "requeue": [3] })).await.1["settled"], 1);
    let again = lines.next().await.unwrap();
    assert_eq!((&again["body"], &again["redelivered"]), (&json!("3"), &json!(true)));
    let death = stand.get("/queues/dead/messages").await["messages"][0]["death"].clone();
    assert_eq!((&death["error"], &death["queue"]), (&json!("no"), &json!("jobs")));

    let gone = stand.call(Method::DELETE, &format!("/consumers/{consumer}"), None).await;
    assert_eq!(gone.0, 200);
    // At the answer, everything is back already.
    let status = stand.broker.queue(&queue("jobs")).await.unwrap();
    assert_eq!((status.ready, status.unacked, status.consumers), (2, 0, 0));
    assert_eq!(lines.next().await.unwrap()["ended"], "cancelled");
    assert!(lines.next().await.is_none());
    assert_eq!(stand.post(&path, json!({ "ack": [4] })).await.0, 404);
}

#[tokio::test]
async fn a_limited_consumer_touches_nothing_beyond_its_limit() {
    let stand = Stand::new().await;
    for body in ["1", "2", "3", "4"] {
        stand.publish("jobs", body).await;
    }
    let mut lines = stand.consume("jobs/consume?prefetch=4&limit=2").await;
    let consumer = lines.next().await.unwrap()["consumer"].as_str().unwrap().to_owned();
    for tag in [1, 2] {
        assert_eq!(lines.next().await.unwrap()["tag"], tag);
    }
    let path = format!("/consumers/{consumer}/settle");
    assert_eq!(stand.post(&path, json!({ "ack": [1, 2] })).await.1["settled"], 2);
    stand.at_rest("jobs", 2).await;
    let rest = stand.get("/queues/jobs/messages").await;
    for message in rest["messages"].as_array().unwrap() {
        assert_eq!(message["redelivered"], false, "{message}");
    }
    assert_eq!(stand.get("/queues/jobs").await["consumers"], 0);
}

#[tokio::test]
async fn what_a_lost_consumer_held_returns_to_its_place() {
    let stand = Stand::new().await;
    for body in ["1", "2", "3"] {
        stand.publish("jobs", body).await;
    }
    let mut lines = stand.consume("jobs/consume?prefetch=2").await;
    lines.next().await.unwrap();
    assert_eq!(lines.next().await.unwrap()["body"], "1");
    drop(lines);
    stand.at_rest("jobs", 3).await;
    let messages = stand.get("/queues/jobs/messages").await;
    let bodies: Vec<_> =
        messages["messages"].as_array().unwrap().iter().map(|m| m["body"].clone()).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_stop_ends_consumers_and_lets_no_more_in() {
    let stand = Stand::new().await;
    stand.publish("jobs", "1").await;
    let mut lines = stand.consume("jobs/consume").await;
    lines.next().await.unwrap();
    lines.next().await.unwrap();
    stand.api.stop();
    assert_eq!(lines.next().await.unwrap()["ended"], "the server stops");
    assert!(lines.next().await.is_none());
    stand.at_rest("jobs", 1).await;
    let refused = stand.call(Method::POST, "/queues/jobs/consume", None).await;
    assert_eq!(refused.0, 503);
}

#[tokio::test]
async fn a_consumer_learns_that_its_queue_is_gone() {
    let stand = Stand::new().await;
    let mut lines = stand.consume("jobs/consume?noAck=true").await;
    lines.next().await.unwrap();
    stand.publish("jobs", "1").await;
    assert_eq!(lines.next().await.unwrap()["body"], "1");
    stand.broker.delete_queue(&queue("jobs"), Default::default()).await.unwrap();
    assert_eq!(lines.next().await.unwrap()["ended"], "the queue was deleted");
}

#[tokio::test]
async fn nobody_gets_in_without_the_key() {
    let stand = Stand::with(Access::Key(ApiKey::new("open-sesame").unwrap())).await;
    let request = |key: Option<&str>| {
        let mut request = Request::get("/api/v1/queues");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(stand.send(request(Some("open-sesame"))).await.0, 200);
    let (status, problem) = stand.send(request(None)).await;
    assert_eq!((status, &problem["error"]), (401, &json!("An API key is required")));
    assert_eq!(stand.send(request(Some("guess"))).await.1["error"], "The API key is wrong");
    let answer = stand.router().oneshot(request(None)).await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn without_a_key_pages_of_other_sites_are_kept_out() {
    let stand = Stand::new().await;
    let request = |origin: &str| {
        Request::delete("/api/v1/queues/jobs/messages")
            .header("host", "127.0.0.1:3001")
            .header("origin", origin)
            .body(Body::empty())
            .unwrap()
    };
    stand.publish("jobs", "1").await;
    assert_eq!(stand.send(request("http://localhost:3000")).await.0, 403);
    assert_eq!(stand.get("/queues/jobs").await["ready"], 1);
    assert_eq!(stand.send(request("http://127.0.0.1:3001")).await.0, 200);
}

#[tokio::test]
async fn the_path_of_a_message_is_told() {
    let stand = Stand::new().await;
    let message = json!({
        "exchange": "", "routingKey": "jobs", "body": "x",
        "properties": { "persistent": true, "messageId": "m/1" },
    });
    assert_eq!(stand.post("/publish", message).await, (200, json!({ "routed": true })));
    let delivery = stand.broker.get(&queue("jobs")).await.unwrap().unwrap();
    delivery.fail("no stock").await.unwrap();
    let path = stand.get("/explain/m%2F1").await;
    let events: Vec<_> = path["steps"].as_array().unwrap().iter().collect();
    let told: Vec<_> = events.iter().map(|step| step["event"].as_str().unwrap()).collect();
    let expected = ["published", "routed", "delivered", "deadLettered", "published", "routed"];
    assert_eq!(told, expected);
    assert_eq!(events[0]["routingKey"], "jobs");
    assert_eq!((&events[3]["error"], &events[3]["queue"]), (&json!("no stock"), &json!("jobs")));
    assert_eq!(events[3]["to"], events[4]["message"]);
    assert_eq!((&path["caused"], &path["more"]), (&json!([]), &json!(false)));
    let (status, problem) = stand.call(Method::GET, "/explain/nothing", None).await;
    assert_eq!((status, &problem["error"]), (404, &json!("Nothing is known of this message")));
}
