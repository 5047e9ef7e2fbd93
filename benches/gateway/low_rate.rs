//! A room at low rates, where each delivery is a write of its own, beside a bare loop of `send()`.
//!
//! Both are measured in slices by turns, or the ratio would be one of what the machine does meanwhile. The
//! server, or the loop, has one core and the generator the other: to a reader on its own core a send costs
//! less, and where the kernel puts the two is chance.

use std::time::{Duration, Instant};

use super::bare::Bare;
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

const BARE: &str = "bare loop";

pub const SERVERS_CORE: usize = 0;
const GENERATORS_CORE: usize = 1;

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
    by: By<'a>,
    deliveries: usize,
    cpu_s: f64,
    latency: Latency,
}

#[derive(Clone, Copy)]
enum By<'a> {
    Trigger(Trigger),
    Bare(&'a Bare),
}

impl LowRate<'_> {
    /// `clients` has as many in the room.
    pub fn measure(&self, clients: &mut Clients, figures: &mut Figures) {
        let name = self.server.name();
        let event = clients.event_trigger(self.server, self.room);
        let http = clients.http_trigger(self.server);
        let mut listeners = Vec::new();
        if let Some(bare) = self.bare {
            for _ in 0..self.count / 100 {
                listeners.extend((0..100).map(|_| clients.listen(bare.address)));
                bare.accept(100);
            }
        }
        let mut senders = vec![(BY_AN_EVENT, By::Trigger(event))];
        senders.extend(http.map(|trigger| (OVER_HTTP, By::Trigger(trigger))));
        senders.extend(self.bare.map(|bare| (BARE, By::Bare(bare))));
        let _apart =
            (Pinned::me(GENERATORS_CORE), Pinned::process(self.server.pid(), SERVERS_CORE));
        for rate in RATES {
            for turns in self.by_turns(clients, &senders, rate) {
                let us = turns.cpu_s * 1e6 / turns.deliveries as f64;
                let (who, begun) = match turns.by {
                    By::Trigger(_) => (name.as_str(), &[turns.begun][..]),
                    // What its ratios are to.
                    By::Bare(_) => (BARE, &[BY_AN_EVENT, OVER_HTTP][..]),
                };
                for begun in begun {
                    let figure = format!("{rate}/s, begun {begun}");
                    figures.add(who, &format!("{figure}: CPU us a delivery"), us);
                    figures.latency(who, &figure, &turns.latency);
                }
            }
            let calls = SystemCalls::of(self.server.pid());
            let turns = Turns::new(BY_AN_EVENT, By::Trigger(event));
            let deliveries = self.send(clients, &turns, self.interval(rate), SLICE);
            if let Some(calls) = calls.count() {
                let figure = format!("{rate}/s: system calls a delivery");
                figures.add(&name, &figure, calls / deliveries as f64);
            }
            clients.seen.latency = Latency::default();
        }
        [event].into_iter().chain(http).for_each(|trigger| clients.end(trigger));
        listeners.into_iter().for_each(|listener| clients.close(listener));
        if let Some(bare) = self.bare {
            bare.forget();
        }
    }

    fn by_turns<'a>(
        &self,
        clients: &mut Clients,
        senders: &[(&'static str, By<'a>)],
        rate: usize,
    ) -> Vec<Turns<'a>> {
        let mut all: Vec<_> = senders.iter().map(|(begun, by)| Turns::new(begun, *by)).collect();
        let began = Instant::now();
        while began.elapsed() < self.run.time * u32::try_from(senders.len()).expect("a few") {
            all.iter_mut().for_each(|turns| self.turn(clients, turns, rate));
        }
        all
    }

    /// Between two broadcasts.
    fn interval(&self, rate: usize) -> Duration {
        Duration::from_secs_f64(self.count as f64 / rate as f64)
    }

    /// One slice.
    fn turn(&self, clients: &mut Clients, turns: &mut Turns<'_>, rate: usize) {
        let interval = self.interval(rate);
        self.send(clients, turns, interval, WARM_UP.max(interval));
        let cpu_s = || match turns.by {
            By::Trigger(_) => cpu_s(self.server.pid()),
            By::Bare(bare) => bare.spent_s(),
        };
        clients.seen.latency = std::mem::take(&mut turns.latency);
        let cpu_before = cpu_s();
        let deliveries = self.send(clients, turns, interval, SLICE.max(2 * interval));
        turns.cpu_s += cpu_s() - cpu_before;
        turns.deliveries += deliveries;
        turns.latency = std::mem::take(&mut clients.seen.latency);
    }

    /// At regular times; how many deliveries there were.
    fn send(
        &self,
        clients: &mut Clients,
        turns: &Turns<'_>,
        interval: Duration,
        time: Duration,
    ) -> usize {
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
            match turns.by {
                By::Trigger(trigger) => clients.broadcast(trigger, self.room, sent_ns),
                By::Bare(bare) => bare.broadcast(sent_ns),
            }
            sent += 1;
        }
        let reached = match turns.begun {
            // Also who begins the others' broadcasts.
            OVER_HTTP => self.count + 1,
            _ => self.count,
        };
        gather(clients, sent * reached, turns.begun);
        sent * reached
    }
}

impl<'a> Turns<'a> {
    fn new(begun: &'static str, by: By<'a>) -> Self {
        Self { begun, by, deliveries: 0, cpu_s: 0.0, latency: Latency::default() }
    }
}
