//! CLIENT: what a connection says of itself, and what it learns of and does to others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::help::{self, tell};
use super::{ANY, Row, is};
use crate::cache::{Flags, Visit, parse_integer, refused_subcommand};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome, Replies};
use crate::resp::clients::{Handle, Unblocked};
use crate::resp::pause::Held;

pub(super) const ROWS: &[Row] = &[Row::container(
    "client",
    &[
        Row::new("client|getname", 0, 0, |client, _, _| {
            let name = client.info.name.clone();
            match name.is_empty() {
                true => client.writer().nil(),
                false => client.writer().bulk(&name),
            }
            Outcome::Answered
        }),
        Row::new("client|getredir", 0, 0, |client, _, _| {
            client.writer().integer(-1);
            Outcome::Answered
        }),
        Row::new("client|id", 0, 0, |client, _, _| {
            let id = i64::try_from(client.handle.id).unwrap_or(i64::MAX);
            client.writer().integer(id);
            Outcome::Answered
        }),
        Row::new("client|info", 0, 0, |client, _, _| {
            client.publish_info();
            let line = client.handle.line();
            client.writer().verbatim(*b"txt", format!("{line}\n").as_bytes());
            Outcome::Answered
        }),
        Row::new("client|kill", 1, ANY, kill).flags(Flags::ADMIN),
        Row::new("client|list", 0, ANY, list).flags(Flags::ADMIN),
        Row::new("client|no-evict", 1, 1, no_evict).flags(Flags::ADMIN),
        Row::new("client|reply", 1, 1, set_replies),
        Row::new("client|setinfo", 2, 2, set_info),
        Row::new("client|pause", 1, ANY, pause).flags(Flags::ADMIN),
        Row::new("client|unpause", 0, 0, |client, _, _| {
            client.shared.pause.end();
            client.ok();
            Outcome::Answered
        })
        .flags(Flags::ADMIN),
        Row::help("client|help", |client, _, _| tell(client, help::CLIENT)),
        Row::new("client|unblock", 1, ANY, unblock).flags(Flags::ADMIN),
        Row::new("client|setname", 1, 1, |client, _, args| {
            match args.get(2).map_or(Ok(()), |name| set_name(client, name)) {
                Ok(()) => client.ok(),
                Err(text) => client.error(text),
            }
            Outcome::Answered
        }),
    ],
)];

/// # Errors
/// Redis's text: a name is one word, so that CLIENT LIST can be read.
pub(super) fn set_name(client: &mut Client, name: &[u8]) -> Result<(), String> {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(
            "ERR Client names cannot contain spaces, newlines or special characters.".into()
        );
    }
    // Its own copy: the request's buffer is larger.
    client.info.name = Bytes::copy_from_slice(name);
    Ok(())
}

/// CLIENT SETINFO is of Redis 7.2, and clients send it whatever the version.
fn set_info(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let [_, _, attribute, value] = args else { return Outcome::Answered };
    let slot = if is(attribute, "lib-name") {
        &mut client.info.library
    } else if is(attribute, "lib-ver") {
        &mut client.info.library_version
    } else {
        let attribute = String::from_utf8_lossy(attribute);
        client.error(format!("ERR Unrecognized option '{attribute}'"));
        return Outcome::Answered;
    };
    if value.iter().all(u8::is_ascii_graphic) {
        *slot = Bytes::copy_from_slice(value);
        client.ok();
    } else {
        let attribute = String::from_utf8_lossy(attribute).to_ascii_lowercase();
        client.error(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        ));
    }
    Outcome::Answered
}

fn set_replies(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    match args.get(2) {
        Some(mode) if is(mode, "on") => {
            client.replies = Replies::On;
            client.ok();
        }
        Some(mode) if is(mode, "off") => client.replies = Replies::Off,
        Some(mode) if is(mode, "skip") => {
            if client.replies == Replies::On {
                client.replies = Replies::Skip;
            }
        }
        _ => client.error("ERR syntax error"),
    }
    Outcome::Answered
}

fn no_evict(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    match args.get(2) {
        Some(mode) if is(mode, "on") => client.info.no_evict = true,
        Some(mode) if is(mode, "off") => client.info.no_evict = false,
        _ => {
            client.error("ERR syntax error");
            return Outcome::Answered;
        }
    }
    client.ok();
    Outcome::Answered
}

fn pause(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let (time, held) = match args.get(2..).unwrap_or_default() {
        [time] => (time, Held::All),
        [time, mode] if is(mode, "all") => (time, Held::All),
        [time, mode] if is(mode, "write") => (time, Held::Writes),
        [_, _] => {
            client.error("ERR CLIENT PAUSE mode must be WRITE or ALL");
            return Outcome::Answered;
        }
        _ => {
            client.error(refused_subcommand("CLIENT", args).to_string());
            return Outcome::Answered;
        }
    };
    match parse_integer(time).map(u64::try_from) {
        None => client.error("ERR timeout is not an integer or out of range"),
        Some(Err(_)) => client.error("ERR timeout is negative"),
        Some(Ok(ms)) => {
            // A time that no clock shows has come already, as Redis counts it.
            let end_ms = i64::try_from(client.shared.clock.now_ms().saturating_add(ms));
            let ms = if end_ms.is_ok() { ms } else { 0 };
            client.shared.pause.begin(held, Duration::from_millis(ms));
            client.ok();
        }
    }
    Outcome::Answered
}

fn unblock(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    if args.len() > 4 {
        client.error(refused_subcommand("CLIENT", args).to_string());
        return Outcome::Answered;
    }
    let how = match args.get(3) {
        None => Unblocked::AsTimedOut,
        Some(how) if is(how, "timeout") => Unblocked::AsTimedOut,
        Some(how) if is(how, "error") => Unblocked::WithError,
        Some(_) => {
            client.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
            return Outcome::Answered;
        }
    };
    match args.get(2).and_then(|id| parse_integer(id)) {
        None => client.error("ERR value is not an integer or out of range"),
        Some(id) => {
            let other = u64::try_from(id).ok().and_then(|id| client.shared.clients.get(id));
            client.count(usize::from(other.is_some_and(|other| other.unblock(how))));
        }
    }
    Outcome::Answered
}

fn list(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    client.publish_info();
    let all = client.shared.clients.all();
    let shown: Result<Vec<Arc<Handle>>, String> = match args.get(2..).unwrap_or_default() {
        [] => Ok(all),
        [option, class] if is(option, "type") => Class::parse(class)
            .map(|class| all.into_iter().filter(|handle| class == Class::of(handle)).collect()),
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => ids
            .iter()
            .map(|id| parse_integer(id).ok_or_else(|| "ERR Invalid client ID".to_owned()))
            .collect::<Result<Vec<i64>, String>>()
            .map(|ids| {
                let ids = ids.into_iter().filter_map(|id| u64::try_from(id).ok());
                ids.filter_map(|id| client.shared.clients.get(id)).collect()
            }),
        _ => Err("ERR syntax error".to_owned()),
    };
    match shown {
        Ok(handles) => {
            let text: String = handles.iter().map(|handle| handle.line() + "\n").collect();
            client.writer().verbatim(*b"txt", text.as_bytes());
        }
        Err(text) => client.error(text),
    }
    Outcome::Answered
}

/// What Redis calls a client's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    PubSub,
    /// There are none here.
    Replication,
}

impl Class {
    fn parse(name: &[u8]) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"pubsub" => Ok(Self::PubSub),
            b"master" | b"replica" | b"slave" => Ok(Self::Replication),
            _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name))),
        }
    }

    fn of(handle: &Handle) -> Self {
        if handle.info.lock().is_subscriber() { Self::PubSub } else { Self::Normal }
    }
}

fn parse_id(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|id| *id > 0)
}

/// What CLIENT KILL is told to look for.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    address: Option<String>,
    local_address: Option<String>,
    class: Option<Class>,
    user: Option<String>,
    /// Not the one that asks.
    skip_me: bool,
}

impl Filter {
    fn parse(mut args: &[Text]) -> Result<Self, String> {
        let mut filter = Self { skip_me: true, ..Self::default() };
        while let [option, value, rest @ ..] = args {
            let text = || String::from_utf8_lossy(value).into_owned();
            if is(option, "id") {
                let id = parse_id(value);
                filter.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
            } else if is(option, "type") {
                filter.class = Some(Class::parse(value)?);
            } else if is(option, "addr") {
                filter.address = Some(text());
            } else if is(option, "laddr") {
                filter.local_address = Some(text());
            } else if is(option, "user") {
                if &value[..] != b"default" {
                    return Err(format!("ERR No such user '{}'", text()));
                }
                filter.user = Some(text());
            } else if is(option, "skipme") && (is(value, "yes") || is(value, "no")) {
                filter.skip_me = is(value, "yes");
            } else {
                return Err("ERR syntax error".to_owned());
            }
            args = rest;
        }
        if args.is_empty() { Ok(filter) } else { Err("ERR syntax error".to_owned()) }
    }

    fn matches(&self, handle: &Handle) -> bool {
        let is = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w == has);
        self.id.is_none_or(|id| id == handle.id)
            && is(&self.address, &handle.peer.address)
            && is(&self.local_address, &handle.peer.local_address)
            && self.class.is_none_or(|class| class == Class::of(handle))
            // A client that has not logged in is nobody yet.
            && (self.user.is_none() || handle.info.lock().authenticated)
    }
}

fn kill(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    client.publish_info();
    let me = client.handle.id;
    // The old form names one address, kills also the one that asks, and says whether it was there.
    let (filter, is_old) = match args.get(2..).unwrap_or_default() {
        [address] => {
            let address = Some(String::from_utf8_lossy(address).into_owned());
            (Ok(Filter { address, ..Filter::default() }), true)
        }
        rest => (Filter::parse(rest), false),
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(text) => {
            client.error(text);
            return Outcome::Answered;
        }
    };
    let (mut killed, mut is_me) = (0, false);
    for handle in client.shared.clients.all() {
        if !filter.matches(&handle) || (handle.id == me && filter.skip_me) {
            continue;
        }
        killed += 1;
        match handle.id == me {
            true => is_me = true,
            false => handle.kill(),
        }
    }
    match (is_old, killed) {
        (true, 0) => client.error("ERR No such client"),
        (true, _) => client.ok(),
        (false, _) => client.writer().integer(killed),
    }
    if is_me { Outcome::Close } else { Outcome::Answered }
}
