//! The libraries `cjson`, `cmsgpack` and `struct`: the codecs, as scripts call them.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value, Variadic};

use super::cjson::{Config, InvalidNumbers};
use super::cmsgpack::NESTING_MAX;
use super::convert::{Budget, codec_error, data_of, from_data, option, to_data};
use super::failure::{Arguments, bad_argument, error_at_caller};
use super::lua_struct::StructError;
use super::{cjson as json, cmsgpack as msgpack, lua_struct as structs};
use crate::cache::script::data::Data;

/// Bytes that `struct.pack` may make.
const PACKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Values that a function can answer with: Lua's stack takes 8,000, and some of it is in use.
const RESULTS_MAX: usize = 7_990;

type Shared = Rc<RefCell<Config>>;

/// What a script sets stays for those after it, as in Redis.
pub(super) fn cjson(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let config = Shared::default();
    let own = Rc::clone(&config);
    let encode = move |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
        let args = Arguments::from(args);
        let (1, Some(value)) = (args.len(), args.get(1)) else {
            return Err(bad_argument(lua, 1, "expected 1 argument"));
        };
        let config = own.borrow();
        let data = to_data(value, config.encode_depth_max() + 1)?;
        let mut out = Vec::new();
        json::encode(&data, &config, &mut out).map_err(|error| codec_error(lua, error))?;
        lua.create_string(out).map(Value::String)
    };
    library.raw_set("encode", lua.create_function(encode)?)?;
    let own = Rc::clone(&config);
    let decode = move |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
        let args = Arguments::from(args);
        if args.len() != 1 {
            return Err(bad_argument(lua, 1, "expected 1 argument"));
        }
        let text = args.text(lua, 1)?;
        let data = json::decode(&text.as_bytes(), &own.borrow())
            .map_err(|error| codec_error(lua, error))?;
        from_data(lua, &data)
    };
    library.raw_set("decode", lua.create_function(decode)?)?;
    library.raw_set("new", lua.create_function(|lua, _: MultiValue| cjson(lua))?)?;
    library.raw_set("null", Value::NULL)?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    configure(lua, &library, &config)?;
    Ok(library)
}

/// No more than `most` arguments.
fn at_most(lua: &Lua, args: MultiValue, most: usize) -> mlua::Result<Arguments> {
    let args = Arguments::from(args);
    if args.len() > most {
        return Err(bad_argument(lua, most + 1, "found too many arguments"));
    }
    Ok(args)
}

fn set_integer(
    lua: &Lua,
    args: &Arguments,
    number: usize,
    setting: &mut i32,
    (least, most): (i32, i32),
) -> mlua::Result<()> {
    if args.is_nil(number) {
        return Ok(());
    }
    let value = args.integer(lua, number)?;
    match i32::try_from(value).ok().filter(|value| (least..=most).contains(value)) {
        Some(value) => {
            *setting = value;
            Ok(())
        }
        // Whichever it is, the first one is named.
        None => {
            let text = format_args!("expected integer between {least} and {most}");
            Err(bad_argument(lua, 1, text))
        }
    }
}

fn set_boolean(lua: &Lua, args: &Arguments, setting: &mut bool) -> mlua::Result<()> {
    match args.get(1) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(value)) => *setting = *value,
        Some(_) => {
            let options = [("off", false), ("on", true)];
            *setting = option(lua, 1, &args.text(lua, 1)?, &options)?;
        }
    }
    Ok(())
}

fn configure(lua: &Lua, library: &Table, config: &Shared) -> mlua::Result<()> {
    type Integer = (&'static str, fn(&mut Config) -> &mut i32, i32);
    let integers: [Integer; 3] = [
        ("encode_max_depth", |config| &mut config.encode_depth_max, i32::MAX),
        ("decode_max_depth", |config| &mut config.decode_depth_max, i32::MAX),
        ("encode_number_precision", |config| &mut config.precision, 14),
    ];
    for (name, setting, most) in integers {
        let config = Rc::clone(config);
        let function = move |lua: &Lua, args: MultiValue| -> mlua::Result<i32> {
            let args = at_most(lua, args, 1)?;
            let mut config = config.borrow_mut();
            let setting = setting(&mut config);
            set_integer(lua, &args, 1, setting, (1, most))?;
            Ok(*setting)
        };
        library.raw_set(name, lua.create_function(function)?)?;
    }
    type Boolean = (&'static str, fn(&mut Config) -> &mut bool);
    let booleans: [Boolean; 2] = [
        ("encode_keep_buffer", |config| &mut config.keep_buffer),
        ("decode_invalid_numbers", |config| &mut config.decode_invalid),
    ];
    for (name, setting) in booleans {
        let config = Rc::clone(config);
        let function = move |lua: &Lua, args: MultiValue| -> mlua::Result<bool> {
            let args = at_most(lua, args, 1)?;
            let mut config = config.borrow_mut();
            let setting = setting(&mut config);
            set_boolean(lua, &args, setting)?;
            Ok(*setting)
        };
        library.raw_set(name, lua.create_function(function)?)?;
    }
    let own = Rc::clone(config);
    let invalid = move |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
        let args = at_most(lua, args, 1)?;
        let setting = &mut own.borrow_mut().encode_invalid;
        match args.get(1) {
            None | Some(Value::Nil) => {}
            Some(Value::Boolean(true)) => *setting = InvalidNumbers::Written,
            Some(Value::Boolean(false)) => *setting = InvalidNumbers::Refused,
            Some(_) => {
                let options = [
                    ("off", InvalidNumbers::Refused),
                    ("on", InvalidNumbers::Written),
                    ("null", InvalidNumbers::Null),
                ];
                *setting = option(lua, 1, &args.text(lua, 1)?, &options)?;
            }
        }
        match setting {
            InvalidNumbers::Refused => Ok(Value::Boolean(false)),
            InvalidNumbers::Written => Ok(Value::Boolean(true)),
            InvalidNumbers::Null => lua.create_string("null").map(Value::String),
        }
    };
    library.raw_set("encode_invalid_numbers", lua.create_function(invalid)?)?;
    let own = Rc::clone(config);
    let sparse = move |lua: &Lua, args: MultiValue| -> mlua::Result<(bool, i32, i32)> {
        let args = at_most(lua, args, 3)?;
        let config = &mut *own.borrow_mut();
        set_boolean(lua, &args, &mut config.sparse_convert)?;
        set_integer(lua, &args, 2, &mut config.sparse_ratio, (0, i32::MAX))?;
        set_integer(lua, &args, 3, &mut config.sparse_safe, (0, i32::MAX))?;
        Ok((config.sparse_convert, config.sparse_ratio, config.sparse_safe))
    };
    library.raw_set("encode_sparse_array", lua.create_function(sparse)?)
}

pub(super) fn cmsgpack(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let pack = |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
        let args = Arguments::from(args);
        if args.len() == 0 {
            return Err(bad_argument(lua, 0, "MessagePack pack needs input."));
        }
        let (mut out, mut budget) = (Vec::new(), Budget::new());
        for (_, value) in args.iter() {
            msgpack::encode(&data_of(value, NESTING_MAX, &mut budget)?, &mut out);
        }
        lua.create_string(out).map(Value::String)
    };
    library.raw_set("pack", lua.create_function(pack)?)?;
    let unpack = |lua: &Lua, args: MultiValue| unpacked(lua, &args.into(), None, 0);
    library.raw_set("unpack", lua.create_function(unpack)?)?;
    let unpack_one = |lua: &Lua, args: MultiValue| {
        let args = Arguments::from(args);
        let offset = args.integer_or(lua, 2, 0)?;
        unpacked(lua, &args, Some(1), offset)
    };
    library.raw_set("unpack_one", lua.create_function(unpack_one)?)?;
    let unpack_limit = |lua: &Lua, args: MultiValue| {
        let args = Arguments::from(args);
        let limit = args.integer(lua, 2)?;
        let offset = args.integer_or(lua, 3, 0)?;
        // Neither a limit nor an offset: everything, and no offset in return.
        unpacked(lua, &args, (limit != 0 || offset != 0).then_some(limit), offset)
    };
    library.raw_set("unpack_limit", lua.create_function(unpack_limit)?)?;
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    library.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(library)
}

/// The values; with a limit, the offset behind them comes first, -1 at the end.
fn unpacked(
    lua: &Lua,
    args: &Arguments,
    limit: Option<i64>,
    offset: i64,
) -> mlua::Result<Variadic<Value>> {
    let text = args.text(lua, 1)?;
    let text = text.as_bytes();
    let (Ok(from), 0..) = (usize::try_from(offset), limit.unwrap_or(0)) else {
        // Redis gives the length in the place of the limit.
        let len = text.len();
        let error =
            format_args!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        return Err(error_at_caller(lua, error));
    };
    let Some(mut rest) = text.get(from..) else {
        let len = text.len();
        let error = format_args!("Start offset {offset} greater than input length {len}.");
        return Err(error_at_caller(lua, error));
    };
    let mut values = Variadic::new();
    let mut left = limit.map_or(i64::from(i32::MAX), |limit| limit);
    while !rest.is_empty() && left > 0 {
        if values.len() == RESULTS_MAX {
            let advice = "too many return values at once; use unpack_one or unpack_limit instead.";
            return Err(error_at_caller(lua, format_args!("stack overflow ({advice})")));
        }
        let data = msgpack::decode(&mut rest).map_err(|error| codec_error(lua, error))?;
        values.push(from_data(lua, &data)?);
        left -= 1;
    }
    if limit.is_some() {
        let end = text.len() - rest.len();
        let end = if rest.is_empty() { -1 } else { i64::try_from(end).unwrap_or(i64::MAX) };
        values.insert(0, Value::Integer(end));
    }
    Ok(values)
}

fn struct_error(lua: &Lua, args: &Arguments, error: StructError) -> mlua::Error {
    match error {
        StructError::Plain(text) => error_at_caller(lua, text),
        StructError::Argument(number, text) => bad_argument(lua, number, text),
        // `pack` puts a nil behind its arguments.
        StructError::NotA(number, kind) if number > args.len() => {
            bad_argument(lua, number, format_args!("{kind} expected, got nil"))
        }
        StructError::NotA(number, kind) => args.not_a(lua, number, kind),
    }
}

pub(super) fn lua_struct(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let pack = |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
        let args = Arguments::from(args);
        let format = args.text(lua, 1)?;
        let (mut values, mut budget) = (Vec::new(), Budget::new());
        for (number, value) in args.iter().skip(1) {
            values.push(match value {
                // Numbers and strings stand for each other.
                Value::String(_) => data_of(value, 0, &mut budget)?,
                Value::Number(_) | Value::Integer(_) => Data::Number(args.number(lua, number)?),
                _ => Data::Nil,
            });
        }
        let packed = structs::pack(&format.as_bytes(), &values, PACKED_BYTES_MAX)
            .map_err(|error| struct_error(lua, &args, error))?;
        lua.create_string(packed).map(Value::String)
    };
    library.raw_set("pack", lua.create_function(pack)?)?;
    let unpack = |lua: &Lua, args: MultiValue| -> mlua::Result<Variadic<Value>> {
        let args = Arguments::from(args);
        let (format, text) = (args.text(lua, 1)?, args.text(lua, 2)?);
        let position = args.integer_or(lua, 3, 1)?;
        let Some(from) = usize::try_from(position).ok().and_then(|at| at.checked_sub(1)) else {
            return Err(bad_argument(lua, 3, "offset must be 1 or greater"));
        };
        let (values, end) =
            structs::unpack(&format.as_bytes(), &text.as_bytes(), from, RESULTS_MAX)
                .map_err(|error| struct_error(lua, &args, error))?;
        let mut results = Variadic::with_capacity(values.len() + 1);
        for value in &values {
            results.push(from_data(lua, value)?);
        }
        results.push(Value::Integer(i64::try_from(end + 1).unwrap_or(i64::MAX)));
        Ok(results)
    };
    library.raw_set("unpack", lua.create_function(unpack)?)?;
    let size = |lua: &Lua, args: MultiValue| -> mlua::Result<i64> {
        let args = Arguments::from(args);
        let format = args.text(lua, 1)?;
        let size =
            structs::size(&format.as_bytes()).map_err(|error| struct_error(lua, &args, error))?;
        Ok(i64::try_from(size).unwrap_or(i64::MAX))
    };
    library.raw_set("size", lua.create_function(size)?)?;
    Ok(library)
}
