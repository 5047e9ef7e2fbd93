//! Where the log and the sessions are kept, and what is found there at the start.

use ahash::AHashMap;

use super::entry::Entry;
use super::noted::parse_name;
use super::offset::Offset;
use super::ring::Ring;
use super::session::{Place, Session, Sessions};
use super::shared::SharedSessions;
use crate::backend::Cache;
use crate::gateway::options;
use crate::model::clock::{SharedClock, UnixMs};

/// Where recovery is kept, and for how long.
#[derive(Clone)]
pub struct Store {
    pub options: options::Recovery,
    /// Without one nothing outlives the process.
    pub cache: Option<Cache>,
    /// Where other nodes find the sessions too, if there are any: then the log is theirs as well.
    pub shared: Option<SharedSessions>,
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

/// The newest event counts as one of this moment, and the others as so much older than it: the window is
/// of a time in which clients could have come.
pub(super) fn load_ring(store: &Store, key: &str, now_ms: UnixMs) -> Option<Ring> {
    let list = store.cache.as_ref()?.load_list(key);
    let list = list
        .inspect_err(|error| tracing::warn!(key, %error, "the log of events was not read"))
        .ok()?;
    let mut entries: Vec<Entry> = list.iter().map_while(Entry::decode).collect();
    entries.reverse();
    let away_ms = entries.last().map_or(0, |newest| now_ms.saturating_sub(newest.time_ms));
    entries.iter_mut().for_each(|entry| entry.time_ms += away_ms);
    Some(Ring::of(entries.into_iter()))
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
    let (mut found, mut stale, mut places) = (AHashMap::new(), Vec::new(), Vec::new());
    for (field, value) in &fields {
        let Ok(name) = str::from_utf8(field) else { continue };
        match parse_name(name) {
            Some((pid, Some(room))) => places.push((name, pid, room, value)),
            Some((pid, None)) => match Session::decode(value) {
                // One that connected behind the log's end belongs to a log that is lost.
                Some(mut session) if session.connect <= head => {
                    session.until_ms.get_or_insert(now_ms.saturating_add(window_ms));
                    found.insert(pid, session);
                }
                _ => stale.push(name.to_owned()),
            },
            None => stale.push(name.to_owned()),
        }
    }
    for (name, pid, room, value) in places {
        let since = str::from_utf8(value).ok().and_then(|since| since.parse().ok());
        match (found.get_mut(&pid), since) {
            (Some(session), Some(since)) => session.rooms.push(Place { room: room.into(), since }),
            _ => stale.push(name.to_owned()),
        }
    }
    if !stale.is_empty()
        && let Err(error) = cache.send_field_removal(key, &stale)
    {
        tracing::debug!(%error, "what is left of sessions was not removed");
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_unstable_by_key(|(_, session)| session.until_ms);
    found.into_iter().for_each(|(pid, session)| sessions.insert(pid, session));
    sessions
}
