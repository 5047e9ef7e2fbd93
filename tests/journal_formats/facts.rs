//! One of everything that the journal keeps: how it is written, and how it has to come back.

use bytes::Bytes;
use leveret::broker::Broker;
use leveret::cache::{Command, Reply};
use leveret::model::message::{Headers, Labels, Message, Properties, Value};
use leveret::model::names::{ExchangeName, QueueName, RoutingKey, UserName, VhostName};
use leveret::model::topology::{
    AppliesTo, Backoff, Binding, DeadLetter, ExchangeKind, ExchangeSpec, Overflow, Policy,
    QueueSettings, QueueSpec, RetryPolicy,
};
use leveret::model::user::Permissions;

use crate::Open;

/// Every kind of record: the broker's, then the cache's.
pub const KINDS: [u8; 21] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 32, 33, 34, 35, 36, 37, 38, 39, 40];

/// The time at which a fixture was written, and is looked at.
pub const WRITTEN_MS: u64 = 1_750_000_000_000;

/// Messages that lie in several queues.
pub const SEVERAL_TAGGED: usize = 1 + TO_SEVERAL.len();

/// More than one row of the journal takes.
const LARGE_BYTES: usize = 300 * 1024;
const RETRY_MS: u64 = 60_000;
const DELAY_MS: u64 = 120_000;

/// Queues that have a message in common.
const SEVERAL: [&str; 3] = ["first of several", "second of several", "third of several"];
const TO_SEVERAL: [&str; 3] = ["one", "two", "three"];

fn exchange(name: &str) -> ExchangeName {
    ExchangeName::new(name).unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn key(name: &str) -> RoutingKey {
    RoutingKey::new(name).unwrap()
}

fn tenant() -> VhostName {
    VhostName::new("tenant").unwrap()
}

fn ada() -> UserName {
    UserName::new("ada").unwrap()
}

fn permissions() -> Permissions {
    let [configure, write, read] = ["^$", "^jobs", ".*"].map(str::to_owned);
    Permissions { configure, write, read }
}

fn exchanges() -> [ExchangeSpec; 3] {
    [
        ExchangeSpec::durable(exchange("events"), ExchangeKind::Headers)
            .alternate(exchange("rest")),
        ExchangeSpec::durable(exchange("rest"), ExchangeKind::Fanout).internal(),
        ExchangeSpec::durable(exchange("topics"), ExchangeKind::Topic).auto_delete(),
    ]
}

fn retry() -> RetryPolicy {
    RetryPolicy {
        attempts_max: 5,
        backoff: Backoff::Exponential { first_ms: RETRY_MS, max_ms: 600_000 },
        jitter: 0.0,
    }
}

fn settings() -> QueueSettings {
    QueueSettings {
        message_ttl_ms: Some(3_600_000),
        expires_ms: Some(7_200_000),
        length_max: Some(1_000),
        length_bytes_max: Some(1_000_000),
        overflow: Some(Overflow::RejectPublishDlx),
        dead_letter: Some(DeadLetter { exchange: exchange(""), routing_key: Some(key("dead")) }),
        delivery_limit: Some(7),
        retry: Some(RetryPolicy { backoff: Backoff::Fixed { delay_ms: 5 }, ..retry() }),
        consumer_timeout_ms: Some(1_800_000),
    }
}

fn tenant_queue() -> QueueSpec {
    QueueSpec { settings: settings(), ..QueueSpec::quorum(queue("jobs")).single_active_consumer() }
}

fn bindings() -> [Binding; 2] {
    [
        Binding::queue(exchange("events"), queue("jobs"), key("")).with_arguments(every_value()),
        Binding::exchange(exchange("topics"), exchange("rest"), key("order.#")),
    ]
}

fn policy() -> Policy {
    Policy {
        name: "long".to_owned(),
        pattern: "^x\\.".to_owned(),
        priority: 3,
        applies_to: AppliesTo::Exchanges,
        queue: QueueSettings {
            retry: Some(RetryPolicy {
                backoff: Backoff::Linear { first_ms: 1, max_ms: 9 },
                ..retry()
            }),
            overflow: Some(Overflow::DropHead),
            ..QueueSettings::default()
        },
        alternate: Some(exchange("rest")),
    }
}

/// A header of every type of value.
fn every_value() -> Headers {
    let table: Headers = [("within".to_owned(), Value::from("a table"))].into_iter().collect();
    let values = [
        ("binary", Value::Binary(Bytes::from_static(b"\0\xff"))),
        ("bool", Value::Bool(true)),
        ("double", Value::Double(0.5)),
        ("int", Value::Int(-7)),
        ("list", Value::List(vec![Value::Int(1), Value::from("two")])),
        ("table", Value::Table(table)),
        ("text", Value::from("text")),
        ("timestamp", Value::Timestamp(1_750_000_000)),
        ("void", Value::Void),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A message with every property.
fn whole() -> Message {
    let text = |text: &str| Some(text.to_owned());
    let mut message = Message::new(exchange("amq.fanout"), key("key"), "whole");
    message.properties = Properties::from(Labels {
        content_type: text("application/json"),
        content_encoding: text("gzip"),
        correlation_id: text("correlation"),
        reply_to: text("reply"),
        message_id: text("message"),
        timestamp_s: Some(1_750_000_000),
        kind: text("kind"),
        user_id: text("user"),
        app_id: text("app"),
    });
    message.properties.headers = every_value();
    message.properties.persistent = true;
    message.properties.priority = Some(2);
    message.properties.expiration_ms = Some(86_400_000);
    message
}

fn to_queue(name: &str, body: impl Into<Bytes>) -> Message {
    Message::new(exchange(""), key(name), body).persistent()
}

async fn publish(broker: &Broker, message: Message) {
    broker.publish(message).await.unwrap().confirm.await.unwrap();
}

fn ask(open: &Open, line: &[&str]) -> Reply {
    ask_in(open, 0, line)
}

fn ask_in(open: &Open, db: u8, line: &[&str]) -> Reply {
    let line: Vec<Bytes> =
        line.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    let command = Command::parse(&line).unwrap();
    open.cache.execute_in(db, &[command], None).replies.remove(0)
}

/// Declares the queues that have messages in common; again, if they are there.
fn declare_several(broker: &Broker) {
    for name in SEVERAL {
        broker.declare_queue(QueueSpec::durable(queue(name))).unwrap();
        broker.bind(Binding::queue(exchange("amq.direct"), queue(name), key("all"))).unwrap();
    }
}

fn to_several(body: &'static str) -> Message {
    Message::new(exchange("amq.direct"), key("all"), body).persistent()
}

pub async fn fill(open: &Open) {
    drop(open.broker.create_vhost(&tenant()));
    let broker = open.broker.in_vhost(&tenant()).unwrap();
    for spec in exchanges() {
        broker.declare_exchange(spec).unwrap();
    }
    broker.declare_queue(tenant_queue()).unwrap();
    for binding in bindings() {
        broker.bind(binding).unwrap();
    }
    broker.set_user(&ada(), "secret").unwrap().await.unwrap();
    broker.set_permissions(&ada(), permissions()).unwrap().await.unwrap();
    broker.set_policy(policy()).unwrap().await.unwrap();

    let broker = &open.broker;
    for name in ["a", "b", "dead", "large", "later"] {
        broker.declare_queue(QueueSpec::durable(queue(name)).priorities(3)).unwrap();
    }
    let failing = QueueSpec::durable(queue("failing")).retry(retry());
    broker.declare_queue(failing).unwrap();
    let dying = QueueSpec::durable(queue("dying")).dead_letter(exchange(""), Some(key("dead")));
    broker.declare_queue(dying).unwrap();
    for name in ["a", "b"] {
        broker.bind(Binding::queue(exchange("amq.fanout"), queue(name), key(""))).unwrap();
    }
    publish(broker, whole()).await;
    broker.get(&queue("a")).unwrap().unwrap().ack().unwrap().await.unwrap();
    broker.get(&queue("b")).unwrap().unwrap().requeue();
    for name in ["failing", "dying"] {
        publish(broker, to_queue(name, name.to_owned())).await;
        broker.get(&queue(name)).unwrap().unwrap().fail("no stock");
    }
    publish(broker, to_queue("large", vec![b'x'; LARGE_BYTES])).await;
    let mut later = to_queue("later", "later");
    later.properties.headers.set("x-delay", i64::try_from(DELAY_MS).unwrap());
    publish(broker, later).await;
    declare_several(broker);
    for body in TO_SEVERAL {
        publish(broker, to_several(body)).await;
    }
    broker.get(&queue(SEVERAL[0])).unwrap().unwrap().ack().unwrap().await.unwrap();

    for line in [
        &["SET", "plain", "value"][..],
        &["SET", "short", "lived", "PX", "60000"],
        &["RPUSH", "list", "one", "two", "three"],
        &["LPUSH", "list", "zero"],
        &["HSET", "hash", "field", "value", "binary", "\0\r\n"],
        &["SADD", "set", "one", "two"],
        &["ZADD", "zset", "1.5", "one", "-inf", "two"],
    ] {
        assert!(!matches!(ask(open, line), Reply::Error(_)), "{line:?}");
    }
    for line in [
        &["SET", "elsewhere", "value", "PX", "60000"][..],
        &["HSET", "hash", "field", "of two"],
        &["SWAPDB", "2", "15"],
    ] {
        assert!(!matches!(ask_in(open, 2, line), Reply::Error(_)), "{line:?}");
    }
}

/// `with_several`: the format tags messages of several queues.
pub async fn check(open: &Open, with_several: bool) {
    check_tenant(&open.broker.in_vhost(&tenant()).unwrap());
    check_messages(open);
    check_cache(open);
    // Time goes on from where it was.
    open.clock.advance_ms(DELAY_MS);
    open.broker.tick();
    let failed = open.broker.get(&queue("failing")).unwrap().unwrap();
    assert_eq!((failed.retry_count(), &failed.message().body[..]), (1, &b"failing"[..]));
    failed.ack().unwrap().await.unwrap();
    let later = open.broker.get(&queue("later")).unwrap().unwrap();
    assert_eq!(&later.message().body[..], b"later");
    later.ack().unwrap().await.unwrap();
    assert_eq!(ask(open, &["GET", "short"]), Reply::Nil);
    if with_several {
        check_several(open).await;
    }
}

/// Takes them: the first is settled in the first queue already.
async fn check_several(open: &Open) {
    for (name, settled) in SEVERAL.into_iter().zip([1, 0, 0]) {
        for body in &TO_SEVERAL[settled..] {
            let delivery = open.broker.get(&queue(name)).unwrap().unwrap();
            assert_eq!(
                (&delivery.message().body[..], delivery.redelivered()),
                (body.as_bytes(), false)
            );
            delivery.ack().unwrap().await.unwrap();
        }
        assert!(open.broker.get(&queue(name)).unwrap().is_none(), "{name}");
    }
}

fn check_tenant(broker: &Broker) {
    for spec in exchanges() {
        assert_eq!(broker.exchange(&spec.name).unwrap(), spec);
    }
    assert_eq!(broker.queue_spec(&queue("jobs")).unwrap(), tenant_queue());
    let found = broker.bindings();
    assert_eq!(found.len(), 2);
    assert!(bindings().iter().all(|binding| found.contains(binding)), "{found:?}");
    assert_eq!(broker.policies(), [policy()]);
    assert!(broker.authenticate("ada", "secret", false).is_ok());
    assert!(broker.authenticate("ada", "Secret", false).is_err());
    assert_eq!(broker.permissions(), [(ada(), permissions())]);
}

fn check_messages(open: &Open) {
    let depth = |name: &str| {
        let status = open.broker.queue_status(&queue(name)).unwrap();
        (status.ready, status.delayed)
    };
    let depths = ["a", "b", "dead", "large", "later", "failing", "dying"].map(depth);
    assert_eq!(depths, [(0, 0), (1, 0), (1, 0), (1, 0), (0, 1), (0, 1), (0, 0)]);
    let peek = |name: &str| open.broker.peek(&queue(name), 1).unwrap().remove(0);
    // It was stopped in order, so only what was delivered is flagged.
    let (whole_one, large) = (peek("b"), peek("large"));
    assert_eq!((whole_one.message, whole_one.redelivered), (whole(), true));
    assert_eq!((large.message.body.len(), large.redelivered), (LARGE_BYTES, false));
    assert!(large.message.body.iter().all(|&byte| byte == b'x'));
    let dead = peek("dead").message;
    let text = |name: &str| dead.properties.headers.get(name).and_then(Value::as_text);
    assert_eq!(text("x-first-death-reason"), Some("rejected"));
    assert_eq!(text("x-last-error"), Some("no stock"));
}

fn check_cache(open: &Open) {
    let bulk = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
    assert_eq!(ask(open, &["GET", "plain"]), bulk("value"));
    assert_eq!(ask(open, &["GET", "short"]), bulk("lived"));
    assert_eq!(ask(open, &["PTTL", "short"]), Reply::Integer(60_000));
    assert_eq!(
        ask(open, &["LRANGE", "list", "0", "-1"]),
        Reply::Array(["zero", "one", "two", "three"].map(bulk).into())
    );
    assert_eq!(ask(open, &["HGET", "hash", "field"]), bulk("value"));
    assert_eq!(ask(open, &["HGET", "hash", "binary"]), bulk("\0\r\n"));
    assert_eq!(ask(open, &["HLEN", "hash"]), Reply::Integer(2));
    assert_eq!(ask(open, &["SISMEMBER", "set", "two"]), Reply::Integer(1));
    assert_eq!(ask(open, &["SCARD", "set"]), Reply::Integer(2));
    assert_eq!(
        ask(open, &["ZRANGE", "zset", "0", "-1"]),
        Reply::Array(["two", "one"].map(bulk).into())
    );
    assert_eq!(ask(open, &["ZSCORE", "zset", "one"]), Reply::Double(1.5));
    // In another database, which has changed its number.
    assert_eq!(ask_in(open, 15, &["GET", "elsewhere"]), bulk("value"));
    assert_eq!(ask_in(open, 15, &["PTTL", "elsewhere"]), Reply::Integer(60_000));
    assert_eq!(ask_in(open, 15, &["HGET", "hash", "field"]), bulk("of two"));
    assert_eq!(ask_in(open, 2, &["DBSIZE"]), Reply::Integer(0));
}

/// A journal of that format goes on.
pub async fn write_on(open: &Open) {
    publish(&open.broker, to_queue("a", "new")).await;
    // In several queues, and settled in one of them.
    declare_several(&open.broker);
    publish(&open.broker, to_several("for all")).await;
    drop(open.broker.get(&queue(SEVERAL[0])).unwrap().unwrap().ack());
    assert_eq!(ask(open, &["RPUSH", "list", "four"]), Reply::Integer(5));
    open.journal.flush().await.unwrap();
}

pub fn check_written_on(open: &Open) {
    let peeked = open.broker.peek(&queue("a"), 10).unwrap();
    assert_eq!(peeked.len(), 1);
    assert_eq!(&peeked[0].message.body[..], b"new");
    let ready = SEVERAL.map(|name| open.broker.queue(&queue(name)).unwrap().ready);
    assert_eq!(ready, [0, 1, 1]);
    for name in &SEVERAL[1..] {
        let left = open.broker.get(&queue(name)).unwrap().unwrap();
        assert_eq!(&left.message().body[..], b"for all");
    }
    assert_eq!(ask(open, &["LLEN", "list"]), Reply::Integer(5));
    assert_eq!(open.broker.queue_status(&queue("failing")).unwrap().delayed, 0);
}
