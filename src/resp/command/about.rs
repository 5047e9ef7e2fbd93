//! COMMAND and TIME: what the server knows, and when.

use super::docs::{self, Docs};
use super::help::{self, tell};
use super::{ANY, Row, categories, is};
use crate::cache::{CacheError, Flags, Keys, Spec, Visit, parse_integer};
use crate::model::glob;
use crate::model::text::Text;
use crate::resp::client::{Client, Missing, Outcome, Target};
use crate::wire::resp::Writer;

pub(super) const ROWS: &[Row] = &[
    Row {
        subcommands: COMMAND_ROWS,
        ..Row::for_scripts("command", 0, ANY, |client, _, _| every(client))
    },
    Row::for_scripts("time", 0, 0, |client, _, _| {
        let now_ms = client.shared.clock.now_ms();
        let mut writer = client.writer();
        writer.array(2);
        writer.bulk((now_ms / 1_000).to_string().as_bytes());
        writer.bulk((now_ms % 1_000 * 1_000).to_string().as_bytes());
        Outcome::Answered
    })
    .flags(Flags::FAST),
];

const COMMAND_ROWS: &[Row] = &[
    Row::for_scripts("command|count", 0, 0, |client, _, _| {
        let count = Spec::all().count() + Row::all().count();
        client.count(count);
        Outcome::Answered
    }),
    Row::for_scripts("command|docs", 0, ANY, |client, _, args| {
        let entries: Vec<Entry> = match args.get(2..).unwrap_or_default() {
            [] => Entry::all().collect(),
            names => names.iter().filter_map(|name| Entry::find(name)).collect(),
        };
        let mut writer = client.writer();
        writer.map(entries.len());
        entries.iter().for_each(|entry| entry.write_docs(&mut writer));
        Outcome::Answered
    }),
    Row::for_scripts("command|getkeys", 2, ANY, keys_of),
    Row::help("command|help", |client, _, _| tell(client, help::COMMAND)),
    Row::for_scripts("command|info", 0, ANY, |client, _, args| {
        match args.get(2..).unwrap_or_default() {
            [] => return every(client),
            names => {
                client.writer().array(names.len());
                for name in names {
                    match Entry::find(name) {
                        Some(entry) => entry.write(&mut client.writer()),
                        None => client.writer().nil(),
                    }
                }
            }
        }
        Outcome::Answered
    }),
    Row::for_scripts("command|list", 0, ANY, list),
];

/// A row of either table.
enum Entry {
    Cache(&'static Spec),
    Own(&'static Row),
}

impl Entry {
    fn all() -> impl Iterator<Item = Self> {
        Spec::all().map(Self::Cache).chain(Row::all().map(Self::Own))
    }

    /// A command by its name, or a subcommand by both names.
    fn find(name: &[u8]) -> Option<Self> {
        let (name, sub) = match name.iter().position(|byte| *byte == b'|') {
            Some(bar) => (name.get(..bar)?, name.get(bar + 1..)),
            None => (name, None),
        };
        let is_sub = |row_name: &str| {
            let (_, own) = row_name.split_once('|').unwrap_or_default();
            sub.is_none_or(|sub| is(sub, own))
        };
        if let Some(spec) = Spec::find(name) {
            return match sub {
                None => Some(Self::Cache(spec)),
                Some(_) => spec.subcommands.iter().find(|row| is_sub(row.name)).map(Self::Cache),
            };
        }
        let row = Row::find(name)?;
        match sub {
            None => Some(Self::Own(row)),
            Some(_) => row.subcommands.iter().find(|row| is_sub(row.name)).map(Self::Own),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Cache(spec) => spec.name,
            Self::Own(row) => row.name,
        }
    }

    fn flags(&self) -> Flags {
        match self {
            Self::Cache(spec) => spec.flags,
            Self::Own(row) => row.flags,
        }
    }

    fn subcommands(&self) -> impl Iterator<Item = Self> + Clone + use<> {
        let (specs, rows): (&[Spec], &[Row]) = match self {
            Self::Cache(spec) => (spec.subcommands, &[]),
            Self::Own(row) => (&[], row.subcommands),
        };
        specs.iter().map(Self::Cache).chain(rows.iter().map(Self::Own))
    }

    /// Itself and then its subcommands.
    fn with_subcommands(self) -> impl Iterator<Item = Self> {
        let subcommands = self.subcommands();
        std::iter::once(self).chain(subcommands)
    }

    /// Its name and what is said of it; of arguments and their forms nothing is.
    fn write_docs(&self, writer: &mut Writer<'_>) {
        writer.bulk(self.name().as_bytes());
        let Docs { summary, since, group } = docs::of(self.name());
        let said = [("summary", summary), ("since", since), ("group", group)];
        let subcommands = self.subcommands();
        let count = subcommands.clone().count();
        writer.map(said.len() + usize::from(count > 0));
        for (field, text) in said {
            writer.bulk(field.as_bytes());
            writer.bulk(text.as_bytes());
        }
        if count > 0 {
            writer.bulk(b"subcommands");
            writer.map(count);
            subcommands.for_each(|sub| sub.write_docs(writer));
        }
    }

    /// Redis 7.0's ten fields.
    fn write(&self, writer: &mut Writer<'_>) {
        let (name, arity, flags, keys) = match self {
            Self::Cache(spec) => (spec.name, spec.redis_arity(), spec.flags, spec.keys),
            Self::Own(row) => (row.name, row.redis_arity(), row.flags, row.keys),
        };
        writer.array(10);
        writer.bulk(name.as_bytes());
        writer.integer(arity);
        writer.set(flags.names().count());
        flags.names().for_each(|flag| writer.status(flag));
        let (first, last, step) = match keys {
            Keys::None => (0, 0, 0),
            Keys::Range { first, last, step } => (first, last, step),
            // Where they begin is only known from the arguments.
            Keys::Counted { also, .. } => (also, isize::try_from(also).unwrap_or(0), also.min(1)),
        };
        writer.integer(i64::try_from(first).unwrap_or(0));
        writer.integer(i64::try_from(last).unwrap_or(0));
        writer.integer(i64::try_from(step).unwrap_or(0));
        let categories: Vec<&str> = categories::of(name, flags).collect();
        writer.set(categories.len());
        categories.iter().for_each(|category| writer.status(format!("@{category}")));
        // Tips and key specifications: nothing here has any.
        writer.array(0);
        writer.array(0);
        let subcommands = self.subcommands();
        writer.array(subcommands.clone().count());
        subcommands.for_each(|sub| sub.write(writer));
    }
}

fn every(client: &mut Client) -> Outcome {
    client.writer().array(Entry::all().count());
    Entry::all().for_each(|entry| entry.write(&mut client.writer()));
    Outcome::Answered
}

fn list(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let all = Entry::all().flat_map(Entry::with_subcommands);
    let names: Vec<&str> = match args.get(2..).unwrap_or_default() {
        [] => all.map(|entry| entry.name()).collect(),
        [by, kind, pattern] if is(by, "filterby") && is(kind, "pattern") => {
            let pattern = pattern.to_ascii_lowercase();
            all.map(|entry| entry.name())
                .filter(|name| glob::matches(&pattern, name.as_bytes()))
                .collect()
        }
        // There are no modules.
        [by, kind, _] if is(by, "filterby") && is(kind, "module") => Vec::new(),
        [by, kind, category] if is(by, "filterby") && is(kind, "aclcat") => all
            .filter(|entry| {
                categories::of(entry.name(), entry.flags()).any(|known| is(category, known))
            })
            .map(|entry| entry.name())
            .collect(),
        _ => {
            client.error("ERR syntax error");
            return Outcome::Answered;
        }
    };
    let mut writer = client.writer();
    writer.array(names.len());
    names.iter().for_each(|name| writer.bulk(name.as_bytes()));
    Outcome::Answered
}

fn keys_of(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    match find_keys(args.get(2..).unwrap_or_default()) {
        Ok(keys) => {
            let mut writer = client.writer();
            writer.array(keys.len());
            keys.iter().for_each(|key| writer.bulk(key));
        }
        Err(text) => client.error(text),
    }
    Outcome::Answered
}

fn find_keys(request: &[Text]) -> Result<Vec<&Text>, &'static str> {
    const NO_KEYS: &str = "ERR The command has no key arguments";
    let unknown = "ERR Invalid command specified";
    let (name, rest) = request.split_first().ok_or(unknown)?;
    let (name, flags, keys) = match Target::find(name, rest) {
        Ok(Target::Cache(spec, _)) => (spec.name, spec.flags, spec.keys),
        Ok(Target::Own(row)) => (row.name, row.flags, row.keys),
        Err(Missing::Error(CacheError::WrongArity { .. })) => {
            return Err("ERR Invalid number of arguments specified for command");
        }
        Err(_) => return Err(unknown),
    };
    match keys {
        // They are keys to a cluster alone: they say where a channel is.
        _ if matches!(name, "spublish" | "ssubscribe" | "sunsubscribe") => Err(NO_KEYS),
        Keys::None => Err(NO_KEYS),
        Keys::Range { first, last, step } => {
            let end = match usize::try_from(last) {
                Ok(last) => last + 1,
                Err(_) => request.len().saturating_sub(last.unsigned_abs() - 1),
            };
            let range = request.get(first..end).unwrap_or_default();
            let destination = if name == "sort" { sort_destination(request) } else { None };
            Ok(range.iter().step_by(step.max(1)).chain(destination).collect())
        }
        Keys::Counted { count, also } => match counted(request, count) {
            Some(keys) => {
                Ok(request.get(also).filter(|_| also > 0).into_iter().chain(keys).collect())
            }
            // A script may have none, and then nothing else is looked at.
            None if flags.has(Flags::NO_MANDATORY_KEYS) => Ok(Vec::new()),
            None => Err("ERR Invalid arguments specified for command"),
        },
    }
}

/// As many keys as the argument `count` says, one at least.
fn counted(request: &[Text], count: usize) -> Option<&[Text]> {
    let number = parse_integer(request.get(count)?)?;
    let number = usize::try_from(number).ok().filter(|number| *number > 0)?;
    request.get(count + 1..)?.get(..number)
}

/// Where SORT stores what it has sorted: the last STORE counts.
fn sort_destination(request: &[Text]) -> Option<&Text> {
    let mut options = request.get(2..)?;
    let mut destination = None;
    while let [option, rest @ ..] = options {
        let is_one_of = |words: &[&str]| words.iter().any(|word| is(option, word));
        let arguments = match () {
            () if is_one_of(&["limit"]) => 2,
            () if is_one_of(&["by", "get"]) => 1,
            () if is_one_of(&["store"]) => {
                destination = rest.first().or(destination);
                1
            }
            () => 0,
        };
        options = rest.get(arguments..).unwrap_or_default();
    }
    destination
}
