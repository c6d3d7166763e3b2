//! A frame as one picture: classify, explain, box, as the HayCAM paper does.

use std::sync::Arc;
use std::time::Duration;

use super::basis::{BasisReading, KnownQuestions, Seen, Sighting, SourceBases};
use super::batch::{self, Answer, each};
use super::{Analysis, AnalysisSettings, AnalysisTimes, CamBasis, CamSummary, FrameRequest};
use crate::boxes::{self, Detection, PerBox};
use crate::explain::haycam::PAPER_COMPONENTS;
use crate::explain::{
    self, ClassActivationMap, Evidence, ExplainError, Explainer, GradientSource, Method, MethodSettings, Reduction,
};
use crate::frame::Batch;
use crate::labels::{BACKGROUND, argmax};
use crate::model::device_layer::{DeviceLayer, PendingLayer};
use crate::model::engine::{Answer as Classified, Classifier, Engine, Inference};
use crate::model::forward::ForwardRequest;
use crate::model::picture::Picture;
use crate::model::resnet::Resolution;
use crate::pca::{CacheSettings, Components, RefitCounts};
use crate::recycled::Recycled;
use crate::scan::folded::Folding;
use crate::scan::maps::Head;
use crate::stopwatch::Stopwatch;

/// A model and the way its answers are explained.
#[derive(Debug)]
pub(super) struct Whole {
    engine: Engine,
    explainer: Box<dyn Explainer>,
    /// Of sources that keep theirs.
    bases: Option<(SourceBases, CacheSettings)>,
    boxing: Boxing,
}

/// How boxes are drawn.
#[derive(Debug)]
struct Boxing {
    settings: AnalysisSettings,
    /// Rows and columns of heat: those of the network's input.
    side: usize,
    background: Option<usize>,
    classifier: Classifier,
}

/// The side that hands frames to the network. It alone has the engine, which threads can hand on but not share.
#[derive(Debug)]
pub(super) struct Submission<'a> {
    engine: &'a mut Engine,
    explainer: &'a mut dyn Explainer,
    /// None where each frame has a basis of its own.
    known: Option<Arc<KnownQuestions>>,
}

/// The side that takes the answers.
#[derive(Debug)]
pub(super) struct Completion<'a> {
    bases: Option<&'a mut (SourceBases, CacheSettings)>,
    boxing: &'a Boxing,
}

/// Frames that the network is looking at.
#[derive(Debug)]
pub(super) struct Pending(Frames);

#[expect(clippy::large_enum_variant, reason = "both hold a batch, and none should ask for memory")]
#[derive(Debug)]
enum Frames {
    /// Classified and explained, by methods that need the network for it.
    Explained(Batch<Result<ExplainedFrame, ExplainError>>),
    /// To be read with bases that are kept.
    UnderWay(Batch<PendingFrame>, Batch<Answer<PendingLayer>>),
}

#[derive(Debug)]
struct PendingFrame {
    sighting: Sighting,
    size: (u32, u32),
    prepare: Duration,
}

/// What is left of a frame once it has been classified and explained.
#[derive(Debug)]
struct ExplainedFrame {
    size: (u32, u32),
    classified: Classified,
    label: usize,
    map: Map,
    basis: Option<CamBasis>,
    times: AnalysisTimes,
}

#[derive(Debug)]
enum Map {
    Made(ClassActivationMap),
    Seen(Seen, Reduction),
}

impl Whole {
    pub(super) fn new(engine: Engine, settings: AnalysisSettings) -> Self {
        let explainer = settings.method.explainer(settings.method_settings);
        let folding = folding(&engine, settings.method, &settings.method_settings);
        let bases = folding.zip(settings.basis).map(|(folding, basis)| (SourceBases::new(folding), basis));
        let boxing = Boxing {
            settings,
            side: engine.description().input_size as usize,
            background: engine.description().classes.iter().position(|class| class == BACKGROUND),
            classifier: engine.classifier().clone(),
        };
        Self { engine, explainer, bases, boxing }
    }

    pub(super) fn classes(&self) -> &[String] {
        &self.engine.description().classes
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether a frame is explained by more than one pass.
    pub(super) fn needs_further_passes(&self) -> bool {
        self.explainer.needs().further_passes()
    }

    /// What is folded with bases that are kept, if some are.
    pub(super) fn folding(&self) -> Option<&Folding> {
        self.bases.as_ref().map(|(bases, _)| bases.folding())
    }

    pub(super) fn refits(&self, source: usize) -> Option<RefitCounts> {
        self.bases.as_ref().and_then(|(bases, _)| bases.refits(source))
    }

    pub(super) fn sides(&mut self) -> (Submission<'_>, Completion<'_>) {
        let Self { engine, explainer, bases, boxing, .. } = self;
        let known = bases.as_ref().map(|(bases, _)| Arc::clone(bases.known()));
        let submission = Submission { engine, explainer: &mut **explainer, known };
        (submission, Completion { bases: bases.as_mut(), boxing })
    }
}

impl Submission<'_> {
    pub(super) fn engine(&self) -> &Engine {
        self.engine
    }

    pub(super) fn submit(&mut self, requests: &[FrameRequest], taken: &[Picture], take: Duration) -> Pending {
        let side = self.engine.description().input_size;
        let mut prepared = Batch::new();
        let mut times: Batch<Duration> = Batch::new();
        for picture in taken {
            let mut watch = Stopwatch::start();
            prepared.push(prepare(picture, side));
            times.push(take + watch.lap());
        }
        Pending(match &self.known {
            Some(known) => {
                let size = |request: &FrameRequest| request.image.dimensions();
                let frames = requests.iter().zip(times).map(|(request, prepare)| PendingFrame {
                    sighting: request.into(),
                    size: size(request),
                    prepare,
                });
                Frames::UnderWay(frames.collect(), self.begin(known, requests, prepared))
            }
            None => Frames::Explained(self.explain_batch(requests, prepared, &times)),
        })
    }

    fn begin(
        &self,
        known: &KnownQuestions,
        requests: &[FrameRequest],
        prepared: Batch<Result<Picture, ExplainError>>,
    ) -> Batch<Answer<PendingLayer>> {
        let pictures = requests
            .iter()
            .zip(prepared)
            .map(|(request, picture)| Ok(ForwardRequest { picture: picture?, questions: known.of(request.source) }));
        let size_of = |request: &ForwardRequest| request.picture.dimensions();
        batch::infer(pictures, size_of, |pictures| self.engine.begin_layer4(pictures))
    }

    fn explain_batch(
        &self,
        requests: &[FrameRequest],
        prepared: Batch<Result<Picture, ExplainError>>,
        times: &[Duration],
    ) -> Batch<Result<ExplainedFrame, ExplainError>> {
        let first_tap = self.explainer.needs().first_tap();
        let answers = batch::infer(prepared, Picture::dimensions, |pictures| {
            let inferences = self.engine.infer(pictures, first_tap)?;
            // The explainers look at the prepared pictures once more.
            Ok(pictures.iter().map(Picture::another).zip(inferences).collect())
        });
        let explain = |((request, &prepare), answer): ((&FrameRequest, _), Answer<(Picture, Inference)>)| {
            let ((picture, inference), infer) = answer?;
            let times = AnalysisTimes { prepare, infer, ..Default::default() };
            self.explain(request.image.dimensions(), &picture, inference, times)
        };
        requests.iter().zip(times).zip(answers).map(explain).collect()
    }

    /// `times` are those of the steps so far.
    fn explain(
        &self,
        size: (u32, u32),
        picture: &Picture,
        inference: Inference,
        times: AnalysisTimes,
    ) -> Result<ExplainedFrame, ExplainError> {
        let mut watch = Stopwatch::start();
        let label = argmax(&inference.logits);
        let evidence = Evidence {
            network: &*self.engine,
            picture,
            inference: &inference,
            class: label,
            gradient_source: GradientSource::ClosedForm,
        };
        let map = Map::Made(self.explainer.explain(&evidence)?);
        let times = AnalysisTimes { explain: watch.lap(), ..times };
        Ok(ExplainedFrame { size, classified: inference.into(), label, map, basis: None, times })
    }
}

impl Completion<'_> {
    pub(super) fn forget(&mut self, source: usize) {
        if let Some((bases, _)) = &mut self.bases {
            bases.forget(source);
        }
    }

    pub(super) fn complete(&mut self, Pending(frames): Pending) -> Batch<Result<Analysis, ExplainError>> {
        let explained = match frames {
            Frames::Explained(explained) => explained,
            Frames::UnderWay(frames, layers) => {
                let (layers, wait) = batch::wait(layers, frames.len());
                frames.into_iter().zip(layers).map(|(frame, layer)| self.see(frame, layer, wait)).collect()
            }
        };
        let boxing = self.boxing;
        each(explained, |frame| Ok(boxing.draw(frame?)))
    }

    /// `wait` is its share of what waiting for the layers took.
    fn see(
        &mut self,
        PendingFrame { sighting, size, prepare }: PendingFrame,
        layer: Answer<DeviceLayer>,
        wait: Duration,
    ) -> Result<ExplainedFrame, ExplainError> {
        let (layer, infer) = layer?;
        let mut watch = Stopwatch::start();
        let classified = self.boxing.classifier.classify(layer.mean())?;
        let label = argmax(&classified.logits);
        let infer = infer + wait + watch.lap();
        let (bases, settings) = self.bases.as_deref_mut().expect("frames under way have bases that are kept");
        let BasisReading { seen, reduction, basis, .. } = bases.read(*settings, sighting, &layer, None)?;
        let times = AnalysisTimes { prepare, infer, explain: watch.lap(), boxes: Duration::ZERO };
        Ok(ExplainedFrame { size, classified, label, map: Map::Seen(seen, reduction), basis: Some(basis), times })
    }
}

fn prepare<'a>(picture: &Picture<'a>, side: u32) -> Result<Picture<'a>, ExplainError> {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return Err(ExplainError::EmptyPicture);
    }
    Ok(picture.resized((side, side))?)
}

/// Makes maps of what one product with `layer4`'s activations gives, as the method does; nothing for methods, and at
/// resolutions, that need more than that.
fn folding(engine: &Engine, method: Method, settings: &MethodSettings) -> Option<Folding> {
    // At another resolution, labels need a second `layer4`.
    if engine.resolution() != Resolution::Native || !method.keeps_basis(settings) {
        return None;
    }
    let head = Head { weights: engine.class_weights(), biases: engine.class_biases(), background: None };
    let weights = head.weights.mapv(f64::from).reversed_axes();
    Some(if method == Method::HayCam {
        let components = settings.components.unwrap_or(Components::Count(PAPER_COMPONENTS));
        Folding::new(head, weights, true, components)
    } else {
        let refined = settings.refined();
        let weights = if refined.non_negative { weights.mapv(|weight| weight.max(0.0)) } else { weights };
        Folding::new(head, weights, refined.centred, refined.components)
    })
}

impl Boxing {
    /// From a map to heat and boxes.
    fn draw(&self, frame: ExplainedFrame) -> Analysis {
        let ExplainedFrame { size, classified: Classified { probabilities, .. }, label, map, basis, times } = frame;
        let mut watch = Stopwatch::start();
        let (heat, reduction) = match map {
            Map::Made(map) => (map.heat(self.side, self.side), map.reduction),
            Map::Seen(seen, reduction) => {
                let (reading, (rows, columns)) = seen.read();
                let values = reading.evidence();
                let map = Recycled::of((rows, columns), values.column(label).iter().copied());
                (explain::heat(&map, self.side, self.side), Some(reduction))
            }
        };
        let explain = times.explain + watch.lap();
        let mut found = PerBox::new();
        if Some(label) != self.background {
            found = boxes::find(&heat, self.settings.threshold);
            found.retain(|found| self.settings.all_boxes || found.holds_peak);
        }
        let boxes: PerBox<Detection> =
            found.into_iter().map(|found| Detection::in_picture(found, &heat, size, label)).collect();
        Analysis {
            label,
            confidence: probabilities[label],
            // What is said of the whole picture is said of each place.
            box_probabilities: boxes.iter().map(|_| probabilities.clone()).collect(),
            probabilities,
            heat,
            boxes,
            cam: CamSummary { method: self.settings.method, reduction, basis },
            scan: None,
            times: AnalysisTimes { explain, boxes: watch.lap(), ..times },
            kept_for: None,
        }
    }
}
