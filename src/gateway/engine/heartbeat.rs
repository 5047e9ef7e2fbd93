//! When to ping, and when a silent client is gone (Engine.IO protocol 4, "Heartbeat"). Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A look that comes later than it was due is taken to be on time up to this, so that a client's time-out
/// is not longer by what the timers of its server are late. A server that stood still asks first.
const LATE_MAX: Duration = Duration::from_millis(10);

/// The server pings; the client answers with a pong.
#[derive(Debug)]
pub struct Heartbeat {
    ping_at: Instant,
    /// The pong of the last ping is owed until then.
    deadline: Option<Instant>,
    /// The deadline was moved once, because the client sent something else.
    extended: bool,
    /// The next ping is due already, and goes out when the pong of the last one has come.
    ping_waits: bool,
}

/// What all sessions have alike.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    pub interval: Duration,
    pub timeout: Duration,
}

/// What the client sent since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// Packets, but no pong.
    Traffic,
    Pong,
}

/// What the timer's owner has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Ping,
    Wait,
    TimedOut,
}

impl Heartbeat {
    pub fn new(now: Instant, periods: Periods) -> Self {
        let ping_at = now + periods.interval;
        Self { ping_at, deadline: None, extended: false, ping_waits: false }
    }

    /// When [`Self::beat`] has to be called next.
    pub fn due(&self) -> Instant {
        match self.deadline {
            None => self.ping_at,
            // With an interval shorter than the time-out, the next ping is due before the deadline
            // if the pong has come by then.
            Some(deadline) if !self.ping_waits => deadline.min(self.ping_at),
            Some(deadline) => deadline,
        }
    }

    /// Looks at the clock. `heard` is what came in since the last ping.
    pub fn beat(&mut self, now: Instant, heard: Heard, periods: Periods) -> Beat {
        if heard == Heard::Pong {
            self.deadline = None;
        }
        let beat = match self.deadline {
            Some(deadline) if now < deadline => Beat::Wait,
            // As the stock server does: a client that is busy sending gets one more period.
            Some(_) if heard == Heard::Traffic && !self.extended => {
                self.extended = true;
                self.deadline = Some(now + periods.timeout);
                Beat::Wait
            }
            Some(_) => Beat::TimedOut,
            None if now < self.ping_at => Beat::Wait,
            None => {
                let is_late = now.duration_since(self.ping_at) > LATE_MAX;
                let pinged_at = if is_late { now } else { self.ping_at };
                self.ping_at = pinged_at + periods.interval;
                self.deadline = Some(pinged_at + periods.timeout);
                self.extended = false;
                Beat::Ping
            }
        };
        self.ping_waits = self.ping_at <= now;
        beat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    struct Watched(Heartbeat, Periods);

    impl Watched {
        fn new(start: Instant, interval_s: u64, timeout_s: u64) -> Self {
            let periods = Periods { interval: seconds(interval_s), timeout: seconds(timeout_s) };
            Self(Heartbeat::new(start, periods), periods)
        }

        fn beat(&mut self, now: Instant, heard: Heard) -> Beat {
            self.0.beat(now, heard, self.1)
        }

        fn due(&self) -> Instant {
            self.0.due()
        }
    }

    #[test]
    fn pings_every_interval_while_pongs_come() {
        let start = Instant::now();
        let mut heartbeat = Watched::new(start, 25, 20);
        assert_eq!(heartbeat.due(), start + seconds(25));
        assert_eq!(heartbeat.beat(start + seconds(25), Heard::Nothing), Beat::Ping);
        assert_eq!(heartbeat.due(), start + seconds(45));
        assert_eq!(heartbeat.beat(start + seconds(45), Heard::Pong), Beat::Wait);
        assert_eq!(heartbeat.due(), start + seconds(50));
        assert_eq!(heartbeat.beat(start + seconds(50), Heard::Nothing), Beat::Ping);
    }

    #[test]
    fn a_missing_pong_ends_it_at_the_timeout() {
        let start = Instant::now();
        let mut heartbeat = Watched::new(start, 25, 20);
        assert_eq!(heartbeat.beat(start + seconds(25), Heard::Nothing), Beat::Ping);
        assert_eq!(heartbeat.beat(start + seconds(45), Heard::Nothing), Beat::TimedOut);
    }

    #[test]
    fn a_late_timer_moves_nothing_and_a_server_that_stood_still_asks_first() {
        let start = Instant::now();
        let mut heartbeat = Watched::new(start, 25, 20);
        assert_eq!(heartbeat.beat(start + seconds(25) + LATE_MAX, Heard::Nothing), Beat::Ping);
        assert_eq!(heartbeat.due(), start + seconds(45));
        assert_eq!(heartbeat.beat(start + seconds(45), Heard::Pong), Beat::Wait);
        assert_eq!(heartbeat.due(), start + seconds(50));
        assert_eq!(heartbeat.beat(start + seconds(90), Heard::Nothing), Beat::Ping);
        assert_eq!(heartbeat.due(), start + seconds(110));
    }

    #[test]
    fn other_traffic_buys_one_more_period() {
        let start = Instant::now();
        let mut heartbeat = Watched::new(start, 25, 20);
        assert_eq!(heartbeat.beat(start + seconds(25), Heard::Nothing), Beat::Ping);
        assert_eq!(heartbeat.beat(start + seconds(45), Heard::Traffic), Beat::Wait);
        assert_eq!(heartbeat.due(), start + seconds(50));
        assert_eq!(heartbeat.beat(start + seconds(50), Heard::Traffic), Beat::Wait);
        assert_eq!(heartbeat.due(), start + seconds(65));
        assert_eq!(heartbeat.beat(start + seconds(65), Heard::Traffic), Beat::TimedOut);
    }

    #[test]
    fn an_interval_shorter_than_the_timeout_still_pings_every_interval() {
        let start = Instant::now();
        let mut heartbeat = Watched::new(start, 5, 20);
        assert_eq!(heartbeat.beat(start + seconds(5), Heard::Nothing), Beat::Ping);
        assert_eq!(heartbeat.due(), start + seconds(10));
        assert_eq!(heartbeat.beat(start + seconds(10), Heard::Pong), Beat::Ping);
        assert_eq!(heartbeat.beat(start + seconds(15), Heard::Nothing), Beat::Wait);
        assert_eq!(heartbeat.due(), start + seconds(30));
        assert_eq!(heartbeat.beat(start + seconds(30), Heard::Nothing), Beat::TimedOut);
    }
}
