//! What the keys are, kept as plainly as can be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::op::{Op, Text};

pub const DATABASES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    String(Text),
    List(VecDeque<Text>),
    Hash(BTreeMap<Text, Text>),
    Set(BTreeSet<Text>),
    /// Scores are integers here.
    SortedSet(BTreeMap<Text, i64>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub value: Value,
    /// Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

impl Item {
    fn lasting(value: Value) -> Self {
        Self { value, expires_at_ms: None }
    }

    /// Facts that a journal holds of it: one for the value, one for a deadline, one a part.
    fn facts(&self) -> usize {
        let parts = match &self.value {
            Value::String(_) => 0,
            Value::List(elements) => elements.len(),
            Value::Hash(fields) => fields.len(),
            Value::Set(members) => members.len(),
            Value::SortedSet(members) => members.len(),
        };
        1 + parts + usize::from(self.expires_at_ms.is_some())
    }
}

pub type Database = BTreeMap<Text, Item>;

/// The keys of all databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(pub Vec<Database>);

impl Default for State {
    fn default() -> Self {
        Self(vec![Database::new(); DATABASES])
    }
}

impl State {
    /// What is left of it at that time.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Self {
        let mut left = self.clone();
        left.expire(now_ms);
        left
    }

    fn expire(&mut self, now_ms: u64) {
        for database in &mut self.0 {
            database.retain(|_, item| item.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms));
        }
    }

    /// Facts of its keys.
    pub fn facts(&self) -> usize {
        self.0.iter().flat_map(BTreeMap::values).map(Item::facts).sum()
    }

    /// A pipeline on the database `db`.
    pub fn apply(&mut self, db: usize, ops: &[Op], now_ms: u64) {
        self.expire(now_ms);
        for op in ops {
            self.apply_one(db, op, now_ms);
            self.expire(now_ms);
        }
    }

    fn apply_one(&mut self, db: usize, op: &Op, now_ms: u64) {
        match op {
            Op::SwapDb(one, other) => self.0.swap(*one, *other),
            Op::FlushDb => self.0[db].clear(),
            Op::Move(key, other) => {
                if *other != db && !self.0[*other].contains_key(key) {
                    let moved = self.0[db].remove(key);
                    moved.map(|item| self.0[*other].insert(key.clone(), item));
                }
            }
            op => apply_in(&mut self.0[db], op, now_ms),
        }
    }

    /// Where the two differ first, for a person.
    pub fn difference(&self, other: &Self) -> String {
        for (number, (ours, theirs)) in self.0.iter().zip(&other.0).enumerate() {
            let keys: BTreeSet<&Text> = ours.keys().chain(theirs.keys()).collect();
            let differing = keys.into_iter().find(|key| ours.get(*key) != theirs.get(*key));
            if let Some(key) = differing {
                let name = String::from_utf8_lossy(key);
                let shown = |item: Option<&Item>| -> String {
                    format!("{item:?}").chars().take(300).collect()
                };
                let (ours, theirs) = (shown(ours.get(key)), shown(theirs.get(key)));
                return format!("{name} in {number}: {ours}, not {theirs}");
            }
        }
        "none".to_owned()
    }
}

/// A value of one type, made when there is none; `None` when the key holds another type.
macro_rules! collection {
    ($database:expr, $key:expr, $kind:ident) => {
        match &mut $database
            .entry($key.clone())
            .or_insert_with(|| Item::lasting(Value::$kind(Default::default())))
            .value
        {
            Value::$kind(value) => Some(value),
            _ => None,
        }
    };
}

fn apply_in(database: &mut Database, op: &Op, now_ms: u64) {
    match op {
        Op::Set(key, value, ttl_ms) => {
            let expires_at_ms = ttl_ms.map(|ttl_ms| now_ms + ttl_ms);
            let value = Value::String(value.clone());
            database.insert(key.clone(), Item { value, expires_at_ms });
        }
        Op::Append(key, text) => {
            if let Some(value) = collection!(database, key, String) {
                value.extend_from_slice(text);
            }
        }
        Op::PushLeft(key, text) => {
            if let Some(list) = collection!(database, key, List) {
                list.push_front(text.clone());
            }
        }
        Op::PushRight(key, texts) => {
            if let Some(list) = collection!(database, key, List) {
                list.extend(texts.iter().cloned());
            }
        }
        Op::PopLeft(key) => with_list(database, key, |list| drop(list.pop_front())),
        Op::PopRight(key) => with_list(database, key, |list| drop(list.pop_back())),
        Op::TrimTo(key, count) => with_list(database, key, |list| list.truncate(*count)),
        Op::InsertBefore(key, pivot, text) => with_list(database, key, |list| {
            if let Some(at) = list.iter().position(|element| element == pivot) {
                list.insert(at, text.clone());
            }
        }),
        Op::RemoveAll(key, text) => {
            with_list(database, key, |list| list.retain(|element| element != text));
        }
        Op::HashSet(key, field, value) => {
            if let Some(hash) = collection!(database, key, Hash) {
                hash.insert(field.clone(), value.clone());
            }
        }
        Op::HashDelete(key, field) => with(database, key, |value| match value {
            Value::Hash(hash) => {
                hash.remove(field);
                hash.is_empty()
            }
            _ => false,
        }),
        Op::SetAdd(key, member) => {
            if let Some(set) = collection!(database, key, Set) {
                set.insert(member.clone());
            }
        }
        Op::SetRemove(key, member) => with(database, key, |value| match value {
            Value::Set(set) => {
                set.remove(member);
                set.is_empty()
            }
            _ => false,
        }),
        Op::SortedAdd(key, score, member) => {
            if let Some(set) = collection!(database, key, SortedSet) {
                set.insert(member.clone(), *score);
            }
        }
        Op::SortedRemove(key, member) => with(database, key, |value| match value {
            Value::SortedSet(set) => {
                set.remove(member);
                set.is_empty()
            }
            _ => false,
        }),
        Op::ExpireAt(key, at_ms) => {
            if let Some(item) = database.get_mut(key) {
                item.expires_at_ms = Some(*at_ms);
            }
        }
        Op::Persist(key) => {
            if let Some(item) = database.get_mut(key) {
                item.expires_at_ms = None;
            }
        }
        Op::Delete(key) => drop(database.remove(key)),
        Op::Rename(from, to) => {
            if let Some(item) = database.remove(from) {
                database.insert(to.clone(), item);
            }
        }
        Op::Copy(from, to) => {
            if from != to
                && let Some(item) = database.get(from).cloned()
            {
                database.insert(to.clone(), item);
            }
        }
        Op::Move(..) | Op::SwapDb(..) | Op::FlushDb => {
            unreachable!("a matter of several databases")
        }
    }
}

/// Changes a value that is there; one that `change` leaves empty goes.
fn with(database: &mut Database, key: &Text, change: impl FnOnce(&mut Value) -> bool) {
    if database.get_mut(key).is_some_and(|item| change(&mut item.value)) {
        database.remove(key);
    }
}

fn with_list(database: &mut Database, key: &Text, change: impl FnOnce(&mut VecDeque<Text>)) {
    with(database, key, |value| match value {
        Value::List(list) => {
            change(list);
            list.is_empty()
        }
        _ => false,
    });
}
