//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::cli::ProgressArg;

/// All bars of the process, so that log lines can be written between them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Does something on standard error while no bar is drawn.
pub fn suspended<T>(act: impl FnOnce() -> T) -> T {
    BARS.suspend(act)
}

/// Progress of one task.
#[derive(Debug)]
pub struct Progress {
    title: String,
    bar: ProgressBar,
    /// When the last line was written, where lines are wanted in place of a bar.
    last_line: Option<Instant>,
}

impl Progress {
    /// Begins a task of `total` steps; `None` if nobody knows how many.
    pub fn new(when: ProgressArg, title: &str, total: Option<u64>, unit: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let lines = when == ProgressArg::Always && !terminal;
        let bar = match total {
            // Without a drawing target the bar still computes rate and remaining time.
            _ if when == ProgressArg::Never || !terminal => ProgressBar::hidden(),
            Some(total) => BARS.add(ProgressBar::new(total)),
            None => BARS.add(ProgressBar::no_length()),
        };
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        let counted = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}  {{rate}}  ETA {{eta}}");
        let endless = format!("{{msg}} {{spinner}} {{pos}} {unit}  {{rate}}  {{elapsed}}");
        let template = if total.is_some() { counted } else { endless };
        // The only possible error is a typing mistake in the lines above, and then the default style will do.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            write!(text, "{:.1}/s", state.per_sec()).unwrap_or(())
        };
        bar.set_style(style.with_key("rate", rate));
        bar.set_message(title.to_owned());
        Self { title: title.to_owned(), bar, last_line: lines.then(Instant::now) }
    }

    /// `done` steps are done; `detail` is shown behind the title.
    pub fn update(&mut self, done: u64, detail: &str) {
        self.bar.set_position(done);
        if !detail.is_empty() {
            self.bar.set_message(format!("{} {detail}", self.title));
        }
        let Some(last_line) = &mut self.last_line else { return };
        if last_line.elapsed() >= LINE_INTERVAL {
            *last_line = Instant::now();
            let line = match self.bar.length() {
                Some(total) => {
                    let eta = humantime::format_duration(Duration::from_secs(self.bar.eta().as_secs()));
                    format!("{} {detail} {done}/{total}, {:.1}/s, ETA {eta}", self.title, self.bar.per_sec())
                }
                None => format!("{} {detail} {done}, {:.1}/s", self.title, self.bar.per_sec()),
            };
            // Nobody may be listening any more; that is no reason to end the work.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        BARS.remove(&self.bar);
    }
}
