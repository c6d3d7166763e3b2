//! One picture explained by several methods, for people to compare.

use std::time::Duration;

use image::RgbImage;
use ndarray::{Array1, Array2};

use crate::boxes::{self, Detection, Threshold, default_threshold};
use crate::explain::normalise::normalise;
use crate::explain::{Evidence, ExplainError, GradientSource, Method, MethodSettings, Reduction};
use crate::labels::argmax;
use crate::model::engine::{Engine, Tap};
use crate::model::resnet::Resolution;
use crate::stopwatch::Stopwatch;

/// Which methods are compared, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparisonSettings {
    /// The methods, in the order of the answers.
    pub methods: Vec<Method>,
    /// What is set on them.
    pub method_settings: MethodSettings,
    /// What counts as hot; what suits each method if not given.
    pub threshold: Option<Threshold>,
    /// The engine's resolution, which decides what suits a method.
    pub resolution: Resolution,
    /// Where gradients come from.
    pub gradient_source: GradientSource,
    /// Index of the class to explain; the most probable one if not given.
    pub class: Option<usize>,
}

/// What the model says of a picture, and how each method explains it.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Index of the most probable class.
    pub label: usize,
    /// One probability a class.
    pub probabilities: Array1<f32>,
    /// Index of the class that is explained.
    pub class: usize,
    /// One map a method.
    pub maps: Vec<MethodMap>,
}

/// A method's explanation.
#[derive(Debug, Clone)]
pub struct MethodMap {
    /// The method.
    pub method: Method,
    /// (rows, columns) of the method's grid, in [0, 1].
    pub values: Array2<f32>,
    /// The principal components behind it, where the method has some.
    pub reduction: Option<Reduction>,
    /// What counted as hot.
    pub threshold: Threshold,
    /// The box around the hottest region, in pixels of the picture; none where the map is cold everywhere.
    pub boxes: Vec<Detection>,
    /// How long the map took, beyond the forward pass that all methods share. The first gradients of a process take longer,
    /// because libtorch sets itself up for them.
    pub time: Duration,
}

/// Explains a picture by each method. Boxes are drawn for any class, `background` included: they say where the evidence
/// for that class lies.
///
/// # Errors
///
/// When libtorch fails or the activations are not finite, which a damaged model causes.
///
/// # Panics
///
/// When the model does not have the class that is to be explained.
pub fn compare(engine: &Engine, picture: &RgbImage, settings: &ComparisonSettings) -> Result<Comparison, ExplainError> {
    let side = engine.description().input_size;
    let prepared = engine.take(picture).resized((side, side))?;
    let explainers: Vec<_> =
        settings.methods.iter().map(|method| (*method, method.explainer(settings.method_settings))).collect();
    let first_tap = explainers.iter().map(|(_, explainer)| explainer.needs().first_tap()).min();
    let mut answers = engine.infer(std::slice::from_ref(&prepared), first_tap.unwrap_or(Tap::Layer4))?;
    let inference = answers.pop().expect("one answer for one picture");
    let label = argmax(&inference.logits);
    let class = settings.class.unwrap_or(label);
    let evidence = Evidence {
        network: engine,
        picture: &prepared,
        inference: &inference,
        class,
        gradient_source: settings.gradient_source,
    };
    let mut maps = Vec::with_capacity(explainers.len());
    for (method, explainer) in explainers {
        let mut watch = Stopwatch::start();
        let map = explainer.explain(&evidence)?;
        let time = watch.lap();
        let threshold = settings
            .threshold
            .unwrap_or_else(|| default_threshold(method, &settings.method_settings, settings.resolution));
        let heat = map.heat(side as usize, side as usize);
        let hottest = boxes::find_hottest(&heat, threshold).into_iter();
        let boxes = hottest.map(|found| Detection::in_picture(found, &heat, picture.dimensions(), class)).collect();
        maps.push(MethodMap {
            method,
            values: normalise(&map.values),
            reduction: map.reduction,
            threshold,
            boxes,
            time,
        });
    }
    Ok(Comparison { label, probabilities: inference.probabilities, class, maps })
}
