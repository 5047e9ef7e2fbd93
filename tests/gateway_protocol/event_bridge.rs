//! Client events reach an exchange with who sent them, and a worker's reply acknowledges them.

use std::time::Duration;

use leveret::backend::{Broker, Confirm, Consumer, Embedded};
use leveret::gateway::{EventBridge, GatewayError, Recovery};
use leveret::model::clock::SystemClock;
use leveret::model::message::{Message, Properties, Value as Header};
use leveret::model::names::{ExchangeName, QueueName, RoutingKey, UserId};
use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};
use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stand::{SILENCE, Stand, in_time, now_s, token, token_until};
use crate::stores::engines;
use crate::websocket::{Got, QUERY, WebSocket};

struct Workers {
    stand: Stand,
    broker: Broker,
    _engines: Embedded,
}

fn bridge(events: &[&str]) -> EventBridge {
    EventBridge::new("/", events.iter().copied()).unwrap()
}

impl Workers {
    async fn start(bridge: EventBridge) -> Self {
        Self::on(Embedded::in_memory(SystemClock::shared()), bridge).await
    }

    async fn on(engines: Embedded, bridge: EventBridge) -> Self {
        let broker = engines.broker();
        let stand = Stand::on_cache(engines.cache(), |_| {}).await;
        tokio::spawn(stand.gateway.bridge_events(&broker, bridge).await.unwrap());
        Self { stand, broker, _engines: engines }
    }

    /// What comes to a durable queue that is bound with this key.
    async fn listen(&self, exchange: &str, key: &str) -> Consumer {
        let queue = QueueName::new("work").unwrap();
        self.broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
        let (exchange, key) = (ExchangeName::new(exchange).unwrap(), RoutingKey::new(key).unwrap());
        self.broker.bind(&queue, &exchange, &key).await.unwrap();
        self.broker.consume(&queue, 0).await.unwrap()
    }

    /// As RabbitMQ's RPC users do it: to the queue that the request names, with its correlation id.
    async fn reply(&self, request: &Message, body: &str) {
        let confirm: Confirm = self.broker.publish(reply(request, body)).await.unwrap();
        confirm.confirmed().await.unwrap();
    }
}

fn reply(request: &Message, body: &str) -> Message {
    let queue = request.properties.reply_to.as_deref().unwrap();
    let key = RoutingKey::new(queue).unwrap();
    let mut reply = Message::new(ExchangeName::default_exchange(), key, body.to_owned());
    reply.properties.correlation_id = request.properties.correlation_id.clone();
    reply
}

async fn next(work: &mut Consumer) -> Message {
    let delivery = in_time(work.next()).await.unwrap();
    let message = delivery.message().clone();
    delivery.ack().await.unwrap();
    message
}

fn header<'a>(properties: &'a Properties, name: &str) -> &'a str {
    properties.headers.get(name).and_then(Header::as_text).unwrap()
}

#[tokio::test]
async fn an_event_is_durable_and_says_who_sent_it() {
    let workers = Workers::start(bridge(&["order:*"])).await;
    let mut work = workers.listen("leveret.events", "order:new").await;
    let mut ada = Socket::connect(&workers.stand, "ada").await;
    ada.join("general").await;
    // What a client says of itself is no more than an argument.
    let forged = json!({ "headers": { "user-id": "root" }, "user-id": "root", "user_id": "root" });
    ada.websocket.text(&format!("42{}", json!(["order:new", forged, 7, null]))).await;

    let message = next(&mut work).await;
    let Message { exchange, routing_key, properties, body } = &message;
    assert_eq!((exchange.as_str(), routing_key.as_str()), ("leveret.events", "order:new"));
    assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), json!([forged, 7, null]));
    assert!(properties.persistent);
    assert_eq!(properties.kind.as_deref(), Some("order:new"));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert!(properties.message_id.as_ref().is_some_and(|id| id.len() == 36));
    assert!(properties.timestamp_s.is_some_and(|at| at.abs_diff(now_s()) < 60));
    assert_eq!((&properties.reply_to, &properties.correlation_id), (&None, &None));
    let names: Vec<&str> = properties.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["user-id", "username", "socket-id", "namespace", "rooms"]);
    assert_eq!(header(properties, "user-id"), "ada");
    assert_eq!(header(properties, "username"), "ADA");
    assert_eq!(header(properties, "socket-id"), ada.id);
    assert_eq!(header(properties, "namespace"), "/");
    let rooms = Header::List(vec![Header::from("general")]);
    assert_eq!(properties.headers.get("rooms"), Some(&rooms));
    // It is the application's namespace as before.
    assert_eq!(ada.call("presence:update", json!("away")).await["ok"], true);
    let unknown = json!({ "error": "Unknown event: other" });
    assert_eq!(ada.call("other", json!(1)).await, unknown);
}

#[tokio::test]
async fn events_of_a_socket_keep_their_order() {
    let workers = Workers::start(bridge(&["tick"])).await;
    let mut work = workers.listen("leveret.events", "#").await;
    let mut ada = Socket::connect(&workers.stand, "ada").await;
    for n in 0..200 {
        ada.websocket.text(&format!("42{}", json!(["tick", n]))).await;
    }
    for n in 0..200 {
        let message = next(&mut work).await;
        assert_eq!(serde_json::from_slice::<Value>(&message.body).unwrap(), json!([n]));
    }
}

#[tokio::test]
async fn a_reply_is_the_acknowledgement() {
    let workers = Workers::start(bridge(&["ask"])).await;
    let mut work = workers.listen("leveret.events", "ask").await;
    let mut ada = WebSocket::open(workers.stand.address, QUERY, &[]).await.unwrap();
    ada.next_text().await;
    ada.text(&format!("40{}", json!({ "token": token("ada") }))).await;
    ada.next_text().await;
    let cases = [
        (r#"{"ok":true}"#, r#"[{"ok":true}]"#),
        (r#"[1, "two"]"#, r#"[1,"two"]"#),
        ("null", "[null]"),
        ("", "[]"),
    ];
    for (id, (body, args)) in cases.into_iter().enumerate() {
        ada.text(&format!("42{id}{}", json!(["ask", id]))).await;
        let request = next(&mut work).await;
        // One that is nobody's, and one that comes twice, change nothing.
        let mut strange = reply(&request, "\"not this\"");
        strange.properties.correlation_id = Some("somebody".to_owned());
        drop(workers.broker.publish(strange).await.unwrap());
        workers.reply(&request, body).await;
        workers.reply(&request, "\"again\"").await;
        assert_eq!(ada.next_text().await, format!("43{id}{args}"), "{body}");
    }
    // Two at a time, answered the other way round.
    ada.text(r#"4210["ask","a"]"#).await;
    ada.text(r#"4211["ask","b"]"#).await;
    let (a, b) = (next(&mut work).await, next(&mut work).await);
    workers.reply(&b, "\"B\"").await;
    assert_eq!(ada.next_text().await, r#"4311["B"]"#);
    workers.reply(&a, "\"A\"").await;
    assert_eq!(ada.next_text().await, r#"4310["A"]"#);
}

#[tokio::test]
async fn what_brings_no_reply_is_told_its_client() {
    let timeout = Duration::from_millis(30);
    let workers = Workers::start(bridge(&["ask"]).with_reply_timeout(timeout)).await;
    let mut ada = Socket::connect(&workers.stand, "ada").await;
    let nobody = json!({ "error": "Nobody takes the event ask" });
    assert_eq!(ada.call("ask", json!(1)).await, nobody);
    ada.websocket.text(r#"42["ask",1]"#).await;
    let told = json!({ "message": "Nobody takes the event ask" });
    assert_eq!((ada.event("error").await, ada.event("error").await), (told.clone(), told));

    let mut work = workers.listen("leveret.events", "ask").await;
    let late = ada.send("ask", &json!(2)).await;
    let request = next(&mut work).await;
    let none = json!({ "error": "No reply to ask within 30ms" });
    assert_eq!(ada.ack(late).await, none);
    assert_eq!(ada.event("error").await["message"], none["error"]);
    workers.reply(&request, "1").await;
    let unreadable = ada.send("ask", &json!(3)).await;
    let request = next(&mut work).await;
    workers.reply(&request, "{").await;
    let error = ada.ack(unreadable).await["error"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with("The reply to ask could not be read: the body is no JSON"),
        "{error}"
    );
}

#[tokio::test]
async fn what_no_worker_could_read_is_refused() {
    let workers = Workers::start(bridge(&["*"])).await;
    let mut work = workers.listen("leveret.events", "#").await;
    let mut ada = Socket::connect(&workers.stand, "ada").await;
    ada.websocket.text(r#"451-["up",{"_placeholder":true,"num":0}]"#).await;
    ada.websocket.frame(0x82, b"\x00").await;
    assert_eq!(ada.event("error").await["message"], "up does not take binary arguments");
    let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
    ada.websocket.text(&format!("42[\"up\",1,{deep}]")).await;
    let error = "argument 2: it is nested deeper than 100 levels";
    assert_eq!(ada.event("error").await["message"], error);
    ada.websocket.text("42[\"up\",1e400]").await;
    let refused = ada.event("error").await;
    assert!(refused["message"].as_str().unwrap().starts_with("argument 1: it can't be read"));
    ada.websocket.text(&format!("42{}", json!(["e".repeat(256)]))).await;
    let error =
        "The event can't be published: the routing key has 256 bytes; at most 255 are allowed";
    assert_eq!(ada.event("error").await["message"], error);
    // The next one is fine, and the first that a worker gets.
    ada.websocket.text(r#"42["up","at last"]"#).await;
    assert_eq!(&next(&mut work).await.body[..], br#"["at last"]"#);
}

#[tokio::test]
async fn what_the_broker_does_not_take_is_told_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let (engines, disk) = engines(folder.path());
    let workers = Workers::on(engines, bridge(&["ask"])).await;
    let _work = workers.listen("leveret.events", "ask").await;
    let mut ada = Socket::connect(&workers.stand, "ada").await;
    disk.fail();
    // The first one's commit fails; the next is not even begun.
    for n in 0..2 {
        let refused = ada.call("ask", json!(n)).await;
        let error = refused["error"].as_str().unwrap();
        assert!(error.starts_with("Not published: "), "{error}");
        assert_eq!(ada.event("error").await["message"], error);
    }
    ada.websocket.text(r#"42["ask",1]"#).await;
    assert!(ada.event("error").await["message"].as_str().unwrap().starts_with("Not published: "));
}

#[tokio::test]
async fn an_exchange_is_taken_as_it_is_or_made() {
    let engines = Embedded::in_memory(SystemClock::shared());
    let broker = engines.broker();
    let name = |name: &str| ExchangeName::new(name).unwrap();
    let fanout = ExchangeSpec::durable(name("theirs"), ExchangeKind::Fanout);
    broker.declare_exchange(fanout.clone()).await.unwrap();
    let mut internal = ExchangeSpec::durable(name("inside"), ExchangeKind::Topic);
    internal.internal = true;
    broker.declare_exchange(internal).await.unwrap();

    let to = |exchange: &str| bridge(&["ask"]).to_exchange(exchange).unwrap();
    let workers = Workers::on(engines, to("theirs")).await;
    let mut work = workers.listen("theirs", "").await;
    let mut ada = Socket::connect(&workers.stand, "ada").await;
    ada.websocket.text(r#"42["ask"]"#).await;
    assert_eq!(&next(&mut work).await.body[..], b"[]");
    assert_eq!(broker.exchange(&name("theirs")).await.unwrap(), Some(fanout));

    let refused = workers.stand.gateway.bridge_events(&broker, to("inside")).await.err();
    assert!(matches!(refused, Some(GatewayError::InternalExchange { .. })));
    let reserved = workers.stand.gateway.bridge_events(&broker, to("amq.mine")).await.err();
    assert!(matches!(reserved, Some(GatewayError::Backend(_))));
    drop(workers.stand.gateway.bridge_events(&broker, to("ours")).await.unwrap());
    let made = ExchangeSpec::durable(name("ours"), ExchangeKind::Topic);
    assert_eq!(broker.exchange(&name("ours")).await.unwrap(), Some(made));
}

/// The answer to a CONNECT.
async fn connect(websocket: &mut WebSocket, auth: &Value) -> String {
    websocket.text(&format!("40/orders,{auth}")).await;
    websocket.next_text().await
}

#[tokio::test]
async fn another_namespace_lets_in_who_has_a_token_until_it_ends() {
    let bridge = EventBridge::new("/orders", ["*"]).unwrap();
    let workers = Workers::start(bridge).await;
    let mut work = workers.listen("leveret.events", "#").await;
    let open = async || {
        let mut websocket = WebSocket::open(workers.stand.address, QUERY, &[]).await.unwrap();
        websocket.next_text().await;
        websocket
    };
    let mut ada = open().await;
    for auth in [json!({}), json!({ "token": "x" })] {
        let refused = r#"44/orders,{"message":"Authentication failed"}"#;
        assert_eq!(connect(&mut ada, &auth).await, refused);
    }
    assert!(connect(&mut ada, &json!({ "token": token("ada") })).await.starts_with("40/orders,{"));
    ada.text(r#"42/orders,["message:send",1]"#).await;
    let message = next(&mut work).await;
    assert_eq!(header(&message.properties, "user-id"), "ada");
    assert_eq!(header(&message.properties, "namespace"), "/orders");
    assert_eq!(message.properties.headers.get("rooms"), Some(&Header::List(vec![])));

    let mut bob = open().await;
    let soon = token_until("bob", &[], now_s() + 3);
    assert!(connect(&mut bob, &json!({ "token": soon })).await.starts_with("40/orders,{"));
    assert_eq!(bob.next_text().await, r#"42/orders,["error",{"message":"Token expired"}]"#);
    assert_eq!(bob.next_text().await, "41/orders,");
    assert!(connect(&mut bob, &json!({ "token": token("bob") })).await.starts_with("40/orders,{"));
    // Who is left is not concerned.
    ada.text(r#"42/orders,["still here"]"#).await;
    assert_eq!(next(&mut work).await.routing_key.as_str(), "still here");
}

#[tokio::test]
async fn a_token_that_ends_there_ends_nothing_else_and_a_fresh_one_extends_it() {
    let bridge = EventBridge::new("/orders", ["*"]).unwrap();
    let workers = Workers::start(bridge).await;
    let mut work = workers.listen("leveret.events", "#").await;
    let mut ada = WebSocket::open(workers.stand.address, QUERY, &[]).await.unwrap();
    ada.next_text().await;
    let soon = json!({ "token": token_until("ada", &[], now_s() + 3) });
    ada.text(&format!("40{soon}")).await;
    assert!(ada.next_text().await.starts_with("40{"));
    assert!(connect(&mut ada, &soon).await.starts_with("40/orders,{"));
    let until = now_s() + 3600;
    ada.text(&format!("420{}", json!(["auth:refresh", token_until("ada", &["*"], until)]))).await;
    assert_eq!(ada.next_text().await, format!(r#"430[{{"ok":true,"exp":{until}}}]"#));
    assert_eq!(ada.next_text().await, r#"42/orders,["error",{"message":"Token expired"}]"#);
    assert_eq!(ada.next_text().await, "41/orders,");
    ada.text(r#"421["presence:update","here"]"#).await;
    assert_eq!(ada.next_text().await, r#"431[{"ok":true,"status":"here"}]"#);

    let soon = now_s() + 3;
    let bobs_own = json!({ "token": token_until("bob", &[], soon) });
    let mut bob = WebSocket::open(workers.stand.address, QUERY, &[]).await.unwrap();
    bob.next_text().await;
    assert!(connect(&mut bob, &bobs_own).await.starts_with("40/orders,{"));
    let mut refresh = async |argument: &Value| {
        bob.text(&format!("42/orders,7{}", json!(["auth:refresh", argument]))).await;
        let mut answer = bob.next_text().await;
        if let Some(told) = answer.strip_prefix(r#"42/orders,["error",{"message":"#) {
            let told = told.trim_end_matches("}]").to_owned();
            answer = bob.next_text().await;
            assert_eq!(answer, format!(r#"43/orders,7[{{"error":{told}}}]"#));
        }
        answer
    };
    let of_ada = json!(token("ada"));
    let another = r#"43/orders,7[{"error":"The token is another user's"}]"#;
    assert_eq!(refresh(&of_ada).await, another);
    let unreadable = r#"43/orders,7[{"error":"token must be a string"}]"#;
    assert_eq!(refresh(&json!(7)).await, unreadable);
    let forged = r#"43/orders,7[{"error":"Authentication failed"}]"#;
    assert_eq!(refresh(&json!("x")).await, forged);
    let fresh = json!({ "token": token_until("bob", &[], until) });
    let extended = format!(r#"43/orders,7[{{"ok":true,"exp":{until}}}]"#);
    assert_eq!(refresh(&fresh).await, extended);
    // The first one ends meanwhile.
    tokio::time::sleep(Duration::from_secs((soon + 1).saturating_sub(now_s())) + SILENCE).await;
    bob.text(r#"42/orders,["still here"]"#).await;
    assert_eq!(next(&mut work).await.routing_key.as_str(), "still here");
}

#[tokio::test]
async fn a_user_is_disconnected_from_another_namespace_too() {
    let workers = Workers::start(EventBridge::new("/orders", ["*"]).unwrap()).await;
    let mut ada = WebSocket::open(workers.stand.address, QUERY, &[]).await.unwrap();
    ada.next_text().await;
    assert!(connect(&mut ada, &json!({ "token": token("ada") })).await.starts_with("40/orders,{"));
    assert_eq!(workers.stand.gateway.disconnect_user(&UserId::new("ada").unwrap()), 1);
    assert_eq!(ada.next_text().await, "41/orders,");
}

#[tokio::test]
async fn a_user_s_session_is_disconnected_from_each_namespace_that_it_is_in() {
    let workers = Workers::start(EventBridge::new("/orders", ["*"]).unwrap()).await;
    let (gateway, ada) = (&workers.stand.gateway, UserId::new("ada").unwrap());
    for is_counted in [false, true] {
        let mut client = WebSocket::open(workers.stand.address, QUERY, &[]).await.unwrap();
        client.next_text().await;
        let auth = json!({ "token": token("ada") });
        client.text(&format!("40{auth}")).await;
        assert!(client.next_text().await.starts_with("40{"));
        assert!(connect(&mut client, &auth).await.starts_with("40/orders,{"));
        let gone = match is_counted {
            true => gateway.disconnect_user_counted(&ada).await.unwrap().value,
            false => gateway.disconnect_user(&ada),
        };
        assert_eq!(gone, 2);
        let mut told = [client.next_text().await, client.next_text().await];
        told.sort();
        assert_eq!(told, ["41", "41/orders,"]);
        assert!(matches!(client.next().await, Got::Close(..)));
    }
}

#[tokio::test]
async fn a_user_has_only_so_many_sockets_in_all_namespaces_together() {
    let engines = Embedded::in_memory(SystemClock::shared());
    let stand =
        Stand::on_cache(engines.cache(), |options| options.limits.user_sockets_max = 2).await;
    let bridge = EventBridge::new("/orders", ["*"]).unwrap();
    tokio::spawn(stand.gateway.bridge_events(&engines.broker(), bridge).await.unwrap());
    let open = async |user: &str| {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        websocket.next_text().await;
        let answer = connect(&mut websocket, &json!({ "token": token(user) })).await;
        (websocket, answer)
    };
    let refused = r#"{"message":"Too many connections"}"#;
    let (mut first, answer) = open("ada").await;
    assert!(answer.starts_with("40/orders,{"));
    let main = format!("40{}", json!({ "token": token("ada") }));
    first.text(&main).await;
    assert!(first.next_text().await.starts_with("40{"));
    let (mut second, answer) = open("ada").await;
    assert_eq!(answer, format!("44/orders,{refused}"));
    second.text(&main).await;
    assert_eq!(second.next_text().await, format!("44{refused}"));
    assert!(open("bob").await.1.starts_with("40/orders,{"));
    // Each place is given back, whichever namespace it was in.
    first.text("41/orders,").await;
    until(async || {
        second.text(&main).await;
        second.next_text().await.starts_with("40{")
    })
    .await;
    first.text("41").await;
    until(async || connect(&mut first, &json!({ "token": token("ada") })).await.starts_with("40/"))
        .await;
}

#[tokio::test]
async fn a_socket_of_another_namespace_is_taken_over_also_at_its_user_s_limit() {
    let engines = Embedded::in_memory(SystemClock::shared());
    let stand = Stand::on_cache(engines.cache(), |options| {
        options.recovery = Some(Recovery::default());
        options.limits.user_sockets_max = 1;
    })
    .await;
    let bridge = EventBridge::new("/orders", ["*"]).unwrap();
    tokio::spawn(stand.gateway.bridge_events(&engines.broker(), bridge).await.unwrap());
    let greeted = async |pid: Option<&Value>| {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        websocket.next_text().await;
        let auth = json!({ "token": token("ada"), "pid": pid });
        let answer = connect(&mut websocket, &auth).await;
        let greeting: Value = serde_json::from_str(&answer["40/orders,".len()..]).unwrap();
        (websocket, greeting)
    };
    // Its client is silent when it is asked whether it is there.
    let (_silent, first) = greeted(None).await;
    assert!(first["sid"].is_string());
    let (_back, again) = greeted(Some(&first["pid"])).await;
    assert_eq!(again, first);
    assert_eq!(greeted(None).await.1, json!({ "message": "Too many connections" }));
}

/// Asks again and again, for what nobody announces.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    in_time(async { while !holds().await {} }).await;
}
