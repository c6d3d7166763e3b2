//! Classification of whole pictures: confusion, and accuracy by class and by source.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use ndarray::Array2;

use crate::dataset::loader::{self, Request};
use crate::dataset::{Dataset, DatasetError, source_of};
use crate::exit_code::ExitCode;
use crate::labels::{MASK, NO_MASK, argmax};
use crate::model::ModelError;
use crate::model::engine::Engine;
use crate::model::preprocess::squeeze;

/// Right answers out of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Answered right.
    pub correct: u64,
    /// Asked.
    pub total: u64,
}

impl Score {
    /// Share of right answers, NaN where none was asked.
    pub fn accuracy(self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    fn count(&mut self, correct: bool) {
        self.correct += u64::from(correct);
        self.total += 1;
    }
}

/// What an evaluation found.
#[derive(Debug)]
pub struct Report {
    /// Class names, in the order of the model's outputs.
    pub classes: Vec<String>,
    /// Pictures by (true class, predicted class).
    pub confusion: Array2<u64>,
    /// By source (file-name prefix) and true class.
    pub by_source: BTreeMap<(String, String), Score>,
    /// Mask against no mask, by the largest of all outputs: any other class counts as wrong.
    pub mask_or_not: Score,
    /// The same by the larger of the two outputs alone, as a network of two classes would answer.
    pub mask_or_not_of_two: Score,
    /// Class folders that the model does not know; they were left out.
    pub unknown_classes: Vec<String>,
    /// Files that could not be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl Report {
    /// Over all classes.
    pub fn overall(&self) -> Score {
        Score { correct: self.confusion.diag().sum(), total: self.confusion.sum() }
    }

    /// Over the pictures of one class.
    pub fn of_class(&self, class: usize) -> Score {
        Score { correct: self.confusion[[class, class]], total: self.confusion.row(class).sum() }
    }
}

/// How an evaluation is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Pictures a forward pass.
    pub batch_size: usize,
    /// Threads that read pictures.
    pub loader_threads: usize,
}

/// Why an evaluation ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The observer asked for it.
    #[error("interrupted")]
    Interrupted,
    /// The pictures.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl EvaluateError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::Interrupted,
            Self::Dataset(error) => error.exit_code(),
            Self::Model(error) => error.exit_code(),
        }
    }
}

/// Classifies every picture of a folder of class folders. `observe` is told how many of how many are done.
///
/// # Errors
///
/// When no class folder has a class of the model, a folder holds no pictures, libtorch fails, or `observe` breaks off.
pub fn evaluate(
    engine: &Engine,
    folder: &std::path::Path,
    options: Options,
    mut observe: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Report, EvaluateError> {
    let classes = engine.description().classes.clone();
    let (known, unknown_classes): (Vec<String>, Vec<String>) =
        Dataset::class_folders(folder)?.into_iter().partition(|name| classes.contains(name));
    if known.is_empty() {
        let expected = classes.join(", ");
        let message = format!("{} has no folder named after a class of the model ({expected})", folder.display());
        return Err(DatasetError::Classes(message).into());
    }
    let dataset = Dataset::scan(folder, &known)?;
    let output_of: Vec<usize> =
        known.iter().filter_map(|name| classes.iter().position(|class| class == name)).collect();
    let index_of = |name: &str| classes.iter().position(|class| class == name);
    let pair = index_of(MASK).zip(index_of(NO_MASK));

    let requests: Vec<Request> = dataset
        .pictures
        .iter()
        .zip(0..)
        .map(|(picture, draw)| Request { path: picture.path.clone(), label: output_of[picture.label], draw })
        .collect();
    let mut report = Report {
        confusion: Array2::zeros((classes.len(), classes.len())),
        by_source: BTreeMap::new(),
        mask_or_not: Score::default(),
        mask_or_not_of_two: Score::default(),
        unknown_classes,
        unreadable: Vec::new(),
        classes,
    };
    let mut done = 0;
    let input_size = engine.description().input_size;
    let whole = |request: &Request| loader::decode(request).map(|image| squeeze(&image, None, input_size));
    loader::load(&requests, options.batch_size, options.loader_threads, whole, |batch| {
        let answers = engine.infer(&batch.items)?;
        for (&index, answer) in batch.indices.iter().zip(&answers) {
            let request = &requests[index];
            let truth = request.label;
            let predicted = argmax(&answer.logits);
            report.confusion[[truth, predicted]] += 1;
            let key = (source_of(&request.path), report.classes[truth].clone());
            report.by_source.entry(key).or_default().count(predicted == truth);
            if let Some((mask, no_mask)) = pair.filter(|&(mask, no_mask)| truth == mask || truth == no_mask) {
                let of_two = if answer.logits[mask] >= answer.logits[no_mask] { mask } else { no_mask };
                report.mask_or_not.count(predicted == truth);
                report.mask_or_not_of_two.count(of_two == truth);
            }
        }
        done += batch.labels.len() + batch.unreadable.len();
        report.unreadable.extend(batch.unreadable);
        match observe(done, requests.len()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(EvaluateError::Interrupted),
        }
    })?;
    match report.unreadable.first() {
        Some((_, reason)) if report.confusion.sum() == 0 => Err(DatasetError::AllUnreadable(reason.clone()).into()),
        _ => Ok(report),
    }
}
