//! What was measured: by server and by figure, one value a round.

use std::collections::BTreeMap;
use std::time::Duration;

use super::latency::Latency;

/// How long and how often something is measured.
#[derive(Debug, Clone)]
pub struct Run {
    pub rounds: usize,
    pub time: Duration,
    /// Broadcasts under way at full speed.
    pub window: usize,
}

#[derive(Default)]
pub struct Figures {
    /// In the order of their first values.
    names: Vec<String>,
    values: BTreeMap<(String, String), Vec<f64>>,
    servers: Vec<String>,
}

impl Figures {
    pub fn add(&mut self, server: &str, figure: &str, value: f64) {
        if !self.names.iter().any(|name| name == figure) {
            self.names.push(figure.to_owned());
        }
        if !self.servers.iter().any(|name| name == server) {
            self.servers.push(server.to_owned());
        }
        self.values.entry((figure.to_owned(), server.to_owned())).or_default().push(value);
    }

    pub fn latency(&mut self, server: &str, figure: &str, latency: &Latency) {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            self.add(server, &format!("{figure}: {name}, ms"), latency.ms_at(share));
        }
    }

    /// Medians, least to most, and those of `ours` as a ratio to each of the others of the same round, but
    /// for latencies.
    pub fn print(&self, ours: &str) {
        self.print_medians();
        for figure in &self.names {
            if figure.contains(", ms") {
                continue;
            }
            let of = |server: &str| self.values.get(&(figure.clone(), server.to_owned()));
            let Some(values) = of(ours) else { continue };
            for server in self.servers.iter().filter(|server| *server != ours) {
                let Some(theirs) = of(server) else { continue };
                let ratios =
                    values.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
                let (ratio, least, most) = median_and_spread(ratios);
                println!("{ours} / {server}, {figure}: {ratio:.2} ({least:.2} to {most:.2})");
            }
        }
    }

    pub fn print_medians(&self) {
        let servers = self.servers.join(" | ");
        println!("| | {servers} |\n| --- |{}", " --- |".repeat(self.servers.len()));
        for figure in &self.names {
            let cells = self.servers.iter().map(|server| {
                let values = self.values.get(&(figure.clone(), server.clone()));
                values.map_or_else(
                    || "-".to_owned(),
                    |values| {
                        let (median, least, most) = median_and_spread(values.clone());
                        format!("{} ({} to {})", short(median), short(least), short(most))
                    },
                )
            });
            println!("| {figure} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn median_and_spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}
