//! A script's errors on their way through Lua, and the arguments of the functions that raise them.

use std::fmt;

use mlua::{Lua, LuaString, MultiValue, Value};

/// What a function of ours raises. Lua carries it as a userdata; [`shown`] gives a script what Redis
/// would have given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// A text, as `error` raises it.
    Text(Vec<u8>),
    /// A table whose `err` begins with an error code, as commands raise it.
    Table(Vec<u8>),
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Text(text) | Self::Table(text)) = self;
        to.write_str(&String::from_utf8_lossy(text))
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for mlua::Error {
    fn from(failure: Failure) -> Self {
        Self::external(failure)
    }
}

/// The error table of a text without a code.
pub(super) fn refused(text: &str) -> Failure {
    Failure::Table(format!("ERR {text}").into_bytes())
}

/// The error table as Lua has it.
pub(super) fn error_table(lua: &Lua, err: &[u8]) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", lua.create_string(err)?)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// An error that was caught, as scripts know it.
pub(super) fn shown(lua: &Lua, error: Value) -> mlua::Result<Value> {
    let Value::Error(error) = error else { return Ok(error) };
    match error.downcast_ref::<Failure>() {
        Some(Failure::Text(text)) => Ok(Value::String(lua.create_string(text)?)),
        Some(Failure::Table(err)) => error_table(lua, err),
        None => {
            let text = match error.as_ref() {
                mlua::Error::CallbackError { cause, .. } => cause.to_string(),
                other => other.to_string(),
            };
            Ok(Value::String(lua.create_string(text)?))
        }
    }
}

/// An error with the place of whoever called the running function.
pub(super) fn error_at_caller(lua: &Lua, text: impl fmt::Display) -> mlua::Error {
    let place = lua.inspect_stack(1, |caller| {
        let line = caller.current_line()?;
        Some(format!("{}:{line}: ", caller.source().short_src.unwrap_or_default()))
    });
    let place = place.flatten().unwrap_or_default();
    Failure::Text(format!("{place}{text}").into_bytes()).into()
}

/// The error of the running function's argument `number`.
pub(super) fn bad_argument(lua: &Lua, number: usize, text: impl fmt::Display) -> mlua::Error {
    let name = lua.inspect_stack(0, |own| own.names().name.map(|name| name.into_owned())).flatten();
    let name = name.as_deref().unwrap_or("?");
    error_at_caller(lua, format_args!("bad argument #{number} to '{name}' ({text})"))
}

/// The arguments of the running function, numbered from 1.
pub(super) struct Arguments(Vec<Value>);

impl From<MultiValue> for Arguments {
    fn from(values: MultiValue) -> Self {
        Self(values.into_vec())
    }
}

impl Arguments {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Value> {
        self.0.get(number.checked_sub(1)?)
    }

    /// All, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Value)> {
        (1..).zip(&self.0)
    }

    pub(super) fn is_nil(&self, number: usize) -> bool {
        self.get(number).is_none_or(Value::is_nil)
    }

    /// A number, or a string that is one.
    pub(super) fn number(&self, lua: &Lua, number: usize) -> mlua::Result<f64> {
        let value = self.get(number).cloned().unwrap_or(Value::Nil);
        match lua.coerce_number(value)? {
            Some(value) => Ok(value),
            None => Err(self.not_a(lua, number, "number")),
        }
    }

    pub(super) fn integer(&self, lua: &Lua, number: usize) -> mlua::Result<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "as lua_tointeger does")]
        self.number(lua, number).map(|value| value as i64)
    }

    pub(super) fn integer_or(&self, lua: &Lua, number: usize, default: i64) -> mlua::Result<i64> {
        if self.is_nil(number) { Ok(default) } else { self.integer(lua, number) }
    }

    /// A string, or a number as one.
    pub(super) fn text(&self, lua: &Lua, number: usize) -> mlua::Result<LuaString> {
        let text = match self.get(number) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ (Value::Number(_) | Value::Integer(_))) => {
                lua.coerce_string(value.clone())?
            }
            _ => None,
        };
        text.ok_or_else(|| self.not_a(lua, number, "string"))
    }

    pub(super) fn not_a(&self, lua: &Lua, number: usize, expected: &str) -> mlua::Error {
        let got = self.get(number).map_or("no value", type_name);
        bad_argument(lua, number, format_args!("{expected} expected, got {got}"))
    }
}

/// The type's name in Lua.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::LightUserData(_) | Value::Error(_) => "userdata",
        Value::Integer(_) => "number",
        other => other.type_name(),
    }
}
