//! The table of parameters, and what each takes.

use std::time::Duration;

use super::OutputLimit;
use crate::cache::Events;

pub(super) struct Parameter {
    /// In lower case.
    pub name: &'static str,
    /// An older name of the same.
    pub alias: Option<&'static str>,
    pub default: &'static str,
    takes: Takes,
}

enum Takes {
    /// Redis would change it. Here it is as the server was started, so that it takes no other value.
    AsItIs,
    /// It says how this server is; nothing changes it.
    Nothing,
    Text,
    Integer {
        least: i64,
        most: i64,
    },
    /// Bytes, with a unit such as `1mb`.
    Memory {
        least: u64,
    },
    OneOf(&'static [&'static str]),
    /// Letters, each a class of keyspace events.
    Events,
    /// Groups of a class, a hard limit, a soft limit, and seconds.
    OutputLimits,
}

/// In the order of their names.
pub(super) static PARAMETERS: &[Parameter] = &[
    fixed("appendfilename", "journal"),
    row("appendfsync", "everysec", Takes::OneOf(&["everysec", "always", "no"])),
    row("appendonly", "yes", Takes::AsItIs),
    fixed("bind", ""),
    Parameter {
        alias: Some("lua-time-limit"),
        ..row("busy-reply-threshold", "5000", Takes::Integer { least: 0, most: i64::MAX })
    },
    row(
        "client-output-buffer-limit",
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        Takes::OutputLimits,
    ),
    row("client-query-buffer-limit", "1073741824", Takes::Memory { least: 1 << 20 }),
    fixed("cluster-enabled", "no"),
    fixed("databases", "16"),
    fixed("enable-debug-command", "local"),
    row("maxclients", "10000", Takes::Integer { least: 1, most: 4_294_967_295 }),
    row("maxmemory", "0", Takes::Memory { least: 0 }),
    row(
        "maxmemory-policy",
        "noeviction",
        Takes::OneOf(&[
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ]),
    ),
    // More than 64 are as many.
    row("maxmemory-samples", "5", Takes::Integer { least: 1, most: 2_147_483_647 }),
    row("notify-keyspace-events", "", Takes::Events),
    fixed("port", "0"),
    fixed("proto-max-bulk-len", "536870912"),
    row("requirepass", "", Takes::Text),
    // The journal is the image: there is none to take at an interval.
    row("save", "", Takes::AsItIs),
    row("slowlog-log-slower-than", "10000", Takes::Integer { least: -1, most: i64::MAX }),
    row("slowlog-max-len", "128", Takes::Integer { least: 0, most: 1_000_000 }),
    row("tcp-keepalive", "300", Takes::Integer { least: 0, most: 2_147_483_647 }),
    row("timeout", "0", Takes::Integer { least: 0, most: 2_147_483_647 }),
];

const fn row(name: &'static str, default: &'static str, takes: Takes) -> Parameter {
    Parameter { name, alias: None, default, takes }
}

const fn fixed(name: &'static str, value: &'static str) -> Parameter {
    row(name, value, Takes::Nothing)
}

impl Parameter {
    /// Its place in the table, and itself.
    pub(super) fn find(name: &[u8]) -> Option<(usize, &'static Self)> {
        let is_named = |called: &str| name.eq_ignore_ascii_case(called.as_bytes());
        PARAMETERS.iter().enumerate().find(|(_, parameter)| parameter.names().any(is_named))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.alias)
    }

    /// A value as CONFIG GET shows it.
    pub(super) fn shown(&self, value: &str) -> String {
        match self.takes {
            // Some letters stand for others.
            Takes::Events => Events::parse(value).unwrap_or_default().to_string(),
            _ => value.to_owned(),
        }
    }

    /// The value as it is kept, `current` being the one that it is to replace.
    pub(super) fn check(&self, value: &[u8], current: &str) -> Result<String, String> {
        let text = String::from_utf8_lossy(value).into_owned();
        match &self.takes {
            Takes::AsItIs if text.eq_ignore_ascii_case(current) => Ok(current.to_owned()),
            Takes::AsItIs => Err(format!("this server was started with '{current}'")),
            Takes::Nothing => Err("can't set immutable config".to_owned()),
            Takes::Text => Ok(text),
            Takes::Integer { least, most } => match text.parse::<i64>() {
                Err(_) => Err("argument couldn't be parsed into an integer".to_owned()),
                Ok(number) if (*least..=*most).contains(&number) => Ok(number.to_string()),
                Ok(_) => Err(format!("argument must be between {least} and {most} inclusive")),
            },
            Takes::Memory { least } => match memory(&text) {
                None => Err("argument must be a memory value".to_owned()),
                Some(bytes) if bytes >= *least => Ok(bytes.to_string()),
                Some(_) => {
                    Err(format!("argument must be between {least} and {} inclusive", i64::MAX))
                }
            },
            Takes::OneOf(names) => {
                let known = names.iter().find(|name| text.eq_ignore_ascii_case(name));
                known.map(|name| (*name).to_owned()).ok_or_else(|| {
                    let names = names.join(", ");
                    format!("argument(s) must be one of the following: {names}")
                })
            }
            Takes::Events => Events::parse(&text)
                .map(Events::letters)
                .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
            Takes::OutputLimits => output_limits(current, &text),
        }
    }
}

/// A number of bytes with one of Redis's units.
fn memory(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// All three classes; those that `text` leaves out are as of the start.
fn output_limits(current: &str, text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut limits: Vec<String> = current.split(' ').map(str::to_owned).collect();
    for group in words.chunks(4) {
        let [class, hard, soft, seconds] = group else { continue };
        let class = match class.to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 4,
            "pubsub" => 8,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        let (hard, soft, seconds) = match (memory(hard), memory(soft), seconds.parse::<u32>()) {
            (Some(hard), Some(soft), Ok(seconds)) => (hard, soft, seconds),
            _ => {
                return Err("Error in hard, soft or soft_seconds setting in buffer limit \
                             configuration."
                    .to_owned());
            }
        };
        let said = [hard.to_string(), soft.to_string(), seconds.to_string()];
        for (slot, value) in limits.iter_mut().skip(class + 1).zip(said) {
            *slot = value;
        }
    }
    Ok(limits.join(" "))
}

/// The last class of a checked value. Nothing is a limit of zero.
pub(super) fn pubsub_limit(text: &str) -> OutputLimit {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let bytes = |at| match usize::try_from(number(at)) {
        Ok(bytes @ 1..) => bytes,
        _ => usize::MAX,
    };
    OutputLimit {
        hard_bytes: bytes(9),
        soft_bytes: bytes(10),
        soft_for: Duration::from_secs(number(11)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<String, String> {
        let (_, parameter) = Parameter::find(name.as_bytes()).unwrap();
        parameter.check(value.as_bytes(), parameter.default)
    }

    #[test]
    fn every_default_is_one_that_its_parameter_takes() {
        for parameter in PARAMETERS {
            if !matches!(parameter.takes, Takes::Nothing) {
                assert_eq!(
                    parameter.check(parameter.default.as_bytes(), parameter.default),
                    Ok(parameter.default.to_owned())
                );
            }
            assert_eq!(parameter.name, parameter.name.to_ascii_lowercase());
        }
    }

    #[test]
    fn values_are_shown_as_redis_shows_them() {
        assert_eq!(check("MaxMemory", "1kb"), Ok("1024".to_owned()));
        assert_eq!(check("maxmemory", "2G"), Ok("2000000000".to_owned()));
        assert_eq!(check("appendfsync", "ALWAYS"), Ok("always".to_owned()));
        assert_eq!(
            check("client-output-buffer-limit", "pubsub 1mb 1kb 7"),
            Ok("normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 1024 7".to_owned())
        );
        let limit = OutputLimit {
            hard_bytes: 1_048_576,
            soft_bytes: usize::MAX,
            soft_for: Duration::from_secs(7),
        };
        assert_eq!(pubsub_limit("normal 0 0 0 slave 1 1 1 pubsub 1048576 0 7"), limit);
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_redis() {
        let cases = [
            ("maxmemory", "x", "argument must be a memory value"),
            ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
            ("maxclients", "x", "argument couldn't be parsed into an integer"),
            ("appendfsync", "x", "argument(s) must be one of the following: everysec, always, no"),
            ("port", "1", "can't set immutable config"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(check(name, value), Err(expected.to_owned()));
        }
    }
}
