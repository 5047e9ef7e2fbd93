//! What can happen to a broker, drawn at random.

use leveret::broker::{ConsumeOptions, DeleteIf};
use leveret::model::topology::{
    Backoff, DeadLetter, ExchangeKind, ExchangeSpec, Overflow, Policy, QueueKind, QueueSettings,
    QueueSpec, RetryPolicy,
};

use crate::disk::Random;
use crate::headers::{ARGUMENTS, HEADERS, Header};
use crate::letter::BODY_BYTES_MIN;
use crate::names::{exchange_name, key, queue_name};

/// Names a consumer for good.
pub type ConsumerNumber = u64;
/// Names a delivery in somebody's hands for good.
pub type HandNumber = u64;

#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    pub exchange: &'static str,
    pub key: &'static str,
    pub body: u64,
    pub body_bytes: u64,
    pub persistent: bool,
    pub priority: Option<u8>,
    pub ttl_ms: Option<u64>,
    pub delay_ms: Option<u64>,
    pub headers: &'static [Header],
    /// More routing keys.
    pub cc: &'static [&'static str],
    /// The same, that no receiver sees.
    pub bcc: &'static [&'static str],
}

#[derive(Debug, Clone)]
pub enum Step {
    DeclareExchange(ExchangeSpec),
    DeleteExchange {
        exchange: &'static str,
        if_unused: bool,
    },
    DeclareQueue(QueueSpec),
    DeleteQueue(&'static str, DeleteIf),
    Bind {
        exchange: &'static str,
        queue: &'static str,
        key: &'static str,
    },
    Unbind {
        exchange: &'static str,
        queue: &'static str,
        key: &'static str,
    },
    /// A binding to an exchange.
    Chain {
        exchange: &'static str,
        to: &'static str,
        key: &'static str,
    },
    Unchain {
        exchange: &'static str,
        to: &'static str,
        key: &'static str,
    },
    Publish(Publish),
    /// At once.
    PublishAll(Vec<Publish>),
    Get(&'static str, HandNumber),
    Consume {
        queue: &'static str,
        number: ConsumerNumber,
        options: ConsumeOptions,
    },
    Take(ConsumerNumber, HandNumber),
    Cancel(ConsumerNumber),
    Ack(HandNumber),
    /// In one commit with what follows from it.
    AckWith(HandNumber, Vec<Publish>),
    Requeue(HandNumber),
    Fail(HandNumber),
    Advance(u64),
    Purge(&'static str),
    /// The `nth` ready message goes back to where it died.
    Redrive {
        queue: &'static str,
        nth: usize,
    },
    SetPolicy(Policy),
    ClearPolicy(&'static str),
    /// By the other connection.
    ByPeer(Box<Step>),
    /// The other connection closes, and opens again.
    HangUp,
    /// Waits until everything so far is on disk.
    Flush,
    /// A stop in order, and a start.
    Restart,
    /// The power goes, and comes back.
    Crash,
}

impl Step {
    /// What is done, whoever does it.
    pub fn inner(&self) -> &Self {
        match self {
            Self::ByPeer(step) => step,
            _ => self,
        }
    }

    /// Whose queue it is may matter to it.
    fn is_about(&self, name: &str) -> bool {
        match self {
            Self::DeclareQueue(spec) => spec.name.as_str() == name,
            Self::DeleteQueue(queue, _) | Self::Get(queue, _) | Self::Purge(queue) => {
                *queue == name
            }
            Self::Bind { queue, .. } | Self::Unbind { queue, .. } => *queue == name,
            Self::Consume { queue, .. } => *queue == name,
            _ => false,
        }
    }
}

pub const QUEUES: [&str; 6] = ["a", "b", "c", "d", "dead", "temp"];
const EXCHANGES: [&str; 6] = ["fan", "direct", "topic", "auto", "passing", "heads"];
/// The queue that may be one connection's.
const EXCLUSIVE: &str = "temp";
const PATTERNS: [&str; 4] = ["#", "k.*", "*.x", "a"];
const KEYS: [&str; 6] = ["k.x", "k.y", "a", "b", "dead", "c"];
const MORE_KEYS: [&[&str]; 4] = [&["a"], &["k.x", "c"], &["dead", "dead"], &["temp", "k.y"]];
const POLICIES: [&str; 3] = ["one", "two", "three"];

/// What the generator has to know of the run so far.
#[derive(Default)]
pub struct Seen {
    pub consumers: Vec<ConsumerNumber>,
    pub hands: Vec<HandNumber>,
    pub next_number: u64,
    pub sizes: Sizes,
}

/// How long bodies are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// Up to some KiB: what dies at once is no more than a queue buries in one step.
    #[default]
    Small,
    /// Up to 300 KiB, and no two messages die at once.
    Large,
}

impl Seen {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

pub fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

fn maybe<T>(random: &mut Random, chances: u64, value: impl FnOnce(&mut Random) -> T) -> Option<T> {
    random.one_in(chances).then(|| value(random))
}

pub fn exchange_kind(exchange: &str) -> ExchangeKind {
    match exchange {
        "direct" => ExchangeKind::Direct,
        "topic" => ExchangeKind::Topic,
        "heads" => ExchangeKind::Headers,
        _ => ExchangeKind::Fanout,
    }
}

fn exchange_spec(exchange: &'static str) -> ExchangeSpec {
    let spec = ExchangeSpec::durable(exchange_name(exchange), exchange_kind(exchange));
    match exchange {
        "direct" => spec.alternate(exchange_name("fan")),
        "auto" => spec.auto_delete(),
        "heads" => spec.alternate(exchange_name("")),
        "passing" => ExchangeSpec { durable: false, ..spec },
        _ => spec,
    }
}

fn settings(random: &mut Random, sizes: Sizes) -> QueueSettings {
    let retry = |random: &mut Random| RetryPolicy {
        attempts_max: 1 + u32::try_from(random.below(3)).unwrap(),
        backoff: Backoff::Linear { first_ms: 5, max_ms: 20 },
        jitter: 0.0,
    };
    let dead_letter = |random: &mut Random| match random.below(4) {
        0 => {
            let exchange = exchange_name(pick(random, &["fan", "heads", "topic"]));
            DeadLetter { exchange, routing_key: None }
        }
        1 => DeadLetter {
            exchange: exchange_name(""),
            routing_key: Some(key(pick(random, &QUEUES))),
        },
        _ => DeadLetter { exchange: exchange_name(""), routing_key: Some(key("dead")) },
    };
    let settings = QueueSettings {
        message_ttl_ms: maybe(random, 4, |random| random.below(30)),
        expires_ms: maybe(random, 12, |random| 20 + random.below(60)),
        length_max: maybe(random, 3, |random| 1 + random.below(6)),
        length_bytes_max: maybe(random, 6, |random| BODY_BYTES_MIN * (1 + random.below(6))),
        overflow: maybe(random, 2, |random| {
            pick(random, &[Overflow::DropHead, Overflow::RejectPublish, Overflow::RejectPublishDlx])
        }),
        dead_letter: maybe(random, 2, dead_letter),
        delivery_limit: maybe(random, 4, |random| u32::try_from(random.below(4)).unwrap()),
        retry: maybe(random, 4, retry),
        consumer_timeout_ms: maybe(random, 6, |random| 5 + random.below(20)),
    };
    match sizes {
        Sizes::Small => settings,
        Sizes::Large => QueueSettings {
            message_ttl_ms: None,
            length_max: None,
            length_bytes_max: None,
            delivery_limit: None,
            ..settings
        },
    }
}

fn queue_spec(random: &mut Random, queue: &'static str, sizes: Sizes) -> QueueSpec {
    let mut spec = QueueSpec::durable(queue_name(queue));
    spec.durable = !random.one_in(5);
    spec.auto_delete = random.one_in(8);
    spec.single_active_consumer = random.one_in(6);
    spec.priority_max = maybe(random, 5, |random| 1 + u8::try_from(random.below(3)).unwrap());
    spec.exclusive = queue == EXCLUSIVE && random.one_in(2);
    let may_be_quorum =
        spec.durable && !spec.auto_delete && !spec.exclusive && spec.priority_max.is_none();
    if may_be_quorum && random.one_in(3) {
        spec.kind = QueueKind::Quorum;
    }
    if !random.one_in(3) {
        spec.settings = settings(random, sizes);
    }
    spec
}

/// Most bodies are their number alone; of the large ones some take a row of the log for themselves, or two.
fn body_bytes(body: u64, sizes: Sizes) -> u64 {
    let mut random = Random(body);
    match random.below(24) {
        0 if sizes == Sizes::Large => 1_024 * (1 + random.below(300)),
        0..3 => BODY_BYTES_MIN + random.below(4_000),
        _ => BODY_BYTES_MIN,
    }
}

fn publish(random: &mut Random, seen: &mut Seen) -> Publish {
    let (exchange, key) = match random.below(3) {
        0 => (pick(random, &EXCHANGES), pick(random, &KEYS)),
        _ => ("", pick(random, &QUEUES)),
    };
    let (body, sizes) = (seen.number(), seen.sizes);
    Publish {
        exchange,
        key,
        body,
        body_bytes: body_bytes(body, sizes),
        persistent: !random.one_in(4),
        priority: maybe(random, 4, |random| u8::try_from(random.below(5)).unwrap()),
        ttl_ms: maybe(random, 6, |random| random.below(25)).filter(|_| sizes != Sizes::Large),
        delay_ms: maybe(random, 12, |random| random.below(25)),
        headers: maybe(random, 2, |random| pick(random, &HEADERS)).unwrap_or_default(),
        cc: maybe(random, 10, |random| pick(random, &MORE_KEYS)).unwrap_or_default(),
        bcc: maybe(random, 10, |random| pick(random, &MORE_KEYS)).unwrap_or_default(),
    }
}

/// Some of them follow each other to one place.
fn publish_all(random: &mut Random, seen: &mut Seen) -> Vec<Publish> {
    let mut all = vec![publish(random, seen)];
    for _ in 0..1 + random.below(5) {
        let mut next = publish(random, seen);
        if let Some(before) = all.last().filter(|_| !random.one_in(3)) {
            (next.exchange, next.key) = (before.exchange, before.key);
        }
        all.push(next);
    }
    all
}

/// Something to begin with.
pub fn prelude(random: &mut Random, sizes: Sizes) -> Vec<Step> {
    let exchanges = EXCHANGES.map(|exchange| Step::DeclareExchange(exchange_spec(exchange)));
    let declared = |queue| match queue_spec(random, queue, sizes) {
        spec if spec.exclusive => Step::ByPeer(Box::new(Step::DeclareQueue(spec))),
        spec => Step::DeclareQueue(spec),
    };
    let queues = QUEUES.map(declared);
    let bound = [("fan", "a"), ("fan", "b"), ("topic", "c"), ("topic", "d"), ("passing", "a")];
    let bindings = bound.map(|(exchange, queue)| Step::Bind { exchange, queue, key: "#" });
    let by_headers = [("b", ARGUMENTS[1]), ("c", ARGUMENTS[4]), ("dead", ARGUMENTS[3])];
    let by_headers = by_headers.map(|(queue, key)| Step::Bind { exchange: "heads", queue, key });
    let chain = Step::Chain { exchange: "topic", to: "passing", key: "k.*" };
    exchanges.into_iter().chain(queues).chain(bindings).chain(by_headers).chain([chain]).collect()
}

/// What an exchange is bound to, if not to a queue. None that goes with its last binding is: those of a chain
/// of them would go one by one. Drawn aside, so that what else is drawn stays what it was.
fn chained(random: &Random, exchange: &str) -> Option<&'static str> {
    let mut aside = Random(!random.0);
    (exchange != "auto" && aside.one_in(2)).then(|| pick(&mut aside, &EXCHANGES))
}

/// What a binding is made with.
fn binding_key(random: &mut Random, exchange: &str, literal: &[&'static str]) -> &'static str {
    match exchange {
        "direct" => pick(random, literal),
        "heads" => pick(random, &ARGUMENTS),
        _ => pick(random, &PATTERNS),
    }
}

/// The next step, by one of two connections where that matters.
pub fn draw(random: &mut Random, seen: &mut Seen) -> Step {
    let step = draw_alone(random, seen);
    match step.is_about(EXCLUSIVE) && random.one_in(2) {
        true => Step::ByPeer(Box::new(step)),
        false => step,
    }
}

/// Most of them publish, take and settle.
fn draw_alone(random: &mut Random, seen: &mut Seen) -> Step {
    let queue = pick(random, &QUEUES);
    let exchange = pick(random, &EXCHANGES);
    match random.below(100) {
        0..28 => Step::Publish(publish(random, seen)),
        28..34 => Step::PublishAll(publish_all(random, seen)),
        34..44 => Step::Get(queue, seen.number()),
        44..54 if !seen.consumers.is_empty() => {
            Step::Take(pick(random, &seen.consumers), seen.number())
        }
        54..72 if !seen.hands.is_empty() => {
            let hand = pick(random, &seen.hands);
            match random.below(6) {
                0 => Step::Requeue(hand),
                1 => Step::Fail(hand),
                2 => Step::AckWith(hand, publish_all(random, seen)),
                _ => Step::Ack(hand),
            }
        }
        72..75 => {
            let options = ConsumeOptions {
                prefetch: u16::try_from(random.below(4)).unwrap(),
                no_ack: random.one_in(4),
                exclusive: random.one_in(10),
                priority: i64::try_from(random.below(3)).unwrap(),
            };
            Step::Consume { queue, number: seen.number(), options }
        }
        75..77 if !seen.consumers.is_empty() => Step::Cancel(pick(random, &seen.consumers)),
        77..82 => Step::Advance(1 + random.below(12)),
        82 => Step::DeclareExchange(exchange_spec(exchange)),
        83 if random.one_in(2) => Step::HangUp,
        83 if random.one_in(2) => Step::DeleteExchange { exchange, if_unused: random.one_in(2) },
        84..87 => Step::DeclareQueue(queue_spec(random, queue, seen.sizes)),
        87 if random.one_in(2) => {
            let only = DeleteIf { unused: random.one_in(3), empty: random.one_in(3) };
            Step::DeleteQueue(queue, only)
        }
        88..90 => {
            let key = binding_key(random, exchange, &KEYS);
            match chained(random, exchange) {
                Some(to) => Step::Chain { exchange, to, key },
                None => Step::Bind { exchange, queue, key },
            }
        }
        90 => {
            let key = binding_key(random, exchange, &PATTERNS);
            match chained(random, exchange) {
                Some(to) => Step::Unchain { exchange, to, key },
                None => Step::Unbind { exchange, queue, key },
            }
        }
        91 if random.one_in(2) => Step::Purge(queue),
        92 => Step::Redrive { queue: "dead", nth: 0 },
        93 if random.one_in(2) => Step::SetPolicy(Policy {
            name: pick(random, &POLICIES).to_owned(),
            pattern: format!("^{queue}$"),
            priority: i64::try_from(random.below(3)).unwrap(),
            queue: settings(random, seen.sizes),
            ..Policy::default()
        }),
        94 if random.one_in(2) => Step::ClearPolicy(pick(random, &POLICIES)),
        95..98 => Step::Flush,
        98 if random.one_in(2) => Step::Restart,
        99 if random.one_in(2) => Step::Crash,
        _ => Step::Publish(publish(random, seen)),
    }
}
