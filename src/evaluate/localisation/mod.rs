//! Localisation: how well the boxes and maps of each method agree with annotated boxes.
//!
//! [`evaluate`] explains every annotated picture with every method and measures the maps: overlap of boxes, [`sweep`] over
//! thresholds, [`pointing`] game, insertion and deletion [`curves`]. All figures follow from these measures:
//! [`max_box_acc`] is a pure function, [`tuning`] chooses thresholds, [`summary`] puts them together, and [`report`] writes
//! them for people and programs.

pub mod curves;
pub mod max_box_acc;
pub mod picture;
pub mod pointing;
pub mod report;
pub mod summary;
pub mod sweep;
pub mod tuning;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ndarray::Array1;

use crate::boxes::Threshold;
use crate::capture::stills::read_oriented;
use crate::dataset::DatasetError;
use crate::dataset::loader::{self, Request};
use crate::dataset::voc::{Problem, ProblemKind, VocDataset};
use crate::evaluate::EvaluateError;
use crate::explain::{GradientSource, Method, MethodSettings};
use crate::geometry::Rect;
use crate::model::engine::Engine;
use crate::model::preprocess::squeeze;
use curves::Areas;
use picture::{Explainers, Prepared};
use sweep::Sweep;

/// A method and the threshold of its boxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The method.
    pub method: Method,
    /// What counts as hot on its maps.
    pub threshold: Threshold,
}

/// What is measured and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The methods that are compared, each once.
    pub methods: Vec<Choice>,
    /// What is set on them.
    pub method_settings: MethodSettings,
    /// Where gradients at `layer4` come from.
    pub gradient_source: GradientSource,
    /// How much is measured.
    pub extent: Extent,
    /// Threads that read pictures.
    pub loader_threads: usize,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Only what a choice of thresholds needs: the map of the annotated class.
    Thresholds,
    /// Everything.
    Full {
        /// Steps of the insertion and deletion curves; 0: they are not measured.
        curve_steps: usize,
    },
}

/// What was measured on a set of pictures.
#[derive(Debug)]
pub struct Evaluation {
    /// The evaluated folder.
    pub data: PathBuf,
    /// Class names, in the order of the model's outputs.
    pub classes: Vec<String>,
    /// The methods, in the order of [`Subject::measures`].
    pub methods: Vec<Choice>,
    /// Pictures with at least one usable box, by name. There is at least one.
    pub pictures: Vec<MeasuredPicture>,
    /// What was measured, by picture and then by class.
    pub subjects: Vec<Subject>,
    /// What was wrong with pictures and annotations.
    pub problems: Vec<Problem>,
}

/// What the model says of one picture.
#[derive(Debug, Clone)]
pub struct MeasuredPicture {
    /// The image file, relative to the evaluated folder.
    pub path: PathBuf,
    /// Width and height of the upright picture, in pixels.
    pub size: (u32, u32),
    /// Index of the class with the highest probability.
    pub predicted: usize,
    /// One a class, in the order of the model's outputs; they sum to 1.
    pub probabilities: Array1<f32>,
    /// The forward pass that all methods share.
    pub forward: Duration,
}

/// One picture and one class that is annotated on it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Index of the picture.
    pub picture: usize,
    /// Index of the class.
    pub class: usize,
    /// The annotated boxes of that class, in pixels of the upright picture. There is at least one.
    pub boxes: Vec<Rect>,
    /// One a method.
    pub measures: Vec<Measures>,
}

/// How well a method's map of the annotated class fits the annotated boxes. Of several boxes the best counts.
#[derive(Debug, Clone)]
pub struct Measures {
    /// The box around the hot region that holds the peak, in pixels of the picture; `None` if the map is cold.
    pub rect: Option<Rect>,
    /// Its IoU, in [0, 1]; 0 without a box.
    pub iou: f64,
    /// Its Dice, in [0, 1]; 0 without a box.
    pub dice: f64,
    /// IoU of the same from the map of the predicted class, in [0, 1]. Equal to `iou` where the prediction is right.
    pub iou_of_predicted: f64,
    /// Whether the peak lies in a box.
    pub points_inside: bool,
    /// IoU at every threshold.
    pub sweep: Sweep,
    /// Insertion and deletion, if they are measured.
    pub areas: Option<Areas>,
    /// IoU with each of [`picture::COMPONENTS`], for methods with principal components; otherwise empty.
    pub iou_by_components: Vec<f64>,
    /// What the map took beyond the forward pass that all methods share.
    pub time: Duration,
}

/// Measures every picture in `folder`, see [`VocDataset`]. `observe` is told how many of how many pictures are done, several
/// times a picture.
///
/// # Errors
///
/// When no picture has a usable box of a class of the model, libtorch fails, activations are not finite, or `observe` breaks
/// off.
pub fn evaluate(
    engine: &Engine,
    folder: &Path,
    settings: &Settings,
    mut observe: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Evaluation, EvaluateError> {
    let dataset = VocDataset::scan(folder)?;
    let explainers = Explainers::new(engine, settings);
    let mut evaluation = Evaluation {
        data: folder.to_owned(),
        classes: engine.description().classes.clone(),
        methods: settings.methods.clone(),
        pictures: Vec::with_capacity(dataset.pictures.len()),
        subjects: Vec::with_capacity(dataset.pictures.len()),
        problems: dataset.problems,
    };
    let total = dataset.pictures.len();
    let requests: Vec<Request> = dataset
        .pictures
        .iter()
        .zip(0..)
        .map(|(picture, draw)| Request { path: picture.path.clone(), label: 0, draw })
        .collect();
    let input_size = engine.description().input_size;
    let prepare = |request: &Request| {
        let (image, orientation) = read_oriented(&request.path).map_err(|error| error.to_string())?;
        let annotation = &dataset.pictures[request.draw as usize].annotation;
        let (boxes, problems) = annotation.on_picture(image.dimensions(), orientation);
        let path = request.path.strip_prefix(folder).unwrap_or(&request.path).to_owned();
        Ok(Prepared { path, input: squeeze(&image, None, input_size), size: image.dimensions(), boxes, problems })
    };
    let mut done = 0;
    // One by one: the time of a forward pass is that of a single picture.
    loader::load(&requests, 1, settings.loader_threads, prepare, |batch| {
        for (mut prepared, index) in batch.items.into_iter().zip(batch.indices) {
            evaluation.problems.append(&mut prepared.problems);
            let (boxes, unknown) = prepared.boxes_by_class(&evaluation.classes);
            let annotation = &dataset.pictures[index].annotation.path;
            evaluation.problems.extend(unknown.into_iter().map(|kind| Problem { path: annotation.clone(), kind }));
            if !boxes.is_empty() {
                let number = evaluation.pictures.len();
                let (picture, subjects) = explainers.measure(&prepared, boxes, number, || observe(done, total))?;
                evaluation.pictures.push(picture);
                evaluation.subjects.extend(subjects);
            }
        }
        let unreadable = |(path, reason)| Problem { path, kind: ProblemKind::UnreadablePicture(reason) };
        evaluation.problems.extend(batch.unreadable.into_iter().map(unreadable));
        done += 1;
        proceed(observe(done, total))
    })?;
    evaluation.problems.sort_by(|one, other| one.path.cmp(&other.path));
    if evaluation.subjects.is_empty() {
        let first = evaluation.problems.first().map(Problem::to_string);
        return Err(DatasetError::NoAnnotations { path: folder.to_owned(), first }.into());
    }
    Ok(evaluation)
}

/// Breaking off is an error of its own.
fn proceed(flow: ControlFlow<()>) -> Result<(), EvaluateError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(EvaluateError::Interrupted),
    }
}
