//! A frame as one picture: classify, explain, box, as the HayCAM paper does.

use image::RgbImage;

use super::{Analysis, AnalysisSettings, AnalysisTimes, CamSummary};
use crate::boxes::{self, Detection};
use crate::explain::{Evidence, ExplainError, Explainer, GradientSource};
use crate::labels::{BACKGROUND, argmax};
use crate::model::engine::{Engine, Inference};
use crate::model::preprocess::squeeze;
use crate::stopwatch::Stopwatch;

/// A model and the way its answers are explained.
#[derive(Debug)]
pub(super) struct Whole {
    engine: Engine,
    explainer: Box<dyn Explainer>,
    settings: AnalysisSettings,
    background: Option<usize>,
}

impl Whole {
    pub(super) fn new(engine: Engine, settings: AnalysisSettings) -> Self {
        let background = engine.description().classes.iter().position(|class| class == BACKGROUND);
        let explainer = settings.method.explainer(settings.method_settings);
        Self { engine, explainer, settings, background }
    }

    pub(super) fn classes(&self) -> &[String] {
        &self.engine.description().classes
    }

    pub(super) fn analyse(&self, picture: &RgbImage) -> Result<Analysis, ExplainError> {
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
            scan: None,
            times: AnalysisTimes { prepare, infer, explain, boxes: watch.lap() },
        })
    }

    fn infer(&self, prepared: &RgbImage) -> Result<Inference, ExplainError> {
        let mut answers = self.engine.infer(std::slice::from_ref(prepared), self.explainer.needs().first_tap())?;
        Ok(answers.pop().expect("one answer for one picture"))
    }
}
