//! Changes of strings.

use std::ops::Range;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::effects::{Fresh, Recorded};
use super::slot::{Slot, Value};
use super::{DATABASES, Keyspace};
use crate::cache::error::CacheError;
use crate::cache::string::Long;

/// Bytes of a string that were changed; those that were added belong to them.
pub(in crate::cache) type Changed = SmallVec<[Range<usize>; 1]>;

/// The whole of a string.
const WHOLE: Range<usize> = 0..usize::MAX;

impl Keyspace {
    /// Changes the string at `key`, which is made when there is no such key; its deadline stays. `edit`
    /// is told whether it is new; when it fails, it has left the value as it was.
    pub(in crate::cache) fn edit_string<T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut Bytes, bool) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        self.edit_part_of_string(key, |value, is_new| Ok((edit(value, is_new)?, smallvec![WHOLE])))
    }

    /// As [`Keyspace::edit_string`]; `edit` also says what it has changed. Of a long string only the pieces
    /// around that are recorded.
    pub(in crate::cache) fn edit_part_of_string<T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut Bytes, bool) -> Result<(T, Changed), CacheError>,
    ) -> Result<T, CacheError> {
        let Some(id) = self.live(key) else {
            let mut value = Bytes::new();
            let (result, _) = edit(&mut value, true)?;
            self.insert(key, Value::String(value))?;
            return Ok(result);
        };
        let Self { databases, effects, next_collection, .. } = self;
        let slot = databases[usize::from(id.db) % DATABASES].get_mut(id.at);
        let Some(Slot { value, value_recorded, .. }) = slot else {
            return Err(CacheError::WrongType);
        };
        let bytes_before = value.bytes();
        let is_same = |changed: &Changed, before: usize, after: usize| {
            changed.iter().all(Range::is_empty) && before == after
        };
        let result = match value {
            Value::Long(long) => {
                let len_before = long.text().len();
                let (result, changed) = edit(long.text_mut(), false)?;
                if is_same(&changed, len_before, long.text().len()) {
                    return Ok(result);
                }
                for bytes in changed {
                    long.changed(bytes, id, effects);
                }
                result
            }
            Value::String(text) => {
                let len_before = text.len();
                let (result, changed) = edit(text, false)?;
                if is_same(&changed, len_before, text.len()) {
                    return Ok(result);
                }
                effects.end(std::mem::replace(value_recorded, Recorded::New));
                effects.add(Fresh::Value(id));
                if effects.are_kept && *changed != [WHOLE] && Long::suits(text.len()) {
                    let number = *next_collection;
                    *next_collection = number.next();
                    let long = Long::new(number, std::mem::take(text), id, effects);
                    *value = Value::Long(Box::new(long));
                }
                result
            }
            _ => return Err(CacheError::WrongType),
        };
        let bytes = value.bytes();
        self.bytes = self.bytes - bytes_before + bytes;
        self.touch(id);
        Ok(result)
    }
}
