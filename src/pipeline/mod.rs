//! The only place that joins stages: threads, channels, the order in which they end, what came of it.
//!
//! ```text
//! capture (a thread a live source, one for all recorded) ─► inference ─► explanation ─► findings ─► sinks (a thread each)
//! ```
//!
//! Data flows one way. [`feed`] holds the two policies of the channels between capture and inference, [`delivery`] those
//! between the findings and each sink; [`stages`], [`inference`], [`explanation`] and [`findings`] are what the threads do,
//! [`threads`] how they end, [`summary`] is the account. A stage that ends drops its ends of the channels, which ends its neighbours after
//! they have used up what is under way.

mod delivery;
mod explanation;
pub mod feed;
mod findings;
mod inference;
mod report;
mod stages;
pub mod summary;
mod threads;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use crate::analyse::{Analyser, BatchLimit};
use crate::capture::{CaptureError, LiveSettings, Policy, SourceInfo, SourceSpec, SourceState};
use crate::draw::Annotator;
use crate::exit_code::ExitCode;
use crate::explain::ExplainError;
use crate::gate::{Gate, GateSettings};
use crate::shared::Places;
use crate::shutdown::Shutdown;
use crate::sinks::{Origin, Sink, SinkError};
use crate::stats::RunStats;
use delivery::{Driver, delivery};
use feed::{Feeds, feed};
use findings::Findings;
use inference::InferenceSettings;
use report::Ending;
use summary::{StageTimes, Summary};
use threads::Threads;

/// Frames that may wait between two stages, if forward passes do not take more at once.
const QUEUE: usize = 2;

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
    /// What a forward pass has at most.
    pub batch: BatchLimit,
    /// Which sources are analysed only when their picture changes.
    pub gate: GateSettings,
    /// For how long somebody may be seen without a mask before it is an alarm.
    pub alarm_after: Duration,
    /// Identity of the model, for those who ask why.
    pub model: String,
    /// Deadlines of cameras and network streams, and what happens when they pass.
    pub live: LiveSettings,
}

impl RunSettings {
    /// Whether no frame need be passed on as soon as it comes: none is live, and none is compared with what was found in the
    /// one before.
    pub fn frames_can_wait(&self) -> bool {
        let is_live = |source: &NamedSource| self.policy.unwrap_or(source.spec.policy()) == Policy::Live;
        !self.gate.recorded && !self.sources.iter().any(is_live)
    }
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
    #[error("{}{error}", origin.as_ref().map(|name| format!("{name}: ")).unwrap_or_default())]
    Capture {
        /// Name of the source, where there are several.
        origin: Option<Arc<str>>,
        /// What happened.
        error: CaptureError,
    },
    /// The network or the explanation of what it says.
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
    /// An output took nothing any more, not even that a source had ended.
    #[error("the {stage} output takes nothing any more: given up; the others go on")]
    GivenUp {
        /// Name of the sink.
        stage: &'static str,
    },
    /// A stage went on after the end.
    #[error("the {stage} stage did not finish within {} s after the end was asked for: given up", delivery::DRAIN.as_secs_f64())]
    Stuck {
        /// Name of the stage.
        stage: String,
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
    /// The exit code that it alone would cause.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Capture { error, .. } => error.fault().into(),
            _ => ExitCode::Failed,
        }
    }
}

/// Runs sources through the pipeline until they end or `shutdown` is requested. Must be called from the main thread if one
/// of the sinks is a window.
///
/// Never fails as a whole: what went wrong is in the summary, beside what was done all the same.
pub fn run(
    settings: &RunSettings,
    analyser: &mut Analyser,
    annotator: Annotator,
    sinks: Vec<Box<dyn Sink>>,
    stats: &Arc<RunStats>,
    observer: &mut dyn Observer,
    shutdown: &Shutdown,
) -> Summary {
    let started = Instant::now();
    let classes: Arc<[String]> = analyser.classes().into();
    // What ends by itself is played one after another; what may never end has a thread of its own.
    let (endless, ending): (Vec<_>, Vec<_>) =
        settings.sources.iter().enumerate().partition(|(_, source)| source.spec.policy() == Policy::Live);
    let shutdown = &shutdown.child();
    let gate = &Mutex::new(Gate::new(settings.gate));
    let capture =
        stages::CaptureSettings { policy: settings.policy, limit: settings.limit, live: &settings.live, shutdown };

    std::thread::scope(|scope| {
        let (reports, from_stages) = unbounded();
        let mut threads = Threads::new(scope, reports.clone(), Arc::clone(stats), shutdown);
        let queue = QUEUE.max(settings.batch.frames);
        let mut feeds = Vec::new();
        let mut sources_of_feeds = Vec::new();
        if !ending.is_empty() {
            let (places, max_age) = match settings.policy {
                Some(Policy::Live) => (1, Some(settings.live.max_age)),
                _ => (queue, None),
            };
            let (sender, feed) = feed(places, max_age, shutdown);
            let sender = sender.holding(settings.batch.bytes);
            let are_at_hand = max_age.is_none() && ending.iter().all(|(_, source)| source.spec.is_at_hand());
            feeds.push(if are_at_hand { feed.at_hand() } else { feed });
            sources_of_feeds.push(ending[0].0);
            threads.spawn("capture".to_owned(), move || Ending::Stage(stages::capture(&ending, &sender, capture)));
        }
        for source in endless {
            let (sender, feed) = feed(1, Some(settings.live.max_age), shutdown);
            feeds.push(feed);
            sources_of_feeds.push(source.0);
            let name = format!("capture-{}", source.1.name);
            threads.spawn(name, move || Ending::Stage(stages::watch(source, &sender, capture)));
        }
        for (source, feed) in sources_of_feeds.into_iter().zip(&feeds) {
            stats.watch(source, feed.drops());
        }

        let mut deliveries = Vec::with_capacity(sinks.len());
        let mut on_main_thread = None;
        for sink in sinks {
            let (delivery, inbox) = delivery(&*sink);
            stats.sink_opened(sink.name());
            let name = sink.name().to_owned();
            let driver = Driver::new(sink, inbox, reports.clone(), Arc::clone(stats), shutdown.clone());
            deliveries.push(delivery);
            if driver.needs_main_thread() {
                on_main_thread = Some(driver);
            } else {
                threads.spawn_detached(name, move || Ending::Sink(driver.run()));
            }
        }
        let (submission, completion) = analyser.sides();
        let works_ahead = submission.works_by_itself();
        let ahead = inference::batches_ahead(settings.batch.frames, works_ahead);
        let (to_explanation, from_inference) = bounded(ahead);
        let (to_inference, explained) = bounded(inference::most_under_way(ahead));
        let inference = InferenceSettings { batch: settings.batch, works_ahead, gate, shutdown };
        threads.spawn("inference".to_owned(), move || {
            Ending::Stage(inference::infer(Feeds::new(feeds), submission, inference, &to_explanation, &explained))
        });
        // A GPU must not wait for those who draw; a CPU does the drawing, too.
        let (to_findings, from_explanation) = bounded(if works_ahead { queue } else { QUEUE });
        threads.spawn("explanation".to_owned(), move || {
            Ending::Stage(explanation::explain(
                &from_inference,
                completion,
                gate,
                shutdown,
                &to_findings,
                &to_inference,
            ))
        });
        let findings = Findings {
            origin: Arc::new(Origin { classes, model: settings.model.clone() }),
            names: settings.sources.iter().map(|source| source.name.as_str().into()).collect(),
            alarm_after: settings.alarm_after,
            annotator: Arc::new(annotator),
            deliveries,
            reports,
            stats: Arc::clone(stats),
            shutdown: shutdown.clone(),
            sources: BTreeMap::new(),
            lost: BTreeSet::new(),
            times: StageTimes::default(),
            places: Places::default(),
        };
        threads.spawn("findings".to_owned(), move || Ending::Findings(findings.run(&from_explanation)));

        let mut summary = threads.serve(from_stages, on_main_thread, observer);
        summary.stats = stats.snapshot();
        summary.elapsed = started.elapsed();
        summary.interrupted = shutdown.was_signalled();
        summary
    })
}

/// The text of a caught panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
