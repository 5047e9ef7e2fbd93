//! SLOWLOG.

use super::help::{self, tell};
use super::{ANY, Row};
use crate::cache::{Flags, Visit, parse_integer, refused_subcommand};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome};
use crate::wire::resp::Writer;

pub(super) const ROWS: &[Row] = &[Row::container(
    "slowlog",
    &[
        Row::for_scripts("slowlog|get", 0, ANY, get).flags(Flags::ADMIN),
        Row::help("slowlog|help", |client, _, _| tell(client, help::SLOWLOG)),
        Row::for_scripts("slowlog|len", 0, 0, |client, _, _| {
            let len = client.shared.slow_log.lock().len();
            client.writer().integer(i64::try_from(len).unwrap_or(i64::MAX));
            Outcome::Answered
        })
        .flags(Flags::ADMIN),
        Row::for_scripts("slowlog|reset", 0, 0, |client, _, _| {
            client.shared.slow_log.lock().clear();
            client.ok();
            Outcome::Answered
        })
        .flags(Flags::ADMIN),
    ],
)];

/// SLOWLOG GET without a count.
const COUNT: usize = 10;

fn get(client: &mut Client, _: &mut Visit<'_>, args: &[Text]) -> Outcome {
    if args.len() > 3 {
        client.error(refused_subcommand("SLOWLOG", args).to_string());
        return Outcome::Answered;
    }
    let count = match args.get(2).map(|count| parse_integer(count)) {
        None => COUNT,
        Some(Some(-1)) => usize::MAX,
        Some(count) => match count.map(usize::try_from) {
            Some(Ok(count)) => count,
            None | Some(Err(_)) => {
                client.error("ERR count should be greater than or equal to -1");
                return Outcome::Answered;
            }
        },
    };
    let shared = client.shared.clone();
    let log = shared.slow_log.lock();
    let entries = log.newest(count);
    let mut writer = client.writer();
    writer.array(entries.len());
    for slow in entries {
        writer.array(6);
        writer.integer(slow.id);
        writer.integer(i64::try_from(slow.at_ms / 1_000).unwrap_or(i64::MAX));
        writer.integer(i64::try_from(slow.took.as_micros()).unwrap_or(i64::MAX));
        write_all(&mut writer, &slow.args);
        writer.bulk(slow.client_address.as_bytes());
        writer.bulk(&slow.client_name);
    }
    Outcome::Answered
}

fn write_all(writer: &mut Writer<'_>, args: &[Text]) {
    writer.array(args.len());
    args.iter().for_each(|arg| writer.bulk(arg));
}
