//! What comes into the oracle, alone, together, or with an acknowledgement.

use std::collections::BTreeMap;

use super::World;
use super::moving::{fresh, kept};
use super::routing::Route;
use crate::durable::{QueueNumber, Seq};
use crate::letter::Letter;
use crate::queue::Effects;
use crate::shared::Shared;
use crate::step::{HandNumber, Publish};

/// A message that has its place in the log.
struct Written {
    letter: Shared<Letter>,
    seq: Seq,
    due_ms: Option<u64>,
}

impl World {
    fn route_published(&mut self, publish: &Publish) -> Option<Route> {
        let keys = [&[publish.key], publish.cc, publish.bcc].concat();
        self.route(publish.exchange, &keys, publish.headers)
    }

    pub(super) fn publish(&mut self, publish: &Publish) -> String {
        let Some(Route { targets, .. }) = self.route_published(publish) else {
            return "no exchange".to_owned();
        };
        let written = self.write(publish, &targets);
        let mut taken = true;
        for &target in &targets {
            taken &= self.put(&written, target);
        }
        format!("routed={} taken={taken}", !targets.is_empty())
    }

    /// All are in the log before any is in a queue; then queue by queue for those that follow each other to
    /// the same place.
    pub(super) fn publish_all(&mut self, publishes: &[Publish]) -> String {
        let routed: Vec<Route> =
            publishes.iter().map_while(|publish| self.route_published(publish)).collect();
        let count = routed.len();
        let all: Vec<(&Publish, &Route)> = publishes.iter().zip(&routed).collect();
        let written: Vec<Written> =
            all.iter().map(|(publish, route)| self.write(publish, &route.targets)).collect();
        let mut refused = vec![false; count];
        let places: Vec<usize> = (0..count).collect();
        let place_of = |at: usize| (publishes[at].exchange, publishes[at].key);
        let is_alike = |a: &usize, b: &usize| {
            place_of(*a) == place_of(*b) && ![a, b].iter().any(|at| routed[**at].is_its_own)
        };
        for run in places.chunk_by(is_alike) {
            for &target in &routed[run[0]].targets {
                for &at in run {
                    refused[at] |= !self.put(&written[at], target);
                }
            }
        }
        let stopped = match publishes.get(count) {
            Some(_) => format!("no exchange at {count}"),
            None => String::new(),
        };
        let unrouted: Vec<usize> = (0..count).filter(|&at| routed[at].targets.is_empty()).collect();
        let refused: Vec<usize> = (0..count).filter(|&at| refused[at]).collect();
        format!("{count} {stopped} unrouted={unrouted:?} refused={refused:?}")
    }

    /// An acknowledgement with what follows from it: all of it in one change, or nothing.
    pub(super) fn ack_with(&mut self, hand: HandNumber, publishes: &[Publish]) -> String {
        let now_ms = self.now_ms;
        let mut routed = Vec::new();
        let mut promised: BTreeMap<QueueNumber, (u64, u64)> = BTreeMap::new();
        for publish in publishes {
            let Some(Route { targets, .. }) = self.route_published(publish) else {
                return "no exchange".to_owned();
            };
            let letter = letter(publish);
            for target in &targets {
                let (more, more_bytes) = promised.entry(*target).or_default();
                *more += 1;
                *more_bytes += letter.body_bytes;
                if self.by_number(*target).is_some_and(|q| q.refuses(*more, *more_bytes)) {
                    return "full".to_owned();
                }
            }
            routed.push((publish, targets));
        }
        let Some(&(from, tag)) = self.hands.get(&hand) else { return "no hand".to_owned() };
        let taken = self.by_number(from).and_then(|queue| {
            let (copy, mut effects) = (queue.take_unacked(tag)?, Effects::default());
            queue.dispatch(now_ms, &mut effects);
            Some((copy, effects))
        });
        let Some((copy, effects)) = taken else { return "taken back".to_owned() };
        self.hands.remove(&hand);
        let before = self.history.len();
        self.settle(from, copy.seq);
        let written: Vec<(Written, Vec<QueueNumber>)> = routed
            .into_iter()
            .map(|(publish, targets)| (self.write(publish, &targets), targets))
            .collect();
        if self.history.len() > before + 1 {
            self.history.drain(before..self.history.len() - 1);
        }
        self.step_changes = 0;
        self.run(from, effects);
        for (Written { letter, seq, due_ms }, targets) in written {
            for target in targets {
                let copy = fresh(seq, &letter, due_ms.unwrap_or(now_ms));
                let effects = self.enqueue_promised(target, copy, due_ms);
                self.run(target, effects);
            }
        }
        "ok".to_owned()
    }

    /// Gives a message its place in the log.
    fn write(&mut self, publish: &Publish, targets: &[QueueNumber]) -> Written {
        let letter = Shared::new(letter(publish));
        let now_ms = self.now_ms;
        let due_ms = publish.delay_ms.filter(|ms| *ms > 0).map(|ms| now_ms + ms);
        let seq = self.next_seq;
        self.next_seq += 1;
        let open = self.durable_among(&letter, targets);
        if !open.is_empty() {
            self.step_changes += 1;
            let kept = kept(&letter, now_ms, due_ms, open);
            self.change(|durable| {
                durable.messages.insert(seq, Shared::new(kept));
            });
        }
        Written { letter, seq, due_ms }
    }

    /// Whether the queue took it.
    fn put(&mut self, written: &Written, target: QueueNumber) -> bool {
        let Written { letter, seq, due_ms } = written;
        let copy = fresh(*seq, letter, due_ms.unwrap_or(self.now_ms));
        let (effects, taken) = self.enqueue(target, copy, *due_ms);
        self.run(target, effects);
        taken
    }
}

fn letter(publish: &Publish) -> Letter {
    Letter {
        body: publish.body,
        body_bytes: publish.body_bytes,
        exchange: publish.exchange.to_owned(),
        key: publish.key.to_owned(),
        persistent: publish.persistent,
        priority: publish.priority.unwrap_or(0),
        ttl_ms: publish.ttl_ms,
        headers: publish.headers,
        cc: publish.cc,
        deaths: Vec::new(),
    }
}
