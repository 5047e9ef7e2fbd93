//! `leveret queues`.

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::arguments::QueuesArgs;
use super::connection::{Client, encoded};
use super::table::{Table, harmless};
use crate::server::{Error, print_line};

#[derive(Deserialize)]
struct Page {
    queues: Vec<Value>,
    more: bool,
}

pub(super) async fn run(mut client: Client, arguments: QueuesArgs) -> Result<(), Error> {
    let mut queues = Vec::new();
    loop {
        let last = queues.last().and_then(|queue: &Value| queue.get("name")?.as_str());
        let path = format!("/api/v1/queues?after={}", encoded(last.unwrap_or_default()));
        let page = client.call(Method::GET, &path, None).await?;
        let page: Page = super::understood(page)?;
        let ends = !page.more || page.queues.is_empty();
        queues.extend(page.queues);
        if ends {
            break;
        }
    }
    if arguments.server.json {
        return queues.iter().try_for_each(|queue| print_line(&queue.to_string()));
    }
    let columns = [
        ("QUEUE", "/name"),
        ("READY", "/ready"),
        ("UNACKED", "/unacked"),
        ("DELAYED", "/delayed"),
        ("BYTES", "/readyBytes"),
        ("CONSUMERS", "/consumers"),
        ("PUBLISH/S", "/rates/publish"),
        ("DELIVER/S", "/rates/deliver"),
        ("ACK/S", "/rates/ack"),
    ];
    let mut table = Table::new(&columns.map(|(headline, _)| headline));
    for queue in &queues {
        table.row(columns.map(|(_, at)| cell(queue.pointer(at))).to_vec());
    }
    table.lines().iter().try_for_each(|line| print_line(line))
}

fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => harmless(text),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}
