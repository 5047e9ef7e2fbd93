//! `leveret serve`: the process around a server.

use std::time::{Duration, Instant};

use tokio::runtime;

use super::command::ServeArgs;
use super::signals::Termination;
use super::{Environment, Error, Server, Settings, Storage, logs, print_line};
use crate::journal::Durability;

/// Tasks that outlive the drain are abandoned after this.
const ABANDON_AFTER: Duration = Duration::from_secs(1);

pub fn run(arguments: ServeArgs, environment: Environment<'_>) -> Result<(), Error> {
    let started = Instant::now();
    let settings = Settings::gather(arguments.settings, arguments.config.as_ref(), environment)?;
    logs::start(&settings);
    allow_open_files();
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("leveret")
        .build()
        .map_err(Error::Runtime)?;
    let outcome = runtime.block_on(serve(&settings, started));
    runtime.shutdown_timeout(ABANDON_AFTER);
    outcome
}

async fn serve(settings: &Settings, started: Instant) -> Result<(), Error> {
    let termination = Termination::watch().map_err(Error::Runtime)?;
    let server = Server::start(settings).await?;
    if let Err(error) = announce(settings, &server) {
        // Whoever started the server is not reading: it serves all the same.
        tracing::warn!(error = error.line(), "the addresses could not be printed");
    }
    let ready_after_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(address = %server.address(), ready_after_ms, "ready");
    termination.asked().await;
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// A line a listener, and where the data lies.
fn announce(settings: &Settings, server: &Server) -> Result<(), Error> {
    let url = format!("http://{}", server.address());
    print_line(&format!("http    {url}"))?;
    if let Some(address) = server.resp_address() {
        print_line(&format!("resp listening on redis://{address}"))?;
    }
    if settings.demo {
        print_line(&format!("demo    {url}/demo"))?;
    }
    if let Some(url) = &settings.cache_url {
        print_line(&format!("cache   {}", url.shown()))?;
    }
    if let Some(url) = &settings.broker_url {
        print_line(&format!("broker  {}", url.shown()))?;
    }
    match &settings.storage {
        Storage::Memory => print_line("data    in memory, gone when this process ends"),
        Storage::Folder { path, durability } => {
            let durability = match durability {
                Durability::Strict => "strict",
                Durability::Relaxed => "relaxed",
            };
            print_line(&format!("data    {} ({durability})", path.display()))
        }
    }
}

/// Each connection is an open file, and the usual soft limit of 1,024 is the shell's caution, not the
/// system's: the hard limit is what this process may have.
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
