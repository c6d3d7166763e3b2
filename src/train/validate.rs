//! What a network says of the validation pictures.

use std::path::PathBuf;

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use tch::Tensor;

use super::session::{cross_entropy, going_on};
use super::settings::Settings;
use super::tally::Tally;
use super::{Observer, TrainError};
use crate::dataset::Dataset;
use crate::dataset::loader::{self, Request};
use crate::labels::argmax;
use crate::model::checkpoint::INPUT_SIZE;
use crate::model::preprocess::{Normalisation, squeeze, to_input};
use crate::model::resnet::ResNet18;
use crate::model::tensors::to_rows;

/// Answers of a network.
#[derive(Debug)]
pub struct Validation {
    /// Loss and right answers.
    pub tally: Tally,
    /// Logits (pictures, classes).
    pub logits: Array2<f32>,
    /// True class of each picture.
    pub labels: Vec<i64>,
    /// Files that could not be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Classifies all pictures of `val` as they are.
///
/// # Errors
///
/// When libtorch fails, or the observer ends the training.
pub fn validate(
    network: &ResNet18,
    val: &Dataset,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Validation, TrainError> {
    let requests: Vec<Request> = val.pictures.iter().map(|picture| Request::new(picture, 0)).collect();
    let whole = |request: &Request| loader::decode(request).map(|image| squeeze(&image, None, INPUT_SIZE));
    let classes = val.classes.len();
    let mut validation = Validation {
        tally: Tally::new(classes),
        logits: Array2::zeros((0, classes)),
        labels: Vec::with_capacity(requests.len()),
        unreadable: Vec::new(),
    };
    let mut logits = Vec::new();
    let mut done = 0;
    loader::load(&requests, settings.recipe.batch_size, settings.loader_threads, whole, |batch| {
        done += batch.labels.len() + batch.unreadable.len();
        if !batch.labels.is_empty() {
            let _no_gradients = tch::no_grad_guard();
            let truth = Tensor::f_from_slice(&batch.labels)?.f_to_device(settings.device)?;
            let input = to_input(&batch.items, &Normalisation::IMAGENET, settings.device)?;
            let answers = network.logits(&network.activations(&input)?)?;
            let loss = cross_entropy(&answers, &truth, 0.0)?.f_double_value(&[])?;
            let answers = to_rows(&answers)?;
            validation.tally.add(loss, &predicted(answers.view()), &batch.labels);
            logits.push(answers);
            validation.labels.extend(batch.labels);
        }
        validation.unreadable.extend(batch.unreadable);
        going_on(observer.validating(done, requests.len()))
    })?;
    if !logits.is_empty() {
        let views: Vec<ArrayView2<f32>> = logits.iter().map(|rows| rows.view()).collect();
        validation.logits = concatenate(Axis(0), &views).expect("every batch has a logit a class");
    }
    Ok(validation)
}

/// The class of the largest logit of each row (pictures, classes).
pub fn predicted(logits: ArrayView2<f32>) -> Vec<usize> {
    logits.rows().into_iter().map(|row| argmax(&row.to_owned())).collect()
}
