//! A message as the oracle has it.

use crate::headers::Header;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Letter {
    pub body: u64,
    pub body_bytes: u64,
    pub exchange: String,
    pub key: String,
    pub persistent: bool,
    pub priority: u8,
    pub ttl_ms: Option<u64>,
    pub headers: &'static [Header],
    /// More keys, that its receivers see.
    pub cc: &'static [&'static str],
    /// Newest first.
    pub deaths: Vec<Death>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Death {
    pub queue: String,
    pub reason: &'static str,
    pub count: u32,
    pub exchange: String,
    /// Its own, then those of its CC.
    pub keys: Vec<String>,
}

/// Bytes of the least body: its number.
pub const BODY_BYTES_MIN: u64 = 8;

impl Letter {
    /// What it is after one more death: one entry a queue and reason, the newest first, which tells of the
    /// first of them.
    pub fn died(
        &self,
        queue: &str,
        reason: &'static str,
        exchange: &str,
        key: Option<&str>,
    ) -> Self {
        let mut letter = self.clone();
        let at = letter.deaths.iter().position(|d| d.queue == queue && d.reason == reason);
        let death = match at.map(|at| letter.deaths.remove(at)) {
            Some(before) => Death { count: before.count + 1, ..before },
            None => Death {
                queue: queue.to_owned(),
                reason,
                count: 1,
                exchange: self.exchange.clone(),
                keys: self.keys().into_iter().map(str::to_owned).collect(),
            },
        };
        letter.deaths.insert(0, death);
        letter.ttl_ms = None;
        letter.exchange = exchange.to_owned();
        if let Some(key) = key {
            letter.key = key.to_owned();
            letter.cc = &[];
        }
        letter
    }

    pub fn keys(&self) -> Vec<&str> {
        [self.key.as_str()].into_iter().chain(self.cc.iter().copied()).collect()
    }

    /// It was in that queue before, and nobody has rejected it since.
    pub fn would_cycle(&self, queue: &str) -> bool {
        let since = self.deaths.iter().take_while(|death| death.reason != "rejected");
        since.into_iter().any(|death| death.queue == queue)
    }
}

/// Deaths as answers show them.
pub fn told(deaths: &[Death]) -> String {
    let one = |death: &Death| {
        let Death { queue, reason, count, exchange, keys } = death;
        format!("{queue}:{reason}:{count}:{exchange}/{}", keys.join("+"))
    };
    deaths.iter().map(one).collect::<Vec<_>>().join(",")
}
