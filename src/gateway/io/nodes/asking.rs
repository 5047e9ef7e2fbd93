//! One node asks all others, and puts together what they answer.
//!
//! A question is published on the namespace's channel, and the server says how many it reached; each answers on
//! the asker's own channel, in parts that are no larger than what waits for a subscriber may be. Who has not
//! answered in time is counted as missing, so that what is known of the others is never taken for everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Nodes;
use super::frame::{Frame, Op};
use crate::backend::{BackendError, Subscription};
use crate::gateway::io::broadcast::Broadcast;
use crate::gateway::io::hub::Hub;
use crate::gateway::io::recovery::Audience;

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// About the bytes of one part of an answer.
const PART_BYTES: usize = 256 << 10;

/// What one node answers, and what one question may bring: more is an error.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// Questions that are answered, and asked, at one time.
const ANSWERING_MAX: usize = 32;
const ASKING_MAX: usize = 256;

/// What nodes are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The sockets that the frame's audience chooses.
    Sockets,
    /// How many those are.
    Count,
    /// One of the application's own: see [`Nodes::answer_with`].
    Application(String),
}

/// What there is over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathered<T> {
    pub value: T,
    /// Nodes that did not answer in time: what they have is not in it. Most likely they are gone, or their
    /// machines are; their leases tell.
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
    answering: Arc<Answering>,
}

struct Answering(Semaphore);

impl Default for Answering {
    fn default() -> Self {
        Self(Semaphore::new(ANSWERING_MAX))
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
    /// `None`: so many questions wait that this one can't.
    fn begin(&self) -> Option<Asked<'_>> {
        let mut asked = self.asked.lock();
        if asked.len() >= ASKING_MAX {
            return None;
        }
        let (id, gathering) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::default());
        asked.insert(id, Arc::clone(&gathering));
        Some(Asked { asking: self, id, gathering })
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
    /// A cache that does not answer; an answer that is too large; too many questions at once.
    pub async fn ask(
        &self,
        audience: Audience,
        question: Question,
    ) -> Result<Gathered<Items>, BackendError> {
        let refused = |why: &str| BackendError::CacheUnreachable(why.into());
        let deadline = Instant::now() + ANSWER_WITHIN;
        let asked =
            self.asking.begin().ok_or_else(|| refused("too many questions wait for an answer"))?;
        if timeout_at(deadline, self.asking.hears_answers()).await.is_err() {
            return Err(refused("other nodes can't be heard yet"));
        }
        // Asked before it publishes: whether this node is one of those that are reached.
        let own = usize::from(self.asking.is_reached.load(Ordering::Acquire));
        let op = Op::Ask { id: asked.id, node: self.node.to_string(), question };
        let frame = Frame { op, audience, packet: Default::default() };
        let reached = self.cache.publish(&self.channel, frame.encode()).await?;
        let others = reached.saturating_sub(own);
        // Of the time before that nobody could answer.
        let deadline = Instant::now() + ANSWER_WITHIN;
        let all = async {
            loop {
                let changed = asked.gathering.changed.notified();
                {
                    let state = asked.gathering.state.lock();
                    if state.done.len() >= others || state.is_too_much {
                        return;
                    }
                }
                changed.await;
            }
        };
        let is_complete = timeout_at(deadline, all).await.is_ok();
        let (items, done) = {
            let mut state = asked.gathering.state.lock();
            if state.is_too_much {
                return Err(refused("the other nodes' answers are too large to be put together"));
            }
            (std::mem::take(&mut state.items), std::mem::take(&mut state.done))
        };
        let missing_nodes = match is_complete {
            true => 0,
            false => self.missing(others.saturating_sub(done.len()), &done).await?,
        };
        Ok(Gathered { value: items, missing_nodes })
    }

    /// How many nodes have not answered that are there. The server takes a connection for open for a while whose
    /// machine is gone; the lease of such a node ends before.
    async fn missing(&self, silent: usize, done: &AHashSet<String>) -> Result<usize, BackendError> {
        let Some(leases) = self.cache.leases() else { return Ok(silent) };
        let leased = leases.nodes().await?;
        // Without the application nodes have no leases.
        if !leased.iter().any(|node| **node == *self.node) {
            return Ok(silent);
        }
        let is_silent = |node: &&String| **node != *self.node && !done.contains(*node);
        Ok(leased.iter().filter(is_silent).count().min(silent))
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
        let answering = Arc::clone(&nodes.asking.answering);
        let hub = Arc::clone(hub);
        tokio::spawn(async move {
            // Who asks is told that this node is missing when too many do.
            let (Ok(_place), Some(nodes)) = (answering.0.try_acquire(), hub.nodes()) else {
                return;
            };
            let items = nodes.items(&hub, &audience, question);
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
        }
    }

    fn send_parts(&self, asker: &str, id: u64, items: Items) {
        let channel = answers_of(&self.namespace, asker);
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

/// The channel on which a node hears the answers to what it asked.
fn answers_of(namespace: &str, node: &str) -> String {
    format!("leveret:answers:{node}:{namespace}")
}

/// Hears the answers to what this node asks, for as long as there is the namespace.
pub async fn follow_answers(
    hub: std::sync::Weak<Hub>,
    cache: crate::backend::Cache,
    node: Arc<str>,
    namespace: String,
) {
    let channel = answers_of(&namespace, &node);
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
        hub.nodes().iter().for_each(|nodes| nodes.asking.take_in(&answer));
    }
}
