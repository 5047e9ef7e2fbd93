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
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Nodes;
use super::answering::inbox;
use super::frame::{Frame, Op};
use crate::backend::BackendError;
use crate::gateway::io::outgoing::Draft;
use crate::gateway::io::recovery::{Audience, Pid};

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// And when it has to ask a client first, which has a second.
const CLIENT_WITHIN: Duration = Duration::from_millis(1_500);

/// And one that was silent the last time. One that is there takes milliseconds.
const SILENT_WITHIN: Duration = Duration::from_millis(50);

/// What one question may bring: more is an error.
const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// Questions that are answered at one time, those apart that are of one client.
const ANSWERING_MAX: usize = 32;
/// And events whose acknowledgements are waited for.
const COLLECTING_MAX: usize = 1_024;
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
    /// What those acknowledge that the frame's audience chooses, when they are sent its event.
    Acks {
        patience_ms: u64,
        #[serde(default)]
        is_volatile: bool,
    },
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

pub(super) type Answerer = Box<dyn Fn(&str) -> Items + Send + Sync>;

/// What this node has asked, and how it answers.
#[derive(Default)]
pub struct Asking {
    asked: Mutex<AHashMap<u64, Arc<Gathering>>>,
    next: AtomicU64,
    /// Whether the server counts this node among those that a question reaches, and its answers' channel.
    is_reached: AtomicBool,
    hears_answers: AtomicBool,
    heard: Notify,
    pub(super) answerer: Mutex<Option<Arc<Answerer>>>,
    /// Nodes that did not answer the last time, and were not heard since.
    silent: Mutex<AHashSet<String>>,
    pub(super) places: Arc<Places>,
    /// The tasks that collect acknowledgements for other nodes, by who asks and the number of its question.
    pub(super) collecting: Mutex<AHashMap<(String, u64), AbortHandle>>,
}

pub(super) struct Places {
    pub answering: Semaphore,
    pub collecting: Semaphore,
    asking: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            answering: Semaphore::new(ANSWERING_MAX),
            collecting: Semaphore::new(COLLECTING_MAX),
            asking: Semaphore::new(ASKING_MAX),
        }
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
pub(super) struct Part {
    pub id: u64,
    pub node: String,
    pub is_last: bool,
    #[serde(default)]
    pub is_too_much: bool,
    pub items: Items,
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
        self.silent.lock().remove(&part.node);
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
        gathering.changed.notify_waiters();
    }
}

/// Whom a question is for: who listens to a channel, of whom so many are this node itself, and who has to be
/// waited for.
struct To<'a> {
    channel: &'a str,
    own: usize,
    leased: Option<&'a [String]>,
}

/// What they are asked, of whom, and how long they may take.
struct Asks {
    audience: Audience,
    question: Question,
    /// The event of [`Question::Acks`].
    packet: (Bytes, Vec<Bytes>),
    patience: Duration,
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

/// Acknowledgements that other nodes collect for this one.
struct Collecting<'a> {
    nodes: &'a Nodes,
    id: u64,
}

impl Drop for Collecting<'_> {
    /// Nobody waits for them any more.
    fn drop(&mut self) {
        let Nodes { log, channel, node, .. } = self.nodes;
        let op = Op::GiveUp { id: self.id, node: node.to_string() };
        let frame = Frame { op, audience: Audience::default(), packet: Default::default() };
        if let Err(error) = log.publish(channel, frame.encode()) {
            tracing::debug!(%error, "other nodes collect what nobody waits for");
        }
    }
}

impl Gathering {
    async fn until(&self, is_enough: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_enough(&self.state.lock()) {
                return;
            }
            changed.await;
        }
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
        let packet = Default::default();
        self.ask_all(Asks { audience, question, packet, patience: ANSWER_WITHIN }).await
    }

    /// Has the other nodes send an event to their sockets, and what those acknowledge in `patience`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_acks(
        &self,
        audience: Audience,
        draft: &Draft,
        is_volatile: bool,
        patience: Duration,
    ) -> Result<Gathered<Items>, BackendError> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let question = Question::Acks { patience_ms, is_volatile };
        let packet = draft.parts();
        let patience = patience.saturating_add(ANSWER_WITHIN);
        self.ask_all(Asks { audience, question, packet, patience }).await
    }

    async fn ask_all(&self, asks: Asks) -> Result<Gathered<Items>, BackendError> {
        // Before it is published: whether this node is one of those that are reached, and who is there.
        let own = usize::from(self.asking.is_reached.load(Ordering::Acquire));
        let leased = self.leased().await?;
        let to = To { channel: &self.channel, own, leased: leased.as_deref() };
        let State { items, silent, .. } = self.publish_question(to, asks).await?;
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
        let to = To { channel: &inbox, own: 0, leased: None };
        let (audience, packet) = Default::default();
        let question = Question::Client(pid.to_string());
        let asks = Asks { audience, question, packet, patience: CLIENT_WITHIN };
        let told = self.publish_question(to, asks).await?;
        Ok(told.items.iter().any(|item| item.get() == "true"))
    }

    /// Publishes a question and waits for those that it is for.
    async fn publish_question(
        &self,
        To { channel, own, leased }: To<'_>,
        Asks { audience, question, packet, patience }: Asks,
    ) -> Result<State, BackendError> {
        let refused = |why: &str| BackendError::CacheUnreachable(why.into());
        // They are there as long as this is.
        let _place = self.asking.places.asking.acquire().await;
        let asked = self.asking.begin();
        if timeout(ANSWER_WITHIN, self.asking.hears_answers()).await.is_err() {
            return Err(refused("other nodes can't be heard yet"));
        }
        let is_of_acks = matches!(question, Question::Acks { .. });
        // Dropped before it was answered: nobody waits for what they collect.
        let collecting = is_of_acks.then(|| Collecting { nodes: self, id: asked.id });
        let op = Op::Ask { id: asked.id, node: self.node.to_string(), question };
        let frame = Frame { op, audience, packet };
        let reached = self.cache.publish(channel, frame.encode()).await?;
        let others = reached.saturating_sub(own);
        let silent = |state: &State| match leased {
            Some(leased) => leased.iter().filter(|node| !state.done.contains(*node)).count(),
            None => others.saturating_sub(state.done.len()),
        };
        let is_over =
            |state: &State| state.done.len() >= others || silent(state) == 0 || state.is_too_much;
        // Those that were silent before apart.
        let has_most = |state: &State| {
            let before = self.asking.silent.lock();
            is_over(state)
                || leased.is_some_and(|leased| {
                    leased.iter().all(|node| state.done.contains(node) || before.contains(node))
                })
        };
        let gathering = &asked.gathering;
        // What its clients acknowledge has no second chance, so that a node is waited for as any other.
        let silent_within = if is_of_acks { patience } else { SILENT_WITHIN };
        let all = async {
            tokio::join!(
                gathering.until(has_most),
                timeout(silent_within, gathering.until(is_over))
            )
        };
        // Who has not answered by then is silent.
        let _ = timeout(patience, all).await;
        std::mem::forget(collecting);
        let mut state = std::mem::take(&mut *gathering.state.lock());
        if state.is_too_much {
            return Err(refused("the other nodes' answers are too large to be put together"));
        }
        state.silent = silent(&state);
        if let Some(leased) = leased {
            let silent = leased.iter().filter(|node| !state.done.contains(*node));
            *self.asking.silent.lock() = silent.cloned().collect();
        }
        Ok(state)
    }
}
