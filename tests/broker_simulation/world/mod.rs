//! The oracle: a broker of plain lists, and everything that the disk may hold of it.
//!
//! Where the engine is free (which of several queues is looked at first), a step leads to several
//! worlds; those that give another answer than the engine are dropped.

mod moving;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use leveret::model::topology::{ExchangeSpec, Policy, QueueSettings, QueueSpec};

use crate::durable::{Bound, Durable, QueueNumber, Seq};
use crate::queue::{Copy, Queue, Tag};
use crate::step::{ConsumerNumber, HandNumber};

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
    /// How many changes of it the step's commit stands for.
    step_changes: usize,
    /// Where the engine may choose among several queues, this is the order that it takes.
    order: Vec<QueueNumber>,
    /// The queues that it could choose among in this step, and whether somebody died.
    involved: BTreeSet<QueueNumber>,
    deaths: usize,
    /// To the step that led here. It may depend on the order too: whether a message is taken, when what
    /// one of its queues drops for it goes to another one that it is for.
    answer: String,
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

    /// The first changes of this step are on disk: its messages, or what else it was about.
    pub fn confirmed(&mut self) {
        let first = self.step_start + self.step_changes.saturating_sub(1);
        let first = first.min(self.history.len() - 1);
        self.history.drain(..first);
    }

    /// What this step settled never comes back. It may be as if it had never been written.
    pub fn settled(&mut self) {
        let start = self.step_start;
        let (before, after) = match (self.history.get(start - 1), self.history.get(start)) {
            (Some(before), Some(after)) => (before.clone(), after.clone()),
            _ => return,
        };
        let is_settled = |seq: Seq, queue: QueueNumber| !after.is_open(seq, queue);
        let settled: Vec<(Seq, QueueNumber)> = before
            .messages
            .iter()
            .flat_map(|(seq, kept)| kept.open.iter().map(|queue| (*seq, *queue)))
            .filter(|(seq, queue)| is_settled(*seq, *queue))
            .collect();
        let mut place = 0;
        self.history.retain(|durable| {
            place += 1;
            place > start || settled.iter().all(|(seq, queue)| !durable.is_open(*seq, *queue))
        });
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
            step_changes: 0,
            order: order.to_vec(),
            involved: BTreeSet::new(),
            deaths: 0,
            answer: String::new(),
        };
        for (name, (number, spec)) in &durable.queues {
            let settings = world.settings(spec);
            let queue = Queue::new(*number, spec.clone(), settings, now_ms);
            world.queues.insert(name.clone(), queue);
        }
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
                    queue.dying.push(copy);
                } else if let Some(due_ms) = retry.map(|(_, due_ms)| due_ms).or(kept.due_ms) {
                    queue.delayed.push((due_ms, copy));
                } else {
                    queue.insert(copy);
                }
            }
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
