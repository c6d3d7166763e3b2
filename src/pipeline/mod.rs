//! The only place that joins stages: threads, channels, the order in which they end, what came of it.
//!
//! ```text
//! capture (a thread a live source, one for all recorded) ─► inference ─► output (draw, sinks)
//! ```
//!
//! Data flows one way. [`feed`] holds the two policies of the channels between capture and inference, [`stages`] what
//! the threads do, [`summary`] the account. A stage that ends drops its ends of the channels, which ends its neighbours
//! after they have used up what is under way.

pub mod feed;
mod stages;
pub mod summary;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

use crossbeam_channel::bounded;

use crate::analyse::Analyser;
use crate::capture::{CaptureError, LiveSettings, Policy, SourceInfo, SourceSpec, SourceState};
use crate::draw::Annotator;
use crate::exit_code::ExitCode;
use crate::explain::ExplainError;
use crate::shutdown::Shutdown;
use crate::sinks::{Sink, SinkError};
use feed::{Drops, Feed, Feeds, feed};
use summary::Summary;

/// Frames that may wait between two stages.
const QUEUE: usize = 4;

/// A source under a name that no other source of the run has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// As shown in events, file names and the summary.
    pub name: String,
    /// What it is.
    pub spec: SourceSpec,
}

/// What a run does.
#[derive(Debug)]
pub struct RunSettings {
    /// Where frames come from. Recorded sources are played one after another, live ones side by side.
    pub sources: Vec<NamedSource>,
    /// Overrides what suits each source.
    pub policy: Option<Policy>,
    /// Frames to take from each source.
    pub limit: Option<u64>,
    /// Deadlines of cameras and network streams, and what happens when they pass.
    pub live: LiveSettings,
}

/// Watches a run, from the thread that started it.
pub trait Observer {
    /// The first frame of a source, told by its place in the order that the user gave, has arrived.
    fn opened(&mut self, source: usize, info: &SourceInfo);
    /// A live source has changed its state.
    fn state(&mut self, _source: usize, _state: &SourceState) {}
    /// A frame has been through all stages.
    fn frame(&mut self, source: usize, frames_done: u64);
    /// A source is over.
    fn closed(&mut self, source: usize);
    /// Something went wrong; the run goes on as far as it can.
    fn problem(&mut self, problem: &Problem);
}

/// Something that went wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A source.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The inference stage.
    #[error("inference on {origin}, frame {frame}: {error}")]
    Analyse {
        /// Name of the source.
        origin: String,
        /// Index of the frame.
        frame: u64,
        /// What happened.
        error: ExplainError,
    },
    /// An output.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A thread could not be started.
    #[error("cannot start the {stage} thread: {error}")]
    Thread {
        /// Name of the stage.
        stage: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A stage panicked.
    #[error("the {stage} stage failed: {message}; this is a defect of maskwatch, please report it")]
    Panic {
        /// Name of the stage.
        stage: String,
        /// The panic's message.
        message: String,
    },
}

impl Problem {
    fn panic(stage: &str, panic: &(dyn Any + Send)) -> Self {
        Self::Panic { stage: stage.to_owned(), message: panic_message(panic) }
    }

    /// The exit code that it alone would cause.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Capture(error) => error.fault().into(),
            _ => ExitCode::Failed,
        }
    }
}

/// Runs sources through the pipeline until they end or `shutdown` is requested.
///
/// Never fails as a whole: what went wrong is in the summary, beside what was done all the same.
pub fn run(
    settings: &RunSettings,
    analyser: Analyser,
    annotator: Annotator,
    sinks: Vec<Box<dyn Sink>>,
    observer: &mut dyn Observer,
    shutdown: &Shutdown,
) -> Summary {
    let started = Instant::now();
    let classes = analyser.classes().to_vec();
    // What ends by itself is played one after another; what may never end has a thread of its own.
    let (endless, ending): (Vec<_>, Vec<_>) =
        settings.sources.iter().enumerate().partition(|(_, source)| source.spec.policy() == Policy::Live);
    let shutdown = &shutdown.child();
    let capture =
        stages::CaptureSettings { policy: settings.policy, limit: settings.limit, live: &settings.live, shutdown };

    std::thread::scope(|scope| {
        let mut threads = Threads { scope, shutdown, handles: Vec::new(), problems: Vec::new() };
        let mut feeds = Vec::new();
        if !ending.is_empty() {
            let (places, max_age) = match settings.policy {
                Some(Policy::Live) => (1, Some(settings.live.max_age)),
                _ => (QUEUE, None),
            };
            let (sender, feed) = feed(places, max_age, shutdown);
            feeds.push(feed);
            threads.spawn("capture".to_owned(), move || stages::capture(&ending, &sender, capture));
        }
        for source in endless {
            let (sender, feed) = feed(1, Some(settings.live.max_age), shutdown);
            feeds.push(feed);
            let name = format!("capture-{}", source.1.name);
            threads.spawn(name, move || stages::watch(source, &sender, capture));
        }
        let drops: Vec<_> = feeds.iter().map(Feed::drops).collect();
        let (to_output, from_inference) = bounded(QUEUE);
        threads
            .spawn("inference".to_owned(), move || stages::infer(Feeds::new(feeds), &analyser, &to_output, shutdown));

        // The output stage runs here: windows belong to the thread that drives them, and on some systems to the main one.
        let mut output = stages::Output::new(classes, annotator, sinks, observer, shutdown);
        let panic = catch_unwind(AssertUnwindSafe(|| output.consume(&from_inference))).err();
        drop(from_inference);
        // Nothing comes any more, also where a stage in between has failed: capture need not go on.
        shutdown.request();

        let mut problems = threads.join();
        problems.extend(panic.map(|panic| Problem::panic("output", &*panic)));
        let mut dropped = Drops::default();
        drops.iter().for_each(|counters| dropped += counters.read());
        output.finish(problems, dropped.total(), shutdown.was_signalled(), started.elapsed())
    })
}

/// The text of a caught panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// The threads of a run.
struct Threads<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    shutdown: &'scope Shutdown,
    handles: Vec<(String, ScopedJoinHandle<'scope, Option<Problem>>)>,
    problems: Vec<Problem>,
}

impl<'scope> Threads<'scope, '_> {
    fn spawn(&mut self, stage: String, work: impl FnOnce() -> Option<Problem> + Send + 'scope) {
        match std::thread::Builder::new().name(stage.clone()).spawn_scoped(self.scope, work) {
            Ok(handle) => self.handles.push((stage, handle)),
            Err(error) => {
                self.shutdown.request();
                self.problems.push(Problem::Thread { stage, error });
            }
        }
    }

    /// Waits for all threads, in the order in which they were started, and gives what went wrong in them.
    fn join(self) -> Vec<Problem> {
        let mut problems = self.problems;
        for (stage, handle) in self.handles {
            match handle.join() {
                Ok(problem) => problems.extend(problem),
                Err(panic) => problems.push(Problem::panic(&stage, &*panic)),
            }
        }
        problems
    }
}
