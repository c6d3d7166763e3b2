//! The figures of a run in a file that is replaced every few seconds, for whoever watches from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Finding, Sink, SinkError, SourceContext, Written};
use crate::files;
use crate::shared::Shared;
use crate::stats::{RunSnapshot, RunStats};

/// What the sink is called.
pub const NAME: &str = "stats";
/// How often the file is replaced.
const INTERVAL: Duration = Duration::from_secs(2);

/// Writes [`RunStats`] as JSON.
#[derive(Debug)]
pub struct StatsFile {
    path: PathBuf,
    stats: Arc<RunStats>,
    written_at: Instant,
}

impl StatsFile {
    /// Writes the file for the first time.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(path: PathBuf, stats: Arc<RunStats>) -> Result<Self, SinkError> {
        let mut file = Self { path, stats, written_at: Instant::now() };
        file.replace()?;
        Ok(file)
    }

    fn replace(&mut self) -> Result<(), SinkError> {
        self.written_at = Instant::now();
        write(&self.path, &self.stats.snapshot())
    }
}

/// Writes figures in place of those that are there: also the last ones, which are known only when all sinks have ended.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, figures: &RunSnapshot) -> Result<(), SinkError> {
    let mut text = serde_json::to_vec_pretty(figures).expect("names and finite numbers have a JSON form");
    text.push(b'\n');
    files::replace(path, &text).map_err(|reason| SinkError::file(path, reason))
}

impl Sink for StatsFile {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wants_frames(&self) -> bool {
        false
    }

    fn open(&mut self, _: SourceContext) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, _: &Shared<Finding>) -> Result<(), SinkError> {
        Ok(())
    }

    fn close(&mut self, _: usize) -> Result<(), SinkError> {
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        if self.written_at.elapsed() >= INTERVAL { self.replace() } else { Ok(()) }
    }

    fn written(&self) -> Vec<Written> {
        Vec::new()
    }
}
