//! `leveret explain`.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::arguments::ExplainArgs;
use super::connection::{Client, encoded};
use super::peek::time;
use super::table::{Table, harmless, short};
use super::understood;
use crate::server::{Error, print_line};

#[derive(Deserialize)]
struct Path {
    steps: Vec<Step>,
    caused: Vec<Caused>,
    more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    at: u64,
    message: String,
    event: String,
    exchange: Option<String>,
    routing_key: Option<String>,
    cause: Option<String>,
    queue: Option<String>,
    deliveries: Option<u32>,
    attempt: Option<u32>,
    due_at: Option<u64>,
    reason: Option<String>,
    error: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Caused {
    message: String,
    exchange: String,
    routing_key: String,
}

pub(super) async fn run(mut client: Client, arguments: ExplainArgs) -> Result<(), Error> {
    let path = format!("/api/v1/explain/{}", encoded(&arguments.id));
    let document = client.call(Method::GET, &path, None).await?;
    if arguments.server.json {
        return print_line(&document.to_string());
    }
    print(document)
}

fn print(document: Value) -> Result<(), Error> {
    let path: Path = understood(document)?;
    let mut table = Table::new(&["AT", "MESSAGE", "EVENT", "QUEUE", "DETAILS"]);
    for step in path.steps {
        let details = details(&step);
        let queue = short(&step.queue.unwrap_or_default());
        table.row(vec![time(Some(step.at)), step.message, step.event, queue, details]);
    }
    for caused in path.caused {
        let details = harmless(&format!("to '{}' as {}", caused.exchange, caused.routing_key));
        table.row(vec![String::new(), caused.message, "caused".into(), String::new(), details]);
    }
    table.lines().iter().try_for_each(|line| print_line(line))?;
    if path.more {
        print_line("there is more than is shown")?;
    }
    Ok(())
}

fn details(step: &Step) -> String {
    let mut details = Vec::new();
    if let (Some(exchange), Some(key)) = (&step.exchange, &step.routing_key) {
        details.push(format!("to '{exchange}' as {key}"));
    }
    let mut tell = |what: &str, value: Option<String>| {
        details.extend(value.map(|value| format!("{what} {value}")));
    };
    tell("because of", step.cause.clone());
    tell("delivery", step.deliveries.map(|deliveries| deliveries.to_string()));
    tell("attempt", step.attempt.map(|attempt| attempt.to_string()));
    tell("again at", step.due_at.map(|due_at| time(Some(due_at))));
    tell("reason", step.reason.clone());
    tell("error", step.error.as_deref().map(short));
    tell("goes on as", step.to.clone());
    harmless(&details.join(", "))
}
