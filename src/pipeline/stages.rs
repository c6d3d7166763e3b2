//! What each thread does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::feed::{Closed, FeedSender, Feeds, Message};
use super::summary::{SourceSummary, StageTimes, Summary};
use super::{NamedSource, Observer, Problem};
use crate::analyse::{Analyser, Analysis};
use crate::capture::supervise::clock::SystemClock;
use crate::capture::supervise::process::ProcessOpener;
use crate::capture::{CaptureError, LiveEvent, LiveSettings, OpenOptions, Policy, SourceInfo, SourceState, Supervisor};
use crate::draw::Annotator;
use crate::frame::Frame;
use crate::shutdown::Shutdown;
use crate::sinks::{Finding, Sink, SinkError, SourceContext};

/// A source of a run: its place in the order that the user gave, and what it is.
pub(super) type NumberedSource<'a> = (usize, &'a NamedSource);

/// From capture to inference.
pub(super) enum Captured {
    Frame {
        source: usize,
        info: Arc<SourceInfo>,
        /// The policy that it is treated by.
        policy: Policy,
        frame: Box<Frame>,
    },
    State {
        source: usize,
        state: SourceState,
    },
    Closed {
        source: usize,
        error: Option<CaptureError>,
    },
}

impl Message for Captured {
    fn captured(&self) -> Option<Instant> {
        match self {
            Self::Frame { frame, policy: Policy::Live, .. } => Some(frame.read_started),
            _ => None,
        }
    }
}

/// From inference to output.
pub(super) enum Analysed {
    Frame { source: usize, info: Arc<SourceInfo>, frame: Box<Frame>, analysis: Box<Analysis> },
    State { source: usize, state: SourceState },
    Closed { source: usize, error: Option<CaptureError> },
}

#[derive(Clone, Copy)]
pub(super) struct CaptureSettings<'a> {
    /// Overrides the policy that suits the source.
    pub policy: Option<Policy>,
    pub limit: Option<u64>,
    pub live: &'a LiveSettings,
    pub shutdown: &'a Shutdown,
}

/// Keeps one live source going until it is given up, nobody takes frames any more, or the shutdown is requested.
pub(super) fn watch(
    (source, named): NumberedSource,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Option<Problem> {
    let span = tracing::debug_span!("capture", source = named.name);
    let _entered = span.enter();
    let every_frame = settings.policy == Some(Policy::Recorded);
    let opener = ProcessOpener::new(named.spec.clone(), settings.live.clone(), every_frame, settings.shutdown);
    let clock = SystemClock::new(settings.shutdown);
    let (opener, clock) = (Box::new(opener), Box::new(clock));
    let supervisor =
        Supervisor::new(&named.name, settings.live.clone(), opener, clock, settings.shutdown, rand::random());
    // Nobody takes frames any more: then nobody wants to know how it ended either.
    let error = watch_one(source, supervisor, sender, settings).ok()?;
    let _ = sender.send_waiting(Captured::Closed { source, error: error.err() });
    None
}

/// The outer error says that nobody takes frames any more, the inner one that the source failed.
fn watch_one(
    source: usize,
    mut supervisor: Supervisor,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Result<Result<(), CaptureError>, Closed> {
    let mut pace = Pace::default();
    let mut left = settings.limit.unwrap_or(u64::MAX);
    while left > 0 {
        match supervisor.next_event() {
            Ok(LiveEvent::State(state)) => sender.send_state(Captured::State { source, state })?,
            Ok(LiveEvent::Frame { info, frame, skipped }) => {
                left -= 1;
                sender.count_skipped(skipped);
                pace.deliver(source, &info, *frame, sender, settings)?;
            }
            Ok(LiveEvent::Ended) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Hands frames on by their policy.
#[derive(Default)]
struct Pace {
    began: Option<Instant>,
}

impl Pace {
    fn deliver(
        &mut self,
        source: usize,
        info: &Arc<SourceInfo>,
        mut frame: Frame,
        sender: &FeedSender<Captured>,
        settings: CaptureSettings,
    ) -> Result<(), Closed> {
        let policy = settings.policy.unwrap_or(info.policy);
        // A recording played live is delivered at its own speed, as a camera would.
        if policy == Policy::Live && info.policy == Policy::Recorded {
            let began = *self.began.get_or_insert_with(Instant::now);
            settings.shutdown.sleep(frame.pts.saturating_sub(began.elapsed()));
            frame.read_started = Instant::now();
        }
        let frame = Captured::Frame { source, info: Arc::clone(info), policy, frame: Box::new(frame) };
        match policy {
            Policy::Live => sender.send_newest(frame),
            Policy::Recorded => sender.send_waiting(frame),
        }
    }
}

/// Reads sources one after another until the last ends, nobody takes frames any more, or the shutdown is requested.
pub(super) fn capture(
    sources: &[NumberedSource],
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Option<Problem> {
    for &(source, named) in sources {
        if settings.shutdown.is_requested() {
            break;
        }
        let span = tracing::debug_span!("capture", source = named.name);
        let _entered = span.enter();
        let error = match capture_one(source, named, sender, settings) {
            Ok(Ok(())) => None,
            // What breaks while the user waits for the end is no news.
            Ok(Err(error)) if settings.shutdown.is_requested() => {
                tracing::debug!("{error}");
                None
            }
            Ok(Err(error)) => Some(error),
            Err(Closed) => return None,
        };
        if sender.send_waiting(Captured::Closed { source, error }).is_err() {
            return None;
        }
    }
    None
}

/// The outer error says that nobody takes frames any more, the inner one that the source failed.
fn capture_one(
    source: usize,
    named: &NamedSource,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Result<Result<(), CaptureError>, Closed> {
    let mut opened = match named.spec.open(&OpenOptions::default()) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let info = Arc::new(SourceInfo { name: named.name.clone(), ..opened.info().clone() });
    let name: Arc<str> = named.name.as_str().into();
    tracing::debug!(width = info.width, height = info.height, frames = info.frame_count, "open");
    let mut pace = Pace::default();
    for _ in 0..settings.limit.unwrap_or(u64::MAX) {
        if settings.shutdown.is_requested() {
            break;
        }
        match opened.read() {
            Ok(Some(frame)) => {
                pace.deliver(source, &info, Frame { source: name.clone(), ..frame }, sender, settings)?;
            }
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Analyses what the feeds deliver, whichever is ready, until all have ended.
pub(super) fn infer(
    mut feeds: Feeds<Captured>,
    analyser: &Analyser,
    output: &Sender<Analysed>,
    shutdown: &Shutdown,
) -> Option<Problem> {
    while let Ok(message) = feeds.next(None) {
        let message = match message {
            Captured::Closed { source, error } => Analysed::Closed { source, error },
            Captured::State { source, state } => Analysed::State { source, state },
            Captured::Frame { source, info, frame, .. } => match analyser.analyse(&frame.image) {
                Ok(analysis) => Analysed::Frame { source, info, frame, analysis: Box::new(analysis) },
                Err(error) => {
                    // A network that fails on one frame fails on the next.
                    shutdown.request();
                    return Some(Problem::Analyse { origin: info.name.clone(), frame: frame.index, error });
                }
            },
        };
        if output.send(message).is_err() {
            break;
        }
    }
    None
}

/// Draws findings and hands them to the sinks.
pub(super) struct Output<'a> {
    classes: Vec<String>,
    sinks: Vec<Box<dyn Sink>>,
    annotator: Annotator,
    observer: &'a mut dyn Observer,
    shutdown: &'a Shutdown,
    had_sinks: bool,
    problems: Vec<Problem>,
    sources: BTreeMap<usize, SourceSummary>,
    times: StageTimes,
    summary: Summary,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        classes: Vec<String>,
        annotator: Annotator,
        sinks: Vec<Box<dyn Sink>>,
        observer: &'a mut dyn Observer,
        shutdown: &'a Shutdown,
    ) -> Self {
        Self {
            had_sinks: !sinks.is_empty(),
            classes,
            sinks,
            annotator,
            observer,
            shutdown,
            problems: Vec::new(),
            sources: BTreeMap::new(),
            times: StageTimes::default(),
            summary: Summary::default(),
        }
    }

    /// Takes findings until inference ends.
    pub(super) fn consume(&mut self, findings: &Receiver<Analysed>) {
        for finding in findings {
            match finding {
                Analysed::Frame { source, info, frame, analysis } => self.frame(source, &info, *frame, &analysis),
                Analysed::State { source, state } => self.observer.state(source, &state),
                Analysed::Closed { source, error } => self.close(source, error),
            }
        }
    }

    fn frame(&mut self, source: usize, info: &Arc<SourceInfo>, mut frame: Frame, analysis: &Analysis) {
        if !self.sources.contains_key(&source) {
            // What a camera declares and what it delivers may differ.
            let (width, height) = frame.image.dimensions();
            let info = &Arc::new(SourceInfo { width, height, ..SourceInfo::clone(info) });
            self.observer.opened(source, info);
            self.sources.insert(source, SourceSummary::new(info));
            self.each_sink(|sink| sink.open(SourceContext { source, info }));
        }
        let drawing = Instant::now();
        if self.sinks.iter().any(|sink| sink.wants_picture()) {
            self.annotator.annotate(&mut frame.image, analysis, &self.classes);
        }
        let writing = Instant::now();
        let classes = std::mem::take(&mut self.classes);
        let finding = Finding { source, frame: &frame, analysis, classes: &classes };
        self.each_sink(|sink| sink.write(&finding));
        self.classes = classes;
        let done = Instant::now();
        self.times.add(&frame, analysis, writing - drawing, done - writing);

        let label = &self.classes[analysis.label];
        if let Some(summary) = self.sources.get_mut(&source) {
            summary.count(label);
            self.observer.frame(source, summary.frames);
        }
        if self.sinks.iter().any(|sink| sink.wants_to_stop()) {
            self.shutdown.request();
        }
    }

    fn close(&mut self, source: usize, error: Option<CaptureError>) {
        self.each_sink(|sink| sink.close(source));
        self.observer.closed(source);
        if let Some(error) = error {
            self.report(error.into());
        }
    }

    /// Does something with each sink; one that cannot go on is given up, the others go on. When the last one is gone,
    /// there is nothing left to run for.
    fn each_sink(&mut self, mut act: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) {
        let mut failed = Vec::new();
        let written = &mut self.summary.written;
        self.sinks.retain_mut(|sink| match act(&mut **sink) {
            Ok(()) => true,
            Err(error) => {
                let goes_on = !error.ends_sink();
                if !goes_on {
                    written.extend(sink.written());
                }
                failed.push(error);
                goes_on
            }
        });
        for error in failed {
            self.report(error.into());
        }
        if self.had_sinks && self.sinks.is_empty() {
            self.shutdown.request();
        }
    }

    fn report(&mut self, problem: Problem) {
        self.observer.problem(&problem);
        self.problems.push(problem);
    }

    /// Completes all files and gives the account.
    pub(super) fn finish(
        mut self,
        from_stages: Vec<Problem>,
        dropped: u64,
        interrupted: bool,
        elapsed: Duration,
    ) -> Summary {
        let open: Vec<usize> = self.sources.keys().copied().collect();
        for source in open {
            self.each_sink(|sink| sink.close(source));
        }
        for sink in &self.sinks {
            self.summary.written.extend(sink.written());
        }
        for problem in from_stages {
            self.report(problem);
        }
        Summary {
            sources: self.sources.into_values().collect(),
            times: self.times,
            elapsed,
            dropped,
            interrupted,
            problems: self.problems,
            ..self.summary
        }
    }
}
