//! The application in process: its routes, its workers and the embedded back ends, under virtual time.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{Demo, topology};
use crate::backend::{Broker, Cache, Subscription};
use crate::gateway::Authenticator;
use crate::journal::{FolderStore, Journal, JournalOptions};
use crate::model::clock::{Clock, SharedClock, SystemClock};
use crate::{broker, cache};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// The wall clock, moving as tokio's paused time does.
struct VirtualClock {
    started: Instant,
    started_ms: u64,
}

impl VirtualClock {
    fn shared() -> SharedClock {
        Arc::new(Self { started: Instant::now(), started_ms: SystemClock.now_ms() })
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.started_ms + u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }
}

struct Application {
    broker: Broker,
    cache: Cache,
    clock: SharedClock,
    demo: Demo,
    router: Router,
}

impl Application {
    async fn start() -> Self {
        Self::start_on(Journal::in_memory(), Some(Authenticator::new(SECRET))).await
    }

    async fn start_on(journal: Journal, guest: Option<Authenticator>) -> Self {
        let clock = VirtualClock::shared();
        let recovery = broker::Recovery::default();
        let engine = broker::Broker::new(journal.clone(), clock.clone(), recovery);
        let broker = Broker::Embedded(engine.clone());
        let cache = Cache::Embedded(cache::Cache::new(
            journal,
            clock.clone(),
            cache::AppendFsync::EverySec,
            cache::Recovery::default(),
        ));
        broker.join(&cache);
        tokio::spawn(engine.run_timers());
        let demo = Demo::start(broker.clone(), cache.clone(), clock.clone(), guest).await.unwrap();
        // The limit that the server sets.
        let router = demo.router().layer(DefaultBodyLimit::max(1024 * 1024));
        Self { broker, cache, clock, demo, router }
    }

    async fn request(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, HeaderMap, Value) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.request(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (status, _, body) = self.request(request).await;
        (status, body)
    }

    /// Places an order and gives its id.
    async fn place(&self, user_id: &str, total: f64) -> String {
        let order = json!({ "userId": user_id, "items": [{ "sku": "oats" }], "total": total });
        let (status, _, body) = self.post("/api/orders", order.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        assert_eq!((&body["success"], &body["status"]), (&json!(true), &json!("processing")));
        body["orderId"].as_str().unwrap().to_owned()
    }

    async fn completed(&self, order_id: &str) -> Value {
        eventually(async || {
            let (_, order) = self.get(&format!("/api/orders/{order_id}")).await;
            (order["status"] == "completed").then_some(order)
        })
        .await
    }

    async fn dead_letters(&self) -> Vec<Value> {
        let (status, body) = self.get("/api/demo/dead-letters").await;
        assert_eq!(status, StatusCode::OK);
        body["messages"].as_array().unwrap().clone()
    }

    async fn publish_user_event(&self, routing_key: &'static str, body: &Value) {
        let body = body.to_string().into_bytes();
        let event = topology::event(routing_key, "u1".to_owned(), self.clock.now_ms(), body);
        self.broker.publish(event).await.unwrap().confirmed().await.unwrap();
    }
}

/// Waits in virtual time until `check` gives something.
async fn eventually<T, F: Future<Output = Option<T>>>(check: impl Fn() -> F) -> T {
    for _ in 0..100_000 {
        if let Some(found) = check().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

/// The next update of an order.
async fn update(updates: &mut Subscription) -> (String, String) {
    let update: Value = serde_json::from_slice(&updates.next().await.unwrap()).unwrap();
    let text = |member: &str| update[member].as_str().unwrap().to_owned();
    (text("orderId"), text("status"))
}

#[tokio::test(start_paused = true)]
async fn an_order_is_accepted_and_completes_once() {
    let application = Application::start().await;
    let mut updates = application.cache.subscribe("order-updates").await.unwrap();
    let order_id = application.place("ada", 9.5).await;
    let mut seen = vec![update(&mut updates).await.1, update(&mut updates).await.1];
    // A delivery may precede the confirm, and so may its update.
    seen.sort();
    assert_eq!(seen, ["completed", "processing"]);

    let (status, order) = application.get(&format!("/api/orders/{order_id}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(order["status"], "completed");
    assert_eq!((&order["userId"], &order["total"]), (&json!("ada"), &json!(9.5)));
    assert_eq!(order["items"], json!([{ "sku": "oats" }]));

    // The same event again, as after a crash before its acknowledgement, changes nothing.
    let event = topology::event(
        "order.created",
        order_id,
        application.clock.now_ms(),
        order.to_string().into_bytes(),
    );
    application.broker.publish(event).await.unwrap().confirmed().await.unwrap();
    let other = application.place("ada", 1.0).await;
    for _ in 0..2 {
        assert_eq!(update(&mut updates).await.0, other);
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_forgotten_after_an_hour() {
    let application = Application::start().await;
    let order_id = application.place("ada", 1.0).await;
    let path = format!("/api/orders/{order_id}");
    application.completed(&order_id).await;
    tokio::time::advance(Duration::from_secs(3_590)).await;
    assert_eq!(application.get(&path).await.0, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(20)).await;
    let (status, body) = application.get(&path).await;
    assert_eq!((status, &body["error"]), (StatusCode::NOT_FOUND, &json!("Order not found")));
}

#[tokio::test(start_paused = true)]
async fn ten_requests_a_minute_are_let_through_valid_or_not() {
    let application = Application::start().await;
    let invalid = r#"{"userId":"ada","items":[],"total":"much"}"#;
    for _ in 0..9 {
        let (status, _, body) = application.post("/api/orders", invalid).await;
        assert_eq!((status, &body["field"]), (StatusCode::BAD_REQUEST, &json!("total")));
    }
    application.place("ada", 1.0).await;
    tokio::time::advance(Duration::from_secs(20)).await;
    for body in [invalid, r#"{"userId":"ada","items":[],"total":1}"#] {
        let (status, headers, body) = application.post("/api/orders", body).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(body["error"], "Too many requests");
        assert_eq!(headers[header::RETRY_AFTER], "40");
    }
    application.place("grace", 1.0).await;
    tokio::time::advance(Duration::from_secs(40)).await;
    application.place("ada", 1.0).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_body_is_refused_with_a_reason() {
    let application = Application::start().await;
    let cases =
        [("[]", "body"), ("{}", "userId"), (r#"{"userId":"a","items":7,"total":1}"#, "items")];
    for (body, field) in cases {
        let (status, headers, body) = application.post("/api/orders", body).await;
        assert_eq!((status, &body["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{body}");
        assert!(body["error"].as_str().unwrap().contains(field), "{body}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    }
    for body in [&b"{"[..], b"", b"\xff\xfe"] {
        let (status, _, body) = application.post("/api/orders", body).await;
        let malformed = (StatusCode::BAD_REQUEST, &json!("The body is not valid JSON"));
        assert_eq!((status, &body["error"]), malformed);
    }
    let large = format!(r#"{{"userId":"{}"}}"#, "a".repeat(1024 * 1024));
    let (status, _, body) = application.post("/api/orders", large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(body["error"].is_string());
    let plain = Request::post("/api/orders").body(Body::from("{}")).unwrap();
    assert_eq!(application.request(plain).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

// Not in virtual time, which would run ahead while the journal's thread writes.
#[tokio::test]
async fn an_order_that_can_not_be_kept_is_not_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Box::new(FolderStore::open(folder.path()).unwrap());
    let journal = Journal::open(store, JournalOptions::default(), &mut |_, _, _| Ok(())).unwrap();
    let application = Application::start_on(journal.clone(), None).await;
    journal.close();
    let order = r#"{"userId":"ada","items":[],"total":1}"#;
    let (status, _, body) = application.post("/api/orders", order).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["detail"], "the journal is closed");
    assert!(body["error"].is_string() && body["orderId"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_failing_order_dies_once_after_three_attempts_and_can_be_mended() {
    let application = Application::start().await;
    let started = Instant::now();
    let order_id = application.place("ada", -5.0).await;
    let path = format!("/api/orders/{order_id}");
    let attempts = |order: &Value| order["attempts"].as_u64();
    eventually(async || {
        let (_, order) = application.get(&path).await;
        assert_eq!(order["status"], "processing");
        (attempts(&order) == Some(1)).then_some(())
    })
    .await;
    let dead = eventually(async || application.dead_letters().await.pop()).await;
    // 2 s and 4 s, with a tenth of jitter.
    let took = started.elapsed().as_secs_f64();
    assert!((5.4..=6.7).contains(&took), "{took} s");
    assert_eq!(dead["orderId"], json!(order_id));
    assert_eq!(dead["userId"], "ada");
    assert_eq!(dead["error"], "the order's total is negative: -5.0");
    assert_eq!(dead["attempts"], 3);
    let age_ms = application.clock.now_ms() - dead["diedAt"].as_u64().unwrap();
    assert!(age_ms < 2_000, "{age_ms} ms");
    assert_eq!(dead["order"]["total"], json!(-5.0));
    let (_, order) = application.get(&path).await;
    assert_eq!((&order["status"], attempts(&order)), (&json!("failed"), Some(3)));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(application.dead_letters().await.len(), 1, "it died once");

    let redrive = format!("/api/demo/dead-letters/{}/redrive", dead["id"].as_str().unwrap());
    let (status, _, body) = application.post(&redrive, r#"{"order":{"total":"5"}}"#).await;
    assert_eq!((status, &body["field"]), (StatusCode::BAD_REQUEST, &json!("total")));
    let (status, _, body) = application.post(&redrive, r#"{"order":{"total":5}}"#).await;
    assert_eq!((status, &body["success"]), (StatusCode::OK, &json!(true)), "{body}");
    let order = application.completed(&order_id).await;
    assert_eq!(order["total"], 5);
    assert!(order["attempts"].is_null() && order["error"].is_null());
    assert!(application.dead_letters().await.is_empty());
    let (status, _, body) = application.post(&redrive, "{}").await;
    let not_found = (StatusCode::NOT_FOUND, &json!("Dead letter not found"));
    assert_eq!((status, &body["error"]), not_found);
}

#[tokio::test(start_paused = true)]
async fn an_order_redriven_as_it_is_fails_again() {
    let application = Application::start().await;
    application.place("ada", -5.0).await;
    let first = eventually(async || application.dead_letters().await.pop()).await;
    let id = first["id"].as_str().unwrap();
    let (status, ..) =
        application.post(&format!("/api/demo/dead-letters/{id}/redrive"), "{}").await;
    assert_eq!(status, StatusCode::OK);
    let again = eventually(async || application.dead_letters().await.pop()).await;
    assert_ne!(again["id"], first["id"]);
    assert_eq!((&again["attempts"], &again["orderId"]), (&json!(3), &first["orderId"]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_order_is_set_aside_with_its_error() {
    let application = Application::start().await;
    let event = topology::event("order.created", "m1".to_owned(), 0, b"nonsense".to_vec());
    application.broker.publish(event).await.unwrap().confirmed().await.unwrap();
    let dead = eventually(async || application.dead_letters().await.pop()).await;
    assert!(dead["error"].as_str().unwrap().starts_with("the body is no order"), "{dead}");
    let redrive = format!("/api/demo/dead-letters/{}/redrive", dead["id"].as_str().unwrap());
    let (status, _, body) = application.post(&redrive, r#"{"order":{"total":5}}"#).await;
    assert_eq!((status, &body["field"]), (StatusCode::BAD_REQUEST, &json!("order")));
}

#[tokio::test(start_paused = true)]
async fn a_user_is_known_from_registration_to_deletion() {
    let application = Application::start().await;
    let user = async || {
        let json = application.cache.get("user:ada").await.unwrap()?;
        serde_json::from_slice::<Value>(&json).ok()
    };
    let registered = json!({ "userId": "ada", "username": "Ada", "email": "ada@example.org" });
    application.publish_user_event("user.registered", &registered).await;
    assert_eq!(eventually(user).await, registered);
    let update = json!({ "userId": "ada", "username": "Countess" });
    application.publish_user_event("user.updated", &update).await;
    eventually(async || {
        let user = user().await?;
        (user["username"] == "Countess" && user["email"] == "ada@example.org").then_some(())
    })
    .await;
    application.publish_user_event("user.deleted", &json!({ "userId": "ada" })).await;
    eventually(async || user().await.is_none().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_gets_a_token_for_every_room_in_development_only() {
    let application = Application::start().await;
    let (status, _, guest) = application.post("/api/demo/guest", r#"{"username":" Ada "}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(guest["username"], "Ada");
    let claims = Authenticator::new(SECRET).verify(guest["token"].as_str().unwrap()).unwrap();
    assert_eq!(json!(claims.user), guest["userId"]);
    assert_eq!((claims.username.as_str(), claims.rooms), ("Ada", vec!["*".to_owned()]));
    let ttl_s = claims.expires_at_s - application.clock.now_ms() / 1000;
    assert_eq!(ttl_s, 12 * 60 * 60);
    let (status, _, body) = application.post("/api/demo/guest", r#"{"username":7}"#).await;
    assert_eq!((status, &body["field"]), (StatusCode::BAD_REQUEST, &json!("username")));

    let closed = Application::start_on(Journal::in_memory(), None).await;
    let (status, ..) = closed.post("/api/demo/guest", r#"{"username":"Ada"}"#).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn another_site_s_page_gets_nothing() {
    let application = Application::start().await;
    let evil = Request::get("/api/demo/dead-letters")
        .header(header::HOST, "127.0.0.1:3001")
        .header(header::ORIGIN, "https://evil.example");
    let (status, _, body) = application.request(evil.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body["error"].is_string());

    let client = application.demo.with_client_origins(["https://shop.example".to_owned()]);
    let request = Request::get("/api/demo/dead-letters")
        .header(header::HOST, "127.0.0.1:3001")
        .header(header::ORIGIN, "https://shop.example");
    let response = client.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let allowed = &response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN];
    assert_eq!(allowed, "https://shop.example");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_application_leaves_orders_in_their_queue() {
    let application = Application::start().await;
    let order_id = application.place("ada", 1.0).await;
    application.completed(&order_id).await;
    application.demo.stop().await;
    let order = json!({ "orderId": "o1", "userId": "ada", "items": [], "total": 1 });
    let event = topology::event("order.created", "o1".to_owned(), 0, order.to_string().into());
    application.broker.publish(event).await.unwrap().confirmed().await.unwrap();
    let queues = application.broker.queues().await.unwrap();
    let orders = queues.iter().find(|queue| queue.name.as_str() == "orders").unwrap();
    assert_eq!((orders.ready, orders.unacked, orders.consumers), (1, 0, 0));
}
