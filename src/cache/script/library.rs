//! The scripts that are known, and the Lua state that they run in.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ahash::AHashMap;
use bytes::Bytes;

use super::call::Run;
use super::command::{ScriptCommand, ScriptName};
use super::random::Random;
use super::source::{Digest, Script};
use super::vm::{Vm, no_state};
use crate::cache::error::CacheError;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// Bytes of the sources that are kept.
const SOURCES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What one takes beside its text: about its share of the tables, and what is compiled of it.
const SOURCE_BYTES: usize = 512;

/// What a script may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub read_only: bool,
    /// It may take memory that is not there.
    pub allow_oom: bool,
    /// Its first line says that it writes, so that it does not even begin without memory.
    pub grows: bool,
}

#[derive(Default)]
pub(super) struct Library {
    /// Made when it is first needed, and anew when it has grown too much.
    vm: Option<Vm>,
    random: Rc<RefCell<Random>>,
    known: AHashMap<Digest, Known>,
    /// Those that were only ever run, the oldest first: they go when the sources take too much.
    evaluated: VecDeque<Digest>,
    bytes: usize,
    /// Those of the scripts that were loaded, and stay.
    loaded_bytes: usize,
}

struct Known {
    script: Script,
    is_loaded: bool,
}

/// The bytes that count for a script.
fn weight(script: &Script) -> usize {
    SOURCE_BYTES + 2 * script.text.len()
}

impl Library {
    /// Runs a command; `run` makes the surroundings of a script, and says why it may not be run.
    pub(super) fn execute(
        &mut self,
        command: &ScriptCommand,
        run: impl FnOnce(Rights) -> Result<Run, CacheError>,
    ) -> Reply {
        match command {
            ScriptCommand::Eval { script, keys, args, read_only } => {
                let script = match self.find(script, *read_only) {
                    Ok(script) => script,
                    Err(reply) => return reply,
                };
                let flags = script.flags.unwrap_or_default();
                let rights = Rights {
                    read_only: *read_only || flags.no_writes,
                    allow_oom: flags.allow_oom,
                    grows: script.flags.is_some() && !flags.no_writes && !flags.allow_oom,
                };
                let run = match run(rights) {
                    Ok(run) => run,
                    Err(error) => return Reply::Error(error),
                };
                match self.vm() {
                    Ok(vm) => vm.run(&script, keys, args, run),
                    Err(reply) => reply,
                }
            }
            ScriptCommand::Load { script } => self.load(script).unwrap_or_else(|reply| reply),
            ScriptCommand::Exists { digests } => {
                let is_known = |digest: &Text| {
                    Digest::parse(digest).is_some_and(|digest| self.known.contains_key(&digest))
                };
                Reply::Array(digests.iter().map(|digest| is_known(digest).into()).collect())
            }
            ScriptCommand::Flush => {
                *self = Self { random: Rc::clone(&self.random), ..Self::default() };
                Reply::OK
            }
            ScriptCommand::Kill => Reply::Error(CacheError::NotBusy),
            ScriptCommand::Help => {
                Reply::Array(super::command::HELP.into_iter().map(Reply::Status).collect())
            }
        }
    }

    fn vm(&mut self) -> Result<&mut Vm, Reply> {
        if self.vm.as_mut().is_some_and(|vm| vm.is_full()) {
            tracing::warn!("scripts have left too much behind: they get a new Lua state");
            self.vm = None;
        }
        match &mut self.vm {
            Some(vm) => Ok(vm),
            none => Ok(none.insert(Vm::new(&self.random).map_err(|error| no_state(&error))?)),
        }
    }

    fn find(&mut self, name: &ScriptName, read_only: bool) -> Result<Script, Reply> {
        let digest = match name {
            ScriptName::Text(text) => Some(Digest::of(text)),
            ScriptName::Digest(digest) => Digest::parse(digest),
        };
        let known = digest.and_then(|digest| self.known.get(&digest));
        let script = match (known, name) {
            (Some(known), _) => known.script.clone(),
            (None, ScriptName::Digest(_)) => return Err(Reply::Error(CacheError::NoScript)),
            (None, ScriptName::Text(text)) => {
                let script = Script::new(text)?;
                self.vm()?.compile(&script)?;
                self.keep(script.clone(), false);
                script
            }
        };
        if read_only && script.flags.is_some_and(|flags| !flags.no_writes) {
            let text = b"ERR Can not execute a script with write flag using *_ro command.";
            return Err(Reply::ErrorText(Bytes::from_static(text)));
        }
        Ok(script)
    }

    fn load(&mut self, text: &Text) -> Result<Reply, Reply> {
        let script = Script::new(text)?;
        self.vm()?.compile(&script)?;
        let digest = script.digest;
        if !self.keep(script, true) {
            return Err(Reply::Error(CacheError::TooManyScripts));
        }
        Ok(Reply::Bulk(digest.to_string().into()))
    }

    /// Keeps a script for later; whether there is room for it. What was only run makes room.
    fn keep(&mut self, script: Script, load: bool) -> bool {
        let digest = script.digest;
        if let Some(known) = self.known.get_mut(&digest) {
            if load && !std::mem::replace(&mut known.is_loaded, true) {
                self.loaded_bytes += weight(&known.script);
                self.evaluated.retain(|other| *other != digest);
            }
            return true;
        }
        let weight = weight(&script);
        if self.loaded_bytes + weight > SOURCES_BYTES_MAX {
            // Nothing that may go would make room for it.
            self.forget(&digest);
            return false;
        }
        while self.bytes + weight > SOURCES_BYTES_MAX {
            let Some(oldest) = self.evaluated.pop_front() else {
                self.forget(&digest);
                return false;
            };
            self.forget(&oldest);
        }
        self.bytes += weight;
        self.loaded_bytes += if load { weight } else { 0 };
        self.known.insert(digest, Known { script: script.owned(), is_loaded: load });
        if !load {
            self.evaluated.push_back(digest);
        }
        true
    }

    fn forget(&mut self, digest: &Digest) {
        if let Some(known) = self.known.remove(digest) {
            let weight = weight(&known.script);
            self.bytes -= weight;
            self.loaded_bytes -= if known.is_loaded { weight } else { 0 };
        }
        if let Some(vm) = &mut self.vm {
            vm.forget(digest);
        }
    }
}
