//! From frames to findings: classify, explain, box. What the inference stage does; [`comparison`] asks several methods.

pub mod comparison;

use std::time::Duration;

use image::RgbImage;
use ndarray::{Array1, Array2};

use crate::boxes::{self, Threshold};
use crate::explain::{Evidence, ExplainError, Explainer, GradientSource, Method, MethodSettings, Reduction};
use crate::labels::{BACKGROUND, argmax};
use crate::model::engine::{Engine, Inference};
use crate::model::preprocess::squeeze;
use crate::stopwatch::Stopwatch;

pub use crate::boxes::Detection;

/// How frames are analysed.
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

/// What was found in a frame.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// Index of the most probable class.
    pub label: usize,
    /// Its probability.
    pub confidence: f32,
    /// One probability a class.
    pub probabilities: Array1<f32>,
    /// Class activation map of the label in [0, 1], (rows, columns) of the network's input.
    pub heat: Array2<f32>,
    /// Boxes from the map; none where the label is `background`.
    pub boxes: Vec<Detection>,
    /// How the map came about.
    pub cam: CamSummary,
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

/// A model and the way its answers are explained.
#[derive(Debug)]
pub struct Analyser {
    engine: Engine,
    explainer: Box<dyn Explainer>,
    settings: AnalysisSettings,
    background: Option<usize>,
}

impl Analyser {
    /// Analyses with a loaded model, at its resolution.
    pub fn new(engine: Engine, settings: AnalysisSettings) -> Self {
        let background = engine.description().classes.iter().position(|class| class == BACKGROUND);
        let explainer = settings.method.explainer(settings.method_settings);
        Self { engine, explainer, settings, background }
    }

    /// Class names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.engine.description().classes
    }

    /// Analyses a picture as a whole.
    ///
    /// # Errors
    ///
    /// When libtorch fails or the activations are not finite, which a damaged model causes.
    pub fn analyse(&self, picture: &RgbImage) -> Result<Analysis, ExplainError> {
        let side = self.engine.description().input_size;
        let mut watch = Stopwatch::start();
        let prepared = squeeze(picture, None, side);
        let prepare = watch.lap();
        let inference = self.infer(&prepared)?;
        let infer = watch.lap();

        let label = argmax(&inference.logits);
        let evidence = Evidence {
            network: &self.engine,
            picture: &prepared,
            inference: &inference,
            class: label,
            gradient_source: GradientSource::ClosedForm,
        };
        let map = self.explainer.explain(&evidence)?;
        let heat = map.heat(side as usize, side as usize);
        let explain = watch.lap();

        let mut boxes = Vec::new();
        if Some(label) != self.background {
            boxes = boxes::find(&heat, self.settings.threshold);
            boxes.retain(|found| self.settings.all_boxes || found.holds_peak);
        }
        let boxes = boxes.into_iter().map(|found| Detection::in_picture(found, &heat, picture, label)).collect();
        Ok(Analysis {
            label,
            confidence: inference.probabilities[label],
            probabilities: inference.probabilities,
            heat,
            boxes,
            cam: CamSummary { method: self.settings.method, reduction: map.reduction },
            times: AnalysisTimes { prepare, infer, explain, boxes: watch.lap() },
        })
    }

    fn infer(&self, prepared: &RgbImage) -> Result<Inference, ExplainError> {
        let mut answers = self.engine.infer(std::slice::from_ref(prepared), self.explainer.needs().first_tap())?;
        Ok(answers.pop().expect("one answer for one picture"))
    }
}
