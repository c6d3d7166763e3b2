//! All stages at once: the pipeline that `run` uses, on a recorded source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::BenchError;
use super::spread::slope;
use crate::analyse::{Analyser, BatchLimit};
use crate::capture::{LiveSettings, Policy, SourceInfo, SourceSpec};
use crate::draw::Annotator;
use crate::gate::GateSettings;
use crate::pipeline::{self, NamedSource, Observer, Problem, RunSettings};
use crate::shutdown::Shutdown;
use crate::sinks::Sink;
use crate::stats::RunStats;

/// Batches before and behind those that count: as many as can be under way at once on a GPU, and twice as many as on a CPU. The first
/// ones find all queues empty, and a basis is fitted; while the last ones are under way, nobody decodes any more.
const BATCHES_AROUND: usize = 8;
/// Nobody is alarmed.
const ALARM_AFTER: Duration = Duration::from_secs(3600);

/// A run that can be repeated.
#[derive(Debug)]
pub(super) struct PipelineRun {
    settings: RunSettings,
    /// Frames that do not count, at the beginning and at the end each.
    around: usize,
}

/// Notes when each frame is done.
#[derive(Debug, Default)]
struct Times(Vec<Instant>);

impl PipelineRun {
    /// Of a source whose frames have so many bytes, of which so many count.
    pub(super) fn new(source: SourceSpec, frames: u64, frame_bytes: usize, batch: BatchLimit) -> Self {
        let around = BATCHES_AROUND * batch.most_of(frame_bytes);
        let settings = RunSettings {
            sources: vec![NamedSource { name: source.name(), spec: source }],
            policy: Some(Policy::Recorded),
            limit: Some(frames + 2 * around as u64),
            batch,
            gate: GateSettings { live: false, recorded: false },
            alarm_after: ALARM_AFTER,
            model: String::new(),
            live: LiveSettings::default(),
        };
        Self { settings, around }
    }

    /// How long a frame takes once the run is under way. Nothing if the end was asked for meanwhile.
    ///
    /// # Errors
    ///
    /// When anything goes wrong, or there is a single frame.
    pub(super) fn time(
        &self,
        analyser: &mut Analyser,
        sinks: Vec<Box<dyn Sink>>,
        shutdown: &Shutdown,
    ) -> Result<Option<Duration>, BenchError> {
        let name = &self.settings.sources[0].name;
        let stats = Arc::new(RunStats::new([name.clone()]));
        let mut times = Times::default();
        let summary = pipeline::run(&self.settings, analyser, Annotator::new()?, sinks, &stats, &mut times, shutdown);
        if shutdown.is_requested() {
            return Ok(None);
        }
        if let Some(problem) = summary.problems.into_iter().next() {
            return Err(problem.into());
        }
        let a_frame = times.a_frame(self.around).ok_or_else(|| BenchError::TooShort { name: name.clone() })?;
        Ok(Some(a_frame))
    }
}

impl Times {
    /// Between frames, but for so many at the beginning and at the end, or two thirds of all if they are few; nothing of a single
    /// frame.
    fn a_frame(&self, around: usize) -> Option<Duration> {
        let around = around.min(self.0.len().saturating_sub(2) / 3);
        let counted = &self.0[around..self.0.len() - around];
        let seconds: Vec<f64> = counted.iter().map(|time| (*time - counted[0]).as_secs_f64()).collect();
        slope(&seconds).map(|slope| Duration::from_secs_f64(slope.max(0.0)))
    }
}

impl Observer for Times {
    fn opened(&mut self, _: usize, _: &SourceInfo) {}

    fn frame(&mut self, _: usize, _: u64) {
        self.0.push(Instant::now());
    }

    fn closed(&mut self, _: usize) {}

    /// It is in the summary, too.
    fn problem(&mut self, _: &Problem) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that are done so many milliseconds after one another.
    fn times(steps: impl IntoIterator<Item = u64>) -> Times {
        let mut now = Instant::now();
        let after = |millis| {
            now += Duration::from_millis(millis);
            now
        };
        Times(steps.into_iter().map(after).collect())
    }

    #[test]
    fn neither_the_beginning_nor_the_end_of_a_run_counts() {
        let millis = |times: Times| times.a_frame(8).map(|time| time.as_secs_f64() * 1e3);
        let near = |found: Option<f64>, expected: f64| found.is_some_and(|found| (found - expected).abs() < 1e-6);
        assert!(near(millis(times([900; 8].into_iter().chain([0]).chain([25; 20]).chain([3; 8]))), 25.0));
        assert!(near(millis(times([0, 900, 10, 10, 10, 3])), 10.0));
        assert!(near(millis(times([0, 10])), 10.0));
        assert_eq!((millis(times([0])), millis(times([]))), (None, None));
    }
}
