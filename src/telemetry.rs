//! What people see of the inner life: log lines and panics, on standard error.
//!
//! On a terminal the lines are terse. Elsewhere they are read later, and begin with the time, unless systemd's journal adds it.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

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
    let is_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // They would go to standard error, which is what has failed, and panic.
        .log_internal_errors(false)
        .with_ansi(is_terminal)
        .with_timer(UtcMillis)
        .with_writer(BesideProgress);
    let is_terse = verbose == 0;
    let has_time = if is_terminal { !is_terse } else { !is_journal() };
    match (is_terse, has_time) {
        (true, true) => lines.with_target(false).compact().init(),
        (true, false) => lines.with_target(false).compact().without_time().init(),
        (false, true) => lines.with_thread_names(true).init(),
        (false, false) => lines.with_thread_names(true).without_time().init(),
    }
    if misspelt {
        tracing::warn!("{FILTER_VARIABLE} is no log filter and was ignored; try {FILTER_VARIABLE}=debug");
    }
    std::panic::set_hook(Box::new(|panic| {
        // People are told by whoever catches it; this is for those who mend it.
        tracing::debug!("{panic}");
    }));
}

/// Whether standard error is systemd's journal. The variable names the stream by device and inode (systemd.exec(5)), since children
/// inherit it whose standard error may go elsewhere.
fn is_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// UTC, to the millisecond: `2026-01-02T03:04:05.678Z`.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, line: &mut Writer) -> fmt::Result {
        write!(line, "{}", humantime::format_rfc3339_millis(SystemTime::now()))
    }
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
