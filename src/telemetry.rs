//! What people see of the inner life: log lines and panics, on standard error.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::progress;

/// Variable that overrides the log filter, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "MASKWATCH_LOG";

/// Sets up logging and the panic hook. `verbose` is how often -v was given.
pub fn init(verbose: u8) {
    let default = match verbose {
        0 => "maskwatch=info",
        1 => "maskwatch=debug",
        _ => "trace",
    };
    let wanted = std::env::var(FILTER_VARIABLE).ok();
    let parsed = wanted.as_deref().map(EnvFilter::try_new);
    let misspelt = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // They would go to standard error, which is what has failed, and panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(BesideProgress);
    if verbose == 0 {
        lines.without_time().with_target(false).compact().init();
    } else {
        lines.with_thread_names(true).init();
    }
    if misspelt {
        tracing::warn!("{FILTER_VARIABLE} is no log filter and was ignored; try {FILTER_VARIABLE}=debug");
    }
    std::panic::set_hook(Box::new(|panic| {
        // People are told by whoever catches it; this is for those who mend it.
        tracing::debug!("{panic}");
    }));
}

/// Standard error, with progress bars out of the way while a line is written.
struct BesideProgress;

impl MakeWriter<'_> for BesideProgress {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for BesideProgress {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        progress::suspended(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
