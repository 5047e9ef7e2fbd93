//! The commands that talk to a running server: publish, consume, queues, peek, explain, redrive, purge,
//! ready.
//!
//! Owns: their arguments, a small HTTP client, and how results look. May import: the names and limits of
//! the model; everything else is the server's to say. What always holds: wrong values are refused before
//! anything is sent (exit code 2); what the server refuses, and a server that is not there, is one
//! clear line (exit code 1); what strangers wrote never reaches a terminal as control characters.

mod arguments;
mod connection;
mod consume;
mod explain;
mod peek;
mod publish;
mod purge;
mod queues;
mod ready;
mod redrive;
mod table;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Environment, Error};
use crate::model::names::QueueName;
use connection::Client;

pub use arguments::{
    ConsumeArgs, ExplainArgs, PeekArgs, PublishArgs, PurgeArgs, QueuesArgs, ReadyArgs, RedriveArgs,
    ServerArgs,
};

/// A command that has been checked against its arguments only.
pub enum Call {
    Publish(PublishArgs),
    Consume(ConsumeArgs),
    Explain(ExplainArgs),
    Queues(QueuesArgs),
    Peek(PeekArgs),
    Redrive(RedriveArgs),
    Purge(PurgeArgs),
    Ready(ReadyArgs),
}

pub fn run(call: Call, environment: Environment<'_>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let client = |server: &ServerArgs| Client::new(server, environment);
    runtime.block_on(async {
        match call {
            Call::Publish(arguments) => publish::run(client(&arguments.server)?, arguments).await,
            Call::Consume(arguments) => consume::run(client(&arguments.server)?, arguments).await,
            Call::Explain(arguments) => explain::run(client(&arguments.server)?, arguments).await,
            Call::Queues(arguments) => queues::run(client(&arguments.server)?, arguments).await,
            Call::Peek(arguments) => peek::run(client(&arguments.server)?, arguments).await,
            Call::Ready(arguments) => ready::run(client(&arguments.server)?, arguments).await,
            Call::Purge(arguments) => purge::run(client(&arguments.server)?, arguments).await,
            Call::Redrive(arguments) => redrive::run(client(&arguments.server)?, arguments).await,
        }
    })
}

/// An answer in the form that this version knows.
fn understood<T: DeserializeOwned>(document: Value) -> Result<T, Error> {
    serde_json::from_value(document)
        .map_err(|error| Error::Refused(format!("the answer is not understood: {error}")))
}

/// The path of a queue, or of what lies under it.
fn queue_path(queue: &str, rest: &str) -> Result<String, Error> {
    let queue = QueueName::new(queue).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(format!("/api/v1/queues/{}{rest}", connection::encoded(queue.as_str())))
}
