//! Stopping in order: one signal asks, a second one insists.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::low_level;

use crate::exit_code::ExitCode;

/// How often a waiting thread looks whether the end was asked for.
const POLL: Duration = Duration::from_millis(20);
/// Signals that come so soon after the first mean the same: `timeout`, for one, signals the process and then its group.
const SAME: Duration = Duration::from_millis(500);

/// Shared by whoever may ask for the end and whoever must heed it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// When the first signal came, in nanoseconds of the monotonic clock; 0 before.
    signalled_at: Arc<AtomicU64>,
    requested: Arc<AtomicBool>,
}

impl Shutdown {
    /// Asks for the end.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether the end was asked for, by the program or by a signal.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst) || self.was_signalled()
    }

    /// Whether a signal asked for the end.
    pub fn was_signalled(&self) -> bool {
        self.signalled_at.load(Ordering::SeqCst) != 0
    }

    /// Does what the first signal does.
    #[cfg(test)]
    pub fn signal(&self) {
        assert!(!insists(&self.signalled_at, monotonic_nanos()));
    }

    /// How long ago a signal asked for the end, if one did.
    pub fn since_signal(&self) -> Option<Duration> {
        let at = self.signalled_at.load(Ordering::SeqCst);
        (at != 0).then(|| Duration::from_nanos(monotonic_nanos().saturating_sub(at)))
    }

    /// A token that heeds the same signals, but whose own requests concern nobody else.
    pub fn child(&self) -> Self {
        Self { signalled_at: Arc::clone(&self.signalled_at), requested: Arc::default() }
    }

    /// Waits, but no longer than until the end is asked for.
    pub fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.is_requested() {
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(POLL)),
                _ => break,
            }
        }
    }

    /// Lets SIGINT and SIGTERM ask for the end; another one, half a second later or more, ends the process at once. A file that
    /// hits its size limit becomes a write error in place of a signal that kills.
    ///
    /// # Errors
    ///
    /// When the system refuses to install the handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let signalled_at = Arc::clone(&shutdown.signalled_at);
            let handler = move || {
                if insists(&signalled_at, monotonic_nanos()) {
                    low_level::exit(ExitCode::Interrupted.into());
                }
            };
            // SAFETY: reading a clock, an atomic number and ending the process are all that a handler does, and may do.
            unsafe { low_level::register(signal, handler) }?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(shutdown)
    }
}

/// Notes a signal that comes at a time; whether it is one that no longer asks.
fn insists(signalled_at: &AtomicU64, now: u64) -> bool {
    match signalled_at.compare_exchange(0, now.max(1), Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => false,
        Err(first) => Duration::from_nanos(now.saturating_sub(first)) >= SAME,
    }
}

fn monotonic_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_in_quick_succession_are_one() {
        let signalled_at = AtomicU64::new(0);
        let millis = |millis: u64| insists(&signalled_at, millis * 1_000_000);
        assert!(!millis(1000) && !millis(1000) && !millis(1400));
        assert!(millis(1500) && millis(9000));
    }

    #[test]
    fn all_tokens_know_when_a_signal_came() {
        let shutdown = Shutdown::default();
        let child = shutdown.child();
        assert_eq!((child.was_signalled(), child.since_signal()), (false, None));
        shutdown.signal();
        assert!(child.was_signalled() && child.is_requested());
        assert!(child.since_signal().is_some_and(|since| since < Duration::from_secs(60)));
    }
}
