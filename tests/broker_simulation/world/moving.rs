//! The way of messages between queues: in, out, and what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use leveret::model::topology::{DeadLetter, Overflow};

use super::World;
use crate::durable::{Bound, End, Kept, QueueNumber, Seq};
use crate::letter::Letter;
use crate::queue::{Copy, Effects};
use crate::shared::Shared;

/// A dead copy on its way out of a queue that may itself be gone.
struct Dead {
    queue: QueueNumber,
    name: String,
    to: Option<DeadLetter>,
    copy: Copy,
    reason: &'static str,
}

impl World {
    /// Does what a queue left to be done: marks, its end, then dead letters, each with what follows.
    pub(super) fn run(&mut self, number: QueueNumber, effects: Effects) {
        let mut work = Vec::new();
        self.collect(number, effects, &mut work);
        while let Some(dead) = work.pop() {
            for (target, effects) in self.dead_letter(dead) {
                self.collect(target, effects, &mut work);
            }
        }
    }

    fn collect(&mut self, number: QueueNumber, effects: Effects, work: &mut Vec<Dead>) {
        self.orphans.extend(effects.ended.into_iter().map(|number| (number, Vec::new())));
        for (seq, count) in effects.marks {
            let Some(kept) = self.durable().messages.get(&seq) else { continue };
            let before = kept.marks.get(&number).copied().unwrap_or(0);
            if kept.open.contains(&number) && before < count {
                self.change(|durable| {
                    let kept = durable.messages.get_mut(&seq).expect("it is open");
                    kept.make_mut().marks.insert(number, count);
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
            let route = self.route(&letter.exchange, &letter.keys(), letter.headers);
            let mut targets = route.map(|route| route.targets).unwrap_or_default();
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

    pub(super) fn name_of(&self, number: QueueNumber) -> String {
        let queue = self.queues.values().find(|queue| queue.number == number);
        queue.map(|queue| queue.name.clone()).unwrap_or_default()
    }

    pub(super) fn settle(&mut self, queue: QueueNumber, seq: Seq) {
        if self.durable().is_open(seq, queue) {
            self.change(|durable| durable.settle(seq, queue));
        }
    }

    /// Out of one queue and into others, in one change.
    pub(super) fn transfer(
        &mut self,
        from: QueueNumber,
        seq: Seq,
        letter: Letter,
        targets: Vec<QueueNumber>,
    ) -> Vec<(QueueNumber, Effects)> {
        let (letter, new_seq) = (Shared::new(letter), self.next_seq);
        self.next_seq += 1;
        let open = self.durable_among(&letter, &targets);
        let now_ms = self.now_ms;
        if self.durable().is_open(seq, from) || !open.is_empty() {
            let kept = kept(&letter, now_ms, None, open);
            self.change(|durable| {
                durable.settle(seq, from);
                if !kept.open.is_empty() {
                    durable.messages.insert(new_seq, Shared::new(kept));
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

    pub(super) fn durable_among(
        &self,
        letter: &Letter,
        targets: &[QueueNumber],
    ) -> BTreeSet<QueueNumber> {
        let is_durable = |number: &&QueueNumber| {
            self.queues.values().any(|queue| queue.number == **number && queue.is_durable())
        };
        targets.iter().filter(|_| letter.persistent).filter(is_durable).copied().collect()
    }

    /// Whether the queue took it.
    pub(super) fn enqueue(
        &mut self,
        number: QueueNumber,
        copy: Copy,
        due_ms: Option<u64>,
    ) -> (Effects, bool) {
        let Some(queue) = self.by_number(number) else {
            self.settle(number, copy.seq);
            return (Effects::default(), true);
        };
        if queue.refuses(1, copy.letter.body_bytes) {
            let mut effects = Effects::default();
            if queue.settings.overflow == Some(Overflow::RejectPublishDlx) {
                effects.dead.push((copy, "maxlen"));
            } else {
                self.settle(number, copy.seq);
            }
            return (effects, false);
        }
        (self.enqueue_promised(number, copy, due_ms), true)
    }

    /// Whatever its length.
    pub(super) fn enqueue_promised(
        &mut self,
        number: QueueNumber,
        copy: Copy,
        due_ms: Option<u64>,
    ) -> Effects {
        let now_ms = self.now_ms;
        let Some(queue) = self.by_number(number) else {
            self.settle(number, copy.seq);
            return Effects::default();
        };
        match due_ms.filter(|due_ms| *due_ms > now_ms) {
            Some(due_ms) => queue.delayed.push((due_ms, copy)),
            None => queue.insert(copy),
        }
        let mut effects = Effects::default();
        queue.dispatch(now_ms, &mut effects);
        effects
    }

    pub(super) fn remove_queue(&mut self, name: &str) -> Vec<Copy> {
        let Some(queue) = self.queues.remove(name) else { return Vec::new() };
        for consumer in &queue.consumers {
            let waiting = consumer.line.iter().map(|tag| (*tag, queue.unacked(*tag)));
            self.orphans.insert(consumer.number, waiting.collect());
        }
        let sources: BTreeSet<String> = self
            .bindings
            .iter()
            .filter(|bound| bound.leads_to_queue(name))
            .map(|bound| bound.exchange.clone())
            .collect();
        Rc::make_mut(&mut self.bindings).retain(|bound| !bound.leads_to_queue(name));
        let unused: Vec<String> =
            sources.into_iter().filter(|source| self.is_done(source)).collect();
        for exchange in &unused {
            Rc::make_mut(&mut self.exchanges).remove(exchange);
        }
        // None that deletes itself leads to an exchange, so it ends here.
        Rc::make_mut(&mut self.bindings).retain(|bound| !bound.is_of_any(&unused));
        self.change(|durable| {
            durable.forget_queue(name, queue.number);
            let goes = |bound: &Bound| bound.leads_to_queue(name) || bound.is_of_any(&unused);
            Rc::make_mut(&mut durable.bindings).retain(|bound| !goes(bound));
            Rc::make_mut(&mut durable.exchanges).retain(|exchange, _| !unused.contains(exchange));
        });
        queue.ready.clone()
    }

    /// An auto-delete exchange that has lost its last binding.
    pub(super) fn is_done(&self, exchange: &str) -> bool {
        self.exchanges.get(exchange).is_some_and(|spec| spec.auto_delete)
            && !self.bindings.iter().any(|bound| bound.exchange == exchange)
    }

    pub(super) fn is_bindings_end_durable(&self, bound: &Bound) -> bool {
        self.exchanges.get(&bound.exchange).is_some_and(|spec| spec.durable)
            && match &bound.to {
                End::Queue(name) => self.queues.get(name).is_some_and(|queue| queue.is_durable()),
                End::Exchange(name) => self.exchanges.get(name).is_some_and(|spec| spec.durable),
            }
    }
}

pub(super) fn kept(
    letter: &Shared<Letter>,
    now_ms: u64,
    due_ms: Option<u64>,
    open: BTreeSet<QueueNumber>,
) -> Kept {
    let arrived_ms = due_ms.unwrap_or(now_ms);
    let (marks, retries) = (BTreeMap::new(), BTreeMap::new());
    Kept { letter: letter.clone(), arrived_ms, due_ms, open, marks, retries }
}

pub(super) fn fresh(seq: Seq, letter: &Shared<Letter>, arrived_ms: u64) -> Copy {
    let letter = letter.clone();
    Copy { seq, letter, arrived_ms, returns: 0, redelivered: false, failures: 0 }
}
