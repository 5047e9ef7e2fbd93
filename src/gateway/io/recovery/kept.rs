//! Where the log and the sessions are kept, and what is found there at the start.

use super::entry::Entry;
use super::offset::Offset;
use super::ring::Ring;
use super::session::{Pid, Session, Sessions};
use crate::backend::Cache;
use crate::gateway::options;
use crate::model::clock::SharedClock;

/// Where recovery is kept, and for how long.
#[derive(Clone)]
pub struct Store {
    pub options: options::Recovery,
    /// Without one nothing outlives the process.
    pub cache: Option<Cache>,
    pub clock: SharedClock,
    /// What may wait for one session.
    pub queue_bytes_max: usize,
}

/// Whether sessions are resumed.
pub enum Keeping {
    On(Store),
    /// What an earlier run kept of a namespace is removed: it knows nothing of what is sent now.
    Off(Option<Cache>),
}

impl Keeping {
    pub fn cache(&self) -> Option<&Cache> {
        match self {
            Self::On(store) => store.cache.as_ref(),
            Self::Off(cache) => cache.as_ref(),
        }
    }
}

/// Removes what was kept of a namespace.
pub fn forget(namespace: &str, cache: &Cache) {
    let [log, sessions] = keys(namespace);
    if let Err(error) = cache.send_removal(&[&log, &sessions]) {
        tracing::warn!(namespace, %error, "what was kept to resume sessions was not removed");
    }
}

pub(super) fn keys(namespace: &str) -> [String; 2] {
    ["log", "sessions"].map(|what| format!("leveret:recovery:{namespace}:{what}"))
}

pub(super) fn load_ring(store: &Store, key: &str) -> Option<Ring> {
    let list = store.cache.as_ref()?.load_list(key);
    let list = list
        .inspect_err(|error| tracing::warn!(key, %error, "the log of events was not read"))
        .ok()?;
    let newest_first = list.iter().map_while(Entry::decode);
    Some(Ring::of(newest_first.collect::<Vec<_>>().into_iter().rev()))
}

/// Sessions that had a socket when their process ended may come back from now on.
pub(super) fn load_sessions(
    store: &Store,
    key: &str,
    last: Option<Offset>,
    now_ms: u64,
) -> Sessions {
    let mut sessions = Sessions::default();
    let Some(cache) = &store.cache else { return sessions };
    let Some(Offset { position: head, .. }) = last else {
        // What they missed was in a log that is gone.
        if let Err(error) = cache.send_removal(&[key]) {
            tracing::debug!(%error, "the sessions were not removed");
        }
        return sessions;
    };
    let fields = cache
        .load_hash(key)
        .inspect_err(|error| tracing::warn!(key, %error, "the sessions were not read"))
        .unwrap_or_default();
    let window_ms = u64::try_from(store.options.window.as_millis()).unwrap_or(u64::MAX);
    let mut found = Vec::new();
    for (field, value) in &fields {
        let pid = str::from_utf8(field).ok().and_then(Pid::parse);
        // One that connected behind the log's end belongs to a log that is lost.
        let session = Session::decode(value).filter(|session| session.connect <= head);
        let (Some(pid), Some(mut session)) = (pid, session) else {
            if let (Err(error), Ok(field)) = (
                cache.send_field_removal(key, &String::from_utf8_lossy(field)),
                str::from_utf8(field),
            ) {
                tracing::debug!(field, %error, "a session was not removed");
            }
            continue;
        };
        session.until_ms.get_or_insert(now_ms.saturating_add(window_ms));
        found.push((session.until_ms, pid, session));
    }
    found.sort_unstable_by_key(|(until_ms, ..)| *until_ms);
    found.into_iter().for_each(|(_, pid, session)| sessions.insert(pid, session));
    sessions
}
