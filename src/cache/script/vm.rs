//! The Lua state: what is in it, how a script runs in it.

use std::cell::RefCell;
use std::rc::Rc;

use ahash::AHashMap;
use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};

use super::call::{Run, RunSlot, redis};
use super::convert::{on_one_line, to_reply};
use super::failure::{Failure, shown};
use super::random::Random;
use super::sandbox::{PRELUDE, Sandbox};
use super::source::{Digest, Script};
use super::{bits, codecs};
use crate::cache::error::CacheError;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// Bytes that Lua may take: of all scripts that are compiled, and of the one that runs.
const LUA_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Instructions between two looks whether the script was told to stop.
const INSTRUCTIONS_A_LOOK: u32 = 10_000;

pub(super) struct Vm {
    lua: Lua,
    sandbox: Sandbox,
    run: RunSlot,
    /// `xpcall`, and the handler that notes where an error came from.
    guard: (Function, Function),
    compiled: AHashMap<Digest, Function>,
}

impl Vm {
    pub(super) fn new(random: &Rc<RefCell<Random>>) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        lua.set_memory_limit(LUA_BYTES_MAX)?;
        let run = RunSlot::default();
        let guard = (lua.globals().raw_get("xpcall")?, lua.create_function(located)?);
        let sandbox = Sandbox::new(
            &lua,
            random,
            &[
                ("redis", redis(&lua, &run)?),
                ("bit", bits::library(&lua)?),
                ("cjson", codecs::cjson(&lua)?),
                ("cmsgpack", codecs::cmsgpack(&lua)?),
                ("struct", codecs::lua_struct(&lua)?),
            ],
        )?;
        Ok(Self { lua, sandbox, run, guard, compiled: AHashMap::new() })
    }

    /// Whether it has grown so much that it should be replaced.
    pub(super) fn is_full(&self) -> bool {
        if self.lua.used_memory() < LUA_BYTES_MAX / 2 {
            return false;
        }
        // What failed to be collected is seen in what is used.
        let _ = self.lua.gc_collect();
        self.lua.used_memory() >= LUA_BYTES_MAX / 2
    }

    pub(super) fn forget(&mut self, digest: &Digest) {
        self.compiled.remove(digest);
    }

    /// # Errors
    /// What Lua's compiler says.
    pub(super) fn compile(&mut self, script: &Script) -> Result<Function, Reply> {
        if let Some(function) = self.compiled.get(&script.digest) {
            return Ok(function.clone());
        }
        let chunk = self.lua.load(script.body()).set_name("@user_script").set_mode(ChunkMode::Text);
        let function = chunk.into_function().map_err(|error| {
            let message = match error {
                mlua::Error::SyntaxError { message, .. } => message,
                other => other.to_string(),
            };
            let text = format!("ERR Error compiling script (new function): {message}");
            Reply::ErrorText(on_one_line(text.as_bytes()))
        })?;
        self.compiled.insert(script.digest, function.clone());
        Ok(function)
    }

    /// Runs a script to its end.
    pub(super) fn run(&mut self, script: &Script, keys: &[Text], args: &[Text], run: Run) -> Reply {
        let function = match self.compile(script) {
            Ok(function) => function,
            Err(reply) => return reply,
        };
        *self.run.borrow_mut() = Some(run);
        let outcome = self.call(&function, keys, args);
        let resp3 = self.run.borrow_mut().take().is_some_and(|run| run.resp3);
        self.lua.gc_restart();
        match outcome {
            Ok((true, value)) => to_reply(&value, resp3)
                .unwrap_or_else(|error| execution_failure(script, &error.to_string())),
            Ok((false, Value::Table(error))) => error_reply(script, &error)
                .unwrap_or_else(|error| execution_failure(script, &error.to_string())),
            Ok((false, Value::String(error))) => {
                execution_failure(script, &error.to_string_lossy())
            }
            Ok((false, _)) => execution_failure(script, "execution failure"),
            Err(error) => execution_failure(script, &error.to_string()),
        }
    }

    fn call(
        &self,
        function: &Function,
        keys: &[Text],
        args: &[Text],
    ) -> mlua::Result<(bool, Value)> {
        self.sandbox.set("KEYS", self.texts(keys)?)?;
        self.sandbox.set("ARGV", self.texts(args)?)?;
        watch_for_kill(
            &self.lua,
            &self.run,
            HookTriggers::new().every_nth_instruction(INSTRUCTIONS_A_LOOK),
        )?;
        let (xpcall, handler) = &self.guard;
        xpcall.call((function, handler))
    }

    fn texts(&self, texts: &[Text]) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(texts.len(), 0)?;
        for (index, text) in (1_i64..).zip(texts) {
            table.raw_set(index, self.lua.create_string(text)?)?;
        }
        Ok(table)
    }
}

/// Looks now and then whether the script was told to stop; once it was, at every step, so that it
/// can't catch the error and go on.
fn watch_for_kill(lua: &Lua, run: &RunSlot, triggers: HookTriggers) -> mlua::Result<()> {
    let run = Rc::clone(run);
    lua.set_global_hook(triggers, move |lua, _| {
        let is_killed = run.borrow().as_ref().is_some_and(|run| run.turn.is_killed());
        if !is_killed {
            return Ok(VmState::Continue);
        }
        tracing::warn!("a script was killed");
        watch_for_kill(lua, &run, HookTriggers::new().every_nth_instruction(1))?;
        Err(Failure::Table(KILLED.to_vec()).into())
    })
}

/// Functions that are not Lua's between an error and the one in Lua that it came from.
const FRAMES_MAX: usize = 16;

/// As Redis 7.0 says it.
pub(super) const KILLED: &[u8] = b"ERR Script killed by user with SCRIPT KILL...";

/// The handler of a script's errors: the error as a table, with the place that it came from.
fn located(lua: &Lua, error: Value) -> mlua::Result<Table> {
    let table = match shown(lua, error)? {
        Value::Table(table) => table,
        other => {
            let mut text = b"ERR ".to_vec();
            match lua.coerce_string(other.clone())? {
                Some(message) => text.extend_from_slice(&message.as_bytes()),
                None => text.extend_from_slice(other.to_string()?.as_bytes()),
            }
            let table = lua.create_table()?;
            table.raw_set("err", lua.create_string(text)?)?;
            table
        }
    };
    // The Lua function that raised it, or called what raised it; this function is none of Lua's.
    let place = (1..FRAMES_MAX).find_map(|level| {
        let frame = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let line = frame.current_line().and_then(|line| i64::try_from(line).ok());
            let place = (source.source.unwrap_or_default().into_owned(), line.unwrap_or(-1));
            (source.what != "C" && place.0 != PRELUDE).then_some(place)
        });
        frame.flatten()
    });
    if let Some((source, line)) = place {
        table.raw_set("source", source)?;
        table.raw_set("line", line)?;
    }
    Ok(table)
}

/// What the script's client reads of its error.
fn error_reply(script: &Script, error: &Table) -> mlua::Result<Reply> {
    let mut text = match error.raw_get::<Value>("err")? {
        Value::String(err) => err.as_bytes().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    if let (Value::String(source), Some(line)) =
        (error.raw_get::<Value>("source")?, error.raw_get::<Option<i64>>("line")?)
    {
        let source = source.to_string_lossy();
        let place = format!(" script: {}, on {source}:{line}.", script.digest);
        text.extend_from_slice(place.as_bytes());
    }
    Ok(Reply::ErrorText(on_one_line(&text)))
}

fn execution_failure(script: &Script, message: &str) -> Reply {
    let text = format!("ERR Error running script f_{}, {message}", script.digest);
    Reply::ErrorText(on_one_line(text.as_bytes()))
}

/// As it answers when there is no Lua state to run in.
pub(super) fn no_state(error: &mlua::Error) -> Reply {
    Reply::Error(CacheError::ScriptThread(error.to_string()))
}
