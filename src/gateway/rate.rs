//! How often a client may send: a token bucket. Pure.

use tokio::time::Instant;

/// So many events a second in the long run, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRate {
    pub per_second: u32,
    pub burst: u32,
}

impl Default for EventRate {
    fn default() -> Self {
        Self { per_second: 200, burst: 400 }
    }
}

/// What one client has left.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Taken and not given back yet.
    spent: f32,
    at: Option<Instant>,
}

impl Bucket {
    /// Takes one; false: there is none.
    pub fn take(&mut self, rate: EventRate, now: Instant) -> bool {
        let elapsed = self.at.map_or(0.0, |at| now.duration_since(at).as_secs_f32());
        self.at = Some(now);
        self.spent = (self.spent - elapsed * rate.per_second as f32).max(0.0);
        let has_one = self.spent + 1.0 <= rate.burst as f32;
        if has_one {
            self.spent += 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_given_at_once_and_the_rest_at_the_rate() {
        let (rate, start) = (EventRate { per_second: 10, burst: 3 }, Instant::now());
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, after_ms| {
            let now = start + Duration::from_millis(after_ms);
            std::iter::repeat_with(|| bucket.take(rate, now)).take_while(|taken| *taken).count()
        };
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 50), 0);
        assert_eq!(taken(&mut bucket, 110), 1);
        assert_eq!(taken(&mut bucket, 320), 2);
        assert_eq!(taken(&mut bucket, 100_000), 3);
    }
}
