//! `leveret peek`.

use std::time::{Duration, SystemTime};

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::arguments::PeekArgs;
use super::connection::Client;
use super::table::{Table, harmless, short};
use super::{queue_path, understood};
use crate::server::{Error, print_line};

/// Bytes of a body that a table's cell can show some of.
const PREVIEW_BYTES: usize = 256;

pub(super) async fn run(mut client: Client, arguments: PeekArgs) -> Result<(), Error> {
    let json = arguments.server.json;
    if arguments.group {
        let path = queue_path(&arguments.queue, "/groups")?;
        return print_groups(client.call(Method::GET, &path, None).await?, json);
    }
    let bytes = if json { 1024 * 1024 } else { PREVIEW_BYTES };
    let rest = format!("/messages?count={}&bodyBytes={bytes}", arguments.count);
    let path = queue_path(&arguments.queue, &rest)?;
    print_messages(client.call(Method::GET, &path, None).await?, json)
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    exchange: String,
    routing_key: String,
    body_bytes: u64,
    body: String,
    death: Option<Death>,
}

#[derive(Deserialize)]
struct Death {
    queue: String,
    reason: String,
    at: Option<u64>,
    error: Option<String>,
    attempts: i64,
}

fn print_messages(document: Value, json: bool) -> Result<(), Error> {
    let found: Messages = understood(document)?;
    if json {
        return found.messages.iter().try_for_each(|message| print_line(&message.to_string()));
    }
    let mut table = Table::new(&[
        "ID", "EXCHANGE", "KEY", "BYTES", "DIED IN", "REASON", "AT", "ATTEMPTS", "ERROR", "BODY",
    ]);
    for message in found.messages {
        let Message { id, exchange, routing_key, body_bytes, body, death } = understood(message)?;
        let mut row = vec![id, short(&exchange), short(&routing_key), body_bytes.to_string()];
        row.extend(match death {
            Some(death) => [
                short(&death.queue),
                short(&death.reason),
                time(death.at),
                death.attempts.to_string(),
                short(&death.error.unwrap_or_default()),
            ],
            None => Default::default(),
        });
        row.push(short(&body));
        table.row(row);
    }
    table.lines().iter().try_for_each(|line| print_line(line))
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Value>,
    ungrouped: u64,
    alive: u64,
    complete: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    error: Option<String>,
    reason: String,
    queue: String,
    count: u64,
    oldest_at: Option<u64>,
    newest_at: Option<u64>,
    sample: String,
}

fn print_groups(document: Value, json: bool) -> Result<(), Error> {
    if json {
        return print_line(&document.to_string());
    }
    let found: Groups = understood(document)?;
    let mut table =
        Table::new(&["COUNT", "DIED IN", "REASON", "OLDEST", "NEWEST", "SAMPLE", "ERROR"]);
    for group in found.groups {
        let group: Group = understood(group)?;
        table.row(vec![
            group.count.to_string(),
            short(&group.queue),
            short(&group.reason),
            time(group.oldest_at),
            time(group.newest_at),
            group.sample,
            harmless(&group.error.unwrap_or_default()),
        ]);
    }
    table.lines().iter().try_for_each(|line| print_line(line))?;
    if found.alive > 0 {
        print_line(&format!("{} more did not die", found.alive))?;
    }
    if found.ungrouped > 0 {
        print_line(&format!("{} more are of further groups", found.ungrouped))?;
    }
    if !found.complete {
        print_line("the queue goes on: only its beginning was looked at")?;
    }
    Ok(())
}

/// Milliseconds since the Unix epoch as UTC.
pub(super) fn time(at_ms: Option<u64>) -> String {
    let at = at_ms
        .and_then(|at_ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at_ms / 1000)));
    at.map(|at| humantime::format_rfc3339_seconds(at).to_string()).unwrap_or_default()
}
