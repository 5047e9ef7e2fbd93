//! What these commands are given.

use std::num::NonZeroU32;

use clap::Args;

const DEFAULTS: &str = "\
The server is the one at --url, or LEVERET_URL, or http://127.0.0.1:3001; a server with an API key takes
it from --api-key or LEVERET_API_KEY.";

/// Which server, and in which form its answer is printed.
#[derive(Args)]
#[command(after_help = DEFAULTS)]
pub struct ServerArgs {
    /// The server's address [default: http://127.0.0.1:3001]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The server's API key
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Print JSON, a document a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct PublishArgs {
    /// The exchange; '' is the default one, whose keys are names of queues
    pub exchange: String,
    /// The routing key
    pub key: String,
    /// The body's text, or - to read it from standard input [default: empty]
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// A header; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Confirm when it is on disk (delivery mode 2)
    #[arg(long)]
    pub persistent: bool,
    /// The property content_type
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// The property message_id
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// The property type
    #[arg(long = "type", value_name = "NAME")]
    pub kind: Option<String>,
    /// The property priority
    #[arg(long, value_name = "0-255")]
    pub priority: Option<u8>,
    /// Milliseconds until it expires
    #[arg(long, value_name = "MS")]
    pub expiration: Option<u64>,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Args)]
pub struct ConsumeArgs {
    /// The queue's name
    pub queue: String,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Count messages as acknowledged when they are sent: what is on its way if this fails is lost
    #[arg(long, conflicts_with = "requeue")]
    pub no_ack: bool,
    /// Return the messages to the queue at the end; takes --count of at most 1000
    #[arg(long, requires = "count")]
    pub requeue: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Args)]
pub struct QueuesArgs {
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Args)]
pub struct ReadyArgs {
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Args)]
pub struct ExplainArgs {
    /// Its message_id, or its place in the log, such as 1-42
    pub id: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Args)]
pub struct PeekArgs {
    /// The queue's name
    pub queue: String,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub count: u64,
    /// Count dead letters by error, reason, and the queue that they died in
    #[arg(long, conflicts_with = "count")]
    pub group: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Which messages of a queue.
#[derive(Args)]
pub struct SelectionArgs {
    /// Only these messages, by the ids that peek shows
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', conflicts_with_all = ["error", "reason", "from"])]
    pub ids: Vec<u64>,
    /// Only messages whose error contains this text
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Only messages that died for this reason
    #[arg(long, value_parser = ["rejected", "expired", "maxlen", "delivery_limit"])]
    pub reason: Option<String>,
    /// Only messages that died in this queue
    #[arg(long, value_name = "QUEUE")]
    pub from: Option<String>,
}

#[derive(Args)]
pub struct PurgeArgs {
    /// The queue's name
    pub queue: String,
    /// Every message that is ready
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Args)]
pub struct RedriveArgs {
    /// The queue's name
    pub queue: String,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// At most so many messages a second
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<NonZeroU32>,
    /// Say what would go where, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the body by this text, or - by standard input; takes one id
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["dry_run", "rate"])]
    pub body: Option<String>,
    /// Route the message anew with this key; takes one id
    #[arg(long, value_name = "KEY", conflicts_with_all = ["dry_run", "rate"])]
    pub key: Option<String>,
    #[command(flatten)]
    pub server: ServerArgs,
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number.parse().map_err(|_| "a rate is a number of messages a second, such as 50/s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_may_say_its_unit() {
        assert_eq!(rate("50/s").unwrap().get(), 50);
        assert_eq!(rate("7").unwrap().get(), 7);
        for wrong in ["0/s", "-1", "5/m", "fast", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
