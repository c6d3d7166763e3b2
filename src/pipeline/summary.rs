//! The account of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Problem;
use crate::analyse::Analysis;
use crate::capture::SourceInfo;
use crate::exit_code::ExitCode;
use crate::frame::Frame;
use crate::sinks::Written;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// Sources that delivered frames, in the order that the user gave.
    pub sources: Vec<SourceSummary>,
    /// Where the time went.
    pub times: StageTimes,
    /// From start to end.
    pub elapsed: Duration,
    /// Frames that live sources delivered and nobody could take in time.
    pub dropped: u64,
    /// Files that were completed.
    pub written: Vec<Written>,
    /// Whether a signal ended the run before its sources did.
    pub interrupted: bool,
    /// What went wrong.
    pub problems: Vec<Problem>,
}

/// One source of a run.
#[derive(Debug)]
pub struct SourceSummary {
    /// Its name.
    pub name: String,
    /// Frames that went through all stages.
    pub frames: u64,
    /// Frames by label.
    pub by_label: BTreeMap<String, u64>,
}

/// Time spent by stage, summed over frames. Stages overlap, so the sum exceeds the elapsed time.
#[derive(Debug, Default)]
pub struct StageTimes {
    /// Reading and decoding.
    pub decode: Duration,
    /// Resizing to the network's input.
    pub prepare: Duration,
    /// The network's forward pass.
    pub infer: Duration,
    /// Class activation maps.
    pub explain: Duration,
    /// Boxes.
    pub boxes: Duration,
    /// Drawing.
    pub draw: Duration,
    /// Handing frames to the sinks, waiting for a slow one included.
    pub write: Duration,
}

impl SourceSummary {
    pub(super) fn new(info: &SourceInfo) -> Self {
        Self { name: info.name.clone(), frames: 0, by_label: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, label: &str) {
        self.frames += 1;
        *self.by_label.entry(label.to_owned()).or_default() += 1;
    }
}

impl StageTimes {
    pub(super) fn add(&mut self, frame: &Frame, analysis: &Analysis, draw: Duration, write: Duration) {
        self.decode += frame.decode_time;
        self.prepare += analysis.times.prepare;
        self.infer += analysis.times.infer;
        self.explain += analysis.times.explain;
        self.boxes += analysis.times.boxes;
        self.draw += draw;
        self.write += write;
    }

    fn named(&self) -> [(&'static str, Duration); 7] {
        [
            ("decode", self.decode),
            ("prepare", self.prepare),
            ("infer", self.infer),
            ("explain", self.explain),
            ("boxes", self.boxes),
            ("draw", self.draw),
            ("write", self.write),
        ]
    }
}

impl Summary {
    /// Frames of all sources.
    pub fn frames(&self) -> u64 {
        self.sources.iter().map(|source| source.frames).sum()
    }

    /// What the process should tell its caller: failures weigh more than bad inputs, and these more than an interruption.
    pub fn exit_code(&self) -> ExitCode {
        let codes: Vec<ExitCode> = self.problems.iter().map(Problem::exit_code).collect();
        [ExitCode::Failed, ExitCode::Usage, ExitCode::Input]
            .into_iter()
            .find(|code| codes.contains(code))
            .unwrap_or(if self.interrupted { ExitCode::Interrupted } else { ExitCode::Done })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let frames = self.frames();
        if frames == 0 && !self.problems.is_empty() {
            return Ok(());
        }
        let seconds = self.elapsed.as_secs_f64();
        let unit = if frames == 1 { "frame" } else { "frames" };
        write!(f, "{frames} {unit} in {seconds:.1} s, {:.1} frames/s", frames as f64 / seconds.max(1e-9))?;
        if self.dropped > 0 {
            write!(f, ", {} dropped", self.dropped)?;
        }
        writeln!(f)?;
        let widest = self.sources.iter().map(|source| source.name.chars().count()).max().unwrap_or(0);
        // A folder of images has as many sources as images: then the sum tells more than the list.
        if self.sources.len() > 8 {
            let mut all = BTreeMap::<&str, u64>::new();
            for (label, count) in self.sources.iter().flat_map(|source| &source.by_label) {
                *all.entry(label).or_default() += count;
            }
            writeln!(f, "  {} sources: {}", self.sources.len(), counts(all))?;
        } else {
            for source in &self.sources {
                let by_label = source.by_label.iter().map(|(label, &count)| (label.as_str(), count));
                writeln!(f, "  {:widest$}  {}", source.name, counts(by_label))?;
            }
        }
        if frames > 0 {
            let times = self
                .times
                .named()
                .map(|(stage, time)| format!("{stage} {:.1}", time.as_secs_f64() * 1e3 / frames as f64));
            writeln!(f, "  ms a frame: {}", times.join(", "))?;
        }
        for Written { path, what } in &self.written {
            writeln!(f, "  wrote {} ({what})", path.display())?;
        }
        Ok(())
    }
}

fn counts<'a>(by_label: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    by_label.into_iter().map(|(label, count)| format!("{label} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CaptureError;

    #[test]
    fn failures_weigh_more_than_bad_inputs() {
        let input = || Problem::from(CaptureError::NotFound { path: "x".into() });
        let failed = || Problem::Panic { stage: "inference".into(), message: "x".into() };
        let code = |problems, interrupted| Summary { problems, interrupted, ..Summary::default() }.exit_code();
        assert_eq!(code(vec![], false), ExitCode::Done);
        assert_eq!(code(vec![], true), ExitCode::Interrupted);
        assert_eq!(code(vec![input()], true), ExitCode::Input);
        assert_eq!(code(vec![input(), failed()], false), ExitCode::Failed);
    }
}
