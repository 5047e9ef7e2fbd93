//! The program: the command line, the settings, the launch order, the drain.
//!
//! Owns: everything between `main` and the floors below, and the process itself (signals, exit
//! codes, standard output). May import: every floor. What always holds: settings are checked once,
//! before anything is opened; a wrong one is a single line on standard error and exit code 2, and
//! whatever else prevents the work is a single line and exit code 1.

mod amount;
mod back_ends;
mod broker_url;
mod check;
mod client;
mod command;
mod error;
mod gateway_settings;
mod launch;
mod layer;
mod logs;
mod memory;
mod public_keys;
mod secret;
mod serve;
mod settings;
mod signals;
mod token;
mod ws_echo;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use client::Call;
use command::{Cli, Command};

pub use back_ends::BackEndUrl;
pub use broker_url::BrokerUrl;
pub use error::Error;
pub use gateway_settings::GatewaySettings;
pub use launch::Server;
pub use logs::LogFormat;
pub use memory::MemoryLimit;
pub use secret::Secret;
pub use settings::{Settings, Storage};

/// Reads a process environment variable; a test gives its own.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Runs the program with the process's arguments and environment.
pub fn main() -> ExitCode {
    let environment = |name: &str| std::env::var_os(name);
    let outcome = match command::parse(std::env::args_os()) {
        Ok(Cli { command }) => run(command, &environment),
        Err(refused) => Err(refused),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be reading: then the exit code has to do.
            let _ = writeln!(std::io::stderr(), "leveret: {}", error.line());
            error.exit_code()
        }
    }
}

fn run(command: Command, environment: Environment<'_>) -> Result<(), Error> {
    let call = match command {
        Command::Serve(arguments) => return serve::run(arguments, environment),
        Command::Token(arguments) => return token::run(arguments, environment),
        Command::Check(arguments) => return check::run(arguments, environment),
        Command::WsEcho(arguments) => return ws_echo::run(arguments),
        Command::Publish(arguments) => Call::Publish(arguments),
        Command::Consume(arguments) => Call::Consume(arguments),
        Command::Queues(arguments) => Call::Queues(arguments),
        Command::Ready(arguments) => Call::Ready(arguments),
        Command::Explain(arguments) => Call::Explain(arguments),
        Command::Peek(arguments) => Call::Peek(arguments),
        Command::Redrive(arguments) => Call::Redrive(arguments),
        Command::Purge(arguments) => Call::Purge(arguments),
    };
    client::run(call, environment)
}

/// Writes a line of the program's result.
fn print_line(line: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::Output)
}
