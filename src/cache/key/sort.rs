//! SORT.

use std::cmp::Ordering;

use bytes::Bytes;

use super::KeyCommand;
use crate::cache::command::{Args, Command, is};
use crate::cache::error::CacheError;
use crate::cache::hash::Hash;
use crate::cache::keyspace::{Collection, Keyspace, Slot, Value};
use crate::cache::list::End;
use crate::cache::notifications::Events;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// SORT: which elements, in what order, and what is answered for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    pub key: Text,
    /// BY: a pattern of the keys whose values are compared; without a star, nothing is.
    pub by: Option<Text>,
    /// LIMIT: offset and count; a negative count means all.
    pub limit: (i64, i64),
    /// GET: patterns of the keys whose values are answered; `#` is the element itself.
    pub get: Vec<Text>,
    pub is_descending: bool,
    /// ALPHA: compared as texts, not as numbers.
    pub is_alpha: bool,
    pub store: Option<Text>,
}

pub(super) fn parse(mut args: Args<'_>, may_store: bool) -> Result<Command, CacheError> {
    let mut sort = Sort {
        key: args.next()?,
        by: None,
        limit: (0, -1),
        get: Vec::new(),
        is_descending: false,
        is_alpha: false,
        store: None,
    };
    while let Some(option) = args.option() {
        if is(option, "asc") {
            sort.is_descending = false;
        } else if is(option, "desc") {
            sort.is_descending = true;
        } else if is(option, "alpha") {
            sort.is_alpha = true;
        } else if is(option, "limit") && args.len() >= 2 {
            sort.limit = (args.integer()?, args.integer()?);
        } else if may_store && is(option, "store") && !args.is_empty() {
            sort.store = Some(args.next()?);
        } else if is(option, "by") && !args.is_empty() {
            sort.by = Some(args.next()?);
        } else if is(option, "get") && !args.is_empty() {
            sort.get.push(args.next()?);
        } else {
            return Err(CacheError::Syntax);
        }
    }
    Ok(Command::Key(KeyCommand::Sort(sort)))
}

/// What an element is compared by.
enum Weight {
    Number(f64),
    Text(Option<Bytes>),
}

impl Sort {
    pub(super) fn apply(&self, keyspace: &mut Keyspace) -> Result<Reply, CacheError> {
        let elements = self.sorted(keyspace)?;
        let answers: Vec<Option<Bytes>> = if self.get.is_empty() {
            elements.into_iter().map(Some).collect()
        } else {
            let of = |element: &Bytes| {
                self.get
                    .iter()
                    .map(|pattern| keyspace.looked_up(pattern, element))
                    .collect::<Vec<_>>()
            };
            elements.iter().flat_map(of).collect()
        };
        let Some(to) = &self.store else {
            return Ok(Reply::Array(answers.into_iter().map(Reply::bulk_or_nil).collect()));
        };
        let values = answers.into_iter().map(Option::unwrap_or_default);
        Ok(Reply::count(keyspace.store(Events::LIST, "sortstore", to, |keyspace| {
            if values.len() == 0 { Ok(0) } else { keyspace.push(End::Right, to, values) }
        })?))
    }

    fn sorted(&self, keyspace: &Keyspace) -> Result<Vec<Bytes>, CacheError> {
        let (mut elements, is_set) = match keyspace.read(&self.key) {
            None => (Vec::new(), false),
            Some(Value::List(list)) => (list.values().map(Text::to_bytes).collect(), false),
            Some(Value::Set(set)) => {
                (set.members().map(|member| Bytes::copy_from_slice(member)).collect(), true)
            }
            Some(Value::SortedSet(set)) => {
                (set.members().map(|(member, _)| Bytes::copy_from_slice(member)).collect(), false)
            }
            Some(Value::String(_) | Value::Long(_) | Value::Hash(_)) => {
                return Err(CacheError::WrongType);
            }
        };
        let by = self.by.as_ref();
        let is_ordered_already = by.is_some_and(|by| !by.contains(&b'*'));
        if is_ordered_already && is_set && self.store.is_some() {
            // What is stored must not depend on the order of a set.
            elements.sort_unstable();
            if self.is_descending {
                elements.reverse();
            }
        } else if is_ordered_already {
            if self.is_descending && !is_set {
                elements.reverse();
            }
        } else {
            elements = self.by_weight(keyspace, elements)?;
        }
        let (offset, count) = self.limit;
        let offset = usize::try_from(offset).unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(elements.into_iter().skip(offset).take(count).collect())
    }

    fn by_weight(
        &self,
        keyspace: &Keyspace,
        elements: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, CacheError> {
        let weight = |element: &Bytes| {
            let value = match &self.by {
                None => Some(element.clone()),
                Some(pattern) => keyspace.looked_up(pattern, element),
            };
            if self.is_alpha {
                let as_shown =
                    |value: Bytes| if self.store.is_some() { value } else { before_nul(value) };
                return Ok(Weight::Text(value.map(as_shown)));
            }
            let number = value.map_or(Some(0.0), |value| parse_double(&before_nul(value)));
            number.map(Weight::Number).ok_or(CacheError::NotSortable)
        };
        let mut weighted: Vec<(Weight, Bytes)> = elements
            .into_iter()
            .map(|element| Ok((weight(&element)?, element)))
            .collect::<Result<_, CacheError>>()?;
        weighted.sort_by(|(weight, element), (other_weight, other)| {
            let order = match (weight, other_weight) {
                (Weight::Number(one), Weight::Number(other_number)) => one
                    .partial_cmp(other_number)
                    .unwrap_or(Ordering::Equal)
                    .then_with(|| element.cmp(other)),
                (Weight::Text(one), Weight::Text(other)) => one.cmp(other),
                _ => Ordering::Equal,
            };
            if self.is_descending { order.reverse() } else { order }
        });
        Ok(weighted.into_iter().map(|(_, element)| element).collect())
    }
}

impl Keyspace {
    /// The value that a pattern of BY or GET names for an element: its first star stands for the
    /// element, and `->field` behind the star names a hash's field.
    fn looked_up(&self, pattern: &[u8], element: &Bytes) -> Option<Bytes> {
        if pattern == b"#" {
            return Some(element.clone());
        }
        let star = pattern.iter().position(|&byte| byte == b'*')?;
        let (prefix, suffix) = (pattern.get(..star)?, pattern.get(star + 1..)?);
        let arrow = suffix.windows(2).position(|two| two == b"->");
        let (suffix, field) = match arrow.and_then(|at| suffix.split_at_checked(at)) {
            Some((suffix, field)) if field.len() > 2 => (suffix, field.get(2..)),
            _ => (suffix, None),
        };
        let key = [prefix, element, suffix].concat();
        let value = self.slot(&key).map(Slot::value)?;
        match field {
            None => value.text().cloned(),
            Some(field) => Hash::of(value)?.0.get(field).cloned(),
        }
    }
}

/// What C's functions see of a text. Redis compares numbers and texts by those, but texts to be stored
/// by all their bytes.
fn before_nul(text: Bytes) -> Bytes {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.slice(..end)
}

/// As C's `strtod` reads a whole text: nothing at all is zero, blanks may come first.
fn parse_double(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let text =
        std::str::from_utf8(text).ok()?.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        // No list has a reason to hold hexadecimal fractions.
        return u64::from_str_radix(hex, 16).ok().map(|number| sign * number as f64);
    }
    let number: f64 = digits.parse().ok()?;
    let is_named = digits.starts_with(['i', 'I']);
    (!number.is_nan() && (number.is_finite() || is_named)).then_some(sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_those_of_strtod() {
        for (text, number) in [
            ("", 0.0),
            ("1", 1.0),
            ("-1.5e1", -15.0),
            (" 5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+3", 3.0),
            ("0x10", 16.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_double(text.as_bytes()), Some(number), "{text:?}");
        }
        for text in ["x", "5 ", "1e400", "nan", "--1", "-", "+-1", "0x", "1x"] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text:?}");
        }
    }
}
