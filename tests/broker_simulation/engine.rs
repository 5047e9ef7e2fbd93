//! The engine under test, on a disk that loses power, and what a step does to it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use leveret::broker::{
    Broker, BrokerError, BrokerOptions, Connection, Consumer, Delivery, Edit, Peeked, QueueStatus,
    Recovery,
};
use leveret::journal::{
    Commit, Content, Durability, Entry, Group, Journal, JournalOptions, Kind, OpenError, Position,
};
use leveret::model::clock::ManualClock;
use leveret::model::message::{Message, Value};
use leveret::model::topology::Binding;

use crate::disk::Disk;
use crate::faults::Fault;
use crate::headers::arguments;
use crate::names::{exchange_name, key, queue_name};
use crate::step::{ConsumerNumber, HandNumber, Publish, Step};
use crate::view::{QueueView, View};
use crate::world::shown;

pub struct Engine {
    pub disk: Disk,
    pub clock: Arc<ManualClock>,
    pub journal: Journal,
    broker: Broker,
    /// The other connection.
    peer: Connection,
    consumers: BTreeMap<ConsumerNumber, Consumer>,
    hands: BTreeMap<HandNumber, Delivery>,
    fault: Fault,
}

/// What a step gave.
pub struct Outcome {
    /// `None`: the disk failed under it, so whether it happened is not known.
    pub answer: Option<String>,
    /// Resolves when the messages that the step wrote are on disk, or with `false`: the disk failed.
    pub commit: Option<Pin<Box<dyn Future<Output = bool>>>>,
    pub settled: Option<Settled>,
}

/// When no crash undoes an acknowledgement any more.
pub enum Settled {
    /// Already: it is on disk, or its message was never written, and then what came before need not be.
    AtOnce,
    /// With its batch, which has all that came before in it.
    With(Commit),
}

fn done(answer: impl Into<String>) -> Outcome {
    Outcome { answer: Some(answer.into()), commit: None, settled: None }
}

impl Engine {
    /// `paged`: whatever waits behind another message and can be read back is on the disk alone, also
    /// at the start.
    pub fn open(
        disk: Disk,
        clock: Arc<ManualClock>,
        fault: Fault,
        paged: bool,
    ) -> Result<Self, OpenError> {
        let options = JournalOptions {
            durability: Durability::Strict,
            segment_bytes_max: 64 * 1024,
            reserve_bytes: 0,
            ..JournalOptions::default()
        };
        let mut facts: Vec<(Entry, Kind, Vec<u8>)> = Vec::new();
        let mut recovery = Recovery::default();
        let mut replay = |entry, kind, content: Content<'_>| match content {
            Content::Tag(_) if paged => recovery.accept_content(entry, kind, content),
            Content::Tag(_) => Ok(false),
            Content::Payload(payload) => {
                facts.push((entry, kind, payload.to_vec()));
                Ok(true)
            }
        };
        let journal = Journal::open_by_tags(disk.store(), options, &mut replay)?;
        fault.spoil(&mut facts);
        for (entry, kind, payload) in facts {
            recovery.accept(entry, kind, &payload).expect("a record that can be read");
        }
        let options = match paged {
            true => BrokerOptions { ready_bytes_max: 0 },
            false => BrokerOptions::default(),
        };
        let broker = Broker::with_options(journal.clone(), clock.clone(), recovery, options);
        let (peer, consumers, hands) = (broker.connect(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { disk, clock, journal, broker, peer, consumers, hands, fault })
    }

    /// The process is gone, with whatever it held.
    pub fn crash(self) -> Disk {
        self.disk.pull_the_plug();
        self.journal.close();
        let disk = self.disk.clone();
        drop(self);
        disk.reboot();
        disk
    }

    /// `false`: the disk failed before the end.
    pub async fn stop(self) -> (Disk, bool) {
        self.broker.cancel_consumers();
        let written = self.broker.close().await.is_ok();
        self.journal.close();
        (self.disk.clone(), written)
    }

    /// What can be seen of the queues.
    pub fn view(&self) -> View {
        let mut views = View::new();
        for status in self.broker.queues() {
            let mut ready = self.peek(status.name.as_str());
            self.fault.reorder(&mut ready);
            assert_eq!(status.ready, ready.len());
            let QueueStatus { ready_bytes, unacked, delayed, consumers, .. } = status;
            let ready = ready.iter().map(|peeked| (body(&peeked.message), peeked.redelivered));
            let ready = ready.collect();
            let view = QueueView { ready, ready_bytes, unacked, delayed, consumers };
            views.insert(status.name.to_string(), view);
        }
        views
    }

    fn peek(&self, queue: &str) -> Vec<Peeked> {
        let peek = |broker: &Broker| broker.peek(&queue_name(queue), 10_000);
        peek(&self.broker).or_else(|_| peek(&self.peer)).expect("it is there")
    }

    /// Takes out of memory what can leave it. How many messages of an exchange that has several queues
    /// are on the disk alone, in the queue that has the most.
    pub fn page_out(&self) -> usize {
        self.broker.page_out();
        let fanned_out = |status: &QueueStatus| {
            // All but the first.
            let is_paged = status.on_disk > 0 && status.on_disk + 1 >= status.ready;
            let peeked = if is_paged { self.peek(status.name.as_str()) } else { Vec::new() };
            let behind = peeked.iter().skip(1);
            behind.filter(|peeked| peeked.message.exchange.as_str() == "fan").count()
        };
        self.broker.queues().iter().map(fanned_out).max().unwrap_or(0)
    }

    pub async fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Publish(publish) => return self.publish(publish).await,
            Step::PublishAll(publishes) => return self.publish_all(publishes).await,
            Step::Ack(hand) => {
                let commit = self.hands.remove(hand).and_then(Delivery::ack);
                return Outcome { settled: settled(commit).await, ..done("ok") };
            }
            _ => {}
        }
        if let Step::AckWith(hand, outputs) = step {
            return self.ack_with(*hand, outputs).await;
        }
        match self.plain_step(step) {
            Ok(answer) => done(answer),
            Err(error) => match refusal(&error) {
                Some(answer) => done(answer),
                None => Outcome { answer: None, commit: None, settled: None },
            },
        }
    }

    async fn publish(&mut self, publish: &Publish) -> Outcome {
        let mut published = match self.broker.publish(message(publish, self.fault)).await {
            Ok(published) => published,
            Err(error) => {
                let answer = refusal(&error).map(str::to_owned);
                return Outcome { answer, commit: None, settled: None };
            }
        };
        // A nack is known at once; a confirm may take its time.
        let polled = std::future::poll_fn(|context| {
            let confirm = std::pin::Pin::new(&mut published.confirm);
            std::task::Poll::Ready(confirm.poll(context))
        });
        let (taken, commit) = match polled.await {
            std::task::Poll::Ready(Err(BrokerError::Nacked { .. })) => (false, None),
            std::task::Poll::Pending => {
                let confirm = async move { published.confirm.await.is_ok() };
                (true, Some(Box::pin(confirm) as Pin<Box<dyn Future<Output = bool>>>))
            }
            std::task::Poll::Ready(_) => (true, None),
        };
        let answer = format!("routed={} taken={taken}", published.routed);
        Outcome { commit, ..done(answer) }
    }

    async fn publish_all(&mut self, publishes: &[Publish]) -> Outcome {
        let messages = publishes.iter().map(|publish| message(publish, self.fault));
        let (stopped, published) = match self.broker.publish_all(messages).await {
            Ok(published) => (String::new(), published),
            Err(failed) => match refusal(&failed.error) {
                Some(why) => (format!("{why} at {}", failed.place), failed.published),
                None => return Outcome { answer: None, commit: None, settled: None },
            },
        };
        let unrouted: Vec<usize> = published.unrouted().collect();
        let mut confirms = published.confirms;
        let count = confirms.len();
        let refused: Vec<usize> = confirms.refused().collect();
        // Without the power nothing that is pending comes: some of it is, or all is known.
        let polled = std::future::poll_fn(|context| {
            loop {
                match confirms.poll_next(context) {
                    std::task::Poll::Ready(Some(_)) => {}
                    std::task::Poll::Ready(None) => return std::task::Poll::Ready(false),
                    std::task::Poll::Pending => return std::task::Poll::Ready(true),
                }
            }
        });
        let is_pending = polled.await;
        let commit = async move {
            let failed = confirms.all().await;
            failed.iter().all(|(_, error)| matches!(error, BrokerError::Nacked { .. }))
        };
        let commit = is_pending.then(|| Box::pin(commit) as Pin<Box<dyn Future<Output = bool>>>);
        let answer = format!("{count} {stopped} unrouted={unrouted:?} refused={refused:?}");
        Outcome { commit, ..done(answer) }
    }

    /// What is refused stays in its hands.
    async fn ack_with(&mut self, hand: HandNumber, outputs: &[Publish]) -> Outcome {
        let Some(mut delivery) = self.hands.remove(&hand) else { return done("no hand") };
        if self.fault == Fault::TwoCommits && hand.is_multiple_of(2) {
            let _commit = delivery.ack();
            let _flushed = self.journal.flush().await;
            self.disk.pull_the_plug();
            return Outcome { answer: None, commit: None, settled: None };
        }
        let outputs = outputs.iter().map(|publish| message(publish, self.fault)).collect();
        let claimed = match delivery.claim(outputs) {
            Ok(claimed) => claimed,
            Err(error) => {
                self.hands.insert(hand, delivery);
                let answer = refusal(&error).map(str::to_owned);
                return Outcome { answer, commit: None, settled: None };
            }
        };
        let (_none, appended) = claimed.append(Group::new());
        Outcome { settled: settled(appended.enqueue()).await, ..done("ok") }
    }

    fn plain_step(&mut self, step: &Step) -> Result<String, BrokerError> {
        let broker: &Broker = match step {
            Step::ByPeer(_) => &self.peer,
            _ => &self.broker,
        };
        let step = step.inner();
        let bound = |exchange: &str, queue: &str, routing_key: &str| {
            let (source, queue) = (exchange_name(exchange), queue_name(queue));
            self.told(Binding::queue(source, queue, key(routing_key)))
        };
        match step {
            Step::DeclareExchange(spec) => drop(broker.declare_exchange(spec.clone())?),
            Step::DeleteExchange { exchange, if_unused } => {
                drop(broker.delete_exchange(&exchange_name(exchange), *if_unused)?);
            }
            Step::DeclareQueue(spec) => {
                drop(broker.declare_queue(self.fault.declared(spec.clone()))?);
            }
            Step::DeleteQueue(queue, only) => {
                let deleted = broker.delete_queue(&queue_name(queue), *only)?;
                return Ok(format!("deleted {deleted}"));
            }
            Step::Bind { exchange, queue, key } => drop(broker.bind(bound(exchange, queue, key))?),
            Step::Unbind { exchange, queue, key } => {
                drop(broker.unbind(bound(exchange, queue, key))?);
            }
            Step::Chain { exchange, to, key: routing_key } => {
                drop(broker.bind(self.told(chained(exchange, to, routing_key)))?);
            }
            Step::Unchain { exchange, to, key: routing_key } => {
                drop(broker.unbind(self.told(chained(exchange, to, routing_key)))?);
            }
            Step::Get(queue, hand) => {
                let delivery = broker.get(&queue_name(queue))?;
                return Ok(self.handed(*hand, delivery));
            }
            Step::Consume { queue, number, options } => {
                let consumer = broker.consume(&queue_name(queue), *options)?;
                self.consumers.insert(*number, consumer);
            }
            Step::Take(number, hand) => {
                let delivery = self.consumers.get_mut(number).and_then(Consumer::try_next);
                return Ok(self.handed(*hand, delivery));
            }
            Step::Cancel(number) => drop(self.consumers.remove(number)),
            Step::Requeue(hand) => self.hands.remove(hand).into_iter().for_each(Delivery::requeue),
            Step::Fail(hand) => {
                self.hands.remove(hand).into_iter().for_each(|delivery| delivery.fail("no"));
            }
            Step::Advance(ms) => {
                self.clock.advance_ms(*ms);
                broker.tick();
                return Ok(String::new());
            }
            Step::Purge(queue) => {
                return Ok(format!("purged {}", broker.purge(&queue_name(queue))?));
            }
            Step::Redrive { queue, nth } => {
                let peeked = broker.peek(&queue_name(queue), nth + 1)?;
                let Some(Peeked { position: Position(position), .. }) = peeked.get(*nth) else {
                    return Ok("nothing".to_owned());
                };
                let redriven =
                    broker.redrive(&queue_name(queue), Position(*position), Edit::default())?;
                return Ok(if redriven.is_some() { "redriven" } else { "not there" }.to_owned());
            }
            Step::SetPolicy(policy) => drop(broker.set_policy(policy.clone())?),
            Step::ClearPolicy(name) => drop(broker.clear_policy(name)),
            Step::HangUp if self.fault == Fault::OutlivesItsOwner => {}
            Step::HangUp => self.peer = self.broker.connect(),
            Step::Publish(_) | Step::PublishAll(_) | Step::Ack(_) | Step::AckWith(..) => {
                unreachable!("they have commits")
            }
            Step::ByPeer(_) => unreachable!("it is one step deep"),
            Step::Flush | Step::Restart | Step::Crash => {}
        }
        Ok("ok".to_owned())
    }

    /// What a headers exchange compares stands in the key.
    fn told(&self, mut binding: Binding) -> Binding {
        if binding.source.as_str() == "heads" {
            binding.arguments = arguments(&self.fault.compared(binding.key.as_str())).sorted();
        }
        binding
    }

    fn handed(&mut self, hand: HandNumber, delivery: Option<Delivery>) -> String {
        let Some(delivery) = delivery else { return "empty".to_owned() };
        let message = delivery.message();
        let deaths = match message.properties.headers.get("x-death") {
            Some(Value::List(deaths)) => deaths.iter().map(death).collect::<Vec<_>>().join(","),
            _ => String::new(),
        };
        let (exchange, key) = (&message.exchange, &message.routing_key);
        let (returns, failures) = (delivery.delivery_count(), delivery.retry_count());
        let what = shown(body(message), delivery.redelivered());
        let headers = &message.properties.headers;
        let keys = ["CC", "BCC"].map(|name| headers.get(name).map(texts).unwrap_or_default());
        let returned = headers.get("x-delivery-count").and_then(Value::as_int);
        let answer = format!(
            "{what} {exchange}/{key} {keys:?} {returned:?} {returns} {failures} [{deaths}]"
        );
        self.hands.insert(hand, delivery);
        answer
    }
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    match list {
        Value::List(texts) => texts.iter().filter_map(Value::as_text).collect(),
        _ => vec!["no list"],
    }
}

async fn settled(commit: Option<Commit>) -> Option<Settled> {
    let mut commit = commit?;
    let polled = std::future::poll_fn(|context| {
        let commit = std::pin::Pin::new(&mut commit);
        std::task::Poll::Ready(commit.poll(context))
    });
    match polled.await {
        std::task::Poll::Ready(Ok(_)) => Some(Settled::AtOnce),
        // The disk has failed, as the next step finds.
        std::task::Poll::Ready(Err(_)) => None,
        std::task::Poll::Pending => Some(Settled::With(commit)),
    }
}

fn chained(exchange: &str, to: &str, routing_key: &str) -> Binding {
    Binding::exchange(exchange_name(exchange), exchange_name(to), key(routing_key))
}

fn message(publish: &Publish, fault: Fault) -> Message {
    let mut body = format!("{:08}", publish.body).into_bytes();
    body.resize(usize::try_from(publish.body_bytes).unwrap(), filler(publish.body));
    let mut message = Message::new(exchange_name(publish.exchange), key(publish.key), body);
    let properties = &mut message.properties;
    properties.persistent = publish.persistent;
    properties.priority = publish.priority;
    properties.expiration_ms = publish.ttl_ms;
    for (name, value) in publish.headers {
        properties.headers.set(*name, *value);
    }
    for (name, keys) in ["CC", "BCC"].into_iter().zip(fault.keys(publish)) {
        if !keys.is_empty() {
            let keys: Vec<Value> = keys.into_iter().map(Value::from).collect();
            properties.headers.set(name, keys);
        }
    }
    if let Some(delay_ms) = publish.delay_ms {
        properties.headers.set("x-delay", i64::try_from(delay_ms).unwrap());
    }
    message
}

/// What follows a body's number.
fn filler(body: u64) -> u8 {
    b'a' + u8::try_from(body % 26).unwrap()
}

fn body(message: &Message) -> u64 {
    let (number, rest) = message.body.split_at(8);
    let number = std::str::from_utf8(number).unwrap().parse().unwrap();
    // Here and there, for it is looked at after each step.
    let is_whole = rest.iter().step_by(499).chain(rest.last()).all(|&byte| byte == filler(number));
    assert!(is_whole, "body {number} is not what was sent");
    number
}

fn death(death: &Value) -> String {
    let Value::Table(table) = death else { return "no table".to_owned() };
    let text = |name: &str| table.get(name).and_then(Value::as_text).unwrap_or_default();
    let count = table.get("count").and_then(Value::as_int).unwrap_or_default();
    let key = table.get("routing-keys").map(texts).unwrap_or_default().join("+");
    format!("{}:{}:{count}:{}/{key}", text("queue"), text("reason"), text("exchange"))
}

/// `None`: an error of the disk, not an answer.
fn refusal(error: &BrokerError) -> Option<&'static str> {
    Some(match error {
        BrokerError::NotFound { what: "queue", .. } => "no queue",
        BrokerError::NotFound { .. } => "no exchange",
        BrokerError::Inequivalent { .. } => "other",
        BrokerError::InUse { .. } => "in use",
        BrokerError::NotEmpty { .. } => "not empty",
        BrokerError::AccessRefused(_) => "exclusive",
        BrokerError::ResourceLocked { .. } => "locked",
        BrokerError::Nacked { .. } => "full",
        BrokerError::Precondition(text) if text.contains("taken it back") => "taken back",
        BrokerError::NotRedrivable { .. } => "can't",
        BrokerError::Journal(_) => return None,
        other => panic!("a strange refusal: {other}"),
    })
}
