//! Which queues a message reaches.

use std::collections::BTreeSet;

use leveret::model::topology::ExchangeKind;

use super::World;
use crate::durable::{Bound, End, QueueNumber};
use crate::headers::{self, Header};

pub struct Route {
    pub targets: Vec<QueueNumber>,
    /// Another message to the same place may go elsewhere.
    pub is_its_own: bool,
}

impl World {
    /// `None`: no such exchange.
    pub(super) fn route(
        &mut self,
        exchange: &str,
        keys: &[&str],
        headers: &[Header],
    ) -> Option<Route> {
        let mut is_its_own = keys.len() > 1;
        let (mut work, mut seen) = (vec![exchange.to_owned()], BTreeSet::new());
        let mut names: BTreeSet<String> = BTreeSet::new();
        if !exchange.is_empty() {
            self.exchanges.get(exchange)?;
        }
        while let Some(exchange) = work.pop() {
            if exchange.is_empty() {
                names.extend(keys.iter().map(|key| (*key).to_owned()));
            }
            let Some(spec) = self.exchanges.get(&exchange) else { continue };
            if !seen.insert(exchange.clone()) {
                continue;
            }
            is_its_own |= spec.kind == ExchangeKind::Headers;
            let matches = |bound: &&Bound| {
                let has_key = |matches: &dyn Fn(&str) -> bool| keys.iter().any(|key| matches(key));
                bound.exchange == exchange
                    && match spec.kind {
                        ExchangeKind::Direct => has_key(&|key| bound.key == key),
                        ExchangeKind::Topic => {
                            has_key(&|key| topic(&words(&bound.key), &words(key)))
                        }
                        ExchangeKind::Headers => headers::matches(&bound.key, headers),
                        ExchangeKind::Fanout => true,
                    }
            };
            let mut matched = false;
            for bound in self.bindings.iter().filter(matches) {
                matched = true;
                match &bound.to {
                    End::Queue(name) => _ = names.insert(name.clone()),
                    End::Exchange(name) => work.push(name.clone()),
                }
            }
            work.extend(spec.alternate.iter().filter(|_| !matched).map(ToString::to_string));
        }
        let number = |name: &String| Some(self.queues.get(name)?.number);
        let mut targets: Vec<QueueNumber> = names.iter().filter_map(number).collect();
        if targets.len() > 1 {
            self.involved.extend(&targets);
            let place = |number: &QueueNumber| self.order.iter().position(|other| other == number);
            targets.sort_by_key(place);
        }
        Some(Route { targets, is_its_own })
    }
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
