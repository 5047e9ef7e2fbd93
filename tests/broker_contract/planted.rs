//! Faults that the suite has to notice: each breaks one promise of the embedded engine on the way between
//! it and a case. A fault is planted in the thread that plays the case; elsewhere nothing is changed.

use std::cell::RefCell;

use leveret::backend::{Broker, ConsumeOptions, Delivery};
use leveret::model::message::{Message, Value};
use leveret::model::topology::{ExchangeKind, ExchangeSpec, QueueSpec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A requeued message goes to the end of its queue.
    LostPlace,
    Unflagged,
    FlaggedAtOnce,
    /// An acknowledged message comes again.
    AckUndone,
    /// Every second message overtakes the one before it.
    Swapped,
    Twice,
    /// Confirmed, and in no queue.
    Lost,
    RefusalConfirmed,
    PriorityIgnored,
    PrefetchIgnored,
    ConsumerPriorityIgnored,
    ExclusiveIgnored,
    /// A direct exchange takes every key for its own.
    KeyIgnored,
    BccShown,
    NotReturned,
    NeverExpires,
    LengthIgnored,
    DeliveryLimitIgnored,
    DeadLettersDropped,
    DeathUntold,
    /// A second death in a queue leaves the count at one.
    CountStays,
    NothingRefused,
    /// An acknowledgement of several tags takes the last alone.
    OneTagSettled,
    TagUnchecked,
}

#[derive(Default)]
struct Planted {
    fault: Option<Fault>,
    broker: Option<Broker>,
    /// What the next message overtakes.
    held: Option<Message>,
}

thread_local! {
    static PLANTED: RefCell<Planted> = RefCell::default();
}

/// Plants a fault in this thread until it is dropped.
#[allow(dead_code, reason = "the paged suite plants none")]
pub struct Plant(());

#[allow(dead_code, reason = "the paged suite plants none")]
impl Plant {
    pub fn new(fault: Fault) -> Self {
        PLANTED.set(Planted { fault: Some(fault), ..Planted::default() });
        Self(())
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        PLANTED.take();
    }
}

pub fn is_any() -> bool {
    PLANTED.with_borrow(|planted| planted.fault.is_some())
}

fn is(fault: Fault) -> bool {
    PLANTED.with_borrow(|planted| planted.fault == Some(fault))
}

/// The broker that a fault publishes to by itself.
pub fn use_broker(broker: &Broker) {
    if is_any() {
        PLANTED.with_borrow_mut(|planted| planted.broker = Some(broker.clone()));
    }
}

pub fn declared(mut spec: QueueSpec) -> QueueSpec {
    let settings = &mut spec.settings;
    if is(Fault::NeverExpires) {
        settings.message_ttl_ms = None;
    }
    if is(Fault::LengthIgnored) {
        (settings.length_max, settings.length_bytes_max) = (None, None);
    }
    if is(Fault::DeliveryLimitIgnored) {
        settings.delivery_limit = None;
    }
    if is(Fault::DeadLettersDropped) {
        settings.dead_letter = None;
    }
    spec
}

pub fn declared_exchange(mut spec: ExchangeSpec) -> ExchangeSpec {
    if is(Fault::KeyIgnored) && spec.kind == ExchangeKind::Direct {
        spec.kind = ExchangeKind::Fanout;
    }
    spec
}

/// What is published in the place of a message.
pub fn sent(mut message: Message) -> Vec<Message> {
    if is(Fault::PriorityIgnored) {
        message.properties.priority = None;
    }
    if is(Fault::Lost) {
        return Vec::new();
    }
    if is(Fault::Twice) {
        return vec![message.clone(), message];
    }
    if is(Fault::Swapped) {
        return match PLANTED.with_borrow_mut(|planted| planted.held.take()) {
            Some(held) => vec![message, held],
            None => {
                PLANTED.with_borrow_mut(|planted| planted.held = Some(message));
                Vec::new()
            }
        };
    }
    vec![message]
}

pub fn acked(acked: bool) -> bool {
    acked || is(Fault::RefusalConfirmed)
}

pub fn came_back(returned: bool) -> bool {
    returned && !is(Fault::NotReturned)
}

pub fn refused(outcome: Result<(), String>) -> Result<(), String> {
    outcome.or_else(|text| if is(Fault::NothingRefused) { Ok(()) } else { Err(text) })
}

pub fn options(mut options: ConsumeOptions) -> ConsumeOptions {
    if is(Fault::PrefetchIgnored) {
        options.prefetch = 0;
    }
    if is(Fault::ConsumerPriorityIgnored) {
        options.priority = 0;
    }
    if is(Fault::ExclusiveIgnored) {
        options.exclusive = false;
    }
    options
}

pub fn is_flagged(flagged: bool) -> bool {
    (flagged && !is(Fault::Unflagged)) || is(Fault::FlaggedAtOnce)
}

pub async fn ack(delivery: Delivery) {
    match is(Fault::AckUndone) {
        true => delivery.requeue().await.unwrap(),
        false => delivery.ack().await.unwrap(),
    }
}

pub async fn requeue(delivery: Delivery) {
    if !is(Fault::LostPlace) {
        return delivery.requeue().await.unwrap();
    }
    let message = delivery.message().clone();
    delivery.ack().await.unwrap();
    let broker = PLANTED.with_borrow(|planted| planted.broker.clone()).expect("a broker");
    broker.publish(message).await.unwrap().confirmed().await.unwrap();
}

/// The message as a case sees it, if not as it is.
pub fn shown(message: &Message) -> Option<Box<Message>> {
    if !is_any() {
        return None;
    }
    let mut message = Box::new(message.clone());
    let headers = &mut message.properties.headers;
    if is(Fault::BccShown) {
        headers.set("BCC", vec![Value::from("c")]);
    } else if is(Fault::DeathUntold) {
        headers.remove("x-death");
    } else if is(Fault::CountStays) {
        let Some(Value::List(mut deaths)) = headers.remove("x-death") else { return None };
        for death in &mut deaths {
            if let Value::Table(death) = death {
                death.set("count", 1_i64);
            }
        }
        headers.set("x-death", deaths);
    } else {
        return None;
    }
    Some(message)
}

pub fn multiple(multiple: bool) -> bool {
    multiple && !is(Fault::OneTagSettled)
}

pub fn tag_checked<E>(outcome: Result<(), E>) -> Result<(), E> {
    outcome.or_else(|error| if is(Fault::TagUnchecked) { Ok(()) } else { Err(error) })
}
