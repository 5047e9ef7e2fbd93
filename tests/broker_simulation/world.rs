//! The oracle: a broker of plain lists, and everything that the disk may hold of it.
//!
//! Where the engine is free (which of several queues is looked at first), a step leads to several
//! worlds; those that give another answer than the engine are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use leveret::broker::DeleteIf;
use leveret::model::topology::{
    DeadLetter, ExchangeKind, ExchangeSpec, Overflow, Policy, QueueSettings, QueueSpec,
};

use crate::durable::{Bound, Durable, Kept, QueueNumber, Seq};
use crate::letter::{Letter, told};
use crate::queue::{Copy, Effects, Queue, Tag};
use crate::step::{ConsumerNumber, HandNumber, Publish, Step};

/// Orders in which queues are looked at that are tried at most, for one step.
const ORDERS_MAX: usize = 120;

#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub now_ms: u64,
    pub exchanges: BTreeMap<String, ExchangeSpec>,
    pub queues: BTreeMap<String, Queue>,
    pub bindings: BTreeSet<Bound>,
    pub policies: BTreeMap<String, Policy>,
    /// Where consumers and deliveries belong.
    pub consumers: BTreeMap<ConsumerNumber, QueueNumber>,
    pub hands: BTreeMap<HandNumber, (QueueNumber, Tag)>,
    /// What still waits in the lines of consumers whose queue is gone.
    orphans: BTreeMap<ConsumerNumber, Vec<(Tag, Copy)>>,
    next_seq: Seq,
    next_queue: QueueNumber,
    /// What the disk holds after each change that may be the last one to survive.
    pub history: Vec<Rc<Durable>>,
    /// How long the history was before this step.
    step_start: usize,
    /// Where the engine may choose among several queues, this is the order that it takes.
    order: Vec<QueueNumber>,
    /// The queues that it could choose among in this step, and whether somebody died.
    involved: BTreeSet<QueueNumber>,
    deaths: usize,
}

/// A dead copy on its way out of a queue that may itself be gone.
struct Dead {
    queue: QueueNumber,
    name: String,
    to: Option<DeadLetter>,
    copy: Copy,
    reason: &'static str,
}

impl World {
    pub fn new(now_ms: u64) -> Self {
        Self::recovered(&Durable::default(), now_ms, (0, 0)).remove(0)
    }

    fn durable(&self) -> &Durable {
        self.history.last().expect("never empty")
    }

    fn change(&mut self, change: impl FnOnce(&mut Durable)) {
        let mut durable = self.durable().clone();
        change(&mut durable);
        self.history.push(Rc::new(durable));
    }

    /// Everything so far is on disk.
    pub fn flushed(&mut self) {
        self.history.drain(..self.history.len() - 1);
    }

    /// The first change of this step is on disk.
    pub fn confirmed(&mut self) {
        let first = self.step_start.min(self.history.len() - 1);
        self.history.drain(..first);
    }

    /// Numbers that a world after a crash must not give again.
    pub fn numbers(&self) -> (Seq, QueueNumber) {
        (self.next_seq, self.next_queue)
    }

    /// What a start makes of `durable`.
    pub fn recovered(durable: &Durable, now_ms: u64, numbers: (Seq, QueueNumber)) -> Vec<Self> {
        in_every_order(|order| Self::recovered_in(durable, now_ms, numbers, order))
    }

    fn recovered_in(
        durable: &Durable,
        now_ms: u64,
        (next_seq, next_queue): (Seq, QueueNumber),
        order: &[QueueNumber],
    ) -> Vec<Self> {
        let was_closed = durable.closed;
        let mut world = Self {
            now_ms,
            exchanges: durable.exchanges.clone(),
            queues: BTreeMap::new(),
            bindings: durable.bindings.clone(),
            policies: durable.policies.clone(),
            consumers: BTreeMap::new(),
            hands: BTreeMap::new(),
            orphans: BTreeMap::new(),
            next_seq,
            next_queue,
            history: vec![Rc::new(Durable { closed: false, ..durable.clone() })],
            step_start: 1,
            order: order.to_vec(),
            involved: BTreeSet::new(),
            deaths: 0,
        };
        for (name, (number, spec)) in &durable.queues {
            let settings = world.settings(spec);
            let queue = Queue::new(*number, spec.clone(), settings, now_ms);
            world.queues.insert(name.clone(), queue);
        }
        let mut dead = Vec::new();
        for (&seq, kept) in &durable.messages {
            for &number in &kept.open {
                let Some(queue) = world.queues.values_mut().find(|q| q.number == number) else {
                    continue;
                };
                let mark = kept.marks.get(&number).copied();
                let retry = kept.retries.get(&number).copied();
                let copy = Copy {
                    seq,
                    letter: kept.letter.clone(),
                    arrived_ms: kept.arrived_ms,
                    returns: mark.unwrap_or(0),
                    redelivered: mark.is_some() || !was_closed,
                    failures: retry.map_or(0, |(failures, _)| failures),
                };
                if queue.is_over_limit(copy.returns) {
                    dead.push((number, copy));
                } else if let Some(due_ms) = retry.map(|(_, due_ms)| due_ms).or(kept.due_ms) {
                    queue.delayed.push((due_ms, copy));
                } else {
                    queue.insert(copy);
                }
            }
        }
        for (number, copy) in dead {
            world.run(
                number,
                Effects { dead: vec![(copy, "delivery_limit")], ..Effects::default() },
            );
        }
        world.ticked()
    }

    fn settings(&self, spec: &QueueSpec) -> QueueSettings {
        let matching =
            self.policies.values().filter(|policy| policy.pattern == format!("^{}$", spec.name));
        // Of the highest priority; then by name.
        let best = matching.min_by_key(|policy| (-policy.priority, policy.name.clone()));
        best.map_or_else(|| spec.settings.clone(), |policy| spec.settings.under(&policy.queue))
    }

    fn by_number(&mut self, number: QueueNumber) -> Option<&mut Queue> {
        self.queues.values_mut().find(|queue| queue.number == number)
    }

    /// Every order in which the queues can do what is due.
    fn ticked(self) -> Vec<Self> {
        let mut done = Vec::new();
        let mut open = vec![self];
        while let Some(world) = open.pop() {
            let due: Vec<QueueNumber> = world
                .queues
                .values()
                .filter(|queue| {
                    let mut looked_at = (*queue).clone();
                    let effects = looked_at.tick(world.now_ms);
                    effects.unused || looked_at != **queue
                })
                .map(|queue| queue.number)
                .collect();
            if due.is_empty() {
                if !done.contains(&world) {
                    done.push(world);
                }
                continue;
            }
            assert!(done.len() + open.len() < 50 * ORDERS_MAX, "too many orders");
            for number in due {
                let mut next = world.clone();
                let now_ms = next.now_ms;
                let effects = next.by_number(number).expect("it is due").tick(now_ms);
                next.run(number, effects);
                if !open.contains(&next) {
                    open.push(next);
                }
            }
        }
        done
    }

    /// Does what a queue left to be done: marks, its end, then dead letters, each with what follows.
    fn run(&mut self, number: QueueNumber, effects: Effects) {
        let mut work = Vec::new();
        self.collect(number, effects, &mut work);
        while let Some(dead) = work.pop() {
            for (target, effects) in self.dead_letter(dead) {
                self.collect(target, effects, &mut work);
            }
        }
    }

    fn collect(&mut self, number: QueueNumber, effects: Effects, work: &mut Vec<Dead>) {
        for (seq, count) in effects.marks {
            let Some(kept) = self.durable().messages.get(&seq) else { continue };
            let before = kept.marks.get(&number).copied().unwrap_or(0);
            if kept.open.contains(&number) && before < count {
                self.change(|durable| {
                    let kept = durable.messages.get_mut(&seq).expect("it is open");
                    kept.marks.insert(number, count);
                });
            }
        }
        let Some(queue) = self.queues.values().find(|queue| queue.number == number) else { return };
        let (name, to) = (queue.name.clone(), queue.settings.dead_letter.clone());
        let goes = effects.unused && queue.consumers.is_empty();
        for (copy, reason) in effects.dead.into_iter().rev() {
            let (name, to) = (name.clone(), to.clone());
            work.push(Dead { queue: number, name, to, copy, reason });
        }
        if goes {
            self.remove_queue(&name);
        }
    }

    fn dead_letter(&mut self, dead: Dead) -> Vec<(QueueNumber, Effects)> {
        self.deaths += 1;
        let Dead { queue, name, to, copy, reason } = dead;
        let targets = to.map(|to| {
            let key = to.routing_key.as_ref().map(|key| key.as_str());
            let letter = copy.letter.died(&name, reason, to.exchange.as_str(), key);
            let mut targets = self.route(&letter.exchange, &letter.key).unwrap_or_default();
            targets.retain(|target| !letter.would_cycle(&self.name_of(*target)));
            (letter, targets)
        });
        match targets {
            Some((letter, targets)) if !targets.is_empty() => {
                self.transfer(queue, copy.seq, letter, targets)
            }
            _ => {
                self.settle(queue, copy.seq);
                Vec::new()
            }
        }
    }

    fn name_of(&self, number: QueueNumber) -> String {
        let queue = self.queues.values().find(|queue| queue.number == number);
        queue.map(|queue| queue.name.clone()).unwrap_or_default()
    }

    fn settle(&mut self, queue: QueueNumber, seq: Seq) {
        if self.durable().is_open(seq, queue) {
            self.change(|durable| durable.settle(seq, queue));
        }
    }

    /// Out of one queue and into others, in one change.
    fn transfer(
        &mut self,
        from: QueueNumber,
        seq: Seq,
        letter: Letter,
        targets: Vec<QueueNumber>,
    ) -> Vec<(QueueNumber, Effects)> {
        let (letter, new_seq) = (Rc::new(letter), self.next_seq);
        self.next_seq += 1;
        let open = self.durable_among(&letter, &targets);
        let now_ms = self.now_ms;
        if self.durable().is_open(seq, from) || !open.is_empty() {
            let kept = kept(&letter, now_ms, None, open);
            self.change(|durable| {
                durable.settle(seq, from);
                if !kept.open.is_empty() {
                    durable.messages.insert(new_seq, kept);
                }
            });
        }
        let mut all = Vec::new();
        for target in targets {
            let copy = fresh(new_seq, &letter, now_ms);
            all.push((target, self.enqueue(target, copy, None).0));
        }
        all
    }

    fn durable_among(&self, letter: &Letter, targets: &[QueueNumber]) -> BTreeSet<QueueNumber> {
        let is_durable = |number: &&QueueNumber| {
            self.queues.values().any(|queue| queue.number == **number && queue.spec.durable)
        };
        targets.iter().filter(|_| letter.persistent).filter(is_durable).copied().collect()
    }

    /// Whether the queue took it.
    fn enqueue(&mut self, number: QueueNumber, copy: Copy, due_ms: Option<u64>) -> (Effects, bool) {
        let now_ms = self.now_ms;
        let Some(queue) = self.by_number(number) else {
            self.settle(number, copy.seq);
            return (Effects::default(), true);
        };
        let overflow = queue.settings.overflow;
        if matches!(overflow, Some(Overflow::RejectPublish | Overflow::RejectPublishDlx))
            && queue.is_over_length(1)
        {
            let mut effects = Effects::default();
            if overflow == Some(Overflow::RejectPublishDlx) {
                effects.dead.push((copy, "maxlen"));
            } else {
                self.settle(number, copy.seq);
            }
            return (effects, false);
        }
        match due_ms.filter(|due_ms| *due_ms > now_ms) {
            Some(due_ms) => queue.delayed.push((due_ms, copy)),
            None => queue.insert(copy),
        }
        let mut effects = Effects::default();
        queue.dispatch(now_ms, &mut effects);
        (effects, true)
    }

    /// `None`: no such exchange.
    fn route(&mut self, exchange: &str, key: &str) -> Option<Vec<QueueNumber>> {
        if exchange.is_empty() {
            return Some(self.queues.get(key).map(|queue| queue.number).into_iter().collect());
        }
        let spec = self.exchanges.get(exchange)?.clone();
        let matches = |bound: &&Bound| {
            bound.exchange == exchange
                && match spec.kind {
                    ExchangeKind::Direct => bound.key == key,
                    ExchangeKind::Topic => topic(&words(&bound.key), &words(key)),
                    _ => true,
                }
        };
        let names: BTreeSet<&String> =
            self.bindings.iter().filter(matches).map(|bound| &bound.queue).collect();
        let mut found: Vec<QueueNumber> =
            names.into_iter().filter_map(|name| Some(self.queues.get(name)?.number)).collect();
        if found.is_empty()
            && let Some(alternate) = &spec.alternate
        {
            found = self.route(alternate.as_str(), key).unwrap_or_default();
        }
        if found.len() > 1 {
            self.involved.extend(&found);
            let place = |number: &QueueNumber| self.order.iter().position(|other| other == number);
            found.sort_by_key(place);
        }
        Some(found)
    }

    fn remove_queue(&mut self, name: &str) -> Vec<Copy> {
        let Some(queue) = self.queues.remove(name) else { return Vec::new() };
        for consumer in &queue.consumers {
            let waiting = consumer.line.iter().map(|tag| (*tag, queue.unacked(*tag)));
            self.orphans.insert(consumer.number, waiting.collect());
        }
        let sources: BTreeSet<String> = self
            .bindings
            .iter()
            .filter(|bound| bound.queue == name)
            .map(|bound| bound.exchange.clone())
            .collect();
        self.bindings.retain(|bound| bound.queue != name);
        let unused: Vec<String> =
            sources.into_iter().filter(|source| self.is_done(source)).collect();
        for exchange in &unused {
            self.exchanges.remove(exchange);
        }
        self.change(|durable| {
            durable.forget_queue(name, queue.number);
            durable.bindings.retain(|bound| bound.queue != name);
            durable.exchanges.retain(|exchange, _| !unused.contains(exchange));
        });
        queue.ready
    }

    /// An auto-delete exchange that has lost its last binding.
    fn is_done(&self, exchange: &str) -> bool {
        self.exchanges.get(exchange).is_some_and(|spec| spec.auto_delete)
            && !self.bindings.iter().any(|bound| bound.exchange == exchange)
    }

    fn is_bindings_end_durable(&self, bound: &Bound) -> bool {
        self.exchanges.get(&bound.exchange).is_some_and(|spec| spec.durable)
            && self.queues.get(&bound.queue).is_some_and(|queue| queue.spec.durable)
    }

    /// Every way in which a step can go, with the answer.
    pub fn step(&self, step: &Step) -> Vec<(Self, String)> {
        let mut answers = Vec::new();
        let worlds = in_every_order(|order| {
            let mut world = self.clone();
            world.step_start = world.history.len();
            world.order = order.to_vec();
            match step {
                Step::Advance(ms) => {
                    world.now_ms += ms;
                    answers.push(String::new());
                    world.ticked()
                }
                _ => {
                    answers.push(world.plain_step(step));
                    vec![world]
                }
            }
        });
        // No answer to a step depends on the order of queues, only what comes after it does.
        worlds.into_iter().map(|world| (world, answers[0].clone())).collect()
    }

    fn publish(&mut self, publish: &Publish) -> String {
        let Some(targets) = self.route(publish.exchange, publish.key) else {
            return "no exchange".to_owned();
        };
        let letter = Rc::new(Letter {
            body: publish.body,
            exchange: publish.exchange.to_owned(),
            key: publish.key.to_owned(),
            persistent: publish.persistent,
            priority: publish.priority.unwrap_or(0),
            ttl_ms: publish.ttl_ms,
            deaths: Vec::new(),
        });
        let now_ms = self.now_ms;
        let due_ms = publish.delay_ms.filter(|ms| *ms > 0).map(|ms| now_ms + ms);
        let seq = self.next_seq;
        self.next_seq += 1;
        let open = self.durable_among(&letter, &targets);
        if !open.is_empty() {
            let kept = kept(&letter, now_ms, due_ms, open);
            self.change(|durable| {
                durable.messages.insert(seq, kept);
            });
        }
        let mut taken = true;
        for &target in &targets {
            let copy = fresh(seq, &letter, due_ms.unwrap_or(now_ms));
            let (effects, took) = self.enqueue(target, copy, due_ms);
            taken &= took;
            self.run(target, effects);
        }
        format!("routed={} taken={taken}", !targets.is_empty())
    }

    fn plain_step(&mut self, step: &Step) -> String {
        let now_ms = self.now_ms;
        match step {
            Step::DeclareExchange(spec) => {
                let name = spec.name.to_string();
                if let Some(existing) = self.exchanges.get(&name) {
                    return if existing == spec { "ok" } else { "other" }.to_owned();
                }
                self.exchanges.insert(name.clone(), spec.clone());
                if spec.durable {
                    self.change(|durable| {
                        durable.exchanges.insert(name, spec.clone());
                    });
                }
                "ok".to_owned()
            }
            Step::DeleteExchange { exchange, if_unused } => {
                let is_source = |bound: &Bound| bound.exchange == *exchange;
                if self.exchanges.contains_key(*exchange)
                    && *if_unused
                    && self.bindings.iter().any(is_source)
                {
                    return "in use".to_owned();
                }
                if self.exchanges.remove(*exchange).is_some() {
                    self.bindings.retain(|bound| !is_source(bound));
                    self.change(|durable| {
                        durable.exchanges.remove(*exchange);
                        durable.bindings.retain(|bound| !is_source(bound));
                    });
                }
                "ok".to_owned()
            }
            Step::DeclareQueue(spec) => self.declare_queue(spec),
            Step::DeleteQueue(queue, only) => self.delete_queue(queue, *only),
            Step::Bind { exchange, queue, key } => self.bind(exchange, queue, key),
            Step::Unbind { exchange, queue, key } => self.unbind(exchange, queue, key),
            Step::Get(queue, hand) => {
                let Some(queue) = self.queues.get_mut(*queue) else { return "no queue".to_owned() };
                let number = queue.number;
                let (taken, effects) = queue.get(now_ms);
                self.run(number, effects);
                self.handed(number, *hand, taken)
            }
            Step::Consume { queue, number, prefetch } => {
                let Some(queue) = self.queues.get_mut(*queue) else { return "no queue".to_owned() };
                let id = queue.number;
                let effects = queue.add_consumer(*number, *prefetch, now_ms);
                self.consumers.insert(*number, id);
                self.run(id, effects);
                "ok".to_owned()
            }
            Step::Take(number, hand) => {
                let Some(id) = self.consumers.get(number).copied() else {
                    return "empty".to_owned();
                };
                if let Some(waiting) = self.orphans.get_mut(number) {
                    let next = (!waiting.is_empty()).then(|| waiting.remove(0));
                    return self.handed(id, *hand, next);
                }
                let Some(queue) = self.by_number(id) else { return "empty".to_owned() };
                let consumer = queue.consumers.iter_mut().find(|c| c.number == *number);
                let Some(consumer) = consumer.filter(|consumer| !consumer.line.is_empty()) else {
                    return "empty".to_owned();
                };
                let tag = consumer.line.remove(0);
                let copy = queue.unacked(tag);
                self.handed(id, *hand, Some((tag, copy)))
            }
            Step::Cancel(number) => {
                self.orphans.remove(number);
                if let Some(id) = self.consumers.remove(number)
                    && let Some(queue) = self.by_number(id)
                {
                    let (tags, unused) = queue.remove_consumer(*number, now_ms);
                    let effects = queue.requeue(tags, false, now_ms);
                    self.run(id, effects);
                    self.run(id, Effects { unused, ..Effects::default() });
                }
                "ok".to_owned()
            }
            Step::Ack(hand) | Step::Requeue(hand) | Step::Fail(hand) => {
                if let Some((id, tag)) = self.hands.remove(hand)
                    && self.by_number(id).is_some()
                {
                    self.settle_hand(step, id, tag);
                }
                "ok".to_owned()
            }
            Step::Purge(queue) => {
                let Some(queue) = self.queues.get_mut(*queue) else { return "no queue".to_owned() };
                let (number, ready) = (queue.number, std::mem::take(&mut queue.ready));
                for copy in &ready {
                    self.settle(number, copy.seq);
                }
                format!("purged {}", ready.len())
            }
            Step::Redrive { queue, nth } => self.redrive(queue, *nth),
            Step::SetPolicy(policy) => {
                self.policies.insert(policy.name.clone(), policy.clone());
                self.change(|durable| {
                    durable.policies.insert(policy.name.clone(), policy.clone());
                });
                self.apply_policies();
                "ok".to_owned()
            }
            Step::ClearPolicy(name) => {
                if self.policies.remove(*name).is_some() {
                    self.change(|durable| {
                        durable.policies.remove(*name);
                    });
                    self.apply_policies();
                }
                "ok".to_owned()
            }
            Step::Publish(publish) => self.publish(publish),
            Step::Advance(_) => unreachable!("time is not the queues' business"),
            Step::Flush | Step::Crash => "ok".to_owned(),
            Step::Restart => {
                self.change(|durable| durable.closed = true);
                "ok".to_owned()
            }
        }
    }

    fn declare_queue(&mut self, spec: &QueueSpec) -> String {
        let (now_ms, name) = (self.now_ms, spec.name.to_string());
        if let Some(queue) = self.queues.get_mut(&name) {
            if queue.spec != *spec {
                return "other".to_owned();
            }
            queue.used_ms = now_ms;
            let (number, mut effects) = (queue.number, Effects::default());
            queue.dispatch(now_ms, &mut effects);
            self.run(number, effects);
            return "ok".to_owned();
        }
        let (number, settings) = (self.next_queue, self.settings(spec));
        self.next_queue += 1;
        self.queues.insert(name.clone(), Queue::new(number, spec.clone(), settings, now_ms));
        if spec.durable {
            self.change(|durable| {
                durable.queues.insert(name, (number, spec.clone()));
            });
        }
        "ok".to_owned()
    }

    fn delete_queue(&mut self, name: &str, only: DeleteIf) -> String {
        let Some(queue) = self.queues.get(name) else { return "deleted 0".to_owned() };
        if only.unused && !queue.consumers.is_empty() {
            return "in use".to_owned();
        }
        if only.empty && !queue.ready.is_empty() {
            return "not empty".to_owned();
        }
        format!("deleted {}", self.remove_queue(name).len())
    }

    fn bind(&mut self, exchange: &str, queue: &str, key: &str) -> String {
        if !self.queues.contains_key(queue) {
            return "no queue".to_owned();
        }
        if !self.exchanges.contains_key(exchange) {
            return "no exchange".to_owned();
        }
        let bound =
            Bound { exchange: exchange.to_owned(), queue: queue.to_owned(), key: key.to_owned() };
        if self.bindings.insert(bound.clone()) && self.is_bindings_end_durable(&bound) {
            self.change(|durable| {
                durable.bindings.insert(bound);
            });
        }
        "ok".to_owned()
    }

    fn unbind(&mut self, exchange: &str, queue: &str, key: &str) -> String {
        let bound =
            Bound { exchange: exchange.to_owned(), queue: queue.to_owned(), key: key.to_owned() };
        if self.bindings.remove(&bound) {
            let done = self.is_done(exchange);
            if done {
                self.exchanges.remove(exchange);
            }
            self.change(|durable| {
                durable.bindings.remove(&bound);
                if done {
                    durable.exchanges.remove(&bound.exchange);
                }
            });
        }
        "ok".to_owned()
    }

    fn handed(
        &mut self,
        queue: QueueNumber,
        hand: HandNumber,
        taken: Option<(Tag, Copy)>,
    ) -> String {
        let Some((tag, copy)) = taken else { return "empty".to_owned() };
        self.hands.insert(hand, (queue, tag));
        answer(&copy)
    }

    fn settle_hand(&mut self, step: &Step, id: QueueNumber, tag: Tag) {
        let now_ms = self.now_ms;
        let Some(queue) = self.by_number(id) else { return };
        if matches!(step, Step::Requeue(_)) {
            let effects = queue.requeue(vec![tag], true, now_ms);
            return self.run(id, effects);
        }
        let Some(mut copy) = queue.take_unacked(tag) else { return };
        let mut effects = Effects::default();
        queue.dispatch(now_ms, &mut effects);
        if matches!(step, Step::Ack(_)) {
            self.settle(id, copy.seq);
            return self.run(id, effects);
        }
        copy.redelivered = true;
        let Some(policy) = queue.settings.retry.clone() else {
            effects.dead.push((copy, "rejected"));
            return self.run(id, effects);
        };
        copy.failures += 1;
        if copy.failures >= policy.attempts_max {
            effects.dead.push((copy, "rejected"));
            return self.run(id, effects);
        }
        self.run(id, effects);
        let due_ms = now_ms + policy.delay_ms(copy.failures, 0.5);
        if self.durable().is_open(copy.seq, id) {
            let (seq, failures) = (copy.seq, copy.failures);
            self.change(|durable| {
                let kept = durable.messages.get_mut(&seq).expect("it is open");
                kept.retries.insert(id, (failures, due_ms));
            });
        }
        let mut effects = Effects::default();
        if let Some(queue) = self.by_number(id) {
            queue.delayed.push((due_ms, copy));
            queue.dispatch(now_ms, &mut effects);
        }
        self.run(id, effects);
    }

    fn redrive(&mut self, name: &str, nth: usize) -> String {
        let Some(queue) = self.queues.get_mut(name) else { return "no queue".to_owned() };
        let number = queue.number;
        if nth >= queue.ready.len() {
            return "nothing".to_owned();
        }
        let copy = queue.ready.remove(nth);
        let death = copy.letter.deaths.first();
        let target = death.and_then(|death| self.queues.get(&death.queue)).map(|q| q.number);
        let (Some(death), Some(target)) = (death, target) else {
            let (now_ms, mut effects) = (self.now_ms, Effects::default());
            if let Some(queue) = self.by_number(number) {
                queue.insert(copy);
                queue.dispatch(now_ms, &mut effects);
            }
            self.run(number, effects);
            return "can't".to_owned();
        };
        let (exchange, key) = (death.exchange.clone(), death.key.clone());
        let letter = Letter { exchange, key, deaths: Vec::new(), ..(*copy.letter).clone() };
        for (target, effects) in self.transfer(number, copy.seq, letter, vec![target]) {
            self.run(target, effects);
        }
        "redriven".to_owned()
    }

    fn apply_policies(&mut self) {
        let now_ms = self.now_ms;
        let names: Vec<String> = self.queues.keys().cloned().collect();
        let mut all = Vec::new();
        for name in names {
            let settings = self.settings(&self.queues[&name].spec);
            let Some(queue) = self.queues.get_mut(&name) else { continue };
            queue.settings = settings;
            let mut effects = Effects::default();
            queue.dispatch(now_ms, &mut effects);
            if !effects.dead.is_empty() {
                all.push((queue.number, effects));
            }
        }
        if all.len() > 1 {
            self.involved.extend(all.iter().map(|(number, _)| number));
            all.sort_by_key(|(number, _)| self.order.iter().position(|other| other == number));
        }
        for (number, effects) in all {
            self.run(number, effects);
        }
    }

    /// What can be seen of the queues.
    pub fn view(&self) -> BTreeMap<String, String> {
        let view = |queue: &Queue| {
            let ready = queue.ready.iter().map(|copy| shown(copy.letter.body, copy.redelivered));
            let ready: Vec<String> = ready.collect();
            let Queue { unacked, delayed, consumers, .. } = queue;
            format!("{ready:?} {} {} {}", unacked.len(), delayed.len(), consumers.len())
        };
        self.queues.iter().map(|(name, queue)| (name.clone(), view(queue))).collect()
    }
}

/// What `run` leads to under every order of the queues among which the engine may choose, as far as
/// it can make a difference.
fn in_every_order(mut run: impl FnMut(&[QueueNumber]) -> Vec<World>) -> Vec<World> {
    let mut worlds = run(&[]);
    let involved: BTreeSet<QueueNumber> =
        worlds.iter().flat_map(|world| world.involved.iter().copied()).collect();
    let turbulent =
        worlds.iter().any(|world| world.deaths > 0 || world.history.len() > world.step_start + 1);
    if turbulent && involved.len() > 1 {
        let involved: Vec<QueueNumber> = involved.into_iter().collect();
        for order in orders(&involved) {
            worlds.extend(run(&order));
        }
    }
    let mut different: Vec<World> = Vec::new();
    for mut world in worlds {
        (world.order, world.involved, world.deaths) = Default::default();
        if !different.contains(&world) {
            different.push(world);
        }
    }
    different
}

pub fn shown(body: u64, redelivered: bool) -> String {
    format!("{body}{}", if redelivered { "r" } else { "" })
}

fn answer(copy: &Copy) -> String {
    let Copy { letter, redelivered, returns, failures, .. } = copy;
    let Letter { body, exchange, key, deaths, .. } = &**letter;
    let deaths = told(deaths);
    format!("{} {exchange}/{key} {returns} {failures} [{deaths}]", shown(*body, *redelivered))
}

fn kept(
    letter: &Rc<Letter>,
    now_ms: u64,
    due_ms: Option<u64>,
    open: BTreeSet<QueueNumber>,
) -> Kept {
    let arrived_ms = due_ms.unwrap_or(now_ms);
    let (marks, retries) = (BTreeMap::new(), BTreeMap::new());
    Kept { letter: letter.clone(), arrived_ms, due_ms, open, marks, retries }
}

fn fresh(seq: Seq, letter: &Rc<Letter>, arrived_ms: u64) -> Copy {
    let letter = letter.clone();
    Copy { seq, letter, arrived_ms, returns: 0, redelivered: false, failures: 0 }
}

fn words(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

fn topic(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => topic(rest, key) || (!key.is_empty() && topic(pattern, &key[1..])),
        ([word, rest @ ..], [first, more @ ..]) => {
            (*word == "*" || word == first) && topic(rest, more)
        }
        _ => false,
    }
}

/// Every order of a few queues.
fn orders(queues: &[QueueNumber]) -> Vec<Vec<QueueNumber>> {
    if queues.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in queues.iter().enumerate() {
        let mut rest = queues.to_vec();
        rest.remove(at);
        for mut order in orders(&rest) {
            order.insert(0, *first);
            all.push(order);
        }
        if all.len() >= ORDERS_MAX {
            break;
        }
    }
    all
}
