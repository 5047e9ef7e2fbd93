//! What a script finds around it: Redis's selection of Lua, and tables that it can't change.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::failure::{Arguments, Failure, bad_argument, error_at_caller, shown};
use super::random::Random;

/// Of Lua's own functions those that scripts have.
const FUNCTIONS: [&str; 15] = [
    "assert",
    "collectgarbage",
    "error",
    "gcinfo",
    "ipairs",
    "next",
    "rawequal",
    "select",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "getmetatable",
    "rawget",
    "_VERSION",
];
/// The source of the Lua that is ours.
pub(super) const PRELUDE: &str = "=prelude";
const READONLY: &str = "Attempt to modify a readonly table";
/// Bytes of a chunk that `load` puts together.
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The globals of scripts.
///
/// A table that can't be changed is an empty one, its stand-in, whose metatable reads from the real
/// one and refuses to be written to: so reading stays Lua's own.
pub(super) struct Sandbox {
    globals: Table,
}

/// Stand-ins, and the real tables behind them.
#[derive(Clone)]
struct Readonly {
    real: Table,
    refuse: Function,
}

impl Readonly {
    fn new(lua: &Lua) -> mlua::Result<Self> {
        let refuse = lua.create_function(|lua, _: MultiValue| -> mlua::Result<()> {
            Err(error_at_caller(lua, READONLY))
        })?;
        Ok(Self { real: lua.create_table()?, refuse })
    }

    fn stand_in(&self, lua: &Lua, real: &Table) -> mlua::Result<Table> {
        let metatable = lua.create_table()?;
        metatable.raw_set("__index", real)?;
        metatable.raw_set("__newindex", &self.refuse)?;
        metatable.raw_set("__metatable", false)?;
        let stand_in = lua.create_table()?;
        stand_in.set_metatable(Some(metatable))?;
        self.real.raw_set(&stand_in, real)?;
        Ok(stand_in)
    }

    fn real(&self, table: &Table) -> mlua::Result<Option<Table>> {
        self.real.raw_get(table)
    }
}

impl Sandbox {
    /// Takes the place of the state's globals.
    pub(super) fn new(
        lua: &Lua,
        random: &Rc<RefCell<Random>>,
        libraries: &[(&str, Table)],
    ) -> mlua::Result<Self> {
        let own = lua.globals();
        let globals = lua.create_table()?;
        let readonly = Readonly::new(lua)?;
        for name in FUNCTIONS {
            globals.raw_set(name, own.raw_get::<Value>(name)?)?;
        }
        let math: Table = own.raw_get("math")?;
        replace_random(lua, &math, random)?;
        wrap(lua, &own, &globals, &readonly)?;
        protect(lua, &own, &globals, &readonly)?;
        load(lua, &own, &globals)?;
        for name in ["string", "table", "math", "coroutine"] {
            let library: Table = own.raw_get(name)?;
            globals.raw_set(name, readonly.stand_in(lua, &library)?)?;
        }
        for (name, library) in libraries {
            globals.raw_set(*name, readonly.stand_in(lua, library)?)?;
        }
        methods_of_strings(lua, &own, &globals, &readonly)?;
        let stand_in = readonly.stand_in(lua, &globals)?;
        if let Some(metatable) = stand_in.metatable() {
            metatable.raw_set("__metatable", readonly.stand_in(lua, &lua.create_table()?)?)?;
        }
        globals.raw_set("_G", &stand_in)?;
        refuse_unknown(lua, &globals)?;
        lua.set_globals(stand_in)?;
        Ok(Self { globals })
    }

    pub(super) fn set(&self, name: &str, value: Table) -> mlua::Result<()> {
        self.globals.raw_set(name, value)
    }
}

/// Strings find their methods in the stand-in.
fn methods_of_strings(
    lua: &Lua,
    own: &Table,
    globals: &Table,
    readonly: &Readonly,
) -> mlua::Result<()> {
    let getmetatable: Function = own.raw_get("getmetatable")?;
    let metatable: Table = getmetatable.call("")?;
    let methods: Table = globals.raw_get("string")?;
    metatable.raw_set("__index", &methods)?;
    // Whoever asks for it gets one that changes nothing.
    let shown = lua.create_table()?;
    shown.raw_set("__index", methods)?;
    metatable.raw_set("__metatable", readonly.stand_in(lua, &shown)?)
}

/// A global that is not there is an error.
fn refuse_unknown(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    let unknown = lua.create_function(|lua, (_, name): (Value, Value)| -> mlua::Result<()> {
        let name = match &name {
            Value::String(name) => name.to_string_lossy(),
            _ => "?".to_owned(),
        };
        let text = format_args!("Script attempted to access nonexistent global variable '{name}'");
        Err(error_at_caller(lua, text))
    })?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", unknown)?;
    globals.set_metatable(Some(metatable))
}

/// Whatever catches errors shows them as Redis does, and what writes past metatables looks at its table.
fn wrap(lua: &Lua, own: &Table, globals: &Table, readonly: &Readonly) -> mlua::Result<()> {
    let shown = lua.create_function(|lua, error: Value| shown(lua, error))?;
    let coroutine: Table = own.raw_get("coroutine")?;
    let prelude = lua.load(include_str!("prelude.lua")).set_name(PRELUDE).into_function()?;
    let table: Table = own.raw_get("table")?;
    let (pcall, xpcall, resume, insert): (Function, Function, Function, Function) =
        prelude.call((
            shown,
            own.raw_get::<Function>("pcall")?,
            own.raw_get::<Function>("xpcall")?,
            coroutine.raw_get::<Function>("resume")?,
            table.raw_get::<Function>("insert")?,
            &readonly.real,
            READONLY,
        ))?;
    globals.raw_set("pcall", pcall)?;
    globals.raw_set("xpcall", xpcall)?;
    table.raw_set("insert", insert)?;
    coroutine.raw_set("resume", resume)
}

fn table(lua: &Lua, args: &Arguments, number: usize) -> mlua::Result<Table> {
    match args.get(number) {
        Some(Value::Table(table)) => Ok(table.clone()),
        _ => Err(args.not_a(lua, number, "table")),
    }
}

/// The functions that would get around a stand-in.
fn protect(lua: &Lua, own: &Table, globals: &Table, readonly: &Readonly) -> mlua::Result<()> {
    let tables = readonly.clone();
    let rawset = move |lua: &Lua, args: MultiValue| -> mlua::Result<Table> {
        let args = Arguments::from(args);
        let table = table(lua, &args, 1)?;
        for number in [2, 3] {
            if args.len() < number {
                return Err(bad_argument(lua, number, "value expected"));
            }
        }
        if tables.real(&table)?.is_some() {
            return Err(Failure::Text(READONLY.into()).into());
        }
        table.raw_set(args.get(2), args.get(3))?;
        Ok(table)
    };
    globals.raw_set("rawset", lua.create_function(rawset)?)?;

    let tables = readonly.clone();
    let next: Function = own.raw_get("next")?;
    let pairs = move |lua: &Lua, args: MultiValue| -> mlua::Result<(Function, Table, Value)> {
        let args = Arguments::from(args);
        let table = table(lua, &args, 1)?;
        let Some(real) = tables.real(&table)? else {
            return Ok((next.clone(), table, Value::Nil));
        };
        // A copy: what the loop holds may be changed by it.
        let copy = lua.create_table()?;
        real.for_each(|key: Value, value: Value| copy.raw_set(key, value))?;
        Ok((next.clone(), copy, Value::Nil))
    };
    globals.raw_set("pairs", lua.create_function(pairs)?)?;

    let tables = readonly.clone();
    let setmetatable = move |lua: &Lua, args: MultiValue| -> mlua::Result<Table> {
        let args = Arguments::from(args);
        let table = table(lua, &args, 1)?;
        let metatable = match args.get(2) {
            Some(Value::Table(metatable)) => Some(metatable.clone()),
            Some(Value::Nil) => None,
            _ => return Err(bad_argument(lua, 2, "nil or table expected")),
        };
        if tables.real(&table)?.is_some() {
            return Err(Failure::Text(READONLY.into()).into());
        }
        if let Some(old) = table.metatable()
            && !old.raw_get::<Value>("__metatable")?.is_nil()
        {
            return Err(error_at_caller(lua, "cannot change a protected metatable"));
        }
        table.set_metatable(metatable)?;
        Ok(table)
    };
    globals.raw_set("setmetatable", lua.create_function(setmetatable)?)
}

/// Chunks are text: Lua does not check what it has compiled before.
fn load(lua: &Lua, own: &Table, globals: &Table) -> mlua::Result<()> {
    let from_text: Function = own.raw_get("loadstring")?;
    let compile = move |lua: &Lua, text: Vec<u8>, name: Option<Vec<u8>>| {
        let name = name.unwrap_or_else(|| text.clone());
        if text.first() == Some(&0x1b) {
            let refused = (Value::Nil, "compiled chunks are not loaded");
            return mlua::IntoLuaMulti::into_lua_multi(refused, lua);
        }
        from_text.call::<MultiValue>((lua.create_string(text)?, lua.create_string(name)?))
    };
    let compile = Rc::new(compile);

    let of_text = Rc::clone(&compile);
    let loadstring = move |lua: &Lua, args: MultiValue| {
        let args = Arguments::from(args);
        let text = args.text(lua, 1)?.as_bytes().to_vec();
        let name = if args.is_nil(2) { None } else { Some(args.text(lua, 2)?.as_bytes().to_vec()) };
        of_text(lua, text, name)
    };
    globals.raw_set("loadstring", lua.create_function(loadstring)?)?;

    let load = move |lua: &Lua, args: MultiValue| -> mlua::Result<MultiValue> {
        let args = Arguments::from(args);
        let Some(Value::Function(pieces)) = args.get(1) else {
            return Err(args.not_a(lua, 1, "function"));
        };
        let name = if args.is_nil(2) {
            b"=(load)".to_vec()
        } else {
            args.text(lua, 2)?.as_bytes().to_vec()
        };
        let mut text = Vec::new();
        loop {
            match pieces.call::<Value>(())? {
                Value::Nil => break,
                Value::String(piece) if piece.as_bytes().is_empty() => break,
                Value::String(piece) if text.len() + piece.as_bytes().len() <= CHUNK_BYTES_MAX => {
                    text.extend_from_slice(&piece.as_bytes());
                }
                Value::String(_) => return Err(error_at_caller(lua, "chunk has too many bytes")),
                _ => {
                    let refused = (Value::Nil, "reader function must return a string");
                    return mlua::IntoLuaMulti::into_lua_multi(refused, lua);
                }
            }
        }
        compile(lua, text, Some(name))
    };
    globals.raw_set("load", lua.create_function(load)?)
}

fn replace_random(lua: &Lua, math: &Table, random: &Rc<RefCell<Random>>) -> mlua::Result<()> {
    let source = Rc::clone(random);
    let next = move |lua: &Lua, args: MultiValue| -> mlua::Result<f64> {
        let args = Arguments::from(args);
        let number = source.borrow_mut().next();
        let bound = |at: usize| -> mlua::Result<f64> {
            #[expect(clippy::cast_possible_truncation, reason = "as luaL_checkint does")]
            args.integer(lua, at).map(|bound| f64::from(bound as i32))
        };
        let (low, high, at) = match args.len() {
            0 => return Ok(number),
            1 => (1.0, bound(1)?, 1),
            2 => (bound(1)?, bound(2)?, 2),
            _ => return Err(error_at_caller(lua, "wrong number of arguments")),
        };
        if low > high {
            return Err(bad_argument(lua, at, "interval is empty"));
        }
        Ok((number * (high - low + 1.0)).floor() + low)
    };
    math.raw_set("random", lua.create_function(next)?)?;
    let random = Rc::clone(random);
    let seed = move |lua: &Lua, args: MultiValue| -> mlua::Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "as luaL_checkint does")]
        let seed = Arguments::from(args).integer(lua, 1)? as i32;
        *random.borrow_mut() = Random::seeded(seed);
        Ok(())
    };
    math.raw_set("randomseed", lua.create_function(seed)?)
}
