//! From frames to findings: what the inference stage does.
//!
//! A frame is seen as a [`whole`], classified and explained as one picture, or [`scanned`] for faces. [`comparison`] asks
//! several methods about one picture.

pub mod comparison;
mod scanned;
mod whole;

use std::time::Duration;

use image::RgbImage;
use ndarray::{Array1, Array2};

use crate::boxes::Threshold;
use crate::explain::{ExplainError, Method, MethodSettings, Reduction};
use crate::model::engine::Engine;
use crate::scan::settings::default_threshold;
use crate::scan::{ScanSettings, ScanSize};

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
}

/// How frames are scanned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanAnalysisSettings {
    /// The scan.
    pub scan: ScanSettings,
    /// Score from which detections count, in (0, 1); what suits each class if not given.
    pub threshold: Option<f32>,
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
    pub probabilities: Array1<f32>,
    /// Class activation map in [0, 1], (rows, columns) of a grid that spans the frame: that of the label, stretched to its
    /// hottest place; of a scanned frame the hottest of all classes, as it is.
    pub heat: Array2<f32>,
    /// Boxes from the map; none where the label is `background`.
    pub boxes: Vec<Detection>,
    /// How the map came about.
    pub cam: CamSummary,
    /// How the frame was resized, if it was scanned.
    pub scan: Option<ScanSize>,
    /// How long it took.
    pub times: AnalysisTimes,
}

/// Facts about a class activation map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CamSummary {
    /// The method that made it.
    pub method: Method,
    /// The principal components behind it, where the method has some.
    pub reduction: Option<Reduction>,
}

/// Durations of the steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnalysisTimes {
    /// Resizing to the network's input.
    pub prepare: Duration,
    /// The forward pass.
    pub infer: Duration,
    /// The class activation map.
    pub explain: Duration,
    /// The boxes.
    pub boxes: Duration,
}

/// A model and the way it looks at frames.
#[derive(Debug)]
pub struct Analyser(Way);

#[derive(Debug)]
enum Way {
    Whole(Whole),
    Scanned(Scanned),
}

impl Analyser {
    /// Analyses with a loaded model, at its resolution.
    pub fn new(engine: Engine, view: impl Into<View>) -> Self {
        Self(match view.into() {
            View::Whole(settings) => Way::Whole(Whole::new(engine, settings)),
            View::Scan(settings) => Way::Scanned(Scanned::new(engine, settings)),
        })
    }

    /// Class names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        match &self.0 {
            Way::Whole(whole) => whole.classes(),
            Way::Scanned(scanned) => scanned.classes(),
        }
    }

    /// Analyses a picture.
    ///
    /// # Errors
    ///
    /// When libtorch fails or the activations are not finite, which a damaged model causes.
    pub fn analyse(&self, picture: &RgbImage) -> Result<Analysis, ExplainError> {
        match &self.0 {
            Way::Whole(whole) => whole.analyse(picture),
            Way::Scanned(scanned) => scanned.analyse(picture),
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
