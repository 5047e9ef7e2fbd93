//! The semantics once more, as naive as can be: a map, vectors, and a scan for everything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use leveret::cache::RateLimit;

use crate::case::Answer;

type Text = Vec<u8>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    String(Text),
    List(Vec<Text>),
}

#[derive(Debug, Default)]
pub struct Model {
    now_ms: u64,
    keys: BTreeMap<Text, (Value, Option<u64>)>,
}

impl Model {
    pub fn at(now_ms: u64) -> Self {
        Self { now_ms, ..Self::default() }
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        self.keys.retain(|_, (_, deadline)| deadline.is_none_or(|at_ms| at_ms > now_ms));
    }

    pub fn keys(&self) -> impl Iterator<Item = (&Text, &Value, Option<u64>)> {
        self.keys
            .iter()
            .map(|(key, (value, deadline))| (key, value, deadline.map(|at_ms| at_ms - self.now_ms)))
    }

    /// How many facts the journal has to hold for it. A long string is one, or more when it was changed
    /// in a part of it: one for each 4 KiB.
    pub fn facts(&self) -> RangeInclusive<usize> {
        let pieces = |value: &Value| match value {
            Value::String(text) if text.len() >= 16 * 1024 => text.len().div_ceil(4 * 1024),
            Value::String(_) | Value::List(_) => 0,
        };
        let pieces: usize = self.keys().map(|(_, value, _)| pieces(value)).sum();
        let facts = self.whole_facts();
        facts..=facts + pieces
    }

    fn whole_facts(&self) -> usize {
        self.keys()
            .map(|(_, value, ttl_ms)| {
                let elements = match value {
                    Value::String(_) => 0,
                    Value::List(values) => values.len(),
                };
                1 + elements + usize::from(ttl_ms.is_some())
            })
            .sum()
    }

    /// Answers the commands that the property generates; their arguments are well-formed.
    pub fn ask(&mut self, args: &[Text]) -> Answer {
        let text = |at: usize| args[at].clone();
        let int = |at: usize| {
            String::from_utf8(args[at].clone()).unwrap().parse::<i64>().expect("a number")
        };
        let key = args.get(1).cloned().unwrap_or_default();
        match args[0].as_slice() {
            b"GET" => self.string(&key).map_or_else(wrong_type, bulk),
            b"SET" => self.set(key, text(2), &args[3..]),
            b"DEL" => Answer::Int(args[1..].iter().filter(|key| self.remove(key)).count() as i64),
            b"EXISTS" => Answer::Int(i64::from(self.keys.contains_key(&key))),
            b"TYPE" => Answer::Status(
                match self.keys.get(&key) {
                    None => "none",
                    Some((Value::String(_), _)) => "string",
                    Some((Value::List(_), _)) => "list",
                }
                .to_owned(),
            ),
            b"PEXPIRE" => self.pexpire(&key, int(2), args.get(3).map(Vec::as_slice)),
            b"PTTL" => Answer::Int(match self.keys.get(&key) {
                None => -2,
                Some((_, None)) => -1,
                Some((_, Some(at_ms))) => (at_ms - self.now_ms) as i64,
            }),
            b"PERSIST" => Answer::Int(i64::from(
                self.keys.get_mut(&key).is_some_and(|(_, deadline)| deadline.take().is_some()),
            )),
            b"INCRBY" => self.incr_by(key, int(2)),
            b"APPEND" => match self.string(&key) {
                None => wrong_type(),
                Some(value) => {
                    let mut value = value.unwrap_or_default();
                    value.extend_from_slice(&args[2]);
                    let len = value.len();
                    self.put(key, Value::String(value));
                    Answer::Int(len as i64)
                }
            },
            b"LPUSH" | b"RPUSH" => self.push(args[0][0] == b'L', key, &args[2..]),
            b"LPOP" | b"RPOP" => self.pop(args[0][0] == b'L', key, args.get(2).map(|_| int(2))),
            b"LRANGE" => match self.list(&key) {
                None => wrong_type(),
                Some(list) => Answer::Array(
                    kept(list.len(), int(2), int(3))
                        .map(|at| Answer::Bulk(list[at].clone()))
                        .collect(),
                ),
            },
            b"LTRIM" => match self.list(&key) {
                None => wrong_type(),
                Some(list) => {
                    let list: Vec<Text> =
                        kept(list.len(), int(2), int(3)).map(|at| list[at].clone()).collect();
                    if self.keys.contains_key(&key) {
                        self.put(key, Value::List(list));
                    }
                    Answer::Status("OK".to_owned())
                }
            },
            b"FLUSHALL" => {
                self.keys.clear();
                Answer::Status("OK".to_owned())
            }
            other => panic!("the model has no {}", String::from_utf8_lossy(other)),
        }
    }

    /// A counter below zero has counted no call; a full one without a deadline gets one.
    pub fn rate_limit(
        &mut self,
        key: &[u8],
        limit: u32,
        window_ms: u64,
    ) -> Result<RateLimit, String> {
        let before = self.keys.get(key).cloned();
        let deadline = before.as_ref().and_then(|(_, deadline)| *deadline);
        // Adding nothing says whether it is a counter, and changes none.
        let calls = match self.incr_by(key.to_vec(), 0) {
            Answer::Int(calls) => u64::try_from(calls).unwrap_or(0),
            Answer::Error(error) => return Err(error),
            other => panic!("{other:?}"),
        };
        let limit = u64::from(limit);
        let ends_ms = deadline.unwrap_or(self.now_ms + window_ms);
        if calls < limit {
            let counter = Value::String((calls + 1).to_string().into_bytes());
            self.keys.insert(key.to_vec(), (counter, Some(ends_ms)));
        } else if calls > 0 {
            self.keys.get_mut(key).expect("a counter").1 = Some(ends_ms);
        } else if before.is_none() {
            self.keys.remove(key);
        }
        Ok(RateLimit {
            allowed: calls < limit,
            remaining: limit.saturating_sub(calls + 1) as u32,
            reset_ms: ends_ms - self.now_ms,
        })
    }

    /// `None`: a key of another type; `Some(None)`: no key.
    fn string(&self, key: &Text) -> Option<Option<Text>> {
        match self.keys.get(key) {
            None => Some(None),
            Some((Value::String(value), _)) => Some(Some(value.clone())),
            Some(_) => None,
        }
    }

    /// `None`: a key of another type.
    fn list(&self, key: &Text) -> Option<Vec<Text>> {
        match self.keys.get(key) {
            None => Some(Vec::new()),
            Some((Value::List(list), _)) => Some(list.clone()),
            Some(_) => None,
        }
    }

    fn remove(&mut self, key: &Text) -> bool {
        self.keys.remove(key).is_some()
    }

    /// Keeps the deadline.
    fn put(&mut self, key: Text, value: Value) {
        if value == Value::List(Vec::new()) {
            self.keys.remove(&key);
            return;
        }
        let deadline = self.keys.get(&key).and_then(|(_, deadline)| *deadline);
        self.keys.insert(key, (value, deadline));
    }

    fn set(&mut self, key: Text, value: Text, options: &[Text]) -> Answer {
        let has = |name: &str| options.iter().any(|option| option == name.as_bytes());
        let px_ms = options.iter().position(|option| option == b"PX").map(|at| {
            String::from_utf8(options[at + 1].clone()).unwrap().parse::<u64>().expect("a number")
        });
        let Some(old) = (if has("GET") { self.string(&key) } else { Some(None) }) else {
            return wrong_type();
        };
        let there = self.keys.contains_key(&key);
        let sets = if there { !has("NX") } else { !has("XX") };
        if sets {
            let deadline = match px_ms {
                Some(ms) => Some(self.now_ms + ms),
                None if has("KEEPTTL") => self.keys.get(&key).and_then(|(_, deadline)| *deadline),
                None => None,
            };
            self.keys.insert(key, (Value::String(value), deadline));
        }
        match (has("GET"), sets) {
            (true, _) => bulk(old),
            (false, true) => Answer::Status("OK".to_owned()),
            (false, false) => Answer::Nil,
        }
    }

    fn pexpire(&mut self, key: &Text, ms: i64, condition: Option<&[u8]>) -> Answer {
        let at_ms = self.now_ms.saturating_add_signed(ms);
        let Some((_, deadline)) = self.keys.get_mut(key) else { return Answer::Int(0) };
        let sets = match condition {
            None => true,
            Some(b"NX") => deadline.is_none(),
            Some(b"XX") => deadline.is_some(),
            Some(b"GT") => deadline.is_some_and(|current_ms| at_ms > current_ms),
            Some(b"LT") => deadline.is_none_or(|current_ms| at_ms < current_ms),
            Some(other) => panic!("no condition {other:?}"),
        };
        if sets {
            *deadline = Some(at_ms);
            if at_ms <= self.now_ms {
                self.keys.remove(key);
            }
        }
        Answer::Int(i64::from(sets))
    }

    fn incr_by(&mut self, key: Text, by: i64) -> Answer {
        let Some(value) = self.string(&key) else { return wrong_type() };
        let old = value.map_or(Some(0), |value| {
            let number: i64 = std::str::from_utf8(&value).ok()?.parse().ok()?;
            (number.to_string().as_bytes() == value).then_some(number)
        });
        let Some(old) = old else {
            return Answer::Error("ERR value is not an integer or out of range".to_owned());
        };
        let Some(sum) = old.checked_add(by) else {
            return Answer::Error("ERR increment or decrement would overflow".to_owned());
        };
        self.put(key, Value::String(sum.to_string().into_bytes()));
        Answer::Int(sum)
    }

    fn push(&mut self, left: bool, key: Text, values: &[Text]) -> Answer {
        let Some(mut list) = self.list(&key) else { return wrong_type() };
        for value in values {
            list.insert(if left { 0 } else { list.len() }, value.clone());
        }
        let len = list.len();
        self.put(key, Value::List(list));
        Answer::Int(len as i64)
    }

    fn pop(&mut self, left: bool, key: Text, count: Option<i64>) -> Answer {
        let Some(mut list) = self.list(&key) else { return wrong_type() };
        if list.is_empty() {
            return if count.is_some() { Answer::NilArray } else { Answer::Nil };
        }
        let mut popped = Vec::new();
        for _ in 0..count.unwrap_or(1) {
            if !list.is_empty() {
                popped.push(Answer::Bulk(list.remove(if left { 0 } else { list.len() - 1 })));
            }
        }
        self.put(key, Value::List(list));
        if count.is_some() { Answer::Array(popped) } else { popped.remove(0) }
    }
}

/// The offsets from `start` to `stop` in a list of this length, tried one by one.
fn kept(len: usize, start: i64, stop: i64) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let from_left = move |index: i64| if index < 0 { index + len } else { index };
    (0..len)
        .filter(move |at| (from_left(start)..=from_left(stop)).contains(at))
        .map(|at| at as usize)
}

fn bulk(value: Option<Text>) -> Answer {
    value.map_or(Answer::Nil, Answer::Bulk)
}

fn wrong_type() -> Answer {
    Answer::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
}
