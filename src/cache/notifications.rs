//! Keyspace notifications: events of keys as messages on the channels `__keyspace@<db>__:<key>` and
//! `__keyevent@<db>__:<event>`.
//!
//! They are told when their command is done, in the order in which they happened.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;

use super::engine::Cache;
use super::error::CacheError;
use super::keyspace::Keyspace;

/// Classes of events: Redis's `notify-keyspace-events`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events(u16);

impl Events {
    pub const NONE: Self = Self(0);
    /// Those of any type, such as `del` and `expire`.
    pub const GENERIC: Self = Self(1);
    pub const STRING: Self = Self(1 << 1);
    pub const LIST: Self = Self(1 << 2);
    pub const SET: Self = Self(1 << 3);
    pub const HASH: Self = Self(1 << 4);
    pub const SORTED_SET: Self = Self(1 << 5);
    pub const EXPIRED: Self = Self(1 << 6);
    pub const EVICTED: Self = Self(1 << 7);
    pub const STREAM: Self = Self(1 << 8);
    pub const MODULE: Self = Self(1 << 9);
    pub const NEW: Self = Self(1 << 10);
    pub const MISS: Self = Self(1 << 11);
    /// They go to the channels of keys.
    pub const TO_KEYSPACE: Self = Self(1 << 12);
    /// They go to the channels of events.
    pub const TO_KEYEVENT: Self = Self(1 << 13);

    /// What `A` stands for.
    const ALL: Self = Self((1 << 10) - 1);

    /// In the order in which Redis shows them.
    const LETTERS: [(char, Self); 14] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::SORTED_SET),
        ('x', Self::EXPIRED),
        ('e', Self::EVICTED),
        ('t', Self::STREAM),
        ('d', Self::MODULE),
        ('n', Self::NEW),
        ('K', Self::TO_KEYSPACE),
        ('E', Self::TO_KEYEVENT),
        ('m', Self::MISS),
    ];

    /// Reads the letters; `None` when one means nothing.
    pub fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(Self::NONE, |events, letter| {
            let class = match letter {
                'A' => Self::ALL,
                _ => Self::LETTERS.into_iter().find(|(other, _)| *other == letter)?.1,
            };
            Some(Self(events.0 | class.0))
        })
    }

    /// The letter of each class.
    pub fn letters(self) -> String {
        Self::LETTERS
            .iter()
            .filter(|(_, class)| self.has(*class))
            .map(|(letter, _)| letter)
            .collect()
    }

    fn has(self, class: Self) -> bool {
        self.0 & class.0 != 0
    }
}

/// The letters, as CONFIG GET shows them: [`Events::letters`] has all.
impl fmt::Display for Events {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & Self::ALL.0 == Self::ALL.0;
        if all {
            formatter.write_str("A")?;
        }
        // Redis hides `n` behind the `A`.
        let hidden = Self(Self::ALL.0 | Self::NEW.0);
        for (letter, class) in Self::LETTERS {
            if self.has(class) && !(all && hidden.has(class)) {
                write!(formatter, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// What happened and was not yet told.
#[derive(Default)]
pub(super) struct Notifications {
    pub wanted: Events,
    /// One command's, so it has as many as that touches keys.
    happened: RefCell<Vec<Happened>>,
}

struct Happened {
    class: Events,
    event: &'static str,
    db: u8,
    key: Bytes,
}

impl Keyspace {
    /// Something happened to a key of the selected database.
    pub(super) fn notify(&self, class: Events, event: &'static str, key: &[u8]) {
        self.notify_of(self.numbered(None), class, event, key);
    }

    /// Of a key in the database at a place.
    pub(super) fn notify_of(&self, place: u8, class: Events, event: &'static str, key: &[u8]) {
        let notifications = self.notifications();
        if notifications.wanted.has(class) {
            let (db, key) = (self.number_of(place), Bytes::copy_from_slice(key));
            notifications.happened.borrow_mut().push(Happened { class, event, db, key });
        }
    }
}

impl Keyspace {
    /// Makes a change of several that is to be told as another: what they would be told as is not, but
    /// for keys that come or expire.
    pub(super) fn quietly<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        self.telling_only(Events(Events::NEW.0 | Events::EXPIRED.0), change)
    }

    fn telling_only<T>(&mut self, classes: Events, change: impl FnOnce(&mut Self) -> T) -> T {
        let told = self.notifications().happened.borrow().len();
        let result = change(self);
        let mut happened = self.notifications().happened.borrow_mut();
        if happened.len() > told {
            let kept: Vec<Happened> =
                happened.drain(told..).filter(|it| classes.has(it.class)).collect();
            happened.extend(kept);
        }
        drop(happened);
        result
    }

    /// Puts a result in the place of whatever `key` held: `put` does, and returns how many parts it has.
    /// Without any the key is gone.
    pub(super) fn store(
        &mut self,
        class: Events,
        event: &'static str,
        key: &[u8],
        put: impl FnOnce(&mut Self) -> Result<usize, CacheError>,
    ) -> Result<usize, CacheError> {
        let was_there = self.slot(key).is_some();
        // A key that gets another value is not new.
        let new = if was_there { Events::NONE } else { Events::NEW };
        let count = self.telling_only(Events(new.0 | Events::EXPIRED.0), |keyspace| {
            keyspace.remove(key);
            put(keyspace)
        })?;
        match count {
            0 if was_there => self.notify(Events::GENERIC, "del", key),
            0 => {}
            _ => self.notify(class, event, key),
        }
        Ok(count)
    }
}

impl Cache {
    /// Tells what has happened since it was told last.
    pub(super) fn tell(&self, keyspace: &Keyspace) {
        let notifications = keyspace.notifications();
        if notifications.wanted == Events::NONE {
            return;
        }
        for Happened { event, db, key, .. } in notifications.happened.take() {
            let wanted = notifications.wanted;
            if wanted.has(Events::TO_KEYSPACE) {
                let mut channel = format!("__keyspace@{db}__:").into_bytes();
                channel.extend_from_slice(&key);
                self.registry().publish(&channel.into(), &Bytes::from_static(event.as_bytes()));
            }
            if wanted.has(Events::TO_KEYEVENT) {
                self.registry().publish(&format!("__keyevent@{db}__:{event}").into(), &key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        for (set, shown) in [
            ("", ""),
            ("KEA", "AKE"),
            ("AKEx", "AKE"),
            ("Kg$lshzxetdmn", "AKm"),
            ("Exn", "xnE"),
            ("mK$", "$Km"),
        ] {
            assert_eq!(Events::parse(set).unwrap().to_string(), shown);
        }
        assert_eq!(Events::parse("Kq"), None);
    }
}
