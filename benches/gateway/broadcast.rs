//! One room, and everybody in it gets everything: at a low rate, where each delivery is a write of its
//! own, and at full speed, where a window of broadcasts is always under way.

use std::time::{Duration, Instant};

use super::bare::Bare;
use super::clients::{Clients, Trigger};
use super::figures::{Figures, Run};
use super::process::{SystemCalls, cpu_s};
use super::servers::Server;

/// Deliveries a second at the low rate.
const LOW_RATE: usize = 10_000;

/// What a scenario does not get within this is lost.
const PATIENCE: Duration = Duration::from_secs(120);

/// `bare` is absent when the generator cannot hold both ends of so many connections. Ratios are of the
/// server named first.
pub fn run(servers: &[Server], bare: Option<&Bare>, count: usize, run: &Run) {
    let mut figures = Figures::default();
    for round in 0..run.rounds {
        for turn in 0..servers.len() {
            // Each comes first in turn.
            let server = &servers[(turn + round) % servers.len()];
            measure(server, count, run, &mut figures);
        }
        if let Some(bare) = bare {
            measure_bare(bare, count, run, &mut figures);
        }
    }
    println!(
        "\n## broadcast to {count} clients in one room, {} rounds of {:?}",
        run.rounds, run.time
    );
    figures.print(&servers[0].name());
}

fn measure(server: &Server, count: usize, run: &Run, figures: &mut Figures) {
    let mut clients = Clients::new();
    let name = server.name();
    let room = format!("room{count}");
    let before = Instant::now();
    clients.open(server, count, |_| Some(room.clone()));
    figures.add(&name, "connected/s", count as f64 / before.elapsed().as_secs_f64());
    let trigger = clients.trigger(server);

    let interval = Duration::from_secs(1) * u32::try_from(count).expect("a number") / 10_000;
    assert_eq!(LOW_RATE, 10_000);
    let cpu_before = cpu_s(server.pid());
    let sent = at_rate(&mut clients, interval, run.time, |clients, sent_ns| {
        clients.broadcast_one(trigger, &room, sent_ns);
    });
    gather(&mut clients, sent * count, &name);
    let deliveries = (sent * count) as f64;
    let cpu = cpu_s(server.pid()) - cpu_before;
    figures.add(&name, "low rate: CPU us a delivery", cpu * 1e6 / deliveries);
    figures.latency(&name, "low rate", &std::mem::take(&mut clients.seen.latency));

    clients.seen.news = 0;
    let (before, cpu_before) = (Instant::now(), cpu_s(server.pid()));
    let deliveries = at_full_speed(&mut clients, trigger, &room, count, run);
    gather(&mut clients, deliveries, &name);
    let cpu = cpu_s(server.pid()) - cpu_before;
    let seconds = before.elapsed().as_secs_f64();
    figures.add(&name, "full speed: deliveries a CPU-second", deliveries as f64 / cpu);
    figures.add(&name, "full speed: deliveries a second", deliveries as f64 / seconds);
    figures.add(&name, "full speed: CPUs used", cpu / seconds);
    figures.latency(&name, "full speed", &std::mem::take(&mut clients.seen.latency));

    clients.seen.news = 0;
    let calls = SystemCalls::of(server.pid());
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        // Until perf counts.
        clients.turn(Duration::from_millis(50));
    }
    let short = Run { time: Duration::from_millis(500), ..run.clone() };
    let deliveries = at_full_speed(&mut clients, trigger, &room, count, &short);
    gather(&mut clients, deliveries, &name);
    if let Some(calls) = calls.count() {
        figures.add(&name, "full speed: system calls a delivery", calls / deliveries as f64);
    }
    assert_eq!(clients.seen.lost, 0, "{name} cut clients off");
    clients.close_all();
}

fn measure_bare(bare: &Bare, count: usize, run: &Run, figures: &mut Figures) {
    let mut clients = Clients::new();
    for _ in 0..count / 100 {
        (0..100).for_each(|_| clients.listen(bare.address));
        bare.accept(100);
    }
    let interval = Duration::from_secs(1) * u32::try_from(count).expect("a number") / 10_000;
    bare.spent_s();
    let sent = at_rate(&mut clients, interval, run.time, |_, sent_ns| bare.broadcast(sent_ns));
    gather(&mut clients, sent * count, "the bare loop");
    let deliveries = (sent * count) as f64;
    figures.add("bare loop", "low rate: CPU us a delivery", bare.spent_s() * 1e6 / deliveries);
    figures.latency("bare loop", "low rate", &clients.seen.latency);
    bare.forget();
}

/// Sends at regular times; how many times.
fn at_rate(
    clients: &mut Clients,
    interval: Duration,
    time: Duration,
    mut send: impl FnMut(&mut Clients, u64),
) -> usize {
    let began = Instant::now();
    let mut sent = 0;
    loop {
        let due = interval * u32::try_from(sent).expect("a short run");
        let now = began.elapsed();
        if now >= time {
            return sent;
        }
        if now >= due {
            let sent_ns = clients.now_ns();
            send(clients, sent_ns);
            sent += 1;
        } else {
            clients.turn((due - now).min(time - now));
        }
    }
}

/// Keeps a window of broadcasts under way; how many deliveries that makes.
pub fn at_full_speed(
    clients: &mut Clients,
    trigger: Trigger,
    room: &str,
    count: usize,
    run: &Run,
) -> usize {
    let began = Instant::now();
    let (mut sent, window) = (0, run.window * count);
    while began.elapsed() < run.time {
        let seen = usize::try_from(clients.seen.news).expect("a number");
        if (sent + 1) * count <= seen + window {
            let sent_ns = clients.now_ns();
            clients.broadcast(trigger, room, sent_ns);
            sent += 1;
        } else {
            clients.turn(PATIENCE);
        }
    }
    sent * count
}

/// Waits until as many deliveries were seen.
pub fn gather(clients: &mut Clients, deliveries: usize, name: &str) {
    let began = Instant::now();
    while clients.seen.news < deliveries as u64 {
        clients.turn(Duration::from_millis(100));
        assert!(
            began.elapsed() < PATIENCE,
            "{name}: {} of {deliveries} deliveries",
            clients.seen.news
        );
    }
    assert_eq!(clients.seen.news, deliveries as u64, "{name} sends more than once");
}
