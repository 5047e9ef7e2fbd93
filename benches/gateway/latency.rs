//! Latencies, counted in buckets no wider than a thirty-second of their value.

use serde::{Deserialize, Serialize};

const STEPS: u64 = 32;
const BUCKETS: usize = (64 * STEPS) as usize;

#[derive(Serialize, Deserialize)]
pub struct Latency {
    buckets: Vec<u64>,
    count: u64,
    most_ns: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, most_ns: 0 }
    }
}

impl Latency {
    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.most_ns = self.most_ns.max(ns);
    }

    /// Those of the other, too.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, its)| *mine += its);
        self.count += other.count;
        self.most_ns = self.most_ns.max(other.most_ns);
    }

    pub fn most_ms(&self) -> f64 {
        self.most_ns as f64 / 1e6
    }

    /// Milliseconds that `share` of the values do not pass; 0 when there are none.
    pub fn ms_at(&self, share: f64) -> f64 {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut below = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank.max(1) {
                return most_of(index).min(self.most_ns) as f64 / 1e6;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEPS.ilog2();
    (u64::from(shift + 1) * STEPS + (ns >> shift) - STEPS) as usize
}

/// The largest value of a bucket.
fn most_of(index: usize) -> u64 {
    let (block, step) = (index as u64 / STEPS, index as u64 % STEPS);
    match block {
        0 => step,
        _ => ((STEPS + step + 1) << (block - 1)) - 1,
    }
}
