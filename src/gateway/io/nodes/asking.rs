//! One node asks all others, and puts together what they answer; or it asks one.
//!
//! A question is published on the namespace's channel, or on a node's own, and the server says how many it
//! reached; each answers on the asker's own channel, in parts that are no larger than what waits for a
//! subscriber may be. Who has not answered in time is counted as missing, so that what is known of the others
//! is never taken for everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::Nodes;
use super::frame::{Frame, Op};
use crate::backend::{BackendError, Subscription};
use crate::gateway::io::broadcast::Broadcast;
use crate::gateway::io::hub::Hub;
use crate::gateway::io::recovery::{Audience, Pid};

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// And when it has to ask a client first, which has a second.
const CLIENT_WITHIN: Duration = Duration::from_millis(1_500);

/// About the bytes of one part of an answer.
const PART_BYTES: usize = 256 << 10;

/// What one node answers, and what one question may bring: more is an error.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// Questions that are answered at one time, those apart that are of one client.
const ANSWERING_MAX: usize = 32;
/// And asked; more wait for that.
const ASKING_MAX: usize = 4_096;

/// The namespace that the application has, whose nodes have leases.
const ROOT: &str = "/";

/// What nodes are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The sockets that the frame's audience chooses.
    Sockets,
    /// How many those are.
    Count,
    /// Whether the client of a session answers: true or false.
    Client(String),
    /// One of the application's own: see [`Nodes::answer_with`].
    Application(String),
}

/// What there is over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathered<T> {
    pub value: T,
    /// Nodes that did not answer in time: what they have is not in it. One that is gone is one of them until its
    /// lease has ended.
    pub missing_nodes: usize,
}

impl<T> Gathered<T> {
    /// There are no other nodes.
    pub(crate) fn alone(value: T) -> Self {
        Self { value, missing_nodes: 0 }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Gathered<U> {
        Gathered { value: change(self.value), missing_nodes: self.missing_nodes }
    }
}

/// What others answered, each for itself.
pub type Items = Vec<Box<RawValue>>;

type Answerer = Box<dyn Fn(&str) -> Items + Send + Sync>;

/// What this node has asked, and how it answers.
#[derive(Default)]
pub struct Asking {
    asked: Mutex<AHashMap<u64, Arc<Gathering>>>,
    next: AtomicU64,
    /// Whether the server counts this node among those that a question reaches, and its answers' channel.
    is_reached: AtomicBool,
    hears_answers: AtomicBool,
    heard: Notify,
    answerer: Mutex<Option<Arc<Answerer>>>,
    places: Arc<Places>,
}

struct Places {
    answering: Semaphore,
    asking: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        let (answering, asking) = (Semaphore::new(ANSWERING_MAX), Semaphore::new(ASKING_MAX));
        Self { answering, asking }
    }
}

/// What came of one question so far.
#[derive(Default)]
struct Gathering {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    items: Items,
    bytes: usize,
    done: AHashSet<String>,
    /// In the end: how many did not answer.
    silent: usize,
    is_too_much: bool,
}

/// A part of an answer.
#[derive(Serialize, Deserialize)]
struct Part {
    id: u64,
    node: String,
    is_last: bool,
    #[serde(default)]
    is_too_much: bool,
    items: Items,
}

impl Asking {
    /// The namespace's channel is listened to from now on.
    pub fn note_reached(&self) {
        self.is_reached.store(true, Ordering::Release);
    }

    /// The channel of the answers is.
    pub fn note_hearing(&self) {
        self.hears_answers.store(true, Ordering::Release);
        self.heard.notify_waiters();
    }

    async fn hears_answers(&self) {
        loop {
            let heard = self.heard.notified();
            if self.hears_answers.load(Ordering::Acquire) {
                return;
            }
            heard.await;
        }
    }

    /// Takes in what came on the channel of the answers.
    pub fn take_in(&self, answer: &Bytes) {
        let Ok(part) = serde_json::from_slice::<Part>(answer) else {
            tracing::warn!("another node answered what this version does not read");
            return;
        };
        // Who asked may have given up.
        let Some(gathering) = self.asked.lock().get(&part.id).cloned() else { return };
        let mut state = gathering.state.lock();
        state.bytes += answer.len();
        state.is_too_much |= part.is_too_much || state.bytes > ANSWERS_BYTES_MAX;
        if !state.is_too_much {
            state.items.extend(part.items);
        }
        if part.is_last {
            state.done.insert(part.node);
        }
        drop(state);
        gathering.changed.notify_one();
    }
}

/// Whom a question is for: who listens to a channel, of whom so many are this node itself, and who has to be
/// waited for.
struct To<'a> {
    channel: &'a str,
    own: usize,
    leased: Option<&'a [String]>,
}

/// Of which answers are still taken in.
struct Asked<'a> {
    asking: &'a Asking,
    id: u64,
    gathering: Arc<Gathering>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.asking.asked.lock().remove(&self.id);
    }
}

impl Asking {
    fn begin(&self) -> Asked<'_> {
        let (id, gathering) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::default());
        self.asked.lock().insert(id, Arc::clone(&gathering));
        Asked { asking: self, id, gathering }
    }
}

impl Nodes {
    /// Has the application answer questions of its own.
    pub fn answer_with(&self, answerer: impl Fn(&str) -> Items + Send + Sync + 'static) {
        *self.asking.answerer.lock() = Some(Arc::new(Box::new(answerer)));
    }

    /// What the other nodes answer: not this one.
    ///
    /// # Errors
    /// A cache that does not answer; answers that are too large together.
    pub async fn ask(
        &self,
        audience: Audience,
        question: Question,
    ) -> Result<Gathered<Items>, BackendError> {
        // Before it is published: whether this node is one of those that are reached, and who is there.
        let own = usize::from(self.asking.is_reached.load(Ordering::Acquire));
        let leased = self.leased().await?;
        let to = To { channel: &self.channel, own, leased: leased.as_deref() };
        let told = self.publish_question(to, audience, question, ANSWER_WITHIN).await?;
        let State { items, silent, .. } = told;
        Ok(Gathered { value: items, missing_nodes: silent })
    }

    /// The other nodes that are there by their leases: one that was lost is not among them though the server
    /// may hold its connection for long, and one is that the server does not reach at the moment. `None`: the
    /// nodes have none, or may not all have the namespace, so the server's word has to do.
    async fn leased(&self) -> Result<Option<Vec<String>>, BackendError> {
        let Some(leases) = self.cache.leases().filter(|_| &*self.namespace == ROOT) else {
            return Ok(None);
        };
        let mut leased = leases.nodes().await?;
        let own = leased.iter().position(|node| **node == *self.node);
        Ok(own.map(|own| leased.swap_remove(own)).map(|_| leased))
    }

    /// Whether the client of a session answers that another node has. False: it does not, or its node does not,
    /// or the server reaches no such node.
    ///
    /// # Errors
    /// A cache that does not answer: nobody knows.
    pub async fn has_client(&self, node: &str, pid: Pid) -> Result<bool, BackendError> {
        let inbox = inbox(&self.namespace, node);
        let (to, question) =
            (To { channel: &inbox, own: 0, leased: None }, Question::Client(pid.to_string()));
        let told = self.publish_question(to, Default::default(), question, CLIENT_WITHIN).await?;
        Ok(told.items.iter().any(|item| item.get() == "true"))
    }

    /// Publishes a question and waits for those that it is for.
    async fn publish_question(
        &self,
        To { channel, own, leased }: To<'_>,
        audience: Audience,
        question: Question,
        patience: Duration,
    ) -> Result<State, BackendError> {
        let refused = |why: &str| BackendError::CacheUnreachable(why.into());
        // They are there as long as this is.
        let _place = self.asking.places.asking.acquire().await;
        let asked = self.asking.begin();
        if timeout(ANSWER_WITHIN, self.asking.hears_answers()).await.is_err() {
            return Err(refused("other nodes can't be heard yet"));
        }
        let op = Op::Ask { id: asked.id, node: self.node.to_string(), question };
        let frame = Frame { op, audience, packet: Default::default() };
        let reached = self.cache.publish(channel, frame.encode()).await?;
        let others = reached.saturating_sub(own);
        let silent = |state: &State| match leased {
            Some(leased) => leased.iter().filter(|node| !state.done.contains(*node)).count(),
            None => others.saturating_sub(state.done.len()),
        };
        let is_over =
            |state: &State| state.done.len() >= others || silent(state) == 0 || state.is_too_much;
        let all = async {
            loop {
                let changed = asked.gathering.changed.notified();
                if is_over(&asked.gathering.state.lock()) {
                    return;
                }
                changed.await;
            }
        };
        // Who has not answered by then is silent.
        let _ = timeout(patience, all).await;
        let mut state = std::mem::take(&mut *asked.gathering.state.lock());
        if state.is_too_much {
            return Err(refused("the other nodes' answers are too large to be put together"));
        }
        state.silent = silent(&state);
        Ok(state)
    }

    /// Answers another node, in a task of its own.
    pub(super) fn answer(
        hub: &Arc<Hub>,
        asker: String,
        id: u64,
        audience: Audience,
        question: Question,
    ) {
        let Some(nodes) = hub.nodes().filter(|nodes| *nodes.node != *asker) else { return };
        let places = Arc::clone(&nodes.asking.places);
        let hub = Arc::clone(hub);
        tokio::spawn(async move {
            let Some(nodes) = hub.nodes() else { return };
            let items = match question {
                Question::Client(pid) => {
                    let is_there = has_client(&hub, &pid).await;
                    serde_json::value::to_raw_value(&is_there).into_iter().collect()
                }
                question => {
                    // Who asks is told that this node is missing when too many do.
                    let Ok(_place) = places.answering.try_acquire() else { return };
                    nodes.items(&hub, &audience, question)
                }
            };
            nodes.send_parts(&asker, id, items);
        });
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
            Question::Client(_) => Items::new(),
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
fn inbox(namespace: &str, node: &str) -> String {
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
            Some(Frame { op: Op::Ask { id, node, question }, audience, .. }) => {
                Nodes::answer(&hub, node, id, audience, question);
            }
            _ => hub.nodes().iter().for_each(|nodes| nodes.asking.take_in(&answer)),
        }
    }
}
