//! One queue of the oracle: lists that are searched from end to end.

use std::hash::{Hash, Hasher};

use leveret::broker::ConsumeOptions;
use leveret::model::topology::{Overflow, QueueSettings, QueueSpec};

use crate::durable::{QueueNumber, Seq};
use crate::letter::Letter;
use crate::shared::Shared;
use crate::step::ConsumerNumber;
use crate::view::QueueView;

pub type Tag = u64;

#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Copy {
    pub seq: Seq,
    pub letter: Shared<Letter>,
    /// From when on its time to live runs.
    pub arrived_ms: u64,
    pub returns: u32,
    pub redelivered: bool,
    pub failures: u32,
}

#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Unacked {
    pub tag: Tag,
    pub consumer: Option<ConsumerNumber>,
    pub copy: Copy,
    pub since_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Consumer {
    pub number: ConsumerNumber,
    pub prefetch: usize,
    pub priority: i64,
    pub exclusive: bool,
    pub no_ack: bool,
    pub in_flight: usize,
    /// Delivered, and not looked at.
    pub line: Vec<Tag>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub number: QueueNumber,
    pub name: String,
    pub spec: QueueSpec,
    /// The other connection declared it.
    pub by_peer: bool,
    pub settings: QueueSettings,
    /// In the order of delivery.
    pub ready: Vec<Copy>,
    pub delayed: Vec<(u64, Copy)>,
    /// What is dead is taken out later, whatever comes meanwhile.
    pub burying: bool,
    /// Found to have come back too often, at a start.
    pub dying: Vec<Copy>,
    pub unacked: Vec<Unacked>,
    /// In the order in which they came.
    pub consumers: Vec<Consumer>,
    /// The one that gets all, if there is to be one.
    pub active: Option<ConsumerNumber>,
    /// Those that can take one more, in turn, of each priority.
    pub turns: Vec<ConsumerNumber>,
    pub used_ms: u64,
    pub next_tag: Tag,
}

/// What mostly tells two of them apart.
impl Hash for Queue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { number, ready, delayed, unacked, consumers, turns, used_ms, next_tag, .. } =
            self;
        (number, ready, delayed, unacked, consumers, turns, used_ms, next_tag).hash(state);
    }
}

/// What a queue leaves to be done.
#[derive(Debug, Default)]
pub struct Effects {
    pub dead: Vec<(Copy, &'static str)>,
    /// Handed out, for the how-manieth time.
    pub marks: Vec<(Seq, u32)>,
    pub unused: bool,
    /// Consumers that were ended, and what waited in their lines taken back.
    pub ended: Vec<ConsumerNumber>,
}

impl Queue {
    pub fn new(number: QueueNumber, spec: QueueSpec, settings: QueueSettings, now_ms: u64) -> Self {
        Self {
            number,
            name: spec.name.to_string(),
            spec,
            by_peer: false,
            settings,
            ready: Vec::new(),
            delayed: Vec::new(),
            burying: false,
            dying: Vec::new(),
            unacked: Vec::new(),
            consumers: Vec::new(),
            active: None,
            turns: Vec::new(),
            used_ms: now_ms,
            next_tag: 0,
        }
    }

    /// It outlives the process.
    pub fn is_durable(&self) -> bool {
        self.spec.durable && !self.spec.exclusive
    }

    pub fn view(&self) -> QueueView {
        QueueView {
            ready: self.shown().collect(),
            ready_bytes: self.ready_bytes(),
            unacked: self.unacked.len(),
            delayed: self.delayed.len(),
            consumers: self.consumers.len(),
        }
    }

    pub fn looks_like(&self, view: &QueueView) -> bool {
        let QueueView { ready, ready_bytes, unacked, delayed, consumers } = view;
        (self.unacked.len(), self.delayed.len(), self.consumers.len())
            == (*unacked, *delayed, *consumers)
            && self.ready_bytes() == *ready_bytes
            && self.shown().eq(ready.iter().copied())
    }

    fn shown(&self) -> impl Iterator<Item = (u64, bool)> {
        self.ready.iter().map(|copy| (copy.letter.body, copy.redelivered))
    }

    pub fn insert(&mut self, copy: Copy) {
        let priority_max = self.spec.priority_max.unwrap_or(0);
        let rank = |copy: &Copy| (priority_max - copy.letter.priority.min(priority_max), copy.seq);
        let at = self.ready.iter().position(|other| rank(other) > rank(&copy));
        self.ready.insert(at.unwrap_or(self.ready.len()), copy);
    }

    fn expires_ms(&self, copy: &Copy) -> Option<u64> {
        let ttl_ms = [copy.letter.ttl_ms, self.settings.message_ttl_ms].into_iter().flatten().min();
        Some(copy.arrived_ms + ttl_ms?)
    }

    fn ready_bytes(&self) -> u64 {
        self.ready.iter().map(|copy| copy.letter.body_bytes).sum()
    }

    /// With so many more, of so many bytes.
    pub fn is_over_length(&self, more: u64, more_bytes: u64) -> bool {
        let (len, bytes) = (self.ready.len() as u64, self.ready_bytes());
        self.settings.length_max.is_some_and(|max| len + more > max)
            || self.settings.length_bytes_max.is_some_and(|max| bytes + more_bytes > max)
    }

    /// With them it would be too long, and it takes none then.
    pub fn refuses(&self, more: u64, more_bytes: u64) -> bool {
        let refusing = [Overflow::RejectPublish, Overflow::RejectPublishDlx].map(Some);
        refusing.contains(&self.settings.overflow) && self.is_over_length(more, more_bytes)
    }

    pub fn is_over_limit(&self, returns: u32) -> bool {
        self.settings.delivery_limit.is_some_and(|limit| returns > limit)
    }

    fn offer(&mut self, number: ConsumerNumber) {
        let Some(consumer) = self.consumers.iter().find(|c| c.number == number) else { return };
        let is_active = !self.spec.single_active_consumer || self.active == Some(number);
        let has_room = consumer.prefetch == 0 || consumer.in_flight < consumer.prefetch;
        if is_active && has_room && !self.turns.contains(&number) {
            self.turns.push(number);
            // Sorting is stable: among equals it is first come, first served.
            let priority = |number: &ConsumerNumber| {
                self.consumers.iter().find(|c| c.number == *number).map(|c| c.priority)
            };
            self.turns.sort_by_key(|number| std::cmp::Reverse(priority(number)));
        }
    }

    /// Hands out, expires at the head, drops what is too much.
    pub fn dispatch(&mut self, now_ms: u64, effects: &mut Effects) {
        if self.burying {
            return;
        }
        effects.dead.extend(self.dying.drain(..).map(|copy| (copy, "delivery_limit")));
        let drops_head = matches!(self.settings.overflow, None | Some(Overflow::DropHead));
        while let Some(head) = self.ready.first() {
            let expires_ms = self.expires_ms(head).unwrap_or(u64::MAX);
            if expires_ms < now_ms || (expires_ms == now_ms && self.turns.is_empty()) {
                effects.dead.push((self.ready.remove(0), "expired"));
            } else if !self.turns.is_empty() {
                self.deliver_head(now_ms, effects);
            } else if drops_head && self.is_over_length(0, 0) {
                effects.dead.push((self.ready.remove(0), "maxlen"));
            } else {
                break;
            }
        }
    }

    fn deliver_head(&mut self, mut since_ms: u64, effects: &mut Effects) {
        let number = self.turns.remove(0);
        let copy = self.ready.remove(0);
        let tag = self.next_tag;
        self.next_tag += 1;
        if let Some(consumer) = self.consumers.iter_mut().find(|c| c.number == number) {
            consumer.in_flight += 1;
            consumer.line.push(tag);
            match consumer.no_ack {
                // Never held for too long.
                true => since_ms = u64::MAX,
                false => effects.marks.push((copy.seq, copy.returns + 1)),
            }
        }
        self.unacked.push(Unacked { tag, consumer: Some(number), copy, since_ms });
        self.offer(number);
    }

    /// A copy of what was delivered under that tag.
    pub fn unacked(&self, tag: Tag) -> Copy {
        let unacked = self.unacked.iter().find(|unacked| unacked.tag == tag);
        unacked.expect("what waits in a line is unacked").copy.clone()
    }

    pub fn take_unacked(&mut self, tag: Tag) -> Option<Copy> {
        let at = self.unacked.iter().position(|unacked| unacked.tag == tag)?;
        let unacked = self.unacked.remove(at);
        if let Some(number) = unacked.consumer {
            if let Some(consumer) = self.consumers.iter_mut().find(|c| c.number == number) {
                consumer.in_flight -= 1;
            }
            self.offer(number);
        }
        Some(unacked.copy)
    }

    pub fn requeue(&mut self, tags: Vec<Tag>, seen: bool, now_ms: u64) -> Effects {
        let mut effects = Effects::default();
        for tag in tags {
            self.put_back(tag, seen, &mut effects);
        }
        self.dispatch(now_ms, &mut effects);
        effects
    }

    fn put_back(&mut self, tag: Tag, seen: bool, effects: &mut Effects) {
        let Some(mut copy) = self.take_unacked(tag) else { return };
        if seen {
            copy.redelivered = true;
            copy.returns += 1;
        }
        if seen && self.is_over_limit(copy.returns) {
            effects.dead.push((copy, "delivery_limit"));
        } else {
            self.insert(copy);
        }
    }

    pub fn get(&mut self, now_ms: u64) -> (Option<(Tag, Copy)>, Effects) {
        self.used_ms = now_ms;
        let mut effects = Effects::default();
        self.dispatch(now_ms, &mut effects);
        if self.ready.is_empty() {
            return (None, effects);
        }
        let copy = self.ready.remove(0);
        effects.marks.push((copy.seq, copy.returns + 1));
        let tag = self.next_tag;
        self.next_tag += 1;
        self.unacked.push(Unacked { tag, consumer: None, copy: copy.clone(), since_ms: now_ms });
        (Some((tag, copy)), effects)
    }

    /// `None`: somebody is or wants to be alone.
    pub fn add_consumer(
        &mut self,
        number: ConsumerNumber,
        options: ConsumeOptions,
        now_ms: u64,
    ) -> Option<Effects> {
        let ConsumeOptions { prefetch, no_ack, exclusive, priority } = options;
        let has_any = !self.consumers.is_empty();
        let taken = self.consumers.iter().any(|consumer| consumer.exclusive);
        if taken || (exclusive && (has_any || self.spec.single_active_consumer)) {
            return None;
        }
        let (prefetch, in_flight, line) = (usize::from(prefetch), 0, Vec::new());
        let consumer = Consumer { number, prefetch, priority, exclusive, no_ack, in_flight, line };
        self.consumers.push(consumer);
        self.active = self.active.or(Some(number));
        self.offer(number);
        let mut effects = Effects::default();
        self.dispatch(now_ms, &mut effects);
        Some(effects)
    }

    fn forget_consumer(&mut self, number: ConsumerNumber, now_ms: u64) -> Option<Consumer> {
        let at = self.consumers.iter().position(|consumer| consumer.number == number)?;
        let consumer = self.consumers.remove(at);
        self.turns.retain(|other| *other != number);
        if self.active == Some(number) {
            let next = self.consumers.iter().min_by_key(|other| (-other.priority, other.number));
            self.active = next.map(|next| next.number);
            if let Some(next) = self.active {
                self.offer(next);
            }
        }
        if self.consumers.is_empty() {
            self.used_ms = now_ms;
        }
        Some(consumer)
    }

    /// What it did not look at, and whether the queue goes with it.
    pub fn remove_consumer(&mut self, number: ConsumerNumber, now_ms: u64) -> (Vec<Tag>, bool) {
        match self.forget_consumer(number, now_ms) {
            None => (Vec::new(), false),
            Some(gone) => (gone.line, self.consumers.is_empty() && self.spec.auto_delete),
        }
    }

    /// Ends the consumers that hold a delivery too long, and takes back all that is theirs.
    fn time_out(&mut self, now_ms: u64, effects: &mut Effects) -> Vec<Consumer> {
        let Some(timeout_ms) = self.settings.consumer_timeout_ms else { return Vec::new() };
        let late = |unacked: &&Unacked| unacked.since_ms.saturating_add(timeout_ms) <= now_ms;
        let late: Vec<Unacked> = self.unacked.iter().filter(late).cloned().collect();
        let mut ended = Vec::new();
        for number in late.iter().filter_map(|unacked| unacked.consumer) {
            ended.extend(self.forget_consumer(number, now_ms));
        }
        let theirs = |unacked: &&Unacked| {
            late.contains(unacked) || ended.iter().any(|c| Some(c.number) == unacked.consumer)
        };
        let back: Vec<Unacked> = self.unacked.iter().filter(theirs).cloned().collect();
        for unacked in back {
            self.put_back(unacked.tag, true, effects);
        }
        ended
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) -> Effects {
        let mut effects = Effects::default();
        self.delayed.sort_by_key(|(due_ms, copy)| (*due_ms, copy.seq));
        while self.delayed.first().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, copy) = self.delayed.remove(0);
            self.insert(copy);
        }
        let expires_ms = self.settings.expires_ms.map(|expires_ms| self.used_ms + expires_ms);
        let expired =
            self.consumers.is_empty() && expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
        effects.ended =
            self.time_out(now_ms, &mut effects).iter().map(|consumer| consumer.number).collect();
        let left_alone = !effects.ended.is_empty() && self.consumers.is_empty();
        effects.unused = expired || (left_alone && self.spec.auto_delete);
        self.dispatch(now_ms, &mut effects);
        effects
    }
}
