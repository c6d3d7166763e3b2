//! Time as the supervisor sees it: real, or simulated by a test.

use std::time::{Duration, Instant};

use crate::shutdown::Shutdown;

/// A monotonic clock.
pub trait Clock: Send {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
    /// Waits, but no longer than until the end of the run is asked for.
    fn sleep(&self, duration: Duration);
}

/// The clock on the wall.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    shutdown: Shutdown,
}

impl SystemClock {
    /// A clock whose sleepers are woken by `shutdown`.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self { started: Instant::now(), shutdown: shutdown.clone() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        self.shutdown.sleep(duration);
    }
}
