//! How well a network answers at each position of scenes composed of the validation pictures, the same in every epoch.

use ndarray::Array4;
use tch::{Kind, TchError, Tensor};

use super::Scene;
use super::compose::Composer;
use super::loss::{PositionWeights, loss, position_weights};
use crate::dataset::Dataset;
use crate::dataset::loader::{self, Request};
use crate::labels::argmax;
use crate::model::preprocess::{Normalisation, to_input};
use crate::model::resnet::ResNet18;
use crate::train::session::{going_on, random_stream};
use crate::train::settings::Settings;
use crate::train::{Observer, TrainError};

/// Most scenes that are composed.
const SCENES: usize = 960;

/// Mean loss of the positions of scenes that `composer` makes of the pictures of `val`.
///
/// # Errors
///
/// When libtorch fails, or the observer ends the training.
pub fn validate(
    network: &ResNet18,
    val: &Dataset,
    composer: &Composer,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<f64, TrainError> {
    let recipe = &settings.recipe;
    let step = val.pictures.len().div_ceil(SCENES).max(1);
    let requests: Vec<Request> =
        (0..).zip(val.pictures.iter().step_by(step)).map(|(draw, picture)| Request::new(picture, draw)).collect();
    let compose = |request: &Request| composer.compose(request, &mut random_stream(recipe.seed, request.draw));
    let (mut sum, mut scenes, mut done) = (0.0, 0usize, 0);
    loader::load(&requests, recipe.batch_size, settings.loader_threads, compose, |batch| {
        done += batch.items.len() + batch.unreadable.len();
        if !batch.items.is_empty() {
            let _no_gradients = tch::no_grad_guard();
            let images: Vec<_> = batch.items.iter().map(|scene| scene.image.clone()).collect();
            let input = to_input(&images, &Normalisation::IMAGENET, settings.device)?;
            let logits = network.position_logits(&network.activations(&input)?)?;
            let (weights, _) = judge(&logits, &batch.items, composer)?;
            sum += loss(&logits, &weights)?.f_double_value(&[])? * batch.items.len() as f64;
            scenes += batch.items.len();
        }
        going_on(observer.validating(done, requests.len()))
    })?;
    Ok(sum / scenes as f64)
}

/// What the positions of scenes should have answered to logits (scenes, classes, rows, columns), and the class that each
/// scene was taken for where its first face is.
///
/// # Errors
///
/// When libtorch refuses.
pub fn judge(
    logits: &Tensor,
    scenes: &[Scene],
    composer: &Composer,
) -> Result<(Vec<PositionWeights>, Vec<usize>), TchError> {
    let probabilities = logits.f_detach()?.f_softmax(1, Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let shape: Vec<usize> = probabilities.size().iter().map(|&length| length as usize).collect();
    let mut values = vec![0.0f32; probabilities.numel()];
    probabilities.f_copy_data(&mut values, probabilities.numel())?;
    let probabilities = Array4::from_shape_vec((shape[0], shape[1], shape[2], shape[3]), values)
        .expect("as many values as the tensor's shape says");
    let mut weights = Vec::with_capacity(scenes.len());
    let mut predicted = Vec::with_capacity(scenes.len());
    for (scene, probabilities) in scenes.iter().zip(probabilities.outer_iter()) {
        let expected = position_weights(scene, composer.background(), composer.recipe(), probabilities);
        let sums = probabilities.outer_iter().map(|class| expected.expected.iter().map(|&place| class[place]).sum());
        predicted.push(argmax(&sums.collect()));
        weights.push(expected);
    }
    Ok((weights, predicted))
}
