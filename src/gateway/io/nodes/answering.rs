//! The side that answers: what other nodes ask, in parts on the asker's own channel.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::task::AbortHandle;

use super::asking::{Asking, Items, Part, Question};
use super::frame::{Frame, Op};
use super::{Nodes, replied};
use crate::backend::Subscription;
use crate::gateway::io::broadcast::Broadcast;
use crate::gateway::io::hub::Hub;
use crate::gateway::io::outgoing::Draft;
use crate::gateway::io::recovery::{Audience, Pid};
use crate::gateway::shrink;

/// About the bytes of one part of an answer.
const PART_BYTES: usize = 256 << 10;

/// What one node answers: more is an error.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Acknowledgements that are collected, or were.
struct Collected<'a> {
    nodes: &'a Nodes,
    key: (String, u64),
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        drop(self.nodes.asking.collected(&self.key));
    }
}

impl Asking {
    /// Who asked waits no longer.
    pub(super) fn give_up(&self, asked: &(String, u64)) {
        if let Some(task) = self.collected(asked) {
            task.abort();
        }
    }

    fn collected(&self, asked: &(String, u64)) -> Option<AbortHandle> {
        let mut collecting = self.collecting.lock();
        let task = collecting.remove(asked);
        shrink::table(&mut collecting);
        task
    }
}

impl Nodes {
    /// Answers another node, in a task of its own.
    pub(super) fn answer(
        hub: &Arc<Hub>,
        Frame { op, audience, packet: (text, attachments) }: Frame,
    ) {
        let Op::Ask { id, node: asker, question } = op else { return };
        let Some(nodes) = hub.nodes().filter(|nodes| *nodes.node != *asker) else { return };
        let places = Arc::clone(&nodes.asking.places);
        let hub = Arc::clone(hub);
        let is_of_acks = matches!(question, Question::Acks { .. });
        let key = (asker.clone(), id);
        // Held until the task can be found, which takes itself off.
        let mut collecting = is_of_acks.then(|| nodes.asking.collecting.lock());
        let task = tokio::spawn(async move {
            let Some(nodes) = hub.nodes() else { return };
            let _collected = is_of_acks.then(|| Collected { nodes, key: (asker.clone(), id) });
            let items = match question {
                Question::Client(pid) => {
                    let is_there = has_client(&hub, &pid).await;
                    serde_json::value::to_raw_value(&is_there).into_iter().collect()
                }
                Question::Acks { patience_ms, is_volatile } => {
                    let Ok(_place) = places.collecting.try_acquire() else { return };
                    let draft = Draft::of_parts(&text, attachments);
                    let chosen = hub.choose(&audience).local();
                    let chosen = if is_volatile { chosen.volatile() } else { chosen };
                    let patience = Duration::from_millis(patience_ms);
                    replied::items(chosen.collect_acks(&draft, patience).await)
                }
                question => {
                    // Who asks is told that this node is missing when too many do.
                    let Ok(_place) = places.answering.try_acquire() else { return };
                    nodes.items(&hub, &audience, question)
                }
            };
            nodes.send_parts(&asker, id, items);
        });
        if let Some(collecting) = &mut collecting {
            collecting.insert(key, task.abort_handle());
        }
    }

    fn items(&self, hub: &Arc<Hub>, audience: &Audience, question: Question) -> Items {
        let chosen = Broadcast::new(Arc::clone(hub)).for_audience(audience).local();
        let raw = |item: serde_json::Result<Box<RawValue>>| item.ok();
        match question {
            Question::Sockets => {
                let sockets = chosen.fetch_sockets();
                let shown = sockets.iter().map(super::remote::Shown::of);
                shown.filter_map(|shown| raw(serde_json::value::to_raw_value(&shown))).collect()
            }
            Question::Count => {
                raw(serde_json::value::to_raw_value(&chosen.count())).into_iter().collect()
            }
            Question::Application(question) => {
                let answerer = self.asking.answerer.lock().clone();
                answerer.map(|answerer| answerer(&question)).unwrap_or_default()
            }
            Question::Client(_) | Question::Acks { .. } => Items::new(),
        }
    }

    fn send_parts(&self, asker: &str, id: u64, items: Items) {
        let channel = inbox(&self.namespace, asker);
        let bytes: usize = items.iter().map(|item| item.get().len()).sum();
        let is_too_much = bytes > ANSWER_BYTES_MAX;
        let mut items = if is_too_much { Vec::new() } else { items }.into_iter().peekable();
        loop {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while bytes < PART_BYTES
                && let Some(item) = items.next()
            {
                bytes += item.get().len();
                part.push(item);
            }
            let is_last = items.peek().is_none();
            let node = self.node.to_string();
            let part = Part { id, node, is_last, is_too_much, items: part };
            // Texts and numbers always have a JSON form.
            let payload = serde_json::to_vec(&part).unwrap_or_default();
            if let Err(error) = self.log.publish(&channel, payload).map(drop) {
                tracing::warn!(%error, "another node is not answered");
                return;
            }
            if is_last {
                return;
            }
        }
    }
}

/// Whether the client of a session of this node answers, if one is there as far as the node knows.
async fn has_client(hub: &Hub, pid: &str) -> bool {
    let (Some(recovery), Some(pid)) = (hub.recovery(), Pid::parse(pid)) else { return false };
    recovery.ask_client(pid).await.is_some_and(|holder| !holder.is_deserted())
}

/// The channel on which a node hears what is for it alone.
pub(super) fn inbox(namespace: &str, node: &str) -> String {
    format!("leveret:node:{node}:{namespace}")
}

/// Hears what is for this node alone, for as long as there is the namespace: answers to what it asked, and
/// questions.
pub async fn follow_inbox(
    hub: std::sync::Weak<Hub>,
    cache: crate::backend::Cache,
    node: Arc<str>,
    namespace: String,
) {
    let channel = inbox(&namespace, &node);
    let mut answers: Option<Subscription> = None;
    loop {
        let Some(listening) = &mut answers else {
            let listening = cache.subscribe(&channel).await;
            let Some(hub) = hub.upgrade() else { return };
            match listening {
                Ok(listening) => {
                    answers = Some(listening);
                    hub.nodes().iter().for_each(|nodes| nodes.asking.note_hearing());
                }
                Err(error) => {
                    drop(hub);
                    tracing::debug!(%error, "answers of other nodes are not listened to");
                    tokio::time::sleep(super::LISTEN_AGAIN).await;
                }
            }
            continue;
        };
        let Some(answer) = listening.next().await else { return };
        let Some(hub) = hub.upgrade() else { return };
        match Frame::decode(&answer) {
            Some(question) => Nodes::answer(&hub, question),
            None => hub.nodes().iter().for_each(|nodes| nodes.asking.take_in(&answer)),
        }
    }
}
