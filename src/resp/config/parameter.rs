//! The table of parameters, and what each takes.

use crate::cache::Events;

pub(super) struct Parameter {
    /// In lower case.
    pub name: &'static str,
    pub default: &'static str,
    takes: Takes,
}

enum Takes {
    /// It says how this server is; nothing changes it.
    Nothing,
    Text,
    Integer {
        least: i64,
        most: i64,
    },
    /// Bytes, with a unit such as `1mb`.
    Memory,
    OneOf(&'static [&'static str]),
    /// Letters, each a class of keyspace events.
    Events,
}

/// In the order of their names.
pub(super) static PARAMETERS: &[Parameter] = &[
    fixed("appendfilename", "journal"),
    row("appendfsync", "everysec", Takes::OneOf(&["always", "everysec", "no"])),
    fixed("appendonly", "yes"),
    fixed("bind", ""),
    fixed("client-query-buffer-limit", "1073741824"),
    fixed("cluster-enabled", "no"),
    fixed("databases", "16"),
    row("maxclients", "10000", Takes::Integer { least: 1, most: 4_294_967_295 }),
    row("maxmemory", "0", Takes::Memory),
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
    row("maxmemory-samples", "5", Takes::Integer { least: 1, most: 64 }),
    row("notify-keyspace-events", "", Takes::Events),
    fixed("port", "0"),
    fixed("proto-max-bulk-len", "536870912"),
    row("requirepass", "", Takes::Text),
    // The journal is the image: there is none to take at an interval.
    fixed("save", ""),
    row("slowlog-log-slower-than", "10000", Takes::Integer { least: -1, most: i64::MAX }),
    row("slowlog-max-len", "128", Takes::Integer { least: 0, most: 1_000_000 }),
    row("timeout", "0", Takes::Integer { least: 0, most: 2_147_483_647 }),
];

const fn row(name: &'static str, default: &'static str, takes: Takes) -> Parameter {
    Parameter { name, default, takes }
}

const fn fixed(name: &'static str, value: &'static str) -> Parameter {
    row(name, value, Takes::Nothing)
}

impl Parameter {
    /// Its place in the table, and itself.
    pub(super) fn find(name: &[u8]) -> Option<(usize, &'static Self)> {
        let is_named = |parameter: &&Self| name.eq_ignore_ascii_case(parameter.name.as_bytes());
        PARAMETERS.iter().enumerate().find(|(_, parameter)| is_named(parameter))
    }

    /// The value as it is shown.
    pub(super) fn check(&self, value: &[u8]) -> Result<String, String> {
        let text = String::from_utf8_lossy(value).into_owned();
        match &self.takes {
            Takes::Nothing => Err("can't set immutable config".to_owned()),
            Takes::Text => Ok(text),
            Takes::Integer { least, most } => match text.parse::<i64>() {
                Err(_) => Err("argument couldn't be parsed into an integer".to_owned()),
                Ok(number) if (*least..=*most).contains(&number) => Ok(number.to_string()),
                Ok(_) => Err(format!("argument must be between {least} and {most} inclusive")),
            },
            Takes::Memory => memory(&text)
                .map(|bytes| bytes.to_string())
                .ok_or_else(|| "argument must be a memory value".to_owned()),
            Takes::OneOf(names) => {
                let known = names.iter().find(|name| text.eq_ignore_ascii_case(name));
                known.map(|name| (*name).to_owned()).ok_or_else(|| {
                    let names = names.join(", ");
                    format!("argument(s) must be one of the following: {names}")
                })
            }
            Takes::Events => Events::parse(&text)
                .map(|events| events.to_string())
                .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<String, String> {
        Parameter::find(name.as_bytes()).unwrap().1.check(value.as_bytes())
    }

    #[test]
    fn every_default_is_one_that_its_parameter_takes() {
        for parameter in PARAMETERS {
            if !matches!(parameter.takes, Takes::Nothing) {
                assert_eq!(
                    parameter.check(parameter.default.as_bytes()),
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
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_redis() {
        let cases = [
            ("maxmemory", "x", "argument must be a memory value"),
            ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
            ("maxclients", "x", "argument couldn't be parsed into an integer"),
            ("appendfsync", "x", "argument(s) must be one of the following: always, everysec, no"),
            ("port", "1", "can't set immutable config"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(check(name, value), Err(expected.to_owned()));
        }
    }
}
