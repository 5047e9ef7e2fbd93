//! One room, and everybody in it gets everything: at low rates, and at full speed, where a window of broadcasts is
//! always under way.

use std::time::{Duration, Instant};

use super::bare::Bare;
use super::clients::{Clients, Trigger};
use super::figures::{Figures, Run};
use super::low_rate::LowRate;
use super::process::{SystemCalls, cpu_s};
use super::servers::Server;

/// What a scenario does not get within this is lost.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ratios are of the server named first, and `bare` takes turns with it if it is there.
pub fn run(servers: &[Server], bare: Option<&Bare>, count: usize, run: &Run) {
    let mut figures = Figures::default();
    for round in 0..run.rounds {
        for turn in 0..servers.len() {
            // Each comes first in turn.
            let server = &servers[(turn + round) % servers.len()];
            let bare = bare.filter(|_| std::ptr::eq(server, &servers[0]));
            measure(server, bare, count, run, &mut figures);
        }
    }
    println!(
        "\n## broadcast to {count} clients in one room, {} rounds of {:?}",
        run.rounds, run.time
    );
    figures.print(&servers[0].name());
}

fn measure(server: &Server, bare: Option<&Bare>, count: usize, run: &Run, figures: &mut Figures) {
    let mut clients = Clients::new();
    let name = server.name();
    let room = format!("room{count}");
    let before = Instant::now();
    clients.open(server, count, |_| Some(room.clone()));
    figures.add(&name, "connected/s", count as f64 / before.elapsed().as_secs_f64());
    let trigger = clients.trigger(server);

    LowRate { server, bare, room: &room, count, run }.measure(&mut clients, figures);

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
    let short = Run { time: Duration::from_millis(500), ..run.clone() };
    let deliveries = at_full_speed(&mut clients, trigger, &room, count, &short);
    gather(&mut clients, deliveries, &name);
    if let Some(calls) = calls.count() {
        figures.add(&name, "full speed: system calls a delivery", calls / deliveries as f64);
    }
    assert_eq!(clients.seen.lost, 0, "{name} cut clients off");
    clients.close_all();
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
