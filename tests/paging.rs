//! A backlog that leaves memory behaves as one that stays: the same steps on two brokers, of which one
//! keeps everything and the other nothing that it can read back. `LEVERET_SEEDS` sets how many seeds
//! are played, `LEVERET_SEED` from which on.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use leveret::broker::{Broker, BrokerError, BrokerOptions, DeleteIf, Delivery, Edit, Recovery};
use leveret::journal::{Content, FolderStore, Group, Journal, JournalOptions};
use leveret::model::clock::ManualClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::{Backoff, Binding, Overflow, QueueSpec, RetryPolicy};

#[path = "gateway_protocol/stores.rs"]
#[allow(dead_code)]
mod stores;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn fanned(name: &str) -> Binding {
    let (source, key) = (ExchangeName::new("amq.fanout").unwrap(), RoutingKey::new("").unwrap());
    Binding::queue(source, queue(name), key)
}

fn message(exchange: &str, key: &str, body: Vec<u8>) -> Message {
    Message::new(ExchangeName::new(exchange).unwrap(), RoutingKey::new(key).unwrap(), body)
        .persistent()
}

const EVERYTHING: u64 = u64::MAX / 4;

/// A broker on a journal of its own.
struct Side {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    options: BrokerOptions,
    disk: Arc<stores::Disk>,
    journal: Journal,
    broker: Broker,
}

fn open(
    folder: &Path,
    clock: &Arc<ManualClock>,
    options: &BrokerOptions,
) -> (Arc<stores::Disk>, Journal, Broker) {
    let mut recovery = Recovery::default();
    let (store, disk) = stores::store(folder);
    // Small segments, so that they are sealed and compacted.
    let journal_options = JournalOptions { segment_bytes_max: 64 * 1024, ..Default::default() };
    let journal = Journal::open_by_tags(store, journal_options, &mut |entry, kind, content| {
        match content {
            // The one that keeps everything reads everything.
            Content::Tag(_) if options.ready_bytes_max == EVERYTHING => Ok(false),
            content => recovery.accept_content(entry, kind, content),
        }
    });
    let journal = journal.unwrap();
    let (clock, options) = (clock.clone(), options.clone());
    let broker = Broker::with_options(journal.clone(), clock, recovery, options);
    (disk, journal, broker)
}

/// Each that dead-letters has a queue of its own for it: queues that are due at the same moment may come
/// in any order.
const QUEUES: [&str; 9] =
    ["plain", "levels", "dying", "short", "left", "right", "dead 0", "dead 1", "dead 2"];

/// One with priorities and one with a time to live among them; both dead-letter.
const FANNED_OUT: [&str; 4] = ["left", "right", "levels", "dying"];

impl Side {
    fn new(ready_bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, options) = (ManualClock::at(1_000_000), BrokerOptions { ready_bytes_max });
        let (disk, journal, broker) = open(folder.path(), &clock, &options);
        let dead = |spec: QueueSpec, number| {
            let key = RoutingKey::new(format!("dead {number}")).unwrap();
            spec.dead_letter(ExchangeName::new("").unwrap(), Some(key))
        };
        let retry =
            RetryPolicy { attempts_max: 3, backoff: Backoff::Fixed { delay_ms: 40 }, jitter: 0.0 };
        for spec in [
            QueueSpec::durable(queue("plain")),
            dead(QueueSpec::durable(queue("levels")).priorities(3), 0),
            dead(QueueSpec::durable(queue("dying")).message_ttl_ms(300).retry(retry), 1),
            dead(QueueSpec::durable(queue("short")).length_max(20, Overflow::DropHead), 2),
            QueueSpec::durable(queue("left")),
            QueueSpec::durable(queue("right")),
            QueueSpec::durable(queue("dead 0")),
            QueueSpec::durable(queue("dead 1")),
            QueueSpec::durable(queue("dead 2")),
        ] {
            broker.declare_queue(spec).unwrap();
        }
        for name in FANNED_OUT {
            broker.bind(fanned(name)).unwrap();
        }
        Self { folder, clock, options, disk, journal, broker }
    }

    fn restart(&mut self, in_order: bool, runtime: &tokio::runtime::Runtime) {
        if in_order {
            self.broker.cancel_consumers();
            runtime.block_on(self.broker.close()).unwrap();
        }
        runtime.block_on(self.journal.flush()).unwrap();
        self.journal.close();
        (self.disk, self.journal, self.broker) =
            open(self.folder.path(), &self.clock, &self.options);
    }

    fn counts(&self) -> Vec<(String, usize, usize, usize)> {
        let queues = self.broker.queues().into_iter();
        queues.map(|q| (q.name.to_string(), q.ready, q.unacked, q.delayed)).collect()
    }

    fn on_disk(&self) -> usize {
        self.broker.queues().iter().map(|status| status.on_disk).sum()
    }
}

/// What a step shows of a delivery.
type Shown = (Message, bool, u32, u32);

fn shown(delivery: &Delivery) -> Shown {
    let message = delivery.message().clone();
    (message, delivery.redelivered(), delivery.retry_count(), delivery.delivery_count())
}

#[derive(Debug, PartialEq)]
enum Seen {
    Nothing,
    Got(Option<Box<Shown>>),
    Peeked(Vec<(Message, bool)>),
    Redriven(Result<bool, String>),
    Removed(usize),
}

/// One step, drawn once and taken on both sides.
#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<Message>),
    Flush,
    Get(&'static str),
    Settle {
        choice: usize,
        how: usize,
    },
    Peek(&'static str, usize),
    /// Of the n-th message that a peek shows.
    Redrive(&'static str, usize),
    Purge(&'static str),
    Delete(&'static str),
    Pass(u64),
    Restart {
        in_order: bool,
    },
}

fn step(random: &mut Random, next: &mut u32) -> Step {
    let any = QUEUES[random.below(QUEUES.len())];
    match random.below(100) {
        0..35 => {
            let messages = (0..=random.below(8)).map(|_| {
                *next += 1;
                let bytes = [4, 40, 400, 9_000][random.below(4)];
                let mut body = next.to_le_bytes().to_vec();
                body.resize(bytes, 7);
                let target = QUEUES[random.below(6)];
                let mut one = match target {
                    "left" | "right" => message("amq.fanout", "", body),
                    target => message("", target, body),
                };
                one.properties.priority = [None, Some(1), Some(3)][random.below(3)];
                if random.below(12) == 0 {
                    one.properties.expiration_ms = Some(random.next() % 400);
                }
                if random.below(25) == 0 {
                    one.properties
                        .headers
                        .set("x-delay", i64::try_from(random.below(300)).unwrap());
                }
                one.properties.persistent = random.below(20) > 0;
                one
            });
            Step::Publish(messages.collect())
        }
        35..45 => Step::Flush,
        45..65 => Step::Get(any),
        65..80 => Step::Settle { choice: random.below(1_000), how: random.below(5) },
        80..84 => Step::Peek(any, 1 + random.below(40)),
        84..88 => Step::Redrive(QUEUES[6 + random.below(3)], random.below(30)),
        88..89 => Step::Purge(any),
        89..90 => Step::Delete(["plain", "left"][random.below(2)]),
        90..98 => Step::Pass(random.next() % 60),
        _ => Step::Restart { in_order: random.below(2) == 0 },
    }
}

fn take(
    side: &mut Side,
    in_hand: &mut Vec<Delivery>,
    step: &Step,
    runtime: &tokio::runtime::Runtime,
) -> Seen {
    match step {
        Step::Publish(messages) => {
            for message in messages {
                drop(side.broker.try_publish(message.clone()).unwrap());
            }
            Seen::Nothing
        }
        Step::Flush => {
            runtime.block_on(side.journal.flush()).unwrap();
            side.broker.page_out();
            Seen::Nothing
        }
        Step::Get(name) => {
            let delivery = side.broker.get(&queue(name)).unwrap();
            let seen = Seen::Got(delivery.as_ref().map(|delivery| Box::new(shown(delivery))));
            in_hand.extend(delivery);
            seen
        }
        Step::Settle { choice, how } if !in_hand.is_empty() => {
            let mut delivery = in_hand.remove(choice % in_hand.len());
            match how {
                2 => {
                    // Acknowledged with what follows from it.
                    let mut output = message("amq.fanout", "", choice.to_le_bytes().to_vec());
                    // Not its cause's place: the logs of the two need not agree in that.
                    output.properties.headers.set("x-cause", "a delivery");
                    if let Ok(claimed) = delivery.claim(vec![output]) {
                        drop(claimed.append(Group::new()).1.enqueue());
                    }
                }
                0 => delivery.requeue(),
                1 => delivery.fail("no"),
                _ => drop(delivery.ack()),
            }
            Seen::Nothing
        }
        Step::Settle { .. } => Seen::Nothing,
        Step::Peek(name, count) => {
            let peeked = side.broker.peek(&queue(name), *count).unwrap();
            Seen::Peeked(peeked.into_iter().map(|one| (one.message, one.redelivered)).collect())
        }
        Step::Redrive(name, at) => {
            let peeked = side.broker.peek(&queue(name), at + 1).unwrap();
            let Some(one) = peeked.get(*at) else { return Seen::Redriven(Ok(false)) };
            let edit = Edit::default();
            let redriven = side.broker.redrive(&queue(name), one.position, edit);
            Seen::Redriven(redriven.map(|moved| moved.is_some()).map_err(|error| error.to_string()))
        }
        Step::Purge(name) => Seen::Removed(side.broker.purge(&queue(name)).unwrap()),
        Step::Delete(name) => {
            let removed = side.broker.delete_queue(&queue(name), DeleteIf::default()).unwrap();
            side.broker.declare_queue(QueueSpec::durable(queue(name))).unwrap();
            if *name == "left" {
                side.broker.bind(fanned("left")).unwrap();
            }
            Seen::Removed(removed)
        }
        Step::Pass(by_ms) => {
            side.clock.advance_ms(*by_ms);
            side.broker.tick();
            Seen::Nothing
        }
        Step::Restart { in_order } => {
            let lost = std::mem::take(in_hand);
            side.restart(*in_order, runtime);
            // Too late for the journal that they came from.
            lost.into_iter().for_each(drop);
            Seen::Nothing
        }
    }
}

/// What was seen, in one line: of a body its number.
fn brief(seen: &Seen) -> String {
    let one = |message: &Message, redelivered: bool| {
        let (exchange, properties) = (&message.exchange, &message.properties);
        let (priority, expiration_ms) = (properties.priority, properties.expiration_ms);
        let number = number(&message.body);
        format!("{number} {exchange} {redelivered} {priority:?} {expiration_ms:?}")
    };
    match seen {
        Seen::Got(Some(shown)) => format!("{} {} {}", one(&shown.0, shown.1), shown.2, shown.3),
        Seen::Peeked(peeked) => {
            let all: Vec<String> = peeked.iter().map(|(it, again)| one(it, *again)).collect();
            all.join("; ")
        }
        other => format!("{other:?}"),
    }
}

/// How many messages were on the disk alone at the most.
fn play(seed: u64, steps: usize, ready_bytes_max: u64) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut random = Random(seed);
    let (mut kept, mut paged) = (Side::new(EVERYTHING), Side::new(ready_bytes_max));
    let (mut kept_in_hand, mut paged_in_hand) = (Vec::new(), Vec::new());
    let (mut next, mut most) = (0, 0);
    for at in 0..steps {
        let step = step(&mut random, &mut next);
        let expected = take(&mut kept, &mut kept_in_hand, &step, &runtime);
        let seen = take(&mut paged, &mut paged_in_hand, &step, &runtime);
        let (brief_seen, brief_expected) = (brief(&seen), brief(&expected));
        assert!(
            seen == expected,
            "seed {seed}, step {at}, {step:.80?}: {brief_seen} for {brief_expected}"
        );
        assert_eq!(paged.counts(), kept.counts(), "seed {seed}, step {at}, {step:?}");
        assert_eq!(kept.on_disk(), 0);
        most = most.max(paged.on_disk());
    }
    // What is left comes in the same order, and then nothing is left in either log.
    kept_in_hand.into_iter().for_each(Delivery::requeue);
    paged_in_hand.into_iter().for_each(Delivery::requeue);
    for name in QUEUES {
        loop {
            let (expected, seen) =
                (kept.broker.get(&queue(name)).unwrap(), paged.broker.get(&queue(name)).unwrap());
            assert_eq!(seen.as_ref().map(shown), expected.as_ref().map(shown), "seed {seed}");
            let (Some(expected), Some(seen)) = (expected, seen) else { break };
            drop((expected.ack(), seen.ack()));
        }
    }
    for side in [&mut kept, &mut paged] {
        let status = side.broker.queues();
        assert!(status.iter().all(|q| (q.ready, q.ready_bytes, q.on_disk) == (0, 0, 0)));
        for name in QUEUES {
            side.broker.delete_queue(&queue(name), DeleteIf::default()).unwrap();
        }
        runtime.block_on(side.journal.flush()).unwrap();
        let stats = side.journal.stats();
        assert_eq!(stats.live_facts, 0, "seed {seed}: {stats:?}");
    }
    most
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("LEVERET_SEED").unwrap_or(0);
    first..first + number("LEVERET_SEEDS").unwrap_or(default)
}

#[test]
fn a_backlog_behaves_the_same_on_the_disk_as_in_memory() {
    let mut most = 0;
    for seed in seeds(6) {
        // Single messages, short runs, and runs that are filled up.
        let ready_bytes_max = [0, 256 * 1_024, 1_024 * 1_024][usize::try_from(seed % 3).unwrap()];
        most = most.max(play(seed, 400, ready_bytes_max));
    }
    assert!(most > 50, "hardly anything left memory: {most}");
}

/// A broker with `count` messages in `plain`, all of them written, and all but the first on the disk.
fn paged(runtime: &tokio::runtime::Runtime, name: &str, count: u32) -> Side {
    paged_of(runtime, name, (0..count).map(|number| body(number, 100)))
}

fn body(number: u32, bytes: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(bytes, 7);
    body
}

fn paged_of(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    bodies: impl ExactSizeIterator<Item = Vec<u8>>,
) -> Side {
    let (side, count) = (Side::new(0), bodies.len());
    for body in bodies {
        drop(side.broker.try_publish(message("", name, body)).unwrap());
    }
    runtime.block_on(side.journal.flush()).unwrap();
    side.clock.advance_ms(200);
    side.broker.tick();
    let on_disk = side.on_disk();
    assert!(on_disk >= count - 1, "{on_disk} of {count}");
    side
}

#[test]
fn a_publisher_takes_a_little_of_a_backlog_out_of_memory_at_a_time() {
    const COUNT: u32 = 12_000;
    // A queue that holds so much may keep a 64th of it.
    const IN_MEMORY: u64 = 1024 * 1024;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let side = Side::new(IN_MEMORY);
    let (mut before, mut steps) = (0, 0);
    for at in 0..COUNT {
        drop(side.broker.try_publish(message("", "plain", at.to_le_bytes().to_vec())).unwrap());
        if at % 100 == 0 {
            runtime.block_on(side.journal.flush()).unwrap();
        }
        let on_disk = side.on_disk();
        assert!(on_disk - before <= 512, "{} at message {at}", on_disk - before);
        steps += u32::from(on_disk > before);
        before = on_disk;
    }
    // 388 bytes and what the queue needs of each.
    let bound = usize::try_from(IN_MEMORY).unwrap() / 388 + 200;
    let resident = COUNT as usize - before;
    assert!(resident <= bound && steps > 10, "{resident} in memory, in {steps} steps");
    // A look by the clock takes the rest that it may, in steps too.
    for _ in 0..10 {
        runtime.block_on(side.journal.flush()).unwrap();
        side.clock.advance_ms(101);
        side.broker.tick();
    }
    for at in 0..COUNT {
        let delivery = side.broker.get(&queue("plain")).unwrap().expect("all of them");
        assert_eq!(number(&delivery.message().body), at);
        drop(delivery.ack());
    }
}

/// A queue with so much behind its head that what comes is written and not kept.
fn long(runtime: &tokio::runtime::Runtime, count: u32) -> Side {
    let side = Side::new(1024 * 1024);
    for at in 0..count {
        drop(side.broker.try_publish(numbered(at)).unwrap());
        if at % 100 == 0 {
            runtime.block_on(side.journal.flush()).unwrap();
        }
    }
    side
}

fn numbered(number: u32) -> Message {
    message("", "plain", number.to_le_bytes().to_vec())
}

fn take_all(side: &Side, expected: impl Iterator<Item = u32>) {
    for number_expected in expected {
        let delivery = side.broker.get(&queue("plain")).unwrap().expect("all of them");
        assert_eq!(number(&delivery.message().body), number_expected);
        assert!(!delivery.redelivered());
        drop(delivery.ack());
    }
    assert!(side.broker.get(&queue("plain")).unwrap().is_none());
}

#[test]
fn what_comes_behind_a_long_backlog_never_enters_memory() {
    const LONG: u32 = 12_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut side = long(&runtime, LONG);
    // Nothing more fits into memory, and nothing is refused for it.
    side.broker.set_memory_limit(1024 * 1024);
    let (mut on_disk, mut next) = (side.on_disk(), LONG);
    let mut grew_by = |side: &Side, count: usize| {
        let before = std::mem::replace(&mut on_disk, side.on_disk());
        assert_eq!(on_disk - before, count);
    };
    // None of it is committed, and it is there all the same.
    let mut confirms = Vec::new();
    for _ in 0..3_000 {
        confirms.push(side.broker.try_publish(numbered(next)).unwrap().confirm);
        next += 1;
    }
    grew_by(&side, 3_000);
    let many = (next..next + 1_000).map(numbered);
    let published = side.broker.try_publish_all(many).unwrap();
    assert_eq!(published.unrouted().count(), 0);
    next += 1_000;
    grew_by(&side, 1_000);
    let last = side.broker.peek(&queue("plain"), 1_000_000).unwrap().pop().unwrap();
    assert_eq!(number(&last.message.body), next - 1);
    // A large one is encoded with its commit, and stays until then; what comes right behind it enters too.
    side.disk.hold();
    let mut large = next.to_le_bytes().to_vec();
    large.resize(9_000, 7);
    drop(side.broker.try_publish(message("", "plain", large)).unwrap());
    drop(side.broker.try_publish(numbered(next + 1)).unwrap());
    next += 2;
    grew_by(&side, 0);
    side.disk.release();
    runtime.block_on(async {
        for confirm in confirms {
            confirm.await.unwrap();
        }
        assert_eq!(published.confirms.all().await, []);
    });
    assert!(has_memory(&side.broker));
    side.restart(true, &runtime);
    take_all(&side, 0..next);
}

#[test]
fn who_waits_for_nothing_meets_the_memory_alarm_while_the_disk_stands_still() {
    const LONG: u32 = 12_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut side = long(&runtime, LONG);
    side.broker.set_memory_limit(4 * 1024 * 1024);
    let on_disk = side.on_disk();
    side.disk.hold();
    let mut next = LONG;
    let refused = loop {
        match side.broker.try_publish(message("", "plain", body(next, 300))) {
            Ok(published) => drop(published),
            Err(refused) => break refused,
        }
        next += 1;
    };
    assert!(matches!(refused, BrokerError::Alarm(_)), "{refused}");
    // What is written and not committed has the journal's bound, and the rest is kept and counted.
    let written = (side.on_disk() - on_disk) * 300;
    let uncommitted_bytes_max = JournalOptions::default().uncommitted_bytes_max;
    assert!((uncommitted_bytes_max / 3..uncommitted_bytes_max).contains(&written), "{written}");
    let kept = next as usize * 300 - LONG as usize * 300 - written;
    assert!((512 * 1024..4 * 1024 * 1024).contains(&kept), "{kept}");
    side.disk.release();
    side.restart(true, &runtime);
    take_all(&side, 0..next);
}

#[test]
fn what_expires_stays_on_the_disk_over_a_restart_and_goes_at_its_time() {
    const COUNT: u32 = 3_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut side = Side::new(0);
    for number in 0..2 * COUNT {
        let mut message = numbered(number);
        message.properties.expiration_ms = Some(if number < COUNT { 5_000 } else { 1_000_000 });
        if number % 3 == 0 {
            message.exchange = ExchangeName::new("amq.fanout").unwrap();
        }
        drop(side.broker.try_publish(message).unwrap());
    }
    let ready = |side: &Side, name| side.broker.queue_status(&queue(name)).unwrap().ready;
    for _ in 0..2 {
        side.restart(true, &runtime);
        assert_eq!((ready(&side, "plain"), ready(&side, "left")), (4_000, 2_000));
        // At most the first of each is in memory.
        let counts: usize = FANNED_OUT.map(|name| ready(&side, name)).iter().sum::<usize>() + 4_000;
        assert!(side.on_disk() + 5 >= counts, "{} of {counts}", side.on_disk());
    }
    side.clock.advance_ms(4_000);
    side.broker.tick();
    assert_eq!((ready(&side, "plain"), ready(&side, "left")), (4_000, 2_000));
    side.clock.advance_ms(2_000);
    side.broker.tick();
    assert_eq!((ready(&side, "plain"), ready(&side, "left")), (2_000, 1_000));
    take_all(&side, (COUNT..2 * COUNT).filter(|number| number % 3 > 0));
}

#[test]
fn what_was_written_behind_a_backlog_can_be_had_before_it_is_committed() {
    const LONG: u32 = 12_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for purge in [true, false] {
        let side = long(&runtime, LONG);
        runtime.block_on(side.journal.flush()).unwrap();
        let (on_disk, facts) = (side.on_disk(), side.journal.stats().live_facts);
        (LONG..LONG + 500).for_each(|at| drop(side.broker.try_publish(numbered(at)).unwrap()));
        assert_eq!(side.on_disk() - on_disk, 500);
        match purge {
            true => assert_eq!(side.broker.purge(&queue("plain")).unwrap(), LONG as usize + 500),
            false => take_all(&side, 0..LONG + 500),
        }
        runtime.block_on(side.journal.flush()).unwrap();
        assert_eq!(facts - side.journal.stats().live_facts, u64::from(LONG));
    }
}

/// One publisher's messages are written behind the backlog, the other's have to enter memory, in between or
/// just in front of them.
#[test]
fn publishers_of_two_kinds_leave_a_long_backlog_in_order_and_on_the_disk() {
    const LONG: u32 = 12_000;
    const EACH: u32 = 10_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let side = long(&runtime, LONG);
    std::thread::scope(|scope| {
        for kind in 1..=2 {
            let side = &side;
            scope.spawn(move || {
                for at in 0..EACH {
                    let mut one = numbered(kind * 1_000_000 + at);
                    one.properties.message_id = (kind == 1).then(|| "followed".to_owned());
                    drop(side.broker.try_publish(one).unwrap());
                }
            });
        }
    });
    for _ in 0..10 {
        runtime.block_on(side.journal.flush()).unwrap();
        side.clock.advance_ms(101);
        side.broker.tick();
    }
    let in_memory = (LONG + 2 * EACH) as usize - side.on_disk();
    assert!(in_memory < 3_000, "{in_memory}");
    let mut next = [0, 1_000_000, 2_000_000];
    while let Some(delivery) = side.broker.get(&queue("plain")).unwrap() {
        let number = number(&delivery.message().body);
        let next = &mut next[(number / 1_000_000) as usize];
        assert_eq!(number, *next);
        *next += 1;
        drop(delivery.ack());
    }
    assert_eq!(next, [LONG, 1_000_000 + EACH, 2_000_000 + EACH]);
}

#[test]
fn a_backlog_that_expires_goes_step_by_step_and_hides_nothing_behind_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let side = paged(&runtime, "dying", 3_000);
    side.clock.advance_ms(90);
    drop(side.broker.try_publish(message("", "dying", b"young".to_vec())).unwrap());
    side.clock.advance_ms(20);
    let delivery = side.broker.get(&queue("dying")).unwrap().expect("the one that lives");
    assert_eq!(&delivery.message().body[..], b"young");
    let dead = side.broker.queue_status(&queue("dead 1")).unwrap();
    assert_eq!(dead.ready, 3_000);
    let peeked = side.broker.peek(&queue("dead 1"), 4_000).unwrap();
    assert!(peeked.iter().map(|one| number(&one.message.body)).eq(0..3_000));
    drop(delivery.ack());
}

#[test]
fn a_purged_backlog_is_ended_without_being_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut side = paged(&runtime, "plain", 5_000);
    let before = side.journal.stats();
    assert_eq!(side.broker.purge(&queue("plain")).unwrap(), 5_000);
    runtime.block_on(side.journal.flush()).unwrap();
    let after = side.journal.stats();
    assert_eq!(before.live_facts - after.live_facts, 5_000);
    side.restart(true, &runtime);
    assert_eq!(side.broker.queue_status(&queue("plain")).unwrap().ready, 0);
}

/// Changes a byte in the middle of a body where it lies in a file.
fn damage(folder: &Path, body: &[u8]) {
    let middle = body.len() / 2;
    for file in folder.read_dir().unwrap() {
        let path = file.unwrap().path();
        // One may be deleted meanwhile.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if let Some(at) = bytes.windows(body.len()).position(|window| window == body) {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            return file.write_all_at(&[body[middle] + 1], (at + middle) as u64).unwrap();
        }
    }
    panic!("the body is in no file");
}

#[test]
fn what_cannot_be_read_waits_and_is_said() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // A row so large is written to its place at once; small ones lie in front of the file before.
    const LARGE: u32 = 7;
    let large = body(LARGE, 20_000);
    let bodies = (0..3_000).map(|n| if n == LARGE { large.clone() } else { body(n, 100) });
    let side = paged_of(&runtime, "plain", bodies);
    // The segment that is written to lies in memory too: what comes after it seals it.
    drop(side.broker.try_publish(message("", "right", vec![0; 100_000])).unwrap());
    runtime.block_on(side.journal.flush()).unwrap();
    side.broker.ready().unwrap();
    damage(side.folder.path(), &large);
    let mut taken = 0;
    while let Some(delivery) = side.broker.get(&queue("plain")).unwrap() {
        drop(delivery.ack());
        taken += 1;
    }
    // Messages share rows, so the damaged one takes its neighbours along.
    assert!(taken <= LARGE as usize, "{taken}");
    let status = side.broker.queue_status(&queue("plain")).unwrap();
    assert_eq!((status.ready, status.unacked), (3_000 - taken, 0));
    let error = side.broker.ready().unwrap_err().to_string();
    assert!(error.contains(".redb"), "{error}");
    // Nothing passes what waits; the other queues go on.
    drop(side.broker.try_publish(message("", "plain", b"late".to_vec())).unwrap());
    drop(side.broker.try_publish(message("", "left", b"other".to_vec())).unwrap());
    assert!(side.broker.get(&queue("plain")).unwrap().is_none());
    assert!(side.broker.get(&queue("left")).unwrap().is_some());
    assert_eq!(side.broker.purge(&queue("plain")).unwrap(), 3_001 - taken);
}

const EACH: [&str; 3] = ["first", "second", "third"];

fn number(body: &[u8]) -> u32 {
    u32::from_le_bytes(*body.first_chunk().unwrap())
}

/// Whether the memory alarm is off.
fn has_memory(broker: &Broker) -> bool {
    broker.alarms().is_empty()
}

#[test]
fn a_long_fan_out_takes_little_memory_and_comes_back_whole_from_each_queue() {
    const COUNT: u32 = 100_000;
    /// All of them weigh 33 MiB, in each queue. What stays of one is 32 bytes for each queue that is
    /// done with it before the others: 6.1 MiB here.
    const MEMORY_BYTES: usize = 8 * 1024 * 1024;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (clock, options) =
        (ManualClock::at(1_000_000), BrokerOptions { ready_bytes_max: 1024 * 1024 });
    let open = || {
        let mut recovery = Recovery::default();
        let store = Box::new(FolderStore::open(folder.path()).unwrap());
        let journal_options =
            JournalOptions { segment_bytes_max: 4 * 1024 * 1024, ..Default::default() };
        let journal = Journal::open_by_tags(store, journal_options, &mut |entry, kind, content| {
            recovery.accept_content(entry, kind, content)
        });
        let (journal, clock, options) = (journal.unwrap(), clock.clone(), options.clone());
        let broker = Broker::with_options(journal.clone(), clock, recovery, options);
        broker.set_memory_limit(MEMORY_BYTES);
        (journal, broker)
    };
    let (journal, broker) = open();
    for name in EACH {
        broker.declare_queue(QueueSpec::durable(queue(name))).unwrap();
        broker.bind(fanned(name)).unwrap();
    }
    for at in 0..COUNT {
        let mut body = at.to_le_bytes().to_vec();
        body.resize(200, 7);
        drop(broker.try_publish(message("amq.fanout", "", body)).expect("memory for it"));
        if at % 1_000 == 999 {
            runtime.block_on(journal.flush()).unwrap();
            broker.page_out();
        }
    }
    let on_disk = |broker: &Broker| {
        let on_disk = broker.queues().iter().map(|status| status.on_disk).sum::<usize>();
        assert!(has_memory(broker));
        on_disk
    };
    assert!(on_disk(&broker) > 290_000, "{}", on_disk(&broker));

    let drain = |broker: &Broker, name: &str, from: u32, to: u32, redelivered: bool| {
        for at in from..to {
            let delivery = broker.get(&queue(name)).unwrap().expect("a message");
            assert_eq!(number(&delivery.message().body), at, "{name}");
            assert_eq!((delivery.message().body.len(), delivery.redelivered()), (200, redelivered));
            drop(delivery.ack());
            if at % 1_000 == 0 {
                runtime.block_on(broker.flush()).unwrap();
                assert!(has_memory(broker));
            }
        }
    };
    drain(&broker, "first", 0, COUNT / 2, false);
    runtime.block_on(journal.flush()).unwrap();
    // As a crash leaves it: nothing says that this was a stop in order.
    drop(broker);
    journal.close();

    let (journal, broker) = open();
    assert_eq!(on_disk(&broker), 250_000);
    drain(&broker, "first", COUNT / 2, COUNT, true);
    drain(&broker, "second", 0, COUNT / 4, true);
    assert_eq!(broker.purge(&queue("second")).unwrap(), 75_000);
    drain(&broker, "third", 0, COUNT, true);
    for name in EACH {
        assert!(broker.get(&queue(name)).unwrap().is_none());
        broker.delete_queue(&queue(name), DeleteIf::default()).unwrap();
    }
    runtime.block_on(journal.flush()).unwrap();
    let stats = journal.stats();
    assert_eq!(
        (stats.live_facts, stats.live_bytes),
        (0, 0),
        "the ends weigh what the messages did"
    );
    broker.set_memory_limit(0);
    assert!(has_memory(&broker), "nothing of them is counted any more");
}
