//! Changes that ride in another engine's group: all of them with it, or none.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::command::Access;
use super::deadline::lifetime;
use super::engine::Cache;
use super::error::CacheError;
use super::keyspace::{Edit, Keyspace, Lookups, Ttl, Value};
use super::list::End;
use super::set::Set;
use crate::journal::{Entry, Group};

/// One change. None of them looks at a list's elements or empties a list: so whether one can be made
/// depends on a key's type, its number, and what the changes before it do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// SET, with PX if there is a time to live; without, the key loses the one that it had.
    Set { key: Bytes, value: Bytes, ttl: Option<Duration> },
    /// DEL.
    Delete { key: Bytes },
    /// INCRBY.
    Increment { key: Bytes, by: i64 },
    /// LPUSH or RPUSH.
    Push { end: End, key: Bytes, value: Bytes },
    /// LPUSH, and LTRIM to the newest `keep`.
    PushCapped { key: Bytes, value: Bytes, keep: NonZeroUsize },
    /// PEXPIRE.
    Expire { key: Bytes, ttl: Duration },
}

impl Change {
    /// About how many bytes it may add.
    pub fn weight(&self) -> usize {
        const FIXED_BYTES: usize = 128;
        match self {
            Self::Set { key, value, .. }
            | Self::Push { key, value, .. }
            | Self::PushCapped { key, value, .. } => FIXED_BYTES + key.len() + value.len(),
            Self::Increment { key, .. } => FIXED_BYTES + key.len(),
            Self::Delete { .. } | Self::Expire { .. } => 0,
        }
    }

    /// Whether it waits while the disk is nearly full, as a command that may add data does.
    pub fn grows(&self) -> bool {
        self.access() == Access::Grow
    }

    fn access(&self) -> Access {
        match self {
            Self::Delete { .. } | Self::Expire { .. } => Access::Shrink,
            _ => Access::Grow,
        }
    }

    fn key(&self) -> &Bytes {
        match self {
            Self::Set { key, .. }
            | Self::Delete { key }
            | Self::Increment { key, .. }
            | Self::Push { key, .. }
            | Self::PushCapped { key, .. }
            | Self::Expire { key, .. } => key,
        }
    }

    fn apply(&self, keyspace: &mut Keyspace) -> Result<(), CacheError> {
        match self {
            Self::Set { key, value, ttl } => {
                let now_ms = keyspace.now_ms();
                let ttl = ttl.map(|ttl| lifetime("set", ttl, now_ms)).transpose()?;
                keyspace.set(key, value.clone(), ttl.map_or(Ttl::None, Ttl::Until))
            }
            Self::Delete { key } => {
                keyspace.remove(key);
                Ok(())
            }
            Self::Increment { key, by } => keyspace.incr_by(key, *by).map(|_| ()),
            Self::Push { end, key, value } => {
                keyspace.push(*end, key, std::iter::once(value.clone())).map(|_| ())
            }
            Self::PushCapped { key, value, keep } => {
                keyspace.push_capped(key, value.clone(), *keep).map(|_| ())
            }
            Self::Expire { key, ttl } => {
                let at_ms = lifetime("pexpire", *ttl, keyspace.now_ms())?;
                keyspace.expire_at(key, Some(at_ms));
                Ok(())
            }
        }
    }
}

impl Cache {
    /// Makes the changes in one visit to the keyspace and lets `append` write them: it gets their
    /// records as a group, adds its own, and gives back the entries of all of them, the cache's first.
    /// `claim` comes before anything changes; when it, or one of the changes, can't be done, nothing is.
    ///
    /// Whoever calls has been admitted by the journal ([`Cache::admit`]).
    ///
    /// # Errors
    /// What `claim` says; [`CacheError::WrongType`] and its like.
    pub fn transact<C, T, E: From<CacheError>>(
        &self,
        changes: &[Change],
        claim: impl FnOnce() -> Result<C, E>,
        append: impl FnOnce(C, Group) -> (SmallVec<[Entry; 2]>, T),
    ) -> Result<T, E> {
        self.visit(|keyspace| {
            rehearse(keyspace, changes)?;
            if changes.iter().any(Change::grows) {
                keyspace.make_room(Access::Grow)?;
            }
            let claimed = claim()?;
            for change in changes {
                // A rehearsed change is made; an error here has no way back and loses only itself.
                if let Err(error) = change.apply(keyspace) {
                    debug_assert!(false, "{change:?} was rehearsed: {error}");
                    tracing::error!(?change, %error, "a rehearsed change was refused");
                }
            }
            Ok(keyspace.record_in(|group| append(claimed, group)))
        })
    }
}

/// Whether all the changes can be made, one after the other: they are made to stand-ins of their keys.
fn rehearse(keyspace: &Keyspace, changes: &[Change]) -> Result<(), CacheError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut stage = Keyspace::new(Lookups::unwatched(), false);
    stage.begin(keyspace.now_ms());
    for change in changes {
        let key = change.key();
        if stage.slot(key).is_some() {
            continue;
        }
        match keyspace.slot(key).map(|slot| slot.value()) {
            None => {}
            Some(Value::String(value)) => stage.set(key, value.clone(), Ttl::None)?,
            Some(Value::Long(long)) => stage.set(key, long.text().clone(), Ttl::None)?,
            // One element stands for any number of them.
            Some(Value::List(_)) => {
                stage.push(End::Left, key, std::iter::once(Bytes::new()))?;
            }
            // Whatever it is, it is of another type than any change works on.
            Some(Value::Hash(_) | Value::Set(_) | Value::SortedSet(_)) => {
                stage.edit_or_make(key, |set: &mut Edit<'_, Set>| set.add(b""))?;
            }
        }
    }
    changes.iter().try_for_each(|change| change.apply(&mut stage))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::cache::{AppendFsync, Recovery};
    use crate::journal::{FolderStore, Journal, JournalOptions, Urgency};
    use crate::model::clock::ManualClock;

    /// On a journal that keeps what it hears, in a folder that goes with the second value.
    fn cache() -> (Cache, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Box::new(FolderStore::open(folder.path()).unwrap());
        let journal =
            Journal::open(store, JournalOptions::default(), &mut |_, _, _| Ok(())).unwrap();
        let clock = ManualClock::at(1_000);
        (Cache::new(journal, clock, AppendFsync::EverySec, Recovery::default()), folder)
    }

    /// How many records the changes came to.
    fn transact(cache: &Cache, changes: &[Change]) -> Result<usize, CacheError> {
        cache.transact(
            changes,
            || Ok(()),
            |(), group| {
                let entries = cache.journal().append(group, Urgency::Now).entries;
                let count = entries.len();
                (entries, count)
            },
        )
    }

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn changes_are_made_in_order_and_recorded_once_each() {
        let (cache, _folder) = cache();
        let changes = [
            Change::Set { key: key("n"), value: key("41"), ttl: Some(Duration::from_secs(9)) },
            Change::Increment { key: key("n"), by: 1 },
            Change::Push { end: End::Right, key: key("l"), value: key("a") },
            Change::Delete { key: key("nothing") },
        ];
        // The string, its deadline, the list, its element.
        assert_eq!(transact(&cache, &changes), Ok(4));
        assert_eq!(cache.get("n").unwrap().as_deref(), Some(&b"42"[..]));
        assert_eq!(cache.lrange("l", 0, -1).unwrap(), [key("a")]);
        // What was recorded is ended by the next change of it.
        assert_eq!(transact(&cache, &[Change::Delete { key: key("n") }]), Ok(0));
        assert_eq!(cache.get("n").unwrap(), None);
    }

    #[test]
    fn one_change_that_can_not_be_made_stops_all() {
        let (cache, _folder) = cache();
        cache.rpush("l", "x").unwrap();
        let set = Change::Set { key: key("k"), value: key("v"), ttl: None };
        let wrong = Change::Increment { key: key("l"), by: 1 };
        assert_eq!(transact(&cache, &[set.clone(), wrong.clone()]), Err(CacheError::WrongType));
        // Also what only an earlier change makes impossible.
        let increment = Change::Increment { key: key("k"), by: 1 };
        assert_eq!(transact(&cache, &[set.clone(), increment]), Err(CacheError::NotAnInteger));
        assert_eq!(cache.get("k").unwrap(), None);
        // And what an earlier change makes possible.
        let delete = Change::Delete { key: key("l") };
        assert_eq!(transact(&cache, &[delete, wrong]), Ok(1));
        assert_eq!(cache.get("l").unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn a_claim_that_fails_changes_nothing() {
        let (cache, _folder) = cache();
        let changes = [Change::Set { key: key("k"), value: key("v"), ttl: None }];
        let refused: Result<(), CacheError> = cache.transact(
            &changes,
            || Err::<Infallible, _>(CacheError::Syntax),
            |never, _| match never {},
        );
        assert_eq!(refused, Err(CacheError::Syntax));
        assert_eq!(cache.get("k").unwrap(), None);
    }
}
