//! Durations of consecutive steps.

use std::time::{Duration, Instant};

/// Measures consecutive steps.
#[derive(Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins the first step.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long the step took that ends here; the next one begins.
    pub fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now))
    }
}
