//! A room at low rates, where each delivery is a write of its own, beside a bare loop of `send()`.
//!
//! Both are measured in slices by turns, or the ratio would be one of what the machine does meanwhile. The
//! server, or the loop, has one core and the generator the other: to a reader on its own core a send costs
//! less, and where the kernel puts the two is chance. Each has a process of clients, which are the same but for what
//! they make send.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bare::{self, Bare};
use super::broadcast::gather;
use super::clients::{Clients, Trigger};
use super::figures::{Figures, Run};
use super::latency::Latency;
use super::process::{Pinned, SystemCalls, cpu_s};
use super::servers::Server;

/// Deliveries a second. At the lower rate a core sleeps so long between two broadcasts to few clients that it wakes
/// with nothing in its caches.
const RATES: [usize; 2] = [10_000, 40_000];

/// The shortest turn, and what of it does not count: the other has used the caches.
const SLICE: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_millis(100);

/// Ours alone has it. All begin a broadcast when a client sends an event.
const OVER_HTTP: &str = "over HTTP";
const BY_AN_EVENT: &str = "by an event";

pub const SERVERS_CORE: usize = 0;
pub const GENERATORS_CORE: usize = 1;

/// A room of one server, and the loop if it takes turns with it.
pub struct LowRate<'a> {
    pub server: &'a Server,
    pub bare: Option<&'a Bare>,
    pub room: &'a str,
    pub count: usize,
    pub run: &'a Run,
}

/// Who begins a broadcast, and what became of all in its slices.
struct Turns<'a> {
    begun: &'static str,
    by: &'a By<'a>,
    all: Slice,
}

enum By<'a> {
    Server(Served<'a>),
    Bare(&'a Bare),
}

/// A server that is made to send.
struct Served<'a> {
    server: &'a Server,
    room: &'a str,
    trigger: Trigger,
    reaches: usize,
}

/// What sends, when it is told to.
pub trait Sender {
    fn name(&self) -> String;

    fn broadcast(&self, clients: &mut Clients, sent_ns: u64);

    /// Deliveries of a broadcast.
    fn reaches(&self) -> usize;

    /// Used so far.
    fn cpu_s(&self) -> f64;
}

/// What was sent in a turn.
#[derive(Default, Serialize, Deserialize)]
pub struct Slice {
    deliveries: usize,
    cpu_s: f64,
    latency: Latency,
}

impl LowRate<'_> {
    /// `clients` has as many in the room.
    pub fn measure(&self, clients: &mut Clients, figures: &mut Figures) {
        let name = self.server.name();
        let event = clients.event_trigger(self.server, self.room);
        let http = clients.http_trigger(self.server);
        if let Some(bare) = self.bare {
            bare.connect(self.count);
        }
        let served =
            |trigger, reaches| Served { server: self.server, room: self.room, trigger, reaches };
        let mut senders = vec![(BY_AN_EVENT, By::Server(served(event, self.count)))];
        // Also who begins the others' broadcasts gets these.
        senders.extend(http.map(|http| (OVER_HTTP, By::Server(served(http, self.count + 1)))));
        senders.extend(self.bare.map(|bare| (bare::NAME, By::Bare(bare))));
        let _apart =
            (Pinned::me(GENERATORS_CORE), Pinned::process(self.server.pid(), SERVERS_CORE));
        for rate in RATES {
            for turns in self.by_turns(clients, &senders, rate) {
                let us = turns.all.cpu_s * 1e6 / turns.all.deliveries as f64;
                let (who, begun) = match turns.by {
                    By::Server(_) => (name.as_str(), &[turns.begun][..]),
                    // What its ratios are to.
                    By::Bare(_) => (bare::NAME, &[BY_AN_EVENT, OVER_HTTP][..]),
                };
                for begun in begun {
                    let figure = format!("{rate}/s, begun {begun}");
                    figures.add(who, &format!("{figure}: CPU us a delivery"), us);
                    figures.latency(who, &figure, &turns.all.latency);
                }
            }
            let calls = SystemCalls::of(self.server.pid());
            let deliveries = send(clients, &served(event, self.count), self.interval(rate), SLICE);
            if let Some(calls) = calls.count() {
                let figure = format!("{rate}/s: system calls a delivery");
                figures.add(&name, &figure, calls / deliveries as f64);
            }
            clients.seen.latency = Latency::default();
        }
        [event].into_iter().chain(http).for_each(|trigger| clients.end(trigger));
        if let Some(bare) = self.bare {
            bare.close_all();
        }
    }

    fn by_turns<'a>(
        &self,
        clients: &mut Clients,
        senders: &'a [(&'static str, By<'a>)],
        rate: usize,
    ) -> Vec<Turns<'a>> {
        let turns = senders.iter().map(|(begun, by)| Turns { begun, by, all: Slice::default() });
        let mut all: Vec<_> = turns.collect();
        let interval = self.interval(rate);
        let began = Instant::now();
        while began.elapsed() < self.run.time * u32::try_from(senders.len()).expect("a few") {
            for turns in &mut all {
                turns.all.add(&match turns.by {
                    By::Server(server) => slice(clients, server, interval),
                    By::Bare(bare) => bare.slice(interval),
                });
            }
        }
        all
    }

    /// Between two broadcasts.
    fn interval(&self, rate: usize) -> Duration {
        Duration::from_secs_f64(self.count as f64 / rate as f64)
    }
}

impl Sender for Served<'_> {
    fn name(&self) -> String {
        self.server.name()
    }

    fn broadcast(&self, clients: &mut Clients, sent_ns: u64) {
        clients.broadcast(self.trigger, self.room, sent_ns);
    }

    fn reaches(&self) -> usize {
        self.reaches
    }

    fn cpu_s(&self) -> f64 {
        cpu_s(self.server.pid())
    }
}

impl Slice {
    fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.cpu_s += other.cpu_s;
        self.latency.add(&other.latency);
    }
}

/// One turn, in the process that has the clients of who sends.
pub fn slice(clients: &mut Clients, sender: &impl Sender, interval: Duration) -> Slice {
    send(clients, sender, interval, WARM_UP.max(interval));
    clients.seen.latency = Latency::default();
    let before = sender.cpu_s();
    let deliveries = send(clients, sender, interval, SLICE.max(2 * interval));
    let cpu_s = sender.cpu_s() - before;
    Slice { deliveries, cpu_s, latency: std::mem::take(&mut clients.seen.latency) }
}

/// At regular times; how many deliveries there were.
fn send(clients: &mut Clients, sender: &impl Sender, interval: Duration, time: Duration) -> usize {
    clients.seen.news = 0;
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time {
        let due = interval * u32::try_from(sent).expect("a short run");
        let now = began.elapsed();
        if now < due {
            clients.turn((due - now).min(time.saturating_sub(now)));
            continue;
        }
        let sent_ns = clients.now_ns();
        sender.broadcast(clients, sent_ns);
        sent += 1;
    }
    let deliveries = sent * sender.reaches();
    gather(clients, deliveries, &sender.name());
    deliveries
}
