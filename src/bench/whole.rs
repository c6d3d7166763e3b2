//! The stages of a frame seen as one picture, one by one, with every method that is asked for.

use std::hint::black_box;

use image::RgbImage;
use ndarray::Array2;

use super::BenchError;
use super::kept::{Kept, KeptReading};
use super::laps::Laps;
use super::stage::Stage;
use crate::analyse::{AnalysisSettings, Detection};
use crate::boxes::{self, PerBox};
use crate::explain::{
    ClassActivationMap, Evidence, ExplainError, Explainer, GradientSource, Method, MethodSettings, Needs,
};
use crate::frame::Frame;
use crate::labels::argmax;
use crate::model::ModelError;
use crate::model::engine::{Engine, Tap};
use crate::model::forward::ForwardRequest;
use crate::model::picture::Picture;
use crate::model::resnet::Resolution;
use crate::recycled::Recycled;
use crate::scan::folded::Folding;
use crate::stopwatch::Stopwatch;

/// The methods.
#[derive(Debug)]
pub(super) struct WholeStages {
    explainers: Vec<(Method, Box<dyn Explainer>)>,
    /// Boxes are found in the map that `run` would show.
    settings: AnalysisSettings,
    shown: Box<dyn Explainer>,
    kept: Kept,
}

impl WholeStages {
    pub(super) fn new(methods: &[Method], method_settings: MethodSettings, settings: AnalysisSettings) -> Self {
        let explainers = methods.iter().map(|&method| (method, method.explainer(method_settings))).collect();
        Self { explainers, settings, shown: settings.method.explainer(settings.method_settings), kept: Kept::new() }
    }

    /// Times the stages on frames, one stage after another, as many frames in a forward pass as `batch` says; methods that need
    /// further passes only on the first.
    ///
    /// # Errors
    ///
    /// When the network or a fit fails.
    pub(super) fn time(
        &mut self,
        (engine, folding): (&Engine, Option<&Folding>),
        frames: &[Frame],
        batch: usize,
        laps: &mut Laps,
    ) -> Result<(), BenchError> {
        let side = engine.description().input_size;
        let mut watch = Stopwatch::start();
        let images: Vec<&RgbImage> = frames.iter().map(|frame| &**frame.image).collect();
        let taken = engine.take_all(&images);
        let prepared =
            taken.iter().map(|picture| picture.resized((side, side))).collect::<Result<Vec<Picture>, _>>()?;
        let prepared = engine.bring_to_size(prepared)?;
        engine.wait()?;
        laps.add(Stage::Prepare, watch.lap(), frames.len());
        let requests: Vec<ForwardRequest> = prepared.iter().map(|picture| picture.another().into()).collect();
        let infer = |first_tap| {
            let passes = prepared.chunks(batch).map(|pictures| engine.infer(pictures, first_tap));
            Ok::<_, ModelError>(passes.collect::<Result<Vec<_>, _>>()?.concat())
        };
        watch.lap();
        let layers =
            requests.chunks(batch).map(|requests| engine.begin_layer4(requests)).collect::<Result<Vec<_>, _>>()?;
        engine.wait()?;
        let layers_only = watch.lap();
        let mut inferences = infer(Tap::Layer4)?;
        // Labels are those of the native resolution, so that another one needs a second `layer4`.
        let time = if engine.resolution() == Resolution::Native { layers_only } else { watch.lap() };
        laps.add(Stage::Forward, time, frames.len());
        if let Some(folding) = folding {
            for (frame, layer) in frames.iter().zip(layers.into_iter().flatten()) {
                let layer = layer.wait()?;
                let basis = folding.fit(layer.activations()?.view()).map_err(ExplainError::from)?;
                let KeptReading { reading, reduction, time, .. } =
                    self.kept.read(folding, basis, (&layer, None), frame.pts)?;
                let mut watch = Stopwatch::start();
                let label = argmax(&engine.classifier().classify(layer.mean())?.logits);
                let values = reading.evidence().column(label).to_owned();
                let map = ClassActivationMap {
                    reduction: Some(reduction),
                    ..ClassActivationMap::on_grid(values, layer.grid())
                };
                black_box(map.heat(side as usize, side as usize));
                laps.add(Stage::ExplainCached, time + watch.lap(), 1);
            }
        }
        let needs_layer3 = |(_, explainer): &(Method, Box<dyn Explainer>)| explainer.needs().first_tap() == Tap::Layer3;
        if self.explainers.iter().any(needs_layer3) {
            inferences = infer(Tap::Layer3)?;
        }
        for (index, ((frame, picture), inference)) in frames.iter().zip(&prepared).zip(&inferences).enumerate() {
            let class = argmax(&inference.logits);
            let gradient_source = GradientSource::ClosedForm;
            let evidence = Evidence { network: engine, picture, inference, class, gradient_source };
            let heat = |explainer: &dyn Explainer| -> Result<Recycled<Array2<f32>>, ExplainError> {
                Ok(explainer.explain(&evidence)?.heat(side as usize, side as usize))
            };
            for (method, explainer) in &self.explainers {
                if explainer.needs() == Needs::Network && index > 0 {
                    continue;
                }
                let mut watch = Stopwatch::start();
                black_box(heat(&**explainer)?);
                laps.add(Stage::Explain(*method), watch.lap(), 1);
            }
            let heat = heat(&*self.shown)?;
            let mut watch = Stopwatch::start();
            let mut found = boxes::find(&heat, self.settings.threshold);
            found.retain(|found| self.settings.all_boxes || found.holds_peak);
            let in_picture = |found| Detection::in_picture(found, &heat, frame.image.dimensions(), class);
            black_box(found.into_iter().map(in_picture).collect::<PerBox<_>>());
            laps.add(Stage::Boxes, watch.lap(), 1);
        }
        Ok(())
    }
}
