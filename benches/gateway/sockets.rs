//! What sockets cost that do little: an echo with an acknowledgement, storms, and a soak.

use std::time::{Duration, Instant};

use super::clients::Clients;
use super::figures::{Figures, Run};
use super::process::{cpu_s, resident_bytes};
use super::servers::Server;
use super::watchers::Watchers;

/// Each client has one event under way and asks again when its acknowledgement is there.
pub fn echo(servers: &[Server], count: usize, run: &Run) {
    let mut figures = Figures::default();
    for round in 0..run.rounds {
        for turn in 0..servers.len() {
            let server = &servers[(turn + round) % servers.len()];
            let name = server.name();
            let mut clients = Clients::new();
            let all = clients.open(server, count, |number| Some(format!("own{number}")));
            clients.echoes = true;
            let (before, cpu_before) = (Instant::now(), cpu_s(server.pid()));
            all.iter().for_each(|client| clients.echo(*client));
            while before.elapsed() < run.time {
                clients.turn(Duration::from_millis(100));
            }
            let (seconds, cpu) = (before.elapsed().as_secs_f64(), cpu_s(server.pid()) - cpu_before);
            let acks = clients.seen.acks as f64;
            figures.add(&name, "round trips a second", acks / seconds);
            figures.add(&name, "round trips a CPU-second", acks / cpu);
            figures.latency(&name, "round trip", &clients.seen.latency);
            assert_eq!(clients.seen.lost, 0, "{name} cut clients off");
        }
    }
    println!("\n## echo with an acknowledgement, {count} clients");
    figures.print(&servers[0].name());
}

/// All at once leave and come back, three times; those who stay go on getting what is sent.
pub fn storm(servers: &[Server], count: usize) {
    const STORMS: usize = 3;
    let mut figures = Figures::default();
    for server in servers {
        let name = server.name();
        let mut clients = Clients::new();
        Watchers::join(&mut clients, server);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        figures.add(&name, "MiB before", mib(resident_bytes(server.pid())));
        let mut fleet = clients.open(server, count, |_| Some("fleet".to_owned()));
        figures.add(&name, "MiB with all", mib(resident_bytes(server.pid())));
        let mut watchers = Watchers::begin(&mut clients, server);
        clients.seen.latency = Default::default();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            watchers.turn(&mut clients);
        }
        figures.latency(&name, "others in the calm", &std::mem::take(&mut clients.seen.latency));
        for _ in 0..STORMS {
            let began = Instant::now();
            for client in fleet.drain(..) {
                clients.close(client);
            }
            for number in 0..count {
                fleet.push(clients.begin(server, Some("fleet".to_owned())));
                if number % 64 == 0 {
                    watchers.turn(&mut clients);
                }
            }
            while clients.handshakes > 0 {
                watchers.turn(&mut clients);
                assert!(began.elapsed() < Duration::from_secs(120), "{name}: the storm hangs");
            }
            figures.add(&name, "all are back, s", began.elapsed().as_secs_f64());
            let latency = std::mem::take(&mut clients.seen.latency);
            figures.latency(&name, "others in the storm", &latency);
            figures.add(&name, "others in the storm: most, ms", latency.most_ms());
            figures.add(&name, "MiB after each", mib(resident_bytes(server.pid())));
        }
        assert_eq!(clients.seen.lost, 0, "{name} cut clients off");
        for client in fleet {
            clients.close(client);
        }
        clients.rest(Duration::from_secs(20));
        figures.add(&name, "MiB 20 s after they left", mib(resident_bytes(server.pid())));
    }
    println!("\n## {count} sockets reconnect at once, {STORMS} times, {} watch", Watchers::COUNT);
    figures.print_medians();
}

/// Churn for a long time: sockets come and go while broadcasts go on.
pub fn soak(server: &Server, count: usize, time: Duration) {
    const CHURN_A_SECOND: f64 = 100.0;
    let mut clients = Clients::new();
    Watchers::join(&mut clients, server);
    let mut fleet = clients.open(server, count, |number| Some(format!("soak{}", number % 50)));
    let mut watchers = Watchers::begin(&mut clients, server);
    let report_every = (time / 30).max(Duration::from_secs(1));
    let (began, mut churned, mut reports) = (Instant::now(), 0, 0);
    println!("\n## soak of {:?}: {count} sockets, {CHURN_A_SECOND} leave and come a second", time);
    println!("| s | MiB | churned | deliveries to {} | p99, ms |", Watchers::COUNT);
    println!("| --- | --- | --- | --- | --- |");
    while began.elapsed() < time {
        watchers.turn(&mut clients);
        let due = (began.elapsed().as_secs_f64() * CHURN_A_SECOND) as usize;
        while churned < due {
            let place = churned % count;
            clients.close(fleet[place]);
            fleet[place] = clients.begin(server, Some(format!("soak{}", churned % 57)));
            churned += 1;
        }
        if began.elapsed() >= report_every * reports {
            reports += 1;
            let latency = std::mem::take(&mut clients.seen.latency);
            println!(
                "| {:.0} | {:.1} | {churned} | {} | {:.1} |",
                began.elapsed().as_secs_f64(),
                resident_bytes(server.pid()) / f64::from(1 << 20),
                clients.seen.news,
                latency.ms_at(0.99),
            );
        }
    }
    clients.finish_handshakes();
    assert_eq!(clients.seen.lost, 0, "the server cut clients off");
    clients.close_all();
    super::gauges::all_gone(server);
}
