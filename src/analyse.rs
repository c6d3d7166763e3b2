//! From frames to findings: what the inference and explanation stages do.
//!
//! A frame is seen as a [`whole`], classified and explained as one picture, or [`scanned`] for faces. Frames of several
//! sources share forward passes ([`batch`]), and the frames of a source a [`basis`], which a [`fitter`] renews. Frames are
//! handed over before they are asked for, so that a GPU works while the host does something else.
//! [`comparison`] asks several methods about one picture.

mod basis;
mod batch;
pub mod comparison;
mod fitter;
mod scanned;
mod whole;

use std::time::Duration;

use image::RgbImage;
use ndarray::{Array1, Array2};

use crate::boxes::{PerBox, Threshold};
use crate::explain::{ExplainError, Method, MethodSettings, Reduction};
use crate::frame::{Batch, SharedImage};
use crate::model::engine::Engine;
use crate::model::upload::Uploads;
use crate::pca::{BasisId, CacheSettings, RefitCounts};
use crate::recycled::Recycled;
use crate::scan::folded::Folding;
use crate::scan::settings::default_threshold;
use crate::scan::{ScanSettings, ScanSize, Scanner};
use crate::stopwatch::Stopwatch;

pub use crate::boxes::Detection;

use scanned::Scanned;
use whole::Whole;

/// How frames are looked at.
#[derive(Debug, Clone, Copy)]
pub enum View {
    /// As one picture with one label.
    Whole(AnalysisSettings),
    /// Place by place, for any number of faces.
    Scan(ScanAnalysisSettings),
}

impl View {
    /// Whether frames are explained by more than forward passes.
    pub fn needs_gradients(&self) -> bool {
        match self {
            Self::Whole(settings) => settings.method.explainer(settings.method_settings).needs().further_passes(),
            Self::Scan(_) => false,
        }
    }
}

/// How frames are analysed as a whole.
#[derive(Debug, Clone, Copy)]
pub struct AnalysisSettings {
    /// How labels are explained.
    pub method: Method,
    /// What is set on it.
    pub method_settings: MethodSettings,
    /// What counts as hot.
    pub threshold: Threshold,
    /// Box every hot region rather than the hottest alone.
    pub all_boxes: bool,
    /// How sources keep their basis from frame to frame, where the method has one; one a frame if not given.
    pub basis: Option<CacheSettings>,
}

/// How frames are scanned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanAnalysisSettings {
    /// The scan.
    pub scan: ScanSettings,
    /// Score from which detections count, in (0, 1); what suits each class if not given.
    pub threshold: Option<f32>,
    /// Which sources keep their basis.
    pub basis: BasisSettings,
}

/// Which sources keep their basis from frame to frame, and how; those without settings have one a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BasisSettings {
    /// Of live sources.
    pub live: Option<CacheSettings>,
    /// Of recorded sources.
    pub recorded: Option<CacheSettings>,
}

impl BasisSettings {
    /// A basis a frame.
    pub const PER_FRAME: Self = Self { live: None, recorded: None };
}

impl Default for BasisSettings {
    fn default() -> Self {
        let kept = Some(CacheSettings::default());
        Self { live: kept, recorded: kept }
    }
}

/// How many frames may go through the network together. They are kept until all have been explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// Most frames, at least 1.
    pub frames: usize,
    /// Bytes of their pixels from which on none is added.
    pub bytes: usize,
}

impl BatchLimit {
    /// So many, however large they are.
    pub fn of_frames(frames: usize) -> Self {
        Self { frames, bytes: usize::MAX }
    }

    /// Most frames of `frame_bytes` each, at least 1.
    pub fn most_of(self, frame_bytes: usize) -> usize {
        self.frames.min(self.bytes.div_ceil(frame_bytes.max(1))).max(1)
    }
}

/// A frame that is to be analysed.
#[derive(Debug, Clone, Copy)]
pub struct FrameRequest<'a> {
    /// Number of its source. Frames of a source are asked for in their order.
    pub source: usize,
    /// Its pixels.
    pub image: &'a RgbImage,
    /// Whether it must not wait for what can be put off. If not, what is found does not depend on how fast the machine is, but for
    /// rounding, which differs with the frames that go through the network together.
    pub live: bool,
    /// Its presentation time.
    pub pts: Duration,
}

impl ScanAnalysisSettings {
    /// Score from which each of the classes counts, in their order.
    pub fn thresholds(&self, classes: &[String]) -> Vec<f32> {
        classes.iter().map(|class| self.threshold.unwrap_or_else(|| default_threshold(class))).collect()
    }
}

/// What was found in a frame.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// Index of the most probable class; of a scanned frame that of the strongest detection, `background` without any.
    pub label: usize,
    /// Its probability.
    pub confidence: f32,
    /// One probability a class; of a scanned frame those at the peak of the strongest detection or, without any, where a face
    /// is most probable.
    pub probabilities: Recycled<Array1<f32>>,
    /// Class activation map in [0, 1], (rows, columns) of a grid that spans the frame: that of the label, stretched to its
    /// hottest place; of a scanned frame the hottest of all classes, as it is.
    pub heat: Recycled<Array2<f32>>,
    /// Boxes from the map; none where the label is `background`.
    pub boxes: PerBox<Detection>,
    /// Probability of each class at the place of each box, in the order of the boxes.
    pub box_probabilities: PerBox<Recycled<Array1<f32>>>,
    /// How the map came about.
    pub cam: CamSummary,
    /// How the frame was resized, if it was scanned.
    pub scan: Option<ScanSize>,
    /// How long it took.
    pub times: AnalysisTimes,
    /// How old it is, if it is that of an earlier frame from which this one does not differ.
    pub kept_for: Option<Duration>,
}

/// Facts about a class activation map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CamSummary {
    /// The method that made it.
    pub method: Method,
    /// The principal components behind it, where the method has some.
    pub reduction: Option<Reduction>,
    /// The basis, where it is kept from frame to frame. The captured variance is then that of the frame that was sampled
    /// last.
    pub basis: Option<CamBasis>,
}

/// A basis that is kept from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CamBasis {
    /// Which one it is.
    pub id: BasisId,
    /// Frames of its source since the one that it was fitted to.
    pub age_frames: u64,
}

/// Durations of the steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnalysisTimes {
    /// Resizing to the network's input; on a GPU, which does it on its own, until it is told to.
    pub prepare: Duration,
    /// The forward pass, and on a GPU what it had not done before; of frames that share one, an equal share.
    pub infer: Duration,
    /// The class activation map.
    pub explain: Duration,
    /// The boxes.
    pub boxes: Duration,
}

/// What an analyser looks at frames with, for those who measure its steps one by one.
#[derive(Debug, Clone, Copy)]
pub enum Steps<'a> {
    /// At each as one picture; with what is folded with bases that are kept, if some are.
    Whole(&'a Engine, Option<&'a Folding>),
    /// Place by place.
    Scan(&'a Scanner),
}

/// A model and the way it looks at frames.
#[derive(Debug)]
pub struct Analyser(Way);

/// The side of an analyser that hands frames to the network.
#[derive(Debug)]
pub struct Submission<'a>(SubmissionWay<'a>);

#[derive(Debug)]
enum SubmissionWay<'a> {
    Whole(whole::Submission<'a>),
    Scanned(scanned::Submission<'a>),
}

/// The side of an analyser that takes the network's answers.
#[derive(Debug)]
pub struct Completion<'a>(CompletionWay<'a>);

#[derive(Debug)]
enum CompletionWay<'a> {
    Whole(whole::Completion<'a>),
    Scanned(scanned::Completion<'a>),
}

/// Frames that have been handed to the network, and may still be under way there.
#[derive(Debug)]
pub struct Pending(PendingWay);

#[derive(Debug)]
enum PendingWay {
    Whole(whole::Pending),
    Scanned(scanned::Pending),
}

#[derive(Debug)]
enum Way {
    Whole(Box<Whole>),
    Scanned(Box<Scanned>),
}

impl Analyser {
    /// Analyses with a loaded model, at its resolution.
    pub fn new(engine: Engine, view: impl Into<View>) -> Self {
        Self(match view.into() {
            View::Whole(settings) => Way::Whole(Box::new(Whole::new(engine, settings))),
            View::Scan(settings) => Way::Scanned(Box::new(Scanned::new(engine, settings))),
        })
    }

    /// Class names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        match &self.0 {
            Way::Whole(whole) => whole.classes(),
            Way::Scanned(scanned) => scanned.classes(),
        }
    }

    /// What it looks at frames with.
    pub fn steps(&self) -> Steps<'_> {
        match &self.0 {
            Way::Whole(whole) => Steps::Whole(whole.engine(), whole.folding()),
            Way::Scanned(scanned) => Steps::Scan(scanned.scanner()),
        }
    }

    /// What a forward pass should have at most, if frames need not be passed on as soon as they come (`can_wait`).
    ///
    /// On a CPU, small pictures are worth it: most of their time goes into reading weights. Not where a frame takes several
    /// passes, which are seconds: a signal is heeded between two batches.
    pub fn suitable_batch(&self, can_wait: bool) -> BatchLimit {
        let engine = match &self.0 {
            Way::Whole(whole) => whole.engine(),
            Way::Scanned(scanned) => scanned.scanner().engine(),
        };
        if engine.device().is_cuda() {
            return BatchLimit::of_frames(8);
        }
        match &self.0 {
            Way::Whole(whole) if can_wait && !whole.needs_further_passes() => {
                BatchLimit { frames: 8, bytes: 24_000_000 }
            }
            Way::Whole(_) | Way::Scanned(_) => BatchLimit::of_frames(1),
        }
    }

    /// Analyses frames, of any sources; those that the network sees at one size share a forward pass. The answers come in the
    /// order of the requests, and a frame that fails fails alone.
    ///
    /// # Errors
    ///
    /// Of a frame: when it has no pixels, libtorch fails, the activations are not finite, which a damaged model causes, or a
    /// basis could not be renewed.
    pub fn analyse_batch(&mut self, requests: &[FrameRequest]) -> Batch<Result<Analysis, ExplainError>> {
        let (mut submission, mut completion) = self.sides();
        let pending = submission.submit(requests, None);
        completion.complete(pending)
    }

    /// Its two sides, which two threads may have.
    pub fn sides(&mut self) -> (Submission<'_>, Completion<'_>) {
        match &mut self.0 {
            Way::Whole(whole) => {
                let (submission, completion) = whole.sides();
                (Submission(SubmissionWay::Whole(submission)), Completion(CompletionWay::Whole(completion)))
            }
            Way::Scanned(scanned) => {
                let (submission, completion) = scanned.sides();
                (Submission(SubmissionWay::Scanned(submission)), Completion(CompletionWay::Scanned(completion)))
            }
        }
    }

    /// Forgets what is kept of a source, which has ended; another may have its number.
    pub fn forget(&mut self, source: usize) {
        self.sides().1.forget(source);
    }

    /// How often a source's basis was renewed, by reason; nothing of sources that keep none.
    pub fn refits(&self, source: usize) -> Option<RefitCounts> {
        match &self.0 {
            Way::Whole(whole) => whole.refits(source),
            Way::Scanned(scanned) => scanned.refits(source),
        }
    }
}

impl Submission<'_> {
    /// Whether the network works on frames while its host does something else.
    pub fn works_by_itself(&self) -> bool {
        self.engine().device().is_cuda()
    }

    /// Begins to copy frames to where the network is, if they must be, while it looks at others.
    pub fn take_ahead(&self, images: &[SharedImage]) -> Uploads {
        self.engine().take_ahead(images)
    }

    /// Hands frames, of any sources, to the network; those that it sees at one size share a forward pass. Returns before it has
    /// done with them if it works by itself. `begun`, if given, is of the same frames.
    pub fn submit(&mut self, requests: &[FrameRequest], begun: Option<Uploads>) -> Pending {
        let mut watch = Stopwatch::start();
        let images: Batch<&RgbImage> = requests.iter().map(|request| request.image).collect();
        let taken = match begun {
            Some(begun) => self.engine().take_begun(&images, begun),
            None => self.engine().take_all(&images),
        };
        let take = watch.lap() / requests.len().max(1) as u32;
        Pending(match &mut self.0 {
            SubmissionWay::Whole(whole) => PendingWay::Whole(whole.submit(requests, &taken, take)),
            SubmissionWay::Scanned(scanned) => PendingWay::Scanned(scanned.submit(requests, &taken, take)),
        })
    }

    fn engine(&self) -> &Engine {
        match &self.0 {
            SubmissionWay::Whole(whole) => whole.engine(),
            SubmissionWay::Scanned(scanned) => scanned.engine(),
        }
    }
}

impl Completion<'_> {
    /// Waits for the answers to what was handed over. Batches must be completed in the order in which they were submitted.
    ///
    /// # Errors
    ///
    /// See [`Analyser::analyse_batch`].
    ///
    /// # Panics
    ///
    /// When it was handed over by the side of another analyser.
    pub fn complete(&mut self, pending: Pending) -> Batch<Result<Analysis, ExplainError>> {
        match (&mut self.0, pending.0) {
            (CompletionWay::Whole(whole), PendingWay::Whole(pending)) => whole.complete(pending),
            (CompletionWay::Scanned(scanned), PendingWay::Scanned(pending)) => scanned.complete(pending),
            _ => panic!("frames are completed by the analyser that they were submitted to"),
        }
    }

    /// See [`Analyser::forget`].
    pub fn forget(&mut self, source: usize) {
        match &mut self.0 {
            CompletionWay::Whole(whole) => whole.forget(source),
            CompletionWay::Scanned(scanned) => scanned.forget(source),
        }
    }
}

impl From<AnalysisSettings> for View {
    fn from(settings: AnalysisSettings) -> Self {
        Self::Whole(settings)
    }
}

impl From<ScanAnalysisSettings> for View {
    fn from(settings: ScanAnalysisSettings) -> Self {
        Self::Scan(settings)
    }
}
