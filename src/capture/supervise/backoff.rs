//! How long to wait before a source is tried again: exponential back-off with jitter.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Shortest wait.
pub const SHORTEST: Duration = Duration::from_millis(500);
/// Longest wait.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Doubles the wait with each failure. Since it is drawn from the upper half of the current span, a switch that
/// comes back is not stormed by all cameras at once, and the wait never exceeds the length of the outage so far by much.
#[derive(Debug)]
pub struct Backoff {
    span: Duration,
    random: ChaCha8Rng,
}

impl Backoff {
    /// Begins with the shortest wait; equal seeds give equal waits.
    pub fn new(seed: u64) -> Self {
        Self { span: SHORTEST, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The wait after one more failure, from [`SHORTEST`] to [`LONGEST`].
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.span.mul_f64(self.random.random_range(0.5..=1.0)).max(SHORTEST);
        self.span = (self.span * 2).min(LONGEST);
        wait
    }

    /// Begins again with the shortest wait.
    pub fn reset(&mut self) {
        self.span = SHORTEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_half_a_second_to_half_a_minute_and_scatter() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..20).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        for seed in 0..50 {
            for (attempt, wait) in waits(seed).into_iter().enumerate() {
                let span = (SHORTEST * 2_u32.pow(attempt as u32)).min(LONGEST);
                assert!((span / 2).max(SHORTEST) <= wait && wait <= span, "attempt {attempt}: {wait:?}");
            }
        }
        let last: Vec<Duration> = (0..50).map(|seed| waits(seed)[19]).collect();
        let (earliest, latest) = (last.iter().min().unwrap(), last.iter().max().unwrap());
        assert!(*latest - *earliest > Duration::from_secs(10), "{earliest:?} to {latest:?}");
        assert_eq!(waits(7), waits(7));
    }

    #[test]
    fn a_success_begins_anew() {
        let mut backoff = Backoff::new(1);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert_eq!(backoff.next_wait(), SHORTEST);
    }
}
