//! The cache port on a real Redis beside the plain redis crate, by turns, and how long an event takes from one
//! node to the sockets of another. `cargo bench --all-features --bench cluster_cache`. Prints figures; asserts
//! nothing about speed.

#[path = "gateway/clients.rs"]
#[expect(dead_code, reason = "the load generator of the gateway's bench, of which less is needed")]
mod clients;
#[path = "gateway/frames.rs"]
mod frames;
#[path = "gateway/latency.rs"]
#[expect(dead_code, reason = "as above")]
mod latency;
#[path = "../tests/redis_faults/server.rs"]
#[expect(dead_code, reason = "nothing fails here")]
mod server;
#[path = "gateway/servers.rs"]
#[expect(dead_code, reason = "as above")]
mod servers;

use std::time::{Duration, Instant};

use leveret::backend::{Cache, RedisCache};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use clients::Clients;
use server::RedisServer;
use servers::{Kind, Server, Setup};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; under `cargo test --benches` one short round is enough.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, time) = match is_bench {
        true => (5, Duration::from_secs(1)),
        false => (1, Duration::from_millis(50)),
    };
    let redis = RedisServer::start_with(&["--appendonly", "no"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(calls(&redis, rounds, time))?;
    drop(runtime);
    fan_out(&redis, if is_bench { 5 } else { 1 }, time * 4);
    Ok(())
}

/// Who is asked, and how.
#[derive(Clone)]
enum Side {
    Port(Cache),
    Plain(MultiplexedConnection),
}

impl Side {
    async fn get(&mut self, key: &str) -> Result<(), Failure> {
        let bytes = match self {
            Self::Port(cache) => cache.get(key).await?.map(|value| value.len()),
            Self::Plain(connection) => {
                connection.get::<_, Option<Vec<u8>>>(key).await?.map(|value| value.len())
            }
        };
        if bytes.is_none() { Err("no value".into()) } else { Ok(()) }
    }

    async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Port(cache) => {
                cache.set(key, bytes::Bytes::copy_from_slice(value), None).await?;
            }
            Self::Plain(connection) => connection.set::<_, _, ()>(key, value).await?,
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Figures {
    /// Answers a second.
    rate: f64,
    /// CPU time of this process an answer, in microseconds.
    cpu_us: f64,
}

async fn calls(redis: &RedisServer, rounds: usize, time: Duration) -> Result<(), Failure> {
    let port = RedisCache::connect(&redis.url(), Duration::from_secs(5)).await?;
    let plain = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let sides = [Side::Port(Cache::Redis(port)), Side::Plain(plain)];
    println!(
        "| call | at once | port, calls/s | crate, calls/s | rate, port / crate | CPU us a call | crate's | CPU, port / crate |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for is_set in [true, false] {
        for at_once in [1, 64] {
            let mut of = [Vec::new(), Vec::new()];
            for round in 0..rounds {
                for turn in 0..2 {
                    let side = (round + turn) % 2;
                    of[side].push(ask(&sides[side], is_set, at_once, time).await?);
                }
            }
            let ratio = |figure: fn(&Figures) -> f64| {
                let pairs = of[0].iter().zip(&of[1]);
                let (median, least, most) =
                    spread(pairs.map(|(port, plain)| figure(port) / figure(plain)).collect());
                format!("{median:.2} ({least:.2} to {most:.2})")
            };
            let median = |side: usize, figure: fn(&Figures) -> f64| {
                spread(of[side].iter().map(figure).collect()).0
            };
            println!(
                "| {} | {at_once} | {:.0} | {:.0} | {} | {:.1} | {:.1} | {} |",
                if is_set { "set" } else { "get" },
                median(0, |it| it.rate),
                median(1, |it| it.rate),
                ratio(|it| it.rate),
                median(0, |it| it.cpu_us),
                median(1, |it| it.cpu_us),
                ratio(|it| it.cpu_us),
            );
        }
    }
    Ok(())
}

/// So many tasks, each with one call under way.
async fn ask(
    side: &Side,
    is_set: bool,
    at_once: usize,
    time: Duration,
) -> Result<Figures, Failure> {
    let (began, cpu_before) = (Instant::now(), cpu());
    let mut tasks = JoinSet::new();
    for task in 0..at_once {
        let mut side = side.clone();
        tasks.spawn(async move {
            let (key, value) = (format!("key:{task}"), [b'x'; 100]);
            let mut calls = 0_u32;
            while began.elapsed() < time {
                let asked = match is_set {
                    true => side.set(&key, &value).await,
                    false => side.get(&key).await,
                };
                asked.map_err(|error| error.to_string())?;
                calls += 1;
            }
            Ok::<_, String>(calls)
        });
    }
    let mut calls = 0.0;
    while let Some(done) = tasks.join_next().await {
        calls += f64::from(done??);
    }
    let cpu_us = (cpu() - cpu_before).as_secs_f64() * 1e6 / calls;
    Ok(Figures { rate: calls / began.elapsed().as_secs_f64(), cpu_us })
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Median, least, most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

/// Two nodes on one Redis: events are emitted on one, the sockets are on the other; beside both on one node.
fn fan_out(redis: &RedisServer, rounds: usize, time: Duration) {
    const SOCKETS: usize = 100;
    const EVERY: Duration = Duration::from_millis(20);
    let url = redis.url();
    let start =
        || Server::start_with(Kind::Leveret, Setup::default(), None, &["--cache-url", &url]);
    let (one, other) = (start(), start());
    println!(
        "\n{SOCKETS} sockets, {} events a second: ms from emit to socket",
        1_000 / EVERY.as_millis()
    );
    println!("| emitted on | p50 | p99 |\n| --- | --- | --- |");
    for (name, emitting) in [("the other node", &one), ("the sockets' node", &other)] {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut clients = Clients::new();
            clients.open(&other, SOCKETS, |_| Some("room".to_owned()));
            let trigger = clients.trigger(emitting);
            let (began, mut emitted) = (Instant::now(), 0_u32);
            while began.elapsed() < time || clients.seen.news < u64::from(emitted) * SOCKETS as u64
            {
                assert!(began.elapsed() < time * 10, "{} came", clients.seen.news);
                if began.elapsed() < time && began.elapsed() >= EVERY * emitted {
                    let sent_ns = clients.now_ns();
                    clients.broadcast(trigger, "room", sent_ns);
                    emitted += 1;
                }
                clients.turn(Duration::from_millis(1));
            }
            p50.push(clients.seen.latency.ms_at(0.5));
            p99.push(clients.seen.latency.ms_at(0.99));
        }
        let show = |values| {
            let (median, least, most) = spread(values);
            format!("{median:.2} ({least:.2} to {most:.2})")
        };
        println!("| {name} | {} | {} |", show(p50), show(p99));
    }
}
