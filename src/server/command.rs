//! The command line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use super::Error;
use super::client::{
    ConsumeArgs, ExplainArgs, PeekArgs, PublishArgs, PurgeArgs, QueuesArgs, ReadyArgs, RedriveArgs,
};
use super::error::one_line;
use super::layer::{Layer, Text};

/// RabbitMQ, Redis and Socket.IO semantics in one binary, on one durable journal.
#[derive(Parser)]
#[command(name = "leveret", version, disable_help_subcommand = true)]
// A bare `leveret` is a mistake like any other: one line, not the whole help.
#[command(arg_required_else_help = false)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once a process")]
pub enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Print a JSON Web Token for a user
    ///
    /// The token is signed with the secret of --jwt-secret, or else with the development secret that a
    /// server without one keeps in its data folder. It may be running.
    Token(TokenArgs),
    /// Publish a message through a running server
    ///
    /// Waits for the broker's confirm. Exit code 1 if no queue took the message.
    Publish(PublishArgs),
    /// Print the messages of a queue and acknowledge them
    ///
    /// Prints a body a line and acknowledges each message after it is printed. What was delivered and not
    /// acknowledged when the command ends returns to the queue.
    Consume(ConsumeArgs),
    /// List the queues of a running server
    ///
    /// Lists the queues with their depths and their rates over the last seconds.
    Queues(QueuesArgs),
    /// Ask whether a running server takes traffic
    ///
    /// Asks GET /ready, as a probe of a container does. Exit code 1, with the reasons, if it does not.
    Ready(ReadyArgs),
    /// Look at the messages of a queue, or at what killed them
    ///
    /// Shows messages from the head of a queue without touching them.
    Peek(PeekArgs),
    /// Tell the path of a message
    ///
    /// Shows the path of a persistent message, as far as the server remembers it.
    Explain(ExplainArgs),
    /// Send dead letters back to where they died
    ///
    /// Sends dead letters back to the queue that each died in. Without a selection, all of them. Ctrl-C
    /// cancels. Exit code 1 if a message that was meant stayed.
    Redrive(RedriveArgs),
    /// Remove messages from a queue
    ///
    /// Removes messages for good. It takes either a selection or --all.
    Purge(PurgeArgs),
    /// Verify a data folder that no server is using
    ///
    /// Reads every record of the data folder and reports what is there. Exit code 1, with the reason, if
    /// anything is damaged.
    Check(CheckArgs),
    /// Echo WebSocket messages at `/`, for conformance drivers
    #[command(hide = true)]
    WsEcho(WsEchoArgs),
}

const PRECEDENCE: &str = "\
Every flag is also an environment variable (LEVERET_DATA_DIR for --data-dir) and, but for --config,
a key of the configuration file (data-dir = \"...\"). A flag wins over the environment, and the
environment over the file.";

#[derive(Args)]
#[command(after_help = PRECEDENCE)]
pub struct ServeArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", value_parser = Text::flag)]
    pub config: Option<Text>,
    #[command(flatten)]
    pub settings: Layer,
}

#[derive(Args)]
pub struct TokenArgs {
    /// The user's id (claim `sub`)
    #[arg(long, value_name = "ID")]
    pub user: String,
    /// The name that others see [default: the id]
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A room to allow, or a pattern such as `team-*`; repeatable [default: none]
    #[arg(long = "room", value_name = "PATTERN")]
    pub rooms: Vec<String>,
    /// How long the token is valid, such as 15m, 1h or 30days
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub ttl: String,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", value_parser = Text::flag)]
    pub config: Option<Text>,
    /// The server's data folder [default: ./leveret-data]
    #[arg(long, value_name = "DIR", value_parser = Text::flag)]
    pub data_dir: Option<Text>,
    /// Sign with this secret
    #[arg(long, value_name = "SECRET", value_parser = Text::flag)]
    pub jwt_secret: Option<Text>,
}

#[derive(Args)]
pub struct CheckArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", value_parser = Text::flag)]
    pub config: Option<Text>,
    /// The data folder [default: ./leveret-data]
    #[arg(long, value_name = "DIR", value_parser = Text::flag)]
    pub data_dir: Option<Text>,
}

#[derive(Args)]
pub struct WsEchoArgs {
    /// Listen here; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: String,
    /// Refuse messages above this, all fragments together
    #[arg(long, value_name = "AMOUNT", default_value = "16MiB")]
    pub max_message: String,
}

/// Parses the arguments; `--help` and `--version` print and exit here.
///
/// # Errors
/// [`Error::Usage`] with clap's reason and its tips in one line, without the usage.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Error> {
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
        _ => Error::Usage(reason(&error.render().to_string())),
    })
}

/// clap's message is "error: REASON", tips, the usage, and a hint, in paragraphs.
fn reason(message: &str) -> String {
    let reason = message.strip_prefix("error: ").unwrap_or(message);
    let end = ["\n\nUsage:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| reason.find(mark))
        .min()
        .unwrap_or(reason.len());
    let reason = reason.get(..end).unwrap_or(reason).replace("\n\n  tip: ", "; ");
    let reason = one_line(&reason);
    format!("{reason} (try 'leveret --help')")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = std::iter::once("leveret").chain(arguments.iter().copied());
        match parse(arguments.map(OsString::from)) {
            Ok(_) => panic!("it was accepted"),
            Err(error) => error.line(),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_one_line_with_a_tip() {
        let line = refusal(&["serve", "--durabilty", "strict"]);
        assert!(line.starts_with("unexpected argument '--durabilty' found; "), "{line}");
        assert!(line.contains("'--durability'"), "{line}");
        assert!(!line.contains("Usage") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(refusal(&["token"]).contains("--user <ID>"));
        assert!(refusal(&[]).contains("requires a subcommand"));
        assert!(refusal(&["serve", "--http"]).contains("a value is required for '--http <ADDR>'"));
    }
}
