//! The oracle: a broker of plain lists, and everything that the disk may hold of it.
//!
//! Where the engine is free (which of several queues is looked at first), a step leads to several
//! worlds; those that give another answer than the engine are dropped.

mod moving;
mod publishing;
mod routing;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use leveret::model::topology::{ExchangeSpec, Policy, QueueKind, QueueSettings, QueueSpec};

use crate::durable::{Bound, Durable, QueueNumber, Seq};
use crate::queue::{Copy, Queue, Tag};
use crate::shared::{Shared, distinct};
use crate::step::{ConsumerNumber, HandNumber};
use crate::view::View;

/// Orders in which queues are looked at that are tried at most, for one step.
const ORDERS_MAX: usize = 120;

#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub now_ms: u64,
    pub exchanges: Rc<BTreeMap<String, ExchangeSpec>>,
    pub queues: BTreeMap<String, Shared<Queue>>,
    pub bindings: Rc<BTreeSet<Bound>>,
    pub policies: Rc<BTreeMap<String, Policy>>,
    /// Where consumers and deliveries belong.
    pub consumers: BTreeMap<ConsumerNumber, QueueNumber>,
    pub hands: BTreeMap<HandNumber, (QueueNumber, Tag)>,
    /// What still waits in the lines of consumers whose queue is gone.
    orphans: BTreeMap<ConsumerNumber, Vec<(Tag, Copy)>>,
    next_seq: Seq,
    next_queue: QueueNumber,
    /// Those of them that are quorum queues.
    quorum: Rc<BTreeSet<QueueNumber>>,
    /// The step is the other connection's.
    by_peer: bool,
    past: Past,
    /// What the disk holds before this step, and after each of its changes, unless it is known that a later
    /// one survives.
    history: Vec<Shared<Durable>>,
    /// How many changes of it the step's commit stands for.
    step_changes: usize,
    /// Where the engine may choose among several queues, this is the order that it takes.
    order: Vec<QueueNumber>,
    /// The queues that it could choose among in this step, and what happened.
    involved: BTreeSet<QueueNumber>,
    deaths: usize,
    changes: usize,
    /// To the step that led here. It may depend on the order too: whether a message is taken, when what
    /// one of its queues drops for it goes to another one that it is for.
    answer: String,
}

/// What the disk may be found to hold after a crash that undoes whole steps. Worlds that differ in nothing
/// else go the same way until then: they count as equal, and become one with the pasts of all.
#[derive(Debug, Clone, Default)]
struct Past(Rc<Vec<Shared<Durable>>>);

impl PartialEq for Past {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Past {
    fn add(&mut self, more: impl Iterator<Item = Shared<Durable>>) {
        let states = Rc::make_mut(&mut self.0);
        *states = distinct(states.drain(..).chain(more), |_, _| {});
    }
}

/// One of each.
pub fn merged(worlds: impl IntoIterator<Item = World>) -> Vec<World> {
    distinct(worlds, |world, other| {
        if !Rc::ptr_eq(&world.past.0, &other.past.0) {
            world.past.add(other.past.0.iter().cloned());
        }
    })
}

/// What mostly tells two of them apart.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { now_ms, queues, hands, next_seq, next_queue, history, order, answer, .. } = self;
        (now_ms, queues, hands, next_seq, next_queue, history, order, answer).hash(state);
    }
}

impl World {
    pub fn new(now_ms: u64) -> Self {
        Self::recovered(&Durable::default(), now_ms, (0, 0)).remove(0)
    }

    fn durable(&self) -> &Durable {
        self.history.last().expect("never empty")
    }

    fn change(&mut self, change: impl FnOnce(&mut Durable)) {
        let mut durable = self.history.last().expect("never empty").clone();
        change(durable.make_mut());
        self.history.push(durable);
        self.changes += 1;
    }

    fn begin_step(&mut self) {
        self.leave_behind();
        self.step_changes = 0;
    }

    /// What happened so far is the past.
    fn leave_behind(&mut self) {
        self.past.add(self.history.drain(..self.history.len() - 1));
    }

    /// What the disk may hold after a crash.
    pub fn survivors(&self) -> impl Iterator<Item = &Shared<Durable>> {
        self.past.0.iter().chain(&self.history)
    }

    /// Everything so far is on disk.
    pub fn flushed(&mut self) {
        self.past = Past::default();
        self.history.drain(..self.history.len() - 1);
    }

    /// The first changes of this step are on disk: its messages, or what else it was about.
    pub fn confirmed(&mut self) {
        self.past = Past::default();
        let first = self.step_changes.max(1).min(self.history.len() - 1);
        self.history.drain(..first);
    }

    /// What this step settled never comes back. It may be as if it had never been written.
    pub fn settled(&mut self) {
        let [before, after, ..] = self.history.as_slice() else { return };
        let is_settled = |seq: Seq, queue: QueueNumber| !after.is_open(seq, queue);
        let settled: Vec<(Seq, QueueNumber)> = before
            .messages
            .iter()
            .flat_map(|(seq, kept)| kept.open.iter().map(|queue| (*seq, *queue)))
            .filter(|(seq, queue)| is_settled(*seq, *queue))
            .collect();
        if settled.is_empty() {
            return;
        }
        let is_past = |durable: &Shared<Durable>| {
            settled.iter().all(|(seq, queue)| !durable.is_open(*seq, *queue))
        };
        Rc::make_mut(&mut self.past.0).retain(is_past);
        self.history.remove(0);
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
            quorum: Rc::default(),
            by_peer: false,
            past: Past::default(),
            history: vec![Shared::new(Durable { closed: false, ..durable.clone() })],
            step_changes: 0,
            order: order.to_vec(),
            involved: BTreeSet::new(),
            deaths: 0,
            changes: 0,
            answer: String::new(),
        };
        for (name, (number, spec)) in &*durable.queues {
            let settings = world.settings(spec);
            let queue = Queue::new(*number, spec.clone(), settings, now_ms);
            world.add_queue(name.clone(), queue);
        }
        for (&seq, kept) in &durable.messages {
            for &number in &kept.open {
                let Some(queue) = world.by_number(number) else { continue };
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

    fn add_queue(&mut self, name: String, queue: Queue) {
        if queue.spec.kind == QueueKind::Quorum {
            Rc::make_mut(&mut self.quorum).insert(queue.number);
        }
        self.queues.insert(name, Shared::new(queue));
    }

    fn settings(&self, spec: &QueueSpec) -> QueueSettings {
        let matching =
            self.policies.values().filter(|policy| policy.pattern == format!("^{}$", spec.name));
        // Of the highest priority; then by name.
        let best = matching.min_by_key(|policy| (-policy.priority, policy.name.clone()));
        best.map_or_else(|| spec.settings.clone(), |policy| spec.settings.under(&policy.queue))
    }

    fn by_number(&mut self, number: QueueNumber) -> Option<&mut Queue> {
        let queue = self.queues.values_mut().find(|queue| queue.number == number);
        queue.map(Shared::make_mut)
    }

    /// Every order in which the queues can do what is due. No confirm tells of a part of it, so what each of
    /// them wrote is past for the next: those that came the other way about to the same are one.
    fn ticked(self) -> Vec<Self> {
        let (mut done, mut open) = (Vec::new(), vec![self]);
        while !open.is_empty() {
            let mut next = Vec::new();
            for world in open {
                let due = world.due();
                for &number in &due {
                    next.push(world.clone().ticked_in(number));
                }
                if due.is_empty() {
                    done.push(world);
                }
            }
            open = merged(next);
            assert!(done.len() + open.len() < 50 * ORDERS_MAX, "too many orders");
        }
        merged(done)
    }

    /// The queues that have something to do.
    fn due(&self) -> Vec<QueueNumber> {
        let is_due = |queue: &&Shared<Queue>| {
            let mut looked_at = Queue::clone(queue);
            let effects = looked_at.tick(self.now_ms);
            effects.unused || looked_at != ***queue
        };
        self.queues.values().filter(is_due).map(|queue| queue.number).collect()
    }

    fn ticked_in(mut self, number: QueueNumber) -> Self {
        let now_ms = self.now_ms;
        let effects = self.by_number(number).expect("it is due").tick(now_ms);
        self.run(number, effects);
        self.leave_behind();
        self
    }

    /// What can be seen of the queues.
    pub fn view(&self) -> View {
        self.queues.iter().map(|(name, queue)| (name.clone(), queue.view())).collect()
    }

    pub fn looks_like(&self, view: &View) -> bool {
        self.queues.len() == view.len()
            && self.queues.iter().zip(view).all(|((name, queue), (seen_name, seen))| {
                name == seen_name && queue.looks_like(seen)
            })
    }
}

/// What `run` leads to under every order of the queues among which the engine may choose, as far as
/// it can make a difference.
fn in_every_order(mut run: impl FnMut(&[QueueNumber]) -> Vec<World>) -> Vec<World> {
    let mut worlds = run(&[]);
    let involved: BTreeSet<QueueNumber> =
        worlds.iter().flat_map(|world| world.involved.iter().copied()).collect();
    let turbulent = worlds.iter().any(|world| world.deaths > 0 || world.changes > 1);
    if turbulent && involved.len() > 1 {
        let involved: Vec<QueueNumber> = involved.into_iter().collect();
        for order in orders(&involved) {
            worlds.extend(run(&order));
        }
    }
    merged(worlds.into_iter().map(|mut world| {
        (world.order, world.involved) = Default::default();
        (world.deaths, world.changes) = (0, 0);
        world
    }))
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
