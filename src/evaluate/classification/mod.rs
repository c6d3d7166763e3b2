//! Classification of whole pictures: what the model says of each.
//!
//! [`evaluate`] runs the model and collects its answers. All figures follow from them: [`metrics`] are pure functions of
//! counts, [`calibration`] of probabilities, [`summary`] puts them together, and [`report`] writes them for people and
//! programs.

pub mod calibration;
pub mod metrics;
pub mod report;
pub mod summary;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ndarray::Array1;

use crate::dataset::loader::{self, Request};
use crate::dataset::{Dataset, DatasetError, source_of};
use crate::evaluate::EvaluateError;
use crate::labels::argmax;
use crate::model::engine::{Engine, Tap};
use crate::model::picture::Picture;
use crate::model::preprocess::squeeze;

/// What the model says of one picture.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The image file, relative to the evaluated folder.
    pub path: PathBuf,
    /// Where the picture was gathered, see [`source_of`].
    pub source: String,
    /// Index of its true class.
    pub label: usize,
    /// One a class, in the order of the model's outputs; they sum to 1.
    pub probabilities: Array1<f32>,
}

impl Prediction {
    /// Index of the class with the highest probability.
    pub fn predicted(&self) -> usize {
        argmax(&self.probabilities)
    }

    /// Probability of the predicted class, in [0, 1].
    pub fn confidence(&self) -> f32 {
        self.probabilities[self.predicted()]
    }

    /// Whether the true class is predicted.
    pub fn is_right(&self) -> bool {
        self.predicted() == self.label
    }
}

/// What the model says of a set of pictures.
#[derive(Debug)]
pub struct Evaluation {
    /// The evaluated folder.
    pub data: PathBuf,
    /// Class names, in the order of the model's outputs.
    pub classes: Vec<String>,
    /// One a picture that could be read, by class and then by name. There is at least one.
    pub predictions: Vec<Prediction>,
    /// Class folders that the model does not know; they were left out.
    pub unknown_classes: Vec<String>,
    /// Files that could not be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// How an evaluation is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Pictures a forward pass.
    pub batch_size: usize,
    /// Threads that read pictures.
    pub loader_threads: usize,
}

/// Classifies every picture of a folder of class folders. `observe` is told how many of how many are done.
///
/// # Errors
///
/// When no class folder has a class of the model, a folder holds no pictures, libtorch fails, or `observe` breaks off.
pub fn evaluate(
    engine: &Engine,
    folder: &Path,
    options: Options,
    mut observe: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Evaluation, EvaluateError> {
    let classes = engine.description().classes.clone();
    let (known, unknown_classes): (Vec<String>, Vec<String>) =
        Dataset::class_folders(folder)?.into_iter().partition(|name| classes.contains(name));
    if known.is_empty() {
        let expected = classes.join(", ");
        let message = format!(
            "{} has no folder named after a class of the model ({expected}), nor images/ and annotations/",
            folder.display()
        );
        return Err(DatasetError::Classes(message).into());
    }
    let dataset = Dataset::scan(folder, &known)?;
    let output_of: Vec<usize> =
        known.iter().filter_map(|name| classes.iter().position(|class| class == name)).collect();

    let requests: Vec<Request> = dataset
        .pictures
        .iter()
        .zip(0..)
        .map(|(picture, draw)| Request { path: picture.path.clone(), label: output_of[picture.label], draw })
        .collect();
    let mut predictions = Vec::with_capacity(requests.len());
    let mut unreadable = Vec::new();
    let mut done = 0;
    let input_size = engine.description().input_size;
    let whole = |request: &Request| loader::decode(request).map(|image| squeeze(&image, None, input_size));
    loader::load(&requests, options.batch_size, options.loader_threads, whole, |batch| {
        let pictures: Vec<Picture> = batch.items.iter().map(Picture::from).collect();
        let answers = engine.infer(&pictures, Tap::Layer4)?;
        let asked = batch.indices.iter().map(|&index| &requests[index]);
        predictions.extend(asked.zip(answers).map(|(request, answer)| Prediction {
            path: request.path.strip_prefix(folder).unwrap_or(&request.path).to_owned(),
            source: source_of(&request.path),
            label: request.label,
            probabilities: answer.probabilities,
        }));
        done += batch.labels.len() + batch.unreadable.len();
        unreadable.extend(batch.unreadable);
        match observe(done, requests.len()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(EvaluateError::Interrupted),
        }
    })?;
    match unreadable.first() {
        Some((_, reason)) if predictions.is_empty() => Err(DatasetError::AllUnreadable(reason.clone()).into()),
        _ => Ok(Evaluation { data: folder.to_owned(), classes, predictions, unknown_classes, unreadable }),
    }
}
