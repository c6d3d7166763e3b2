//! Measures the maps of all methods on one picture.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use image::RgbImage;
use ndarray::Array2;

use super::curves::Perturbed;
use super::pointing::points_at;
use super::sweep::sweep;
use super::{Choice, Extent, MeasuredPicture, Measures, Settings, Subject, proceed};
use crate::boxes::{self, Threshold};
use crate::dataset::voc::{LabelledBox, Problem, ProblemKind};
use crate::evaluate::EvaluateError;
use crate::evaluate::overlap::{best_dice, best_iou};
use crate::explain::{ClassActivationMap, Evidence, Explainer};
use crate::geometry::Rect;
use crate::labels::argmax;
use crate::model::engine::{Engine, Inference, Tap};
use crate::model::picture::Picture;

/// Numbers of principal components at which methods that have some are measured.
pub const COMPONENTS: [usize; 11] = [1, 2, 3, 5, 8, 12, 19, 26, 33, 40, 48];

/// A picture made ready on a loader's thread.
pub(super) struct Prepared {
    /// Relative to the evaluated folder.
    pub path: PathBuf,
    /// As the network sees it.
    pub input: RgbImage,
    /// Width and height of the upright picture, in pixels.
    pub size: (u32, u32),
    pub boxes: Vec<LabelledBox>,
    pub problems: Vec<Problem>,
}

impl Prepared {
    /// The boxes by class index, and what is to be said of those whose class is unknown.
    pub fn boxes_by_class(&self, classes: &[String]) -> (BTreeMap<usize, Vec<Rect>>, Vec<ProblemKind>) {
        let mut known: BTreeMap<usize, Vec<Rect>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for LabelledBox { class, rect } in &self.boxes {
            match classes.iter().position(|name| name == class) {
                Some(index) => known.entry(index).or_default().push(*rect),
                None => unknown.push(ProblemKind::UnknownClass(class.clone())),
            }
        }
        (known, unknown)
    }
}

/// All methods, ready to explain.
pub(super) struct Explainers<'a> {
    engine: &'a Engine,
    settings: &'a Settings,
    explainers: Vec<Box<dyn Explainer>>,
    /// What the methods need the inference to keep.
    tap: Tap,
}

/// One class on a picture, to be explained.
#[derive(Clone, Copy)]
struct Question<'a> {
    picture: &'a Picture<'a>,
    inference: &'a Inference,
    class: usize,
}

/// A map from 0 to 1, as large as the network's input, and how long it took.
struct Heat {
    values: Array2<f32>,
    time: Duration,
}

impl<'a> Explainers<'a> {
    pub fn new(engine: &'a Engine, settings: &'a Settings) -> Self {
        let explainers: Vec<_> =
            settings.methods.iter().map(|choice| choice.method.explainer(settings.method_settings)).collect();
        let tap = explainers.iter().map(|explainer| explainer.needs().first_tap()).min().unwrap_or(Tap::Layer4);
        Self { engine, settings, explainers, tap }
    }

    /// Measures every method on each class that has boxes; `number` is that of the picture. `observe` is asked after each
    /// method.
    pub fn measure(
        &self,
        prepared: &Prepared,
        boxes: BTreeMap<usize, Vec<Rect>>,
        number: usize,
        mut observe: impl FnMut() -> ControlFlow<()>,
    ) -> Result<(MeasuredPicture, Vec<Subject>), EvaluateError> {
        let Prepared { path, input, size, .. } = prepared;
        let start = Instant::now();
        let seen = Picture::from(input);
        let mut answers = self.engine.infer(std::slice::from_ref(&seen), self.tap)?;
        let forward = start.elapsed();
        let inference = answers.pop().expect("one answer for one picture");
        let predicted = argmax(&inference.probabilities);
        let perturbed = match self.settings.extent {
            Extent::Full { curve_steps } if curve_steps > 0 => Some(Perturbed::new(self.engine, input, curve_steps)),
            _ => None,
        };

        let mut subjects: Vec<Subject> = boxes
            .into_iter()
            .map(|(class, boxes)| Subject { picture: number, class, boxes, measures: vec![] })
            .collect();
        for (choice, explainer) in self.settings.methods.iter().zip(&self.explainers) {
            let question = |class| Question { picture: &seen, inference: &inference, class };
            let mut heats = BTreeMap::new();
            for class in subjects.iter().map(|subject| subject.class) {
                heats.insert(class, heat(&**explainer, self.evidence(question(class)))?);
            }
            if self.settings.extent != Extent::Thresholds && !heats.contains_key(&predicted) {
                heats.insert(predicted, heat(&**explainer, self.evidence(question(predicted)))?);
            }
            for Subject { class, boxes, measures, .. } in &mut subjects {
                let heat = &heats[class];
                let rect = peak_box(&heat.values, choice.threshold, *size);
                let of_predicted =
                    heats.get(&predicted).and_then(|heat| peak_box(&heat.values, choice.threshold, *size));
                let mut iou_by_components = Vec::new();
                if self.settings.extent != Extent::Thresholds {
                    let evidence = self.evidence(question(*class));
                    iou_by_components = self.iou_by_components((choice, &**explainer), evidence, boxes, *size)?;
                }
                let areas = perturbed.as_ref().map(|perturbed| perturbed.measure(&heat.values, *class)).transpose()?;
                measures.push(Measures {
                    rect,
                    iou: rect.map_or(0.0, |rect| best_iou(rect, boxes)),
                    dice: rect.map_or(0.0, |rect| best_dice(rect, boxes)),
                    iou_of_predicted: of_predicted.map_or(0.0, |rect| best_iou(rect, boxes)),
                    points_inside: points_at(&heat.values, boxes, *size),
                    sweep: sweep(&heat.values, boxes, *size),
                    areas,
                    iou_by_components,
                    time: heat.time,
                });
                proceed(observe())?;
            }
        }
        let probabilities = inference.probabilities;
        Ok((MeasuredPicture { path: path.clone(), size: *size, predicted, probabilities, forward }, subjects))
    }

    /// IoU of a method with each of [`COMPONENTS`]; none if it has no components.
    fn iou_by_components(
        &self,
        (choice, explainer): (&Choice, &dyn Explainer),
        evidence: Evidence,
        boxes: &[Rect],
        size: (u32, u32),
    ) -> Result<Vec<f64>, EvaluateError> {
        let maps = explainer.explain_with(&evidence, &COMPONENTS)?;
        let iou = |map| {
            let heat = heat_of(&map, evidence.picture);
            peak_box(&heat, choice.threshold, size).map_or(0.0, |rect| best_iou(rect, boxes))
        };
        Ok(maps.into_iter().map(iou).collect())
    }

    fn evidence<'b>(&'b self, question: Question<'b>) -> Evidence<'b> {
        let Question { picture, inference, class } = question;
        let gradient_source = self.settings.gradient_source;
        Evidence { network: self.engine, picture, inference, class, gradient_source }
    }
}

fn heat(explainer: &dyn Explainer, evidence: Evidence) -> Result<Heat, EvaluateError> {
    let start = Instant::now();
    let map = explainer.explain(&evidence)?;
    let time = start.elapsed();
    Ok(Heat { values: heat_of(&map, evidence.picture), time })
}

fn heat_of(map: &ClassActivationMap, picture: &Picture) -> Array2<f32> {
    let (width, height) = picture.dimensions();
    map.heat(height as usize, width as usize).take()
}

/// The box around the hot region that holds the peak, in pixels of a picture of `size` (width, height).
fn peak_box(heat: &Array2<f32>, threshold: Threshold, size: (u32, u32)) -> Option<Rect> {
    let (rows, columns) = heat.dim();
    let found = boxes::find_hottest(heat, threshold)?;
    Some(found.rect.scaled((columns as u32, rows as u32), size))
}
