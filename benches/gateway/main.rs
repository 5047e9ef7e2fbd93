//! A load generator, aimed at our server, at Node's socket.io and at socketioxide in turn: the same
//! events, the same 100 bytes, WebSocket only, no recovery but in the scenario of that name. What a server does is judged by the CPU time
//! of its process, so that a machine with other work and the generator itself spoil it least.
//!
//! `cargo bench --bench gateway -- --help` lists what can be chosen. The peers' programs lie in
//! `benches/peers`; npm and cargo get what they need. `--soak 30m` runs the soak alone.

mod bare;
mod broadcast;
mod clients;
mod figures;
mod frames;
mod gauges;
mod helpers;
mod hostile;
mod idle;
mod latency;
mod low_rate;
mod process;
mod servers;
mod sockets;
mod watchers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use figures::Run;
use helpers::Role;
use rustix::process::{Resource, getrlimit, setrlimit};
use servers::{Kind, Server, Setup};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Broadcast,
    Echo,
    Idle,
    Storm,
    /// A broadcast with connection state recovery: ours, Node's, and ours without it.
    Recovery,
    /// What others see of clients that mean ill; ours alone, as the peers have no limits.
    Hostile,
}

#[derive(Parser)]
struct Arguments {
    /// What to run.
    #[arg(value_delimiter = ',', default_value = "broadcast,recovery,echo,idle,storm,hostile")]
    scenarios: Vec<Scenario>,
    #[arg(long, value_delimiter = ',', default_value = "leveret,node,socketioxide")]
    servers: Vec<Kind>,
    /// Another build of ours.
    #[arg(long)]
    leveret: Option<PathBuf>,
    /// Clients in the room of a broadcast: hundreds.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    clients: Vec<usize>,
    #[arg(long, default_value = "5")]
    rounds: usize,
    /// How long each measurement of a round takes.
    #[arg(long, default_value = "3s")]
    time: humantime::Duration,
    /// Broadcasts under way at full speed.
    #[arg(long, default_value = "64")]
    window: usize,
    #[arg(long, default_value = "1000")]
    echo_clients: usize,
    /// As many processes of each server share them as have files for all: one where it may open 500 more.
    #[arg(long, default_value = "19500")]
    idle_clients: usize,
    #[arg(long, default_value = "10000")]
    storm_clients: usize,
    /// Runs only this: sockets that come and go for so long, at our server, with recovery and a folder.
    #[arg(long)]
    soak: Option<humantime::Duration>,
    #[arg(long, default_value = "2000")]
    soak_clients: usize,
    /// For a process that another one of this program starts.
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    // `cargo test --benches` starts every bench once, to see that it runs.
    if !arguments.bench {
        return;
    }
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a limit that may be raised");
    if let Some(role) = arguments.role {
        return role.play();
    }

    let start_as = |kind, setup| Server::start(kind, setup, arguments.leveret.as_ref());
    let start = |kind| start_as(kind, Setup::default());
    if let Some(time) = arguments.soak {
        let server =
            start_as(Kind::Leveret, Setup { recovers: true, is_durable: true, ..Setup::default() });
        return sockets::soak(&server, arguments.soak_clients, time.into());
    }
    let time: Duration = arguments.time.into();
    let run = Run { rounds: arguments.rounds, time, window: arguments.window };
    let servers: Vec<Server> = arguments.servers.iter().copied().map(start).collect();
    for server in &servers {
        println!("{}: {}", server.version(), server.address);
    }
    let has = |scenario| arguments.scenarios.contains(&scenario);
    if has(Scenario::Broadcast) {
        let bare = bare::Bare::start();
        for count in &arguments.clients {
            broadcast::run(&servers, Some(&bare), *count, &run);
        }
    }
    if has(Scenario::Recovery) {
        let recovers = Setup { recovers: true, ..Setup::default() };
        let servers = [
            start_as(Kind::Leveret, recovers),
            start_as(Kind::Node, recovers),
            start(Kind::Leveret),
        ];
        for count in &arguments.clients {
            broadcast::run(&servers, None, *count, &run);
        }
    }
    if has(Scenario::Echo) {
        sockets::echo(&servers, arguments.echo_clients, &run);
    }
    if has(Scenario::Storm) {
        sockets::storm(&servers, arguments.storm_clients);
    }
    if has(Scenario::Hostile) {
        let limited = Setup { is_limited: true, ..Setup::default() };
        hostile::run(&start_as(Kind::Leveret, limited), &run);
    }
    if has(Scenario::Idle) {
        // Its memory is to be that of a process that did nothing before.
        drop(servers);
        idle::run(&arguments.servers, start, arguments.idle_clients);
    }
}
