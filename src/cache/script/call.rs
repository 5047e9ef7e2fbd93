//! The `redis` table: what a script does to the keyspace, and says.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mlua::{Lua, MultiValue, Table, Value};

use super::convert::{Budget, argument, from_reply};
use super::failure::{Arguments, Failure, error_table, refused};
use super::gate::ScriptTurn;
use super::host::{Host, HostAnswer};
use super::library::Rights;
use super::vm::KILLED;
use crate::cache::command::{Access, Command, Flags, Spec, parse_integer};
use crate::cache::engine::Cache;
use crate::cache::error::CacheError;
use crate::cache::reply::Reply;
use crate::model::clock::UnixMs;
use crate::model::text::Text;

/// The script that runs.
pub(super) struct Run {
    pub cache: Cache,
    pub turn: Rc<ScriptTurn>,
    /// Time stands still for a script.
    pub now_ms: UnixMs,
    pub db: u8,
    pub rights: Rights,
    /// It has changed something: the rest of it is not refused for want of memory.
    pub wrote: bool,
    /// Answers come to it as RESP3 has them: `redis.setresp`.
    pub resp3: bool,
    /// What else it may ask.
    pub host: Option<Arc<dyn Host>>,
}

pub(super) type RunSlot = Rc<RefCell<Option<Run>>>;

/// Commands of a connection, not of the keyspace, and those that would wait: not for scripts.
const NOT_FOR_SCRIPTS: [&str; 58] = [
    "acl",
    "auth",
    "bgrewriteaof",
    "bgsave",
    "blmove",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzpopmax",
    "bzpopmin",
    "client",
    "cluster",
    "config",
    "debug",
    "discard",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "exec",
    "failover",
    "fcall",
    "fcall_ro",
    "function",
    "hello",
    "latency",
    "module",
    "monitor",
    "multi",
    "psubscribe",
    "psync",
    "punsubscribe",
    "quit",
    "replconf",
    "replicaof",
    "reset",
    "role",
    "save",
    "script",
    "shutdown",
    "slaveof",
    "slowlog",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "sync",
    "unsubscribe",
    "unwatch",
    "wait",
    "watch",
    "asking",
    "readonly",
    "readwrite",
    "migrate",
    "restore-asking",
    "pfdebug",
    "pfselftest",
    "lolwut",
];

impl Run {
    fn execute(&mut self, args: &[Text]) -> Result<Reply, Failure> {
        let (name, rest) = args.split_first().ok_or_else(|| refused(NO_ARGUMENTS))?;
        let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
        let wrong_number = || refused("Wrong number of args calling Redis command from script");
        let begun = Instant::now();
        let Some(spec) = Spec::find(name) else {
            let not_allowed = || refused(NOT_ALLOWED);
            let answer = match rest {
                [db] if is(&"select") => Ok(self.select(db)),
                [] if is(&"time") => Ok(self.time()),
                _ if is(&"select") || is(&"time") => Err(wrong_number()),
                _ => match self.host.as_ref().and_then(|host| host.answer(args)) {
                    Some(HostAnswer::Reply(reply)) => Ok(reply),
                    Some(HostAnswer::NotForScripts) => Err(not_allowed()),
                    Some(HostAnswer::WrongArity) => Err(wrong_number()),
                    None if NOT_FOR_SCRIPTS.iter().any(is) => Err(not_allowed()),
                    Some(HostAnswer::Unknown) | None => {
                        Err(refused("Unknown Redis command called from script"))
                    }
                },
            };
            if answer.is_ok() {
                self.called(args, begun);
            }
            return answer;
        };
        let spec = match spec.resolve(rest) {
            Ok((spec, _)) => spec,
            // Redis counts no further than to the least: the command itself refuses more.
            Err(CacheError::WrongArity { command })
                if !command.contains('|') && is_enough(spec, rest.len()) =>
            {
                return Ok(Reply::Error(CacheError::WrongArity { command }));
            }
            Err(CacheError::WrongArity { .. }) => return Err(wrong_number()),
            Err(_) => return Err(refused("Unknown Redis command called from script")),
        };
        // Its name may be a subcommand's.
        let family = spec.name.split('|').next().unwrap_or_default();
        if NOT_FOR_SCRIPTS.contains(&family) || spec.flags.has(Flags::NOSCRIPT) {
            return Err(refused(NOT_ALLOWED));
        }
        let writes = spec.flags.has(Flags::WRITE);
        let publishes = matches!(spec.name, "publish" | "spublish");
        if self.rights.read_only && (writes || publishes) {
            return Err(refused("Write commands are not allowed from read-only scripts."));
        }
        let command = match Command::parse_texts(args) {
            Ok(command) => command,
            Err(error) => return Ok(Reply::Error(error)),
        };
        let access = command.access();
        let journal = if self.wrote { access.once_begun() } else { access };
        let room = if self.rights.allow_oom { access.once_begun() } else { journal };
        if access != Access::Read {
            self.turn.write().map_err(|_| Failure::Table(KILLED.to_vec()))?;
        }
        let reply = self.cache.run_for_script((self.now_ms, self.db), &command, (journal, room));
        self.wrote |= access != Access::Read && !matches!(reply, Reply::Error(_));
        self.called(args, begun);
        Ok(reply)
    }

    fn called(&self, args: &[Text], begun: Instant) {
        if let Some(host) = &self.host {
            host.called(args, begun.elapsed());
        }
    }

    fn select(&mut self, db: &[u8]) -> Reply {
        let Some(db) = parse_integer(db) else { return Reply::Error(CacheError::NotAnInteger) };
        if i32::try_from(db).is_err() {
            return Reply::Error(CacheError::NotAnInt32);
        }
        match u8::try_from(db)
            .ok()
            .filter(|db| usize::from(*db) < crate::cache::keyspace::DATABASES)
        {
            Some(db) => {
                self.db = db;
                Reply::OK
            }
            None => Reply::Error(CacheError::NoSuchDatabase),
        }
    }

    /// The time that it is, not the one that stands still.
    fn time(&self) -> Reply {
        let now_ms = self.cache.now_ms();
        let texts = [now_ms / 1_000, now_ms % 1_000 * 1_000].map(|part| part.to_string().into());
        Reply::bulks(texts)
    }
}

/// Whether a command that takes so many arguments at least has them, its name not counted.
fn is_enough(spec: &Spec, count: usize) -> bool {
    let least = spec.redis_arity().checked_neg().and_then(|least| usize::try_from(least).ok());
    least.is_some_and(|least| count + 1 >= least)
}

const NOT_ALLOWED: &str = "This Redis command is not allowed from script";

const NO_ARGUMENTS: &str = "Please specify at least one argument for this redis lib call";

/// An answer as a value of Lua's, or what `redis.call` raises.
fn called(lua: &Lua, slot: &RunSlot, args: &Arguments) -> mlua::Result<Result<Value, Failure>> {
    let mut budget = Budget::new();
    let texts: mlua::Result<Option<Vec<Text>>> =
        args.iter().map(|(_, value)| argument(value, &mut budget)).collect();
    let texts = match texts? {
        Some(texts) if texts.is_empty() => Err(refused(NO_ARGUMENTS)),
        Some(texts) => Ok(texts),
        None => Err(refused("Lua redis lib command arguments must be strings or integers")),
    };
    let answer = texts.and_then(|args| match slot.borrow_mut().as_mut() {
        Some(run) => run.execute(&args).map(|reply| (reply, run.resp3)),
        None => Err(refused("redis.call/pcall can only be called inside a script invocation")),
    });
    Ok(match answer {
        Ok((Reply::Error(error), _)) => Err(Failure::Table(error.to_string().into_bytes())),
        Ok((Reply::ErrorText(error), _)) => Err(Failure::Table(error.to_vec())),
        Ok((reply, resp3)) => Ok(from_reply(lua, &reply, resp3)?),
        Err(failure) => Err(failure),
    })
}

/// The table, its functions working on the script in `slot`.
pub(super) fn redis(lua: &Lua, slot: &RunSlot) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    let run = Rc::clone(slot);
    let call = move |lua: &Lua, args: MultiValue| -> mlua::Result<Value> {
        Ok(called(lua, &run, &args.into())??)
    };
    redis.raw_set("call", lua.create_function(call)?)?;
    let run = Rc::clone(slot);
    let pcall = move |lua: &Lua, args: MultiValue| match called(lua, &run, &args.into())? {
        Ok(value) => Ok(value),
        Err(Failure::Table(err) | Failure::Text(err)) => error_table(lua, &err),
    };
    redis.raw_set("pcall", lua.create_function(pcall)?)?;
    redis.raw_set("error_reply", lua.create_function(error_reply)?)?;
    redis.raw_set("status_reply", lua.create_function(status_reply)?)?;
    redis.raw_set("sha1hex", lua.create_function(sha1hex)?)?;
    redis.raw_set("log", lua.create_function(log)?)?;
    for (level, name) in (0..).zip(["DEBUG", "VERBOSE", "NOTICE", "WARNING"]) {
        redis.raw_set(format!("LOG_{name}"), level)?;
    }
    let run = Rc::clone(slot);
    let setresp = move |lua: &Lua, args: MultiValue| set_resp(lua, &run, &args.into());
    redis.raw_set("setresp", lua.create_function(setresp)?)?;
    redis.raw_set("set_repl", lua.create_function(set_repl)?)?;
    // Nobody debugs a script here.
    redis.raw_set("breakpoint", lua.create_function(|_, _: MultiValue| Ok(false))?)?;
    redis.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    redis.raw_set("replicate_commands", lua.create_function(|_, _: MultiValue| Ok(true))?)?;
    for (name, flags) in [("NONE", 0), ("AOF", 1), ("SLAVE", 2), ("REPLICA", 2), ("ALL", 3)] {
        redis.raw_set(format!("REPL_{name}"), flags)?;
    }
    redis.raw_set("acl_check_cmd", lua.create_function(acl_check_cmd)?)?;
    redis.raw_set("REDIS_VERSION", "7.0.15")?;
    redis.raw_set("REDIS_VERSION_NUM", 0x0007_000f)?;
    Ok(redis)
}

fn one_field(lua: &Lua, field: &str, value: Value) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(field, value)?;
    Ok(table)
}

/// The only argument, a string.
fn only_text(args: MultiValue) -> Option<mlua::LuaString> {
    match args.into_vec().as_slice() {
        [Value::String(text)] => Some(text.clone()),
        _ => None,
    }
}

fn wrong_arguments(lua: &Lua) -> mlua::Result<Table> {
    let text = lua.create_string("ERR wrong number or type of arguments")?;
    one_field(lua, "err", Value::String(text))
}

/// A text without a code gets one; a dash before the code goes.
fn error_reply(lua: &Lua, args: MultiValue) -> mlua::Result<Table> {
    let Some(text) = only_text(args) else { return wrong_arguments(lua) };
    let text = text.as_bytes();
    let text = text.strip_prefix(b"-").unwrap_or(&text);
    let mut err = Vec::new();
    if !text.contains(&b' ') {
        err.extend_from_slice(b"ERR ");
    }
    err.extend_from_slice(text.trim_ascii_end());
    one_field(lua, "err", Value::String(lua.create_string(err)?))
}

fn status_reply(lua: &Lua, args: MultiValue) -> mlua::Result<Table> {
    match only_text(args) {
        Some(text) => one_field(lua, "ok", Value::String(text)),
        None => wrong_arguments(lua),
    }
}

fn sha1hex(_: &Lua, args: MultiValue) -> mlua::Result<String> {
    let args = Arguments::from(args);
    if args.len() != 1 {
        return Err(refused("wrong number of arguments").into());
    }
    let text = args.get(1).and_then(argument_of_lua).unwrap_or_default();
    Ok(super::source::Digest::of(&text).to_string())
}

/// As `lua_tolstring`: numbers print as Lua prints them.
fn argument_of_lua(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Number(_) | Value::Integer(_) => Some(value.to_string().ok()?.into_bytes()),
        _ => None,
    }
}

fn log(_: &Lua, args: MultiValue) -> mlua::Result<()> {
    let args = Arguments::from(args);
    if args.len() < 2 {
        return Err(refused("redis.log() requires two arguments or more.").into());
    }
    let level = match args.get(1) {
        Some(Value::Integer(level)) => *level,
        #[expect(clippy::cast_possible_truncation, reason = "as lua_tointeger does")]
        Some(Value::Number(level)) => *level as i64,
        _ => return Err(refused("First argument must be a number (log level).").into()),
    };
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .filter_map(|(_, value)| argument_of_lua(value))
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .collect();
    let text = words.join(" ");
    match level {
        0 => tracing::debug!(text, "a script says"),
        1 | 2 => tracing::info!(text, "a script says"),
        3 => tracing::warn!(text, "a script says"),
        _ => return Err(refused("Invalid debug level.").into()),
    }
    Ok(())
}

fn set_resp(lua: &Lua, slot: &RunSlot, args: &Arguments) -> mlua::Result<()> {
    if args.len() != 1 {
        return Err(refused("redis.setresp() requires one argument.").into());
    }
    // What is no number is 0, as lua_tonumber has it.
    let version = args.number(lua, 1).unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "as a cast of C does")]
    let resp3 = match version as i64 {
        2 => false,
        3 => true,
        _ => return Err(refused("RESP version must be 2 or 3.").into()),
    };
    if let Some(run) = slot.borrow_mut().as_mut() {
        run.resp3 = resp3;
    }
    Ok(())
}

/// There is nothing to choose from: a script's effects are recorded, always.
fn set_repl(lua: &Lua, args: MultiValue) -> mlua::Result<()> {
    let args = Arguments::from(args);
    if args.len() != 1 {
        return Err(refused("redis.set_repl() requires two arguments.").into());
    }
    match args.integer(lua, 1)? {
        0..=3 => Ok(()),
        _ => {
            let text =
                "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
            Err(refused(text).into())
        }
    }
}

/// There are no users that may do less than others.
fn acl_check_cmd(_: &Lua, args: MultiValue) -> mlua::Result<bool> {
    let args = Arguments::from(args);
    let name = match args.get(1) {
        Some(value) => argument(value, &mut Budget::new())?,
        None => None,
    };
    let name = name.ok_or_else(|| refused(NO_ARGUMENTS))?;
    let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    if Spec::find(&name).is_none() && !NOT_FOR_SCRIPTS.iter().any(is) {
        return Err(refused("Invalid command passed to redis.acl_check_cmd()").into());
    }
    Ok(true)
}
