//! The account of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Problem;
use super::report::SinkTimes;
use crate::analyse::Analysis;
use crate::exit_code::ExitCode;
use crate::frame::Frame;
use crate::sinks::Written;
use crate::stats::{LatencySnapshot, RunSnapshot, SourceSnapshot};

/// Most sources that are listed one by one.
const MOST_LISTED: usize = 8;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// What each source delivered, what was lost, how old results were.
    pub stats: RunSnapshot,
    /// Where the time went.
    pub times: StageTimes,
    /// From start to end.
    pub elapsed: Duration,
    /// Files that hold something.
    pub written: Vec<Written>,
    /// Whether a signal ended the run before its sources did.
    pub interrupted: bool,
    /// What went wrong.
    pub problems: Vec<Problem>,
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
    /// What the sinks do with frames; they work side by side.
    pub write: Duration,
}

impl StageTimes {
    pub(super) fn add(&mut self, frame: &Frame, analysis: &Analysis) {
        self.decode += frame.decode_time;
        self.prepare += analysis.times.prepare;
        self.infer += analysis.times.infer;
        self.explain += analysis.times.explain;
        self.boxes += analysis.times.boxes;
    }

    pub(super) fn add_sink(&mut self, times: SinkTimes) {
        self.draw += times.draw;
        self.write += times.write;
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        self.decode += others.decode;
        self.prepare += others.prepare;
        self.infer += others.infer;
        self.explain += others.explain;
        self.boxes += others.boxes;
        self.draw += others.draw;
        self.write += others.write;
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
        self.stats.frames()
    }

    /// What the process should tell its caller: failures weigh more than an interruption, and this more than bad sources.
    pub fn exit_code(&self) -> ExitCode {
        // A camera that was given up is no reason to call the end that was asked for another; an output that has lost something is.
        let counts = |problem: &&Problem| !(self.interrupted && matches!(problem, Problem::Capture { .. }));
        let codes: Vec<ExitCode> = self.problems.iter().filter(counts).map(Problem::exit_code).collect();
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
        if self.stats.dropped() > 0 {
            write!(f, ", {} dropped", self.stats.dropped())?;
        }
        writeln!(f)?;
        let few = self.stats.sources.len() <= MOST_LISTED;
        let sources: Vec<&SourceSnapshot> =
            self.stats.sources.iter().filter(|source| few || source.frames > 0).collect();
        let widest = sources.iter().map(|source| source.source.chars().count()).max().unwrap_or(0);
        // A folder of images has as many sources as images: then the sum tells more than the list.
        if sources.len() > MOST_LISTED {
            let mut all = BTreeMap::<String, u64>::new();
            for (label, count) in sources.iter().flat_map(|source| &source.labels) {
                *all.entry(label.clone()).or_default() += count;
            }
            writeln!(f, "  {} sources: {}", sources.len(), counts(&all))?;
        } else {
            for source in sources {
                let seen = if source.frames == 0 { "no frame".to_owned() } else { counts(&source.labels) };
                write!(f, "  {:widest$}  {seen}", source.source)?;
                if !source.dropped.is_empty() {
                    write!(f, "; dropped: {}", counts(&source.dropped))?;
                }
                if source.unchanged > 0 {
                    write!(f, "; {} showed nothing new and were not analysed", source.unchanged)?;
                }
                for (count, one, several) in
                    [(source.disconnections, "disconnection", "disconnections"), (source.alarms, "alarm", "alarms")]
                {
                    if count > 0 {
                        write!(f, "; {count} {}", if count == 1 { one } else { several })?;
                    }
                }
                writeln!(f)?;
                let latencies = source.latency_ms.iter().filter(|_| !source.waits_for_outputs);
                for (output, LatencySnapshot { p50, p95, p99, .. }) in latencies {
                    writeln!(f, "  {:widest$}  {output} after p50 {p50:.0}, p95 {p95:.0}, p99 {p99:.0} ms", "")?;
                }
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
        for (sink, reason) in self.stats.failed_sinks() {
            writeln!(f, "  {sink} failed: {reason}")?;
        }
        Ok(())
    }
}

fn counts(by_name: &BTreeMap<String, u64>) -> String {
    by_name.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CaptureError;

    #[test]
    fn failures_weigh_more_than_an_interruption_and_this_more_than_bad_inputs() {
        let input = || Problem::Capture { origin: None, error: CaptureError::NotFound { path: "x".into() } };
        let failed = || Problem::Panic { stage: "inference".into(), message: "x".into() };
        let code = |problems, interrupted| Summary { problems, interrupted, ..Summary::default() }.exit_code();
        assert_eq!(code(vec![], false), ExitCode::Done);
        assert_eq!(code(vec![], true), ExitCode::Interrupted);
        assert_eq!(code(vec![input()], false), ExitCode::Input);
        assert_eq!(code(vec![input()], true), ExitCode::Interrupted);
        assert_eq!(code(vec![input(), failed()], false), ExitCode::Failed);
        assert_eq!(code(vec![input(), failed()], true), ExitCode::Failed);
    }

    #[test]
    fn a_source_that_failed_is_named_among_others() {
        let told = |origin| Problem::Capture { origin, error: CaptureError::NotFound { path: "x".into() } }.to_string();
        assert_eq!(told(None), "x does not exist: check the path");
        assert_eq!(told(Some("door".into())), "door: x does not exist: check the path");
    }
}
