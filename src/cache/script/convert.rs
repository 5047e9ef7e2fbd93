//! Between Lua's values, the codecs' and the commands' answers.

use bytes::Bytes;
use mlua::{Lua, LuaString, Table, Value};

use super::data::Data;
use super::failure::{Failure, error_at_caller, error_table, type_name};
use super::number::format_g;
use crate::cache::error::CacheError;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// Bytes that the values of one call may take outside of Lua.
const VALUE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Tables within each other that a script may answer with.
const REPLY_NESTING_MAX: usize = 1_000;
/// Digits that tell any double from the next.
const EXACT_DIGITS: usize = 17;

/// What is left of [`VALUE_BYTES_MAX`].
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(VALUE_BYTES_MAX)
    }

    pub(super) fn take(&mut self, bytes: usize) -> mlua::Result<()> {
        const PART_BYTES: usize = 64;
        let left = self.0.checked_sub(bytes.saturating_add(PART_BYTES));
        self.0 = left.ok_or_else(|| mlua::Error::MemoryError("not enough memory".to_owned()))?;
        Ok(())
    }
}

/// Takes a value out of Lua. Of a table within `depth_max` others nothing is looked at.
pub(super) fn to_data(value: &Value, depth_max: usize) -> mlua::Result<Data> {
    data_of(value, depth_max, &mut Budget::new())
}

/// As [`to_data`], for one of several values that share a budget.
pub(super) fn data_of(value: &Value, depth_left: usize, budget: &mut Budget) -> mlua::Result<Data> {
    Ok(match value {
        Value::Nil => Data::Nil,
        Value::Boolean(value) => Data::Boolean(*value),
        Value::Number(number) => Data::Number(*number),
        #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
        Value::Integer(number) => Data::Number(*number as f64),
        Value::String(text) => {
            let text = text.as_bytes();
            budget.take(text.len())?;
            Data::String(text.to_vec())
        }
        Value::Table(table) => {
            let mut pairs = Vec::new();
            if depth_left > 0 {
                // One step at a time: calls of Lua's within each other are bounded at 200.
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    budget.take(0)?;
                    let key = data_of(&key, depth_left - 1, budget)?;
                    pairs.push((key, data_of(&value, depth_left - 1, budget)?));
                }
            }
            Data::Table(pairs)
        }
        other if other.is_null() => Data::Null,
        other => Data::Other(type_name(other)),
    })
}

/// Brings a value into Lua.
pub(super) fn from_data(lua: &Lua, data: &Data) -> mlua::Result<Value> {
    Ok(match data {
        Data::Nil | Data::Other(_) => Value::Nil,
        Data::Null => Value::NULL,
        Data::Boolean(value) => Value::Boolean(*value),
        Data::Number(number) => Value::Number(*number),
        Data::String(text) => Value::String(lua.create_string(text)?),
        Data::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in (1_i64..).zip(items) {
                table.raw_set(index, from_data(lua, item)?)?;
            }
            Value::Table(table)
        }
        Data::Table(pairs) => {
            let table = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                match key {
                    Data::Nil => return Err(Failure::Text(b"table index is nil".to_vec()).into()),
                    Data::Number(number) if number.is_nan() => {
                        return Err(Failure::Text(b"table index is NaN".to_vec()).into());
                    }
                    _ => table.raw_set(from_data(lua, key)?, from_data(lua, value)?)?,
                }
            }
            Value::Table(table)
        }
    })
}

/// The argument of a command, if it can be one.
pub(super) fn argument(value: &Value, budget: &mut Budget) -> mlua::Result<Option<Text>> {
    let number = match value {
        Value::String(text) => {
            let text = text.as_bytes();
            budget.take(text.len())?;
            return Ok(Some(Text::copy_from_slice(&text)));
        }
        Value::Number(number) => *number,
        #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
        Value::Integer(number) => *number as f64,
        _ => return Ok(None),
    };
    Ok(Some(digits(number).into()))
}

fn digits(number: f64) -> Bytes {
    let mut text = Vec::with_capacity(24);
    format_g(number, EXACT_DIGITS, &mut text);
    text.into()
}

/// What `redis.call` gives for an answer that is no error; `resp3` as `redis.setresp` has it.
pub(super) fn from_reply(lua: &Lua, reply: &Reply, resp3: bool) -> mlua::Result<Value> {
    let one = |field: &str, value: Value| -> mlua::Result<Value> {
        let table = lua.create_table_with_capacity(0, 1)?;
        table.raw_set(field, value)?;
        Ok(Value::Table(table))
    };
    let text = |text: &[u8]| lua.create_string(text).map(Value::String);
    let list = |replies: &mut dyn ExactSizeIterator<Item = &Reply>| -> mlua::Result<Value> {
        let table = lua.create_table_with_capacity(replies.len(), 0)?;
        for (index, reply) in (1_i64..).zip(replies) {
            table.raw_set(index, from_reply(lua, reply, resp3)?)?;
        }
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Status(status) => one("ok", text(status.as_bytes())?),
        Reply::StatusText(status) => one("ok", text(status)?),
        Reply::Error(error) => error_table(lua, error.to_string().as_bytes()),
        Reply::ErrorText(error) => error_table(lua, error),
        #[expect(clippy::cast_precision_loss, reason = "Lua's numbers are doubles")]
        Reply::Integer(integer) => Ok(Value::Number(*integer as f64)),
        Reply::Bulk(bytes) => text(bytes),
        Reply::Nil | Reply::NilArray if resp3 => Ok(Value::Nil),
        Reply::Nil | Reply::NilArray => Ok(Value::Boolean(false)),
        Reply::Array(replies) => list(&mut replies.iter()),
        Reply::Double(double) if resp3 => one("double", Value::Number(*double)),
        Reply::Double(double) => text(&digits(*double)),
        Reply::Map(pairs) => {
            if !resp3 {
                let flat: Vec<&Reply> =
                    pairs.iter().flat_map(|(key, value)| [key, value]).collect();
                return list(&mut flat.into_iter());
            }
            let map = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                map.raw_set(from_reply(lua, key, true)?, from_reply(lua, value, true)?)?;
            }
            one("map", Value::Table(map))
        }
        Reply::Pairs(pairs) if resp3 => {
            let table = lua.create_table_with_capacity(pairs.len(), 0)?;
            for (index, (first, second)) in (1_i64..).zip(pairs) {
                table.raw_set(index, list(&mut [first, second].into_iter())?)?;
            }
            Ok(Value::Table(table))
        }
        Reply::Pairs(pairs) => {
            let flat: Vec<&Reply> =
                pairs.iter().flat_map(|(first, second)| [first, second]).collect();
            list(&mut flat.into_iter())
        }
        Reply::Set(members) => {
            if !resp3 {
                return list(&mut members.iter());
            }
            let set = lua.create_table_with_capacity(0, members.len())?;
            for member in members {
                set.raw_set(from_reply(lua, member, true)?, true)?;
            }
            one("set", Value::Table(set))
        }
        Reply::Boolean(value) if resp3 => Ok(Value::Boolean(*value)),
        Reply::Boolean(value) => Ok(Value::Number(f64::from(u8::from(*value)))),
        Reply::Verbatim { format, text: verbatim } if resp3 => {
            let table = lua.create_table_with_capacity(0, 2)?;
            table.raw_set("format", text(format)?)?;
            table.raw_set("string", text(verbatim)?)?;
            one("verbatim_string", Value::Table(table))
        }
        Reply::Verbatim { text: verbatim, .. } => text(verbatim),
        Reply::BigNumber(digits) if resp3 => one("big_number", text(digits)?),
        Reply::BigNumber(digits) => text(digits),
    }
}

/// What a script's value is as an answer; `resp3` as `redis.setresp` has it.
pub(super) fn to_reply(value: &Value, resp3: bool) -> mlua::Result<Reply> {
    let mut budget = Budget(VALUE_BYTES_MAX);
    reply_of(value, resp3, REPLY_NESTING_MAX, &mut budget)
}

fn reply_of(
    value: &Value,
    resp3: bool,
    depth_left: usize,
    budget: &mut Budget,
) -> mlua::Result<Reply> {
    budget.take(0)?;
    if depth_left == 0 {
        return Ok(Reply::Error(CacheError::LuaStack));
    }
    let depth_left = depth_left - 1;
    Ok(match value {
        Value::String(text) => {
            let text = text.as_bytes();
            budget.take(text.len())?;
            Reply::Bulk(Bytes::copy_from_slice(&text))
        }
        Value::Integer(integer) => Reply::Integer(*integer),
        Value::Number(number) => Reply::Integer(truncated(*number)),
        Value::Boolean(value) if resp3 => Reply::Boolean(*value),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(table) => return table_reply(table, resp3, depth_left, budget),
        _ => Reply::Nil,
    })
}

/// As C's cast on the machines that Redis runs on: what does not fit is the least integer.
fn truncated(number: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation)]
    if (-END..END).contains(&number) { number as i64 } else { i64::MIN }
}

fn table_reply(
    table: &Table,
    resp3: bool,
    depth_left: usize,
    budget: &mut Budget,
) -> mlua::Result<Reply> {
    let field = |name: &str| table.raw_get::<Value>(name);
    if let Value::String(err) = field("err")? {
        return Ok(Reply::ErrorText(on_one_line(&err.as_bytes())));
    }
    if let Value::String(ok) = field("ok")? {
        return Ok(Reply::StatusText(on_one_line(&ok.as_bytes())));
    }
    match field("double")? {
        Value::Number(double) => return Ok(Reply::Double(double)),
        #[expect(clippy::cast_precision_loss, reason = "it was a double before")]
        Value::Integer(double) => return Ok(Reply::Double(double as f64)),
        _ => {}
    }
    if let Value::Table(map) = field("map")? {
        let mut pairs = Vec::new();
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let key = reply_of(&key, resp3, depth_left, budget)?;
            pairs.push((key, reply_of(&value, resp3, depth_left, budget)?));
        }
        return Ok(Reply::Map(pairs));
    }
    if let Value::Table(set) = field("set")? {
        let mut members = Vec::new();
        for pair in set.pairs::<Value, Value>() {
            members.push(reply_of(&pair?.0, resp3, depth_left, budget)?);
        }
        return Ok(Reply::Set(members));
    }
    if let Value::String(number) = field("big_number")? {
        return Ok(Reply::BigNumber(on_one_line(&number.as_bytes())));
    }
    if let Value::Table(verbatim) = field("verbatim_string")?
        && let Value::String(text) = verbatim.raw_get::<Value>("string")?
        && let Value::String(said) = verbatim.raw_get::<Value>("format")?
    {
        // Three letters, whatever the script says.
        let mut format = *b"   ";
        format.iter_mut().zip(said.as_bytes().iter()).for_each(|(to, letter)| *to = *letter);
        return Ok(Reply::Verbatim { format, text: Bytes::copy_from_slice(&text.as_bytes()) });
    }
    let mut replies = Vec::new();
    for index in 1_i64.. {
        match table.raw_get::<Value>(index)? {
            Value::Nil => break,
            item => replies.push(reply_of(&item, resp3, depth_left, budget)?),
        }
    }
    Ok(Reply::Array(replies))
}

/// Errors and statuses end with their line.
pub(super) fn on_one_line(text: &[u8]) -> Bytes {
    text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

/// A text that a script gives as one of a few words.
pub(super) fn option<T: Copy>(
    lua: &Lua,
    number: usize,
    text: &LuaString,
    options: &[(&str, T)],
) -> mlua::Result<T> {
    let text = text.to_string_lossy();
    let found = options.iter().find(|(name, _)| *name == text).map(|(_, option)| *option);
    found.ok_or_else(|| {
        super::failure::bad_argument(lua, number, format_args!("invalid option '{text}'"))
    })
}

/// A codec's error with its place.
pub(super) fn codec_error(lua: &Lua, error: impl std::fmt::Display) -> mlua::Error {
    error_at_caller(lua, error)
}
