//! Stopping in order: one signal asks, a second one insists.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use crate::exit_code::ExitCode;

/// Shared by whoever may ask for the end and whoever must heed it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// Asks for the end.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
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
            signal_hook::flag::register_conditional_shutdown(signal, ExitCode::Interrupted.into(), shutdown.0.clone())?;
            signal_hook::flag::register(signal, shutdown.0.clone())?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(shutdown)
    }
}
