//! `leveret redrive`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::RedriveArgs;
use super::connection::{Client, encoded};
use super::publish::body_members;
use super::table::harmless;
use super::{queue_path, understood};
use crate::model::names::RoutingKey;
use crate::server::{Error, print_line};

pub(super) async fn run(client: Client, arguments: RedriveArgs) -> Result<(), Error> {
    match arguments.body.is_some() || arguments.key.is_some() {
        true => mend(client, arguments).await,
        false => redrive(client, arguments).await,
    }
}

/// Sends one message back, changed.
async fn mend(mut client: Client, arguments: RedriveArgs) -> Result<(), Error> {
    let [id] = arguments.selection.ids.as_slice() else {
        return Err(Error::Usage("--body and --key take exactly one id in --ids".to_owned()));
    };
    let mut request = serde_json::Map::new();
    if let Some(key) = arguments.key {
        let key = RoutingKey::new(key).map_err(|error| Error::Usage(format!("--key: {error}")))?;
        request.insert("routingKey".to_owned(), Value::from(key.as_str()));
    }
    if let Some(body) = arguments.body {
        request.extend(body_members(body)?);
    }
    let rest = format!("/messages/{}/redrive", encoded(&id.to_string()));
    let path = queue_path(&arguments.queue, &rest)?;
    let answer = client.call(Method::POST, &path, Some(&Value::Object(request))).await?;
    if arguments.server.json {
        return print_line(&answer.to_string());
    }
    #[derive(Deserialize)]
    struct Moved {
        queues: Vec<String>,
    }
    let Moved { queues } = understood(answer)?;
    print_line(&format!("{id} -> {}", harmless(&queues.join(", "))))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// None of a plan.
    state: Option<String>,
    error: Option<String>,
    waits_for: Option<String>,
    moved: u64,
    kept: u64,
    missing: u64,
    queues: BTreeMap<String, u64>,
    stuck: Vec<Kept>,
    complete: Option<bool>,
}

#[derive(Deserialize)]
struct Kept {
    reason: String,
    count: u64,
}

async fn redrive(mut client: Client, arguments: RedriveArgs) -> Result<(), Error> {
    let mut request = json!({
        "error": arguments.selection.error,
        "reason": arguments.selection.reason,
        "queue": arguments.selection.from,
        "ratePerSecond": arguments.rate,
        "dryRun": arguments.dry_run,
    });
    if let (false, Some(members)) = (arguments.selection.ids.is_empty(), request.as_object_mut()) {
        let ids = arguments.selection.ids.iter().map(u64::to_string);
        members.insert("ids".to_owned(), ids.collect::<Vec<_>>().into());
    }
    let path = queue_path(&arguments.queue, "/redrive")?;
    let answer = if arguments.dry_run {
        client.call(Method::POST, &path, Some(&request)).await?
    } else {
        // Watched from before the start: no Ctrl-C may end this command and leave the run going.
        let interrupted = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        let started = client.call(Method::POST, &path, Some(&request)).await?;
        watch(&mut client, &path, started, interrupted).await?
    };
    if arguments.server.json {
        print_line(&answer.to_string())?;
    }
    let outcome: Outcome = understood(answer)?;
    if !arguments.server.json {
        report(&outcome, arguments.dry_run)?;
    }
    if arguments.dry_run {
        return Ok(());
    }
    let stayed = outcome.kept + outcome.missing;
    match (outcome.state.as_deref(), outcome.error) {
        (Some("done"), _) if stayed == 0 => Ok(()),
        (Some("done"), _) => {
            Err(Error::Refused(format!("{stayed} of the messages that were meant did not go")))
        }
        (_, Some(error)) => Err(Error::Refused(format!("the redrive failed: {error}"))),
        (_, None) => Err(Error::Refused("the redrive was cancelled".to_owned())),
    }
}

/// Follows the run to its end; Ctrl-C cancels it.
async fn watch(
    client: &mut Client,
    path: &str,
    started: Value,
    mut interrupted: Signal,
) -> Result<Value, Error> {
    let shows = std::io::stderr().is_terminal();
    let mut answer = started;
    let wait = format!("{path}?waitSeconds=1");
    while answer.get("state").and_then(Value::as_str) == Some("running") {
        if shows {
            let outcome: Outcome = understood(answer)?;
            let waits = outcome.waits_for.map(|what| format!(", waiting: {}", harmless(&what)));
            let (moved, waits) = (outcome.moved, waits.unwrap_or_default());
            // Whoever can't see it misses nothing.
            let _ = write!(std::io::stderr(), "\r\u{1b}[K{moved} moved{waits}");
        }
        let next = tokio::select! {
            answer = client.call(Method::GET, &wait, None) => Some(answer?),
            _ = interrupted.recv() => None,
        };
        answer = match next {
            Some(answer) => answer,
            // The request that was given up holds its connection.
            None => client.another().call(Method::DELETE, path, None).await?,
        };
    }
    if shows {
        let _ = write!(std::io::stderr(), "\r\u{1b}[K");
    }
    Ok(answer)
}

fn report(outcome: &Outcome, dry_run: bool) -> Result<(), Error> {
    let (moved, kept) = if dry_run { ("would go", "would stay") } else { ("moved", "stayed") };
    for (queue, count) in &outcome.queues {
        print_line(&format!("{count} {moved} to {}", harmless(queue)))?;
    }
    for Kept { reason, count } in &outcome.stuck {
        print_line(&format!("{count} {kept}: {}", harmless(reason)))?;
    }
    if outcome.missing > 0 {
        print_line(&format!("{} not found", outcome.missing))?;
    }
    if outcome.moved + outcome.kept + outcome.missing == 0 {
        print_line("nothing to redrive")?;
    }
    if outcome.complete == Some(false) {
        print_line("the queue goes on: only its beginning was looked at")?;
    }
    Ok(())
}
