//! Stopping in order: one signal asks, a second one insists.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use crate::exit_code::ExitCode;

/// How often a waiting thread looks whether the end was asked for.
const POLL: Duration = Duration::from_millis(20);

/// Shared by whoever may ask for the end and whoever must heed it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Set by signals alone: a second signal must find it unset until there was a first.
    signalled: Arc<AtomicBool>,
    /// When it was first noticed that a signal had come.
    noticed: Arc<OnceLock<Instant>>,
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
        self.signalled.load(Ordering::SeqCst)
    }

    /// How long ago a signal asked for the end, if one did. Counted from when this was first asked after the signal.
    pub fn since_signal(&self) -> Option<Duration> {
        self.was_signalled().then(|| self.noticed.get_or_init(Instant::now).elapsed())
    }

    /// A token that heeds the same signals, but whose own requests concern nobody else.
    pub fn child(&self) -> Self {
        Self { signalled: Arc::clone(&self.signalled), noticed: Arc::clone(&self.noticed), requested: Arc::default() }
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

    /// Lets SIGINT and SIGTERM ask for the end; the second one ends the process at once. A file that hits its size
    /// limit becomes a write error in place of a signal that kills.
    ///
    /// # Errors
    ///
    /// When the system refuses to install the handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset, and sets it.
            let exit_code = ExitCode::Interrupted.into();
            signal_hook::flag::register_conditional_shutdown(signal, exit_code, Arc::clone(&shutdown.signalled))?;
            signal_hook::flag::register(signal, Arc::clone(&shutdown.signalled))?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(shutdown)
    }
}
