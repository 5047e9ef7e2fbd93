//! CONFIG.

use super::help::{self, tell};
use super::{ANY, Row};
use crate::cache::{Flags, Visit};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome};

pub(super) const ROWS: &[Row] = &[Row::container(
    "config",
    &[
        Row::new("config|get", 1, ANY, get).flags(Flags::ADMIN),
        Row::new("config|resetstat", 0, 0, |client, visit, _| {
            client.shared.counters.reset();
            visit.reset_counts();
            client.ok();
            Outcome::Answered
        })
        .flags(Flags::ADMIN),
        Row::new("config|rewrite", 0, 0, |client, _, _| {
            client.error("ERR The server is running without a config file");
            Outcome::Answered
        })
        .flags(Flags::ADMIN),
        Row::help("config|help", |client, _, _| tell(client, help::CONFIG)),
        Row::new("config|set", 2, ANY, set).flags(Flags::ADMIN),
    ],
)];

fn get(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let found: Vec<(Text, String)> = {
        let config = client.shared.config.lock();
        config.get(args.get(2..).unwrap_or_default()).collect()
    };
    let mut writer = client.writer();
    writer.map(found.len());
    for (name, value) in found {
        writer.bulk(&name);
        writer.bulk(value.as_bytes());
    }
    Outcome::Answered
}

fn set(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
    for pair in args.get(2..).unwrap_or_default().chunks(2) {
        let [name, value] = pair else {
            client.error("ERR syntax error");
            return Outcome::Answered;
        };
        pairs.push((name, value));
    }
    let set = {
        let mut config = client.shared.config.lock();
        config.set(&pairs).inspect(|()| {
            client.shared.cache.change_settings(|settings| config.apply(settings));
            client.shared.cache.set_script_time_limit(config.script_time_limit);
        })
    };
    match set {
        Ok(()) => {
            client.slow_us = client.shared.config.lock().slow_log_us;
            client.ok();
        }
        Err(text) => client.error(text),
    }
    Outcome::Answered
}
