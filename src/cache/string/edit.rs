//! Changes of a part of a string.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

use crate::cache::command::parse_integer;
use crate::cache::error::CacheError;
use crate::cache::keyspace::{Keyspace, check_value};
use crate::cache::long_double::LongDouble;
use crate::cache::notifications::Events;

impl Keyspace {
    /// INCRBY; DECRBY is one with a negative number.
    pub(in crate::cache) fn incr_by(&mut self, key: &[u8], by: i64) -> Result<i64, CacheError> {
        let sum = self.edit_string(key, |value, is_new| {
            let old =
                if is_new { 0 } else { parse_integer(value).ok_or(CacheError::NotAnInteger)? };
            let sum = old.checked_add(by).ok_or(CacheError::IncrementOverflow)?;
            *value = Bytes::copy_from_slice(itoa::Buffer::new().format(sum).as_bytes());
            Ok(sum)
        })?;
        self.notify(Events::STRING, "incrby", key);
        Ok(sum)
    }

    /// INCRBYFLOAT. Returns the sum as it is stored.
    pub(in crate::cache) fn incr_by_float(
        &mut self,
        key: &[u8],
        by: &[u8],
    ) -> Result<Bytes, CacheError> {
        let sum = self.edit_string(key, |value, is_new| {
            let number = |text: &[u8]| LongDouble::parse(text).ok_or(CacheError::NotAFloat);
            let old = if is_new { LongDouble::ZERO } else { number(value)? };
            let sum = old.plus(number(by)?).ok_or(CacheError::NotFinite)?;
            *value = Bytes::from(sum.to_string());
            Ok(value.clone())
        })?;
        self.notify(Events::STRING, "incrbyfloat", key);
        Ok(sum)
    }

    /// APPEND. Returns the string's length.
    pub(in crate::cache) fn append(
        &mut self,
        key: &[u8],
        suffix: &[u8],
    ) -> Result<usize, CacheError> {
        let len = self.edit_part_of_string(key, |value, _| {
            let (before, len) = (value.len(), value.len() + suffix.len());
            check_value(len)?;
            in_place(value, |bytes| bytes.extend_from_slice(suffix));
            Ok((len, smallvec![before..len]))
        })?;
        if suffix.is_empty() {
            // Who watches the key is told of a change, as Redis tells.
            self.touch_key(key);
        }
        self.notify(Events::STRING, "append", key);
        Ok(len)
    }

    /// SETRANGE. Returns the string's length.
    pub(in crate::cache) fn set_range(
        &mut self,
        key: &[u8],
        offset: usize,
        part: &[u8],
    ) -> Result<usize, CacheError> {
        if part.is_empty() {
            let Some(slot) = self.slot(key) else { return Ok(0) };
            return slot.value().text().map(Bytes::len).ok_or(CacheError::WrongType);
        }
        let len = self.edit_part_of_string(key, |value, _| {
            let end = offset.saturating_add(part.len());
            let start = offset.min(value.len());
            check_value(end)?;
            in_place(value, |bytes| {
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(offset..end) {
                    place.copy_from_slice(part);
                }
            });
            Ok((value.len(), smallvec![start..end]))
        })?;
        self.notify(Events::STRING, "setrange", key);
        Ok(len)
    }
}

/// Changes a value where it lies when nobody else holds it, so that a small change costs what it
/// changes; else a copy of it.
pub(in crate::cache) fn in_place<T>(value: &mut Bytes, edit: impl FnOnce(&mut BytesMut) -> T) -> T {
    let mut bytes =
        std::mem::take(value).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    let result = edit(&mut bytes);
    *value = bytes.freeze();
    result
}

/// The bytes from `start` to `stop`, both included, cut to what is there; negative ones count from the
/// end, and those before the beginning are the beginning.
pub(in crate::cache) fn range(start: i64, stop: i64, len: usize) -> Range<usize> {
    if start < 0 && stop < 0 && start > stop {
        return 0..0;
    }
    let from_either_end = |index: i64| match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => len.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (from_either_end(start), from_either_end(stop).saturating_add(1).min(len));
    if start < end { start..end } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_cut_to_the_string() {
        assert_eq!(range(0, -1, 3), 0..3);
        assert_eq!(range(-2, 100, 3), 1..3);
        assert_eq!(range(-5, 0, 3), 0..1);
        assert_eq!(range(-4, -9, 3), 0..0);
        assert!(range(2, 1, 3).is_empty());
        assert!(range(0, -1, 0).is_empty());
        assert_eq!(range(-9, -5, 3), 0..1);
        assert!(range(i64::MAX, i64::MAX, 3).is_empty());
        assert_eq!(range(i64::MIN, i64::MAX, 3), 0..3);
    }
}
