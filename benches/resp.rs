//! Redis's own benchmark against Redis's own server and ours, by turns: throughput, and what a request
//! costs the server's process in CPU time. It is run by hand, on a quiet machine. An LRANGE test pushes
//! as many elements as it asks requests: its CPU time is the mean of both. For what bounds a rate the last
//! columns say how much of its time the client's process was on a core (a client of one thread can't be
//! for more than all of it), and how often in a thousand requests a thread of the server fell asleep: it is the
//! client who wakes it.
//!
//! `LEVERET_ROUNDS` (5), `LEVERET_REQUESTS` (200000), `LEVERET_TESTS` (all), `LEVERET_THREADS` (the
//! client's; 1,2: both, by turns), `LEVERET_FSYNC=everysec` puts both on disk.

#[path = "../tests/resp_differential/servers.rs"]
mod servers;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use servers::Server;

const TESTS: &str = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,\
                     zpopmin,lrange_100,lrange_300,lrange_500,lrange_600,mset";
const CLIENTS: &str = "50";

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// What one run of a test gave.
#[derive(Clone, Copy)]
struct Figures {
    /// Requests a second.
    rate: f64,
    /// Of the server, a request.
    cpu_us: f64,
    /// The client's CPU time in the time that it ran.
    client_busy: f64,
    /// Of the server's threads, in a thousand requests.
    sleeps: f64,
}

/// CPU time of this process's children that have ended, in seconds.
fn children_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process lives");
    // What stands behind the name, which may have spaces: fields 16 and 17 of proc_pid_stat(5).
    let (_, stat) = stat.rsplit_once(')').expect("a name");
    let ticks = stat.split_whitespace().skip(13).take(2).map(|n| n.parse::<f64>().expect("ticks"));
    ticks.sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}

/// A server, and what it is asked.
struct Measured(Server);

impl Measured {
    /// CPU time of the whole process so far, in milliseconds: of its threads that live, which are all that
    /// serve. The process's own clock has hundredths of a second, a twelfth of what some tests take.
    fn cpu_ms(&self) -> f64 {
        self.sum("schedstat", |stat| stat.split_whitespace().next()) / 1e6
    }

    /// How often its threads went to sleep so far.
    fn sleeps(&self) -> f64 {
        self.sum("status", |status| {
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        })
    }

    /// The sum over the process's threads of a number in such a file of theirs.
    fn sum(&self, file: &str, number: impl Fn(&str) -> Option<&str>) -> f64 {
        let tasks = format!("/proc/{}/task", self.0.process.id());
        let tasks = std::fs::read_dir(tasks).expect("the process lives");
        let numbers = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join(file)).ok()?;
            number(&text)?.trim().parse::<f64>().ok()
        });
        numbers.sum()
    }

    fn measure(&self, test: &str, pipeline: usize, threads: &str) -> Figures {
        let requests = setting("LEVERET_REQUESTS", "200000");
        self.ask("FLUSHALL");
        self.fill(test);
        let (cpu_ms, sleeps, client_s) = (self.cpu_ms(), self.sleeps(), children_cpu_s());
        let output = self
            .benchmark()
            .args(["-t", test, "-n", &requests, "-P", &pipeline.to_string()])
            .args(["--threads", threads, "-r", "100000"])
            .output()
            .expect("redis-benchmark runs");
        let cpu_ms = self.cpu_ms() - cpu_ms;
        let (sleeps, client_s) = (self.sleeps() - sleeps, children_cpu_s() - client_s);
        let csv = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows: Vec<Vec<&str>> = csv
            .lines()
            .skip(1)
            .map(|line| line.split("\",\"").map(|cell| cell.trim_matches('"')).collect())
            .collect();
        let row = rows.last().unwrap_or_else(|| panic!("no row for {test}: {csv}"));
        let rate_of = |row: &Vec<&str>| row[1].parse::<f64>().expect("a rate");
        let count: f64 = requests.parse().expect("a number");
        // An LRANGE test pushes as many elements as it asks requests before it begins.
        let asked = count * rows.len() as f64;
        let lasted_s: f64 = rows.iter().map(|row| count / rate_of(row)).sum();
        Figures {
            rate: rate_of(row),
            cpu_us: cpu_ms * 1_000.0 / asked,
            client_busy: client_s / lasted_s,
            sleeps: sleeps * 1_000.0 / asked,
        }
    }

    /// What a test that takes finds to take.
    fn fill(&self, test: &str) {
        let source = match test {
            "lpop" | "rpop" => "rpush",
            "spop" => "sadd",
            "zpopmin" => "zadd",
            _ => return,
        };
        let status = self
            .benchmark()
            .args(["-t", source, "-n", &setting("LEVERET_REQUESTS", "200000"), "-P", "16"])
            .args(["-r", "100000000"])
            .stdout(Stdio::null())
            .status()
            .expect("redis-benchmark runs");
        assert!(status.success());
    }

    fn benchmark(&self) -> Command {
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", "127.0.0.1", "-p", &self.0.address.port().to_string()]);
        command.args(["-c", CLIENTS, "--csv"]).stderr(Stdio::null());
        command
    }

    fn ask(&self, command: &str) {
        let status = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.0.address.port().to_string(), command])
            .stdout(Stdio::null())
            .status()
            .expect("redis-cli runs");
        assert!(status.success());
    }
}

fn median_and_spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    // `cargo test --benches` starts every bench once, to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let on_disk = setting("LEVERET_FSYNC", "no") == "everysec";
    let rounds: usize = setting("LEVERET_ROUNDS", "5").parse().expect("a number");
    let tests = setting("LEVERET_TESTS", TESTS);
    let (theirs, ours): (&[&str], &[&str]) = if on_disk {
        (&["--appendonly", "yes", "--appendfsync", "everysec"], &[])
    } else {
        (&[], &["--in-memory"])
    };
    let (redis, leveret) = (Measured(Server::redis(theirs)), Measured(Server::leveret(ours)));
    println!("ours / Redis's, {CLIENTS} clients, median of {rounds} rounds (least to most)");
    println!(
        "| test | -P | --threads | requests/s | ratio | CPU a request, us | ratio | client busy | sleeps in 1,000 |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let threads = setting("LEVERET_THREADS", "1,2");
    let threads: Vec<&str> = threads.split(',').map(str::trim).collect();
    for (pipeline, threads) in
        [1, 16].into_iter().flat_map(|p| threads.iter().map(move |t| (p, *t)))
    {
        for test in tests.split(',').map(str::trim) {
            let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            for round in 0..rounds {
                let both = [("redis", &redis), ("leveret", &leveret)];
                let (first, second) = (round % 2, 1 - round % 2);
                let mut results = BTreeMap::new();
                for (name, server) in [both[first], both[second]] {
                    results.insert(name, server.measure(test, pipeline, threads));
                }
                let (theirs, ours) = (results["redis"], results["leveret"]);
                for (name, value) in [
                    ("rate", ours.rate),
                    ("their rate", theirs.rate),
                    ("cpu", ours.cpu_us),
                    ("their cpu", theirs.cpu_us),
                    ("rate ratio", ours.rate / theirs.rate),
                    ("cpu ratio", ours.cpu_us / theirs.cpu_us.max(0.001)),
                    ("client", ours.client_busy),
                    ("their client", theirs.client_busy),
                    ("sleeps", ours.sleeps),
                    ("their sleeps", theirs.sleeps),
                ] {
                    figures.entry(name).or_default().push(value);
                }
            }
            let of = |name: &str| median_and_spread(figures[name].clone());
            let (rate, least, most) = of("rate ratio");
            let (cpu, cpu_least, cpu_most) = of("cpu ratio");
            println!(
                "| {test} | {pipeline} | {threads} | {:.0} / {:.0} | {rate:.2} ({least:.2} to {most:.2}) | \
                 {:.2} / {:.2} | {cpu:.2} ({cpu_least:.2} to {cpu_most:.2}) | {:.2} / {:.2} | {:.0} / {:.0} |",
                of("rate").0,
                of("their rate").0,
                of("cpu").0,
                of("their cpu").0,
                of("client").0,
                of("their client").0,
                of("sleeps").0,
                of("their sleeps").0,
            );
        }
    }
}
