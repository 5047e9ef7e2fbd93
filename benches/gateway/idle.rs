//! Sockets that are connected, and nothing but heartbeats. What one process has too few files for is shared by
//! several pairs of a server and a generator.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::clients::Clients;
use super::figures::Figures;
use super::helpers::{self, Helper, Role};
use super::process::{cpu_s, resident_bytes};
use super::servers::{Door, Kind, Server};

/// Files that a process has beside its sockets, at most.
const RESERVE: usize = 500;

/// What the first connections to a server make for all is no socket's.
const FIRST: usize = 100;

#[derive(Serialize, Deserialize)]
enum Order {
    /// So many more.
    Open(Door, usize),
    /// Nothing but to answer heartbeats.
    Rest(Duration),
}

/// So far.
#[derive(Serialize, Deserialize)]
struct Seen {
    pings: u64,
    lost: usize,
}

struct Pair {
    server: Server,
    generator: Helper,
    share: usize,
}

pub fn run(kinds: &[Kind], start: impl Fn(Kind) -> Server, count: usize) {
    let shares = shares(count);
    let mut figures = Figures::default();
    for kind in kinds {
        let pairs = shares.iter().map(|share| Pair {
            server: start(*kind),
            generator: Helper::start(Role::IdleClients),
            share: *share,
        });
        measure(&pairs.collect::<Vec<_>>(), &mut figures);
    }
    let processes = match shares.len() {
        1 => "one process".to_owned(),
        many => format!("{many} processes"),
    };
    println!("\n## {count} idle sockets, {processes} of each server and {processes} of clients");
    figures.print(&format!("{:?}", kinds[0]));
}

/// As even as can be, and as few as have files for all.
fn shares(count: usize) -> Vec<usize> {
    let most = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| {
        usize::try_from(most).expect("a number of files").saturating_sub(RESERVE)
    });
    assert!(most > FIRST, "too few files for a process");
    let processes = count.div_ceil(most);
    (0..processes).map(|process| (count + process) / processes).collect()
}

/// Each figure is of all processes together.
fn measure(pairs: &[Pair], figures: &mut Figures) {
    const HEARTBEATS: Duration = Duration::from_secs(25);
    let name = pairs[0].server.name();
    let cpu_s = || sum(pairs, |server| cpu_s(server.pid()));
    let resident = || sum(pairs, |server| resident_bytes(server.pid()));

    open(pairs, |_| FIRST);
    let before = resident();
    let (began, cpu_before) = (Instant::now(), cpu_s());
    open(pairs, |pair| pair.share - FIRST);
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_s() - cpu_before);
    let sockets = pairs.iter().map(|pair| pair.share - FIRST).sum::<usize>() as f64;
    figures.add(&name, "accepted, s", seconds);
    figures.add(&name, "CPU us to accept one", cpu * 1e6 / sockets);
    figures.add(&name, "bytes a socket, at once", (resident() - before) / sockets);

    let pings = rest(pairs, Duration::from_secs(2));
    let cpu_before = cpu_s();
    let pings = rest(pairs, HEARTBEATS) - pings;
    let cpu = cpu_s() - cpu_before;
    figures.add(&name, "CPU us a heartbeat", cpu * 1e6 / pings.max(1) as f64);
    figures.add(&name, "bytes a socket, after heartbeats", (resident() - before) / sockets);
}

fn sum(pairs: &[Pair], of: impl Fn(&Server) -> f64) -> f64 {
    pairs.iter().map(|pair| of(&pair.server)).sum()
}

/// At all servers at the same time.
fn open(pairs: &[Pair], count: impl Fn(&Pair) -> usize) {
    for pair in pairs {
        pair.generator.tell(&Order::Open(Door::clone(&pair.server), count(pair)));
    }
    pairs.iter().for_each(|pair| pair.generator.answer());
}

/// Heartbeats so far.
fn rest(pairs: &[Pair], time: Duration) -> u64 {
    pairs.iter().for_each(|pair| pair.generator.tell(&Order::Rest(time)));
    let pings = pairs.iter().map(|pair| {
        let seen: Seen = pair.generator.answer();
        assert_eq!(seen.lost, 0, "{} cut clients off", pair.server.name());
        seen.pings
    });
    pings.sum()
}

/// What a process of clients does.
pub fn connect_for_others() {
    let mut clients = Clients::new();
    for order in helpers::orders() {
        match order {
            Order::Open(door, count) => {
                clients.open(&door, count, |_| None);
                helpers::answer(&());
            }
            Order::Rest(time) => {
                clients.rest(time);
                helpers::answer(&Seen { pings: clients.seen.pings, lost: clients.seen.lost });
            }
        }
    }
}
