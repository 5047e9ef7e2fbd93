//! How a connection begins and ends: HELLO, AUTH, SELECT, QUIT, RESET.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{ANY, Row, is};
use crate::cache::{Cache, CacheError, Flags, Visit, parse_integer};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome, Replies};
use crate::resp::command::client::set_name;
use crate::wire::resp::Version;

pub(super) const ROWS: &[Row] = &[
    Row::new("auth", 1, ANY, auth).flags(FOR_STRANGERS),
    Row::new("hello", 0, ANY, hello).flags(FOR_STRANGERS),
    Row::for_scripts("select", 1, 1, select).flags(Flags::FAST),
    Row::new("quit", 0, ANY, quit).flags(FOR_STRANGERS),
    Row::new("reset", 0, 0, reset).flags(FOR_STRANGERS),
];

const FOR_STRANGERS: Flags = Flags::FAST.and(Flags::ALLOW_BUSY).and(Flags::NO_AUTH);

/// What this server says it is: clients ask which commands they may send.
pub(in crate::resp) const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";

fn auth(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let (user, password) = match args {
        [_, password] => {
            if client.shared.config.lock().password.is_none() {
                client.error(
                    "ERR AUTH <password> called without any password configured for the default \
                     user. Are you sure your configuration is correct?",
                );
                return Outcome::Answered;
            }
            (&b"default"[..], password)
        }
        [_, user, password] => (&user[..], password),
        _ => {
            client.error("ERR syntax error");
            return Outcome::Answered;
        }
    };
    match log_in(client, user, password) {
        true => client.ok(),
        false => client.error(WRONG_PASS),
    }
    Outcome::Answered
}

/// Whether the pair is right.
fn log_in(client: &mut Client, user: &[u8], password: &[u8]) -> bool {
    // Digests are compared, so that the time tells nothing of the password.
    let is_right = match &client.shared.config.lock().password {
        None => true,
        Some(expected) => Sha256::digest(expected.as_bytes()) == Sha256::digest(password),
    };
    let is_in = user == b"default" && is_right;
    client.info.authenticated |= is_in;
    is_in
}

fn hello(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    match greet(client, args.get(1..).unwrap_or_default()) {
        Ok(()) => describe(client),
        Err(text) => client.error(text),
    }
    Outcome::Answered
}

fn greet(client: &mut Client, args: &[Text]) -> Result<(), String> {
    let (version, mut options) = match args.split_first() {
        None => (None, args),
        Some((version, options)) => {
            let version = match parse_integer(version) {
                None => {
                    return Err("ERR Protocol version is not an integer or out of range".to_owned());
                }
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
            };
            (Some(version), options)
        }
    };
    let (mut login, mut name) = (None, None);
    loop {
        options = match options {
            [] => break,
            [option, user, password, rest @ ..] if is(option, "auth") => {
                login = Some((user, password));
                rest
            }
            [option, text, rest @ ..] if is(option, "setname") => {
                name = Some(text);
                rest
            }
            [option, ..] => {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'"));
            }
        };
    }
    if let Some((user, password)) = login
        && !log_in(client, user, password)
    {
        return Err(WRONG_PASS.to_owned());
    }
    if !client.info.authenticated {
        return Err(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                    the HELLO AUTH <user> <pass> option can be used to authenticate the \
                    client and select the RESP protocol version at the same time"
                .to_owned(),
        );
    }
    if let Some(name) = name {
        set_name(client, name)?;
    }
    client.info.version = version.unwrap_or(client.info.version);
    Ok(())
}

fn describe(client: &mut Client) {
    let id = i64::try_from(client.handle.id).unwrap_or(i64::MAX);
    let version = match client.info.version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    };
    let mut writer = client.writer();
    writer.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        writer.bulk(key.as_bytes());
        writer.bulk(value.as_bytes());
    }
    for (key, value) in [("proto", version), ("id", id)] {
        writer.bulk(key.as_bytes());
        writer.integer(value);
    }
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        writer.bulk(key.as_bytes());
        writer.bulk(value.as_bytes());
    }
    writer.bulk(b"modules");
    writer.array(0);
}

fn select(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let number = args.get(1).and_then(|db| parse_integer(db));
    match number.map(u8::try_from) {
        None => client.error("ERR value is not an integer or out of range"),
        Some(_) if number.is_none_or(|number| i32::try_from(number).is_err()) => {
            client.error(CacheError::NotAnInt32.to_string());
        }
        Some(Ok(db)) if db < Cache::DATABASES => {
            client.info.db = db;
            client.ok();
        }
        Some(_) => client.error("ERR DB index is out of range"),
    }
    Outcome::Answered
}

fn quit(client: &mut Client, _: &mut Visit<'_>, _: &[Text]) -> Outcome {
    client.ok();
    Outcome::Close
}

fn reset(client: &mut Client, visit: &mut Visit<'_>, _: &[Text]) -> Outcome {
    client.transaction = None;
    visit.unwatch(&mut client.watch);
    client.subscriber = None;
    client.count_topics();
    client.info.db = 0;
    client.info.name = Bytes::new();
    client.info.version = Version::Resp2;
    client.info.no_evict = false;
    client.info.authenticated = client.shared.config.lock().password.is_none();
    client.replies = Replies::On;
    client.writer().status("RESET");
    Outcome::Answered
}
