//! A frame as one picture: classify, explain, box, as the HayCAM paper does.

use image::RgbImage;

use super::batch;
use super::{Analysis, AnalysisSettings, AnalysisTimes, CamSummary, FrameRequest};
use crate::boxes::{self, Detection};
use crate::explain::{Evidence, ExplainError, Explainer, GradientSource};
use crate::labels::{BACKGROUND, argmax};
use crate::model::engine::{Engine, Inference};
use crate::model::picture::Picture;
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

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn analyse_batch(&self, requests: &[FrameRequest]) -> Vec<Result<Analysis, ExplainError>> {
        let side = self.engine.description().input_size;
        let mut prepared = Vec::with_capacity(requests.len());
        let mut times = Vec::with_capacity(requests.len());
        for request in requests {
            let mut watch = Stopwatch::start();
            prepared.push(self.prepare(request.image, side));
            times.push(watch.lap());
        }
        let first_tap = self.explainer.needs().first_tap();
        let answers = batch::infer(prepared, |pictures| {
            let inferences = self.engine.infer(pictures, first_tap)?;
            // The explainers look at the prepared pictures once more.
            Ok(pictures.iter().map(Picture::another).zip(inferences).collect())
        });
        let frames = requests.iter().zip(times).zip(answers);
        let analyse = |((request, prepare), answer): ((&FrameRequest, _), batch::Answer<(Picture, Inference)>)| {
            let ((picture, inference), infer) = answer?;
            self.analyse(request.image, &picture, inference, AnalysisTimes { prepare, infer, ..Default::default() })
        };
        frames.map(analyse).collect()
    }

    fn prepare<'a>(&self, picture: &'a RgbImage, side: u32) -> Result<Picture<'a>, ExplainError> {
        if picture.is_empty() {
            return Err(ExplainError::EmptyPicture);
        }
        Ok(self.engine.take(picture).resized((side, side))?)
    }

    /// `times` are those of the steps so far.
    fn analyse(
        &self,
        picture: &RgbImage,
        prepared: &Picture,
        inference: Inference,
        times: AnalysisTimes,
    ) -> Result<Analysis, ExplainError> {
        let (side, _) = prepared.dimensions();
        let mut watch = Stopwatch::start();
        let label = argmax(&inference.logits);
        let evidence = Evidence {
            network: &self.engine,
            picture: prepared,
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
        let boxes =
            boxes.into_iter().map(|found| Detection::in_picture(found, &heat, picture, label)).collect::<Vec<_>>();
        Ok(Analysis {
            label,
            confidence: inference.probabilities[label],
            // What is said of the whole picture is said of each place.
            box_probabilities: vec![inference.probabilities.clone(); boxes.len()],
            probabilities: inference.probabilities,
            heat,
            boxes,
            cam: CamSummary { method: self.settings.method, reduction: map.reduction, basis: None },
            scan: None,
            times: AnalysisTimes { explain, boxes: watch.lap(), ..times },
            kept_for: None,
        })
    }
}
