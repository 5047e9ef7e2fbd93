//! What each step does to the oracle.

use std::rc::Rc;

use leveret::broker::DeleteIf;
use leveret::model::topology::QueueSpec;

use super::{World, in_every_order, shown};
use crate::durable::{Bound, End, QueueNumber};
use crate::letter::{Letter, told};
use crate::queue::{Copy, Effects, Queue, Tag};
use crate::shared::Shared;
use crate::step::{HandNumber, Step};

impl World {
    /// Every way in which a step can go, with the answer.
    pub fn step(&self, step: &Step) -> Vec<(Self, String)> {
        let mut before = self.clone();
        before.begin_step();
        let worlds = in_every_order(|order| {
            let mut world = before.clone();
            world.order = order.to_vec();
            match step {
                Step::Advance(ms) => {
                    world.now_ms += ms;
                    world.ticked()
                }
                _ => {
                    world.by_peer = matches!(step, Step::ByPeer(_));
                    world.answer = world.plain_step(step.inner());
                    world.by_peer = false;
                    vec![world]
                }
            }
        });
        let with_answer = |mut world: Self| {
            let answer = std::mem::take(&mut world.answer);
            (world, answer)
        };
        worlds.into_iter().map(with_answer).collect()
    }

    fn plain_step(&mut self, step: &Step) -> String {
        let now_ms = self.now_ms;
        match step {
            Step::DeclareExchange(spec) => {
                let name = spec.name.to_string();
                if let Some(existing) = self.exchanges.get(&name) {
                    return if existing == spec { "ok" } else { "other" }.to_owned();
                }
                Rc::make_mut(&mut self.exchanges).insert(name.clone(), spec.clone());
                if spec.durable {
                    self.change(|durable| {
                        Rc::make_mut(&mut durable.exchanges).insert(name, spec.clone());
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
                if Rc::make_mut(&mut self.exchanges).remove(*exchange).is_some() {
                    let gone = [(*exchange).to_owned()];
                    let stays = |bound: &Bound| !bound.is_of_any(&gone);
                    Rc::make_mut(&mut self.bindings).retain(stays);
                    self.change(|durable| {
                        Rc::make_mut(&mut durable.exchanges).remove(*exchange);
                        Rc::make_mut(&mut durable.bindings).retain(stays);
                    });
                }
                "ok".to_owned()
            }
            Step::DeclareQueue(spec) => self.declare_queue(spec),
            Step::DeleteQueue(queue, only) => self.delete_queue(queue, *only),
            Step::Bind { exchange, queue, key } => {
                self.bind(Bound::new(exchange, End::Queue((*queue).to_owned()), key))
            }
            Step::Unbind { exchange, queue, key } => {
                self.unbind(Bound::new(exchange, End::Queue((*queue).to_owned()), key))
            }
            Step::Chain { exchange, to, key } => {
                self.bind(Bound::new(exchange, End::Exchange((*to).to_owned()), key))
            }
            Step::Unchain { exchange, to, key } => {
                self.unbind(Bound::new(exchange, End::Exchange((*to).to_owned()), key))
            }
            Step::Get(queue, hand) => {
                let queue = match self.own_queue(queue) {
                    Ok(queue) => queue,
                    Err(refusal) => return refusal,
                };
                let number = queue.number;
                let (taken, effects) = queue.get(now_ms);
                self.run(number, effects);
                self.handed(number, *hand, taken)
            }
            Step::Consume { queue, number, options } => {
                let queue = match self.own_queue(queue) {
                    Ok(queue) => queue,
                    Err(refusal) => return refusal,
                };
                let id = queue.number;
                let Some(effects) = queue.add_consumer(*number, *options, now_ms) else {
                    return "exclusive".to_owned();
                };
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
                let no_ack = consumer.no_ack;
                let copy = queue.unacked(tag);
                if no_ack {
                    self.settle_hand(&Step::Ack(*hand), id, tag);
                }
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
                let queue = match self.own_queue(queue) {
                    Ok(queue) => queue,
                    Err(refusal) => return refusal,
                };
                let (number, ready) = (queue.number, std::mem::take(&mut queue.ready));
                for copy in &ready {
                    self.settle(number, copy.seq);
                }
                format!("purged {}", ready.len())
            }
            Step::Redrive { queue, nth } => self.redrive(queue, *nth),
            Step::SetPolicy(policy) => {
                Rc::make_mut(&mut self.policies).insert(policy.name.clone(), policy.clone());
                self.change(|durable| {
                    Rc::make_mut(&mut durable.policies).insert(policy.name.clone(), policy.clone());
                });
                self.apply_policies();
                "ok".to_owned()
            }
            Step::ClearPolicy(name) => {
                if Rc::make_mut(&mut self.policies).remove(*name).is_some() {
                    self.change(|durable| {
                        Rc::make_mut(&mut durable.policies).remove(*name);
                    });
                    self.apply_policies();
                }
                "ok".to_owned()
            }
            Step::Publish(publish) => self.publish(publish),
            Step::PublishAll(publishes) => self.publish_all(publishes),
            Step::AckWith(hand, publishes) => self.ack_with(*hand, publishes),
            Step::HangUp => {
                let queues = self.queues.iter();
                let theirs = queues.filter(|(_, queue)| queue.spec.exclusive && queue.by_peer);
                let theirs: Vec<String> = theirs.map(|(name, _)| name.clone()).collect();
                for name in theirs {
                    self.remove_queue(&name);
                }
                "ok".to_owned()
            }
            Step::ByPeer(_) => unreachable!("it is one step deep"),
            Step::Advance(_) => unreachable!("time is not the queues' business"),
            Step::Flush | Step::Crash => "ok".to_owned(),
            Step::Restart => {
                self.change(|durable| durable.closed = true);
                "ok".to_owned()
            }
        }
    }

    /// The queue, if the connection may use it.
    fn own_queue(&mut self, name: &str) -> Result<&mut Queue, String> {
        if self.is_locked(name) {
            return Err("locked".to_owned());
        }
        self.queues.get_mut(name).map(Shared::make_mut).ok_or_else(|| "no queue".to_owned())
    }

    fn is_locked(&self, name: &str) -> bool {
        let queue = self.queues.get(name);
        queue.is_some_and(|queue| queue.spec.exclusive && queue.by_peer != self.by_peer)
    }

    fn declare_queue(&mut self, spec: &QueueSpec) -> String {
        let (now_ms, name) = (self.now_ms, spec.name.to_string());
        let is_locked = self.is_locked(&name);
        if let Some(queue) = self.queues.get_mut(&name) {
            if is_locked || queue.spec.exclusive != spec.exclusive {
                return "locked".to_owned();
            }
            if queue.spec != *spec {
                return "other".to_owned();
            }
            let queue = queue.make_mut();
            queue.used_ms = now_ms;
            let (number, mut effects) = (queue.number, Effects::default());
            queue.dispatch(now_ms, &mut effects);
            self.run(number, effects);
            return "ok".to_owned();
        }
        let (number, settings) = (self.next_queue, self.settings(spec));
        self.next_queue += 1;
        let mut queue = Queue::new(number, spec.clone(), settings, now_ms);
        queue.by_peer = self.by_peer;
        self.add_queue(name.clone(), queue);
        if spec.durable && !spec.exclusive {
            self.change(|durable| {
                Rc::make_mut(&mut durable.queues).insert(name, (number, spec.clone()));
            });
        }
        "ok".to_owned()
    }

    fn delete_queue(&mut self, name: &str, only: DeleteIf) -> String {
        let Some(queue) = self.queues.get(name) else { return "deleted 0".to_owned() };
        if self.is_locked(name) {
            return "locked".to_owned();
        }
        if only.unused && !queue.consumers.is_empty() {
            return "in use".to_owned();
        }
        if only.empty && !(queue.ready.is_empty() && queue.delayed.is_empty()) {
            return "not empty".to_owned();
        }
        format!("deleted {}", self.remove_queue(name).len())
    }

    fn bind(&mut self, bound: Bound) -> String {
        let is_there = |exchange: &String| self.exchanges.contains_key(exchange);
        match &bound.to {
            End::Queue(queue) if !self.queues.contains_key(queue) => return "no queue".to_owned(),
            End::Queue(queue) if self.is_locked(queue) => return "locked".to_owned(),
            End::Exchange(to) if !is_there(to) => return "no exchange".to_owned(),
            _ if !is_there(&bound.exchange) => return "no exchange".to_owned(),
            _ => {}
        }
        if Rc::make_mut(&mut self.bindings).insert(bound.clone())
            && self.is_bindings_end_durable(&bound)
        {
            self.change(|durable| {
                Rc::make_mut(&mut durable.bindings).insert(bound);
            });
        }
        "ok".to_owned()
    }

    fn unbind(&mut self, bound: Bound) -> String {
        if matches!(&bound.to, End::Queue(queue) if self.is_locked(queue)) {
            return "locked".to_owned();
        }
        if Rc::make_mut(&mut self.bindings).remove(&bound) {
            let done: Vec<String> =
                self.is_done(&bound.exchange).then(|| bound.exchange.clone()).into_iter().collect();
            let goes = |other: &Bound| *other == bound || other.is_of_any(&done);
            Rc::make_mut(&mut self.exchanges).retain(|exchange, _| !done.contains(exchange));
            Rc::make_mut(&mut self.bindings).retain(|other| !goes(other));
            self.change(|durable| {
                Rc::make_mut(&mut durable.bindings).retain(|other| !goes(other));
                Rc::make_mut(&mut durable.exchanges).retain(|exchange, _| !done.contains(exchange));
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
        answer(&copy, self.quorum.contains(&queue))
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
                kept.make_mut().retries.insert(id, (failures, due_ms));
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
        let Some(queue) = self.queues.get(name) else { return "no queue".to_owned() };
        let number = queue.number;
        let Some(copy) = queue.ready.get(nth).cloned() else { return "nothing".to_owned() };
        let death = copy.letter.deaths.first();
        let target = death.and_then(|death| self.queues.get(&death.queue));
        let has_room = |target: &&Shared<Queue>| !target.is_over_length(1, copy.letter.body_bytes);
        let target = target.filter(has_room).map(|target| target.number);
        let (Some(death), Some(target)) = (death, target) else { return "can't".to_owned() };
        self.queues.get_mut(name).expect("just found").make_mut().ready.remove(nth);
        let (exchange, key) = (death.exchange.clone(), death.keys[0].clone());
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
            let queue = queue.make_mut();
            if queue.settings != settings {
                queue.used_ms = now_ms;
            }
            queue.settings = settings;
            let mut looked_at = queue.clone();
            let mut effects = Effects::default();
            looked_at.dispatch(now_ms, &mut effects);
            match effects.dead.is_empty() {
                true => *queue = looked_at,
                false => {
                    queue.burying = true;
                    all.push(queue.number);
                }
            }
        }
        if all.len() > 1 {
            self.involved.extend(&all);
            all.sort_by_key(|number| self.order.iter().position(|other| other == number));
        }
        for number in all {
            let Some(queue) = self.by_number(number) else { continue };
            queue.burying = false;
            let mut effects = Effects::default();
            queue.dispatch(now_ms, &mut effects);
            self.run(number, effects);
        }
    }
}

fn answer(copy: &Copy, is_quorum: bool) -> String {
    let Copy { letter, redelivered, returns, failures, .. } = copy;
    let Letter { body, exchange, key, cc, deaths, .. } = &**letter;
    let (what, deaths) = (shown(*body, *redelivered), told(deaths));
    let (keys, returned) = ([*cc, &[]], is_quorum.then_some(returns));
    format!("{what} {exchange}/{key} {keys:?} {returned:?} {returns} {failures} [{deaths}]")
}
