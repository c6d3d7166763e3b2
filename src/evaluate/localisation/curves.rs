//! Insertion and deletion (Petsiuk et al. 2018, "RISE: Randomized input sampling for explanation of black-box models",
//! causal metrics): does the network itself need what a map calls hot?
//!
//! *Deletion* takes the pixels away from the hottest to the coldest, leaving the mean colour; the sooner the class's
//! probability falls, the better the map, so less area under the curve is better. *Insertion* brings them back in the same
//! order into a blurred copy; more area is better. Probabilities are calibrated, as everywhere.

use image::RgbImage;
use image::imageops::blur;
use ndarray::{Array2, Array3, ArrayView1, Axis};

use crate::model::ModelError;
use crate::model::engine::Engine;
use crate::model::picture::Picture;

/// Standard deviation of the blur in pixels of the network's input. The authors cut the same Gaussian to 11x11 pixels, which
/// blurs less: insertion does not compare with published figures.
const BLUR_PX: f32 = 5.0;

/// Areas under the two curves of one map, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Areas {
    /// More is better.
    pub insertion: f64,
    /// Less is better.
    pub deletion: f64,
}

/// A picture whose pixels are inserted and deleted.
#[derive(Debug)]
pub struct Perturbed<'a> {
    engine: &'a Engine,
    picture: &'a RgbImage,
    blurred: RgbImage,
    /// The curves are measured where 0, 1 / steps, ..., 1 of the pixels are inserted or deleted.
    steps: usize,
}

impl<'a> Perturbed<'a> {
    /// A picture as the network sees it; `steps` is at least 1.
    pub fn new(engine: &'a Engine, picture: &'a RgbImage, steps: usize) -> Self {
        Self { engine, picture, blurred: blur(picture, BLUR_PX), steps }
    }

    /// Measures a map of the class, as large as the picture, by 2 (steps + 1) forward passes.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn measure(&self, heat: &Array2<f32>, class: usize) -> Result<Areas, ModelError> {
        let temperature = self.engine.description().temperature;
        let (picture, blurred) = (Picture::from(self.picture), Picture::from(&self.blurred));
        let area_of = |base, masks: &Array3<f32>| {
            let logits = self.engine.logits_of_blends(&picture, base, masks.view())?;
            let curve = logits.outer_iter().map(|logits| probability(logits, temperature, class));
            Ok::<f64, ModelError>(area(&curve.collect::<Vec<f64>>()))
        };
        let mut masks = hottest_first(heat, self.steps);
        let insertion = area_of(Some(&blurred), &masks)?;
        masks.mapv_inplace(|inserted| 1.0 - inserted);
        Ok(Areas { insertion, deletion: area_of(None, &masks)? })
    }
}

/// Masks (steps + 1, rows, columns): the n-th is 1 on the hottest n / steps of the places and 0 on the others. Of equally
/// hot places the first comes first, from top to bottom and from left to right.
fn hottest_first(heat: &Array2<f32>, steps: usize) -> Array3<f32> {
    let values: Vec<f32> = heat.iter().copied().collect();
    let mut by_heat: Vec<usize> = (0..values.len()).collect();
    by_heat.sort_by(|&one, &other| values[other].total_cmp(&values[one]));
    let (rows, columns) = heat.dim();
    let mut masks = Array3::zeros((steps + 1, rows, columns));
    for (step, mut mask) in masks.axis_iter_mut(Axis(0)).enumerate() {
        for &place in &by_heat[..step * values.len() / steps] {
            mask[[place / columns, place % columns]] = 1.0;
        }
    }
    masks
}

/// Area under a curve over [0, 1] that is given at even distances, by trapezoids.
fn area(curve: &[f64]) -> f64 {
    let trapezoids = curve.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    trapezoids.sum::<f64>() / (curve.len() - 1) as f64
}

/// Softmax of the logits over a temperature, of one class.
fn probability(logits: ArrayView1<f32>, temperature: f64, class: usize) -> f64 {
    let scaled = logits.mapv(|logit| f64::from(logit) / temperature);
    let highest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials = scaled.mapv(|logit| (logit - highest).exp());
    exponentials[class] / exponentials.sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ndarray::array;
    use tch::Device;

    use super::*;
    use crate::capture::stills::read_image;
    use crate::model::engine::Tap;
    use crate::model::preprocess::squeeze;

    /// The curve of a network that is as sure as its object, the hot part of `object`, is there.
    fn curve(masks: &Array3<f32>, object: &Array2<f32>) -> Vec<f64> {
        masks.outer_iter().map(|mask| f64::from((&mask * object).sum() / object.sum())).collect()
    }

    #[test]
    fn masks_grow_from_the_hottest_place() {
        let masks = hottest_first(&array![[0.1, 0.9], [0.9, 0.3]], 4);
        let expected = [
            array![[0.0, 0.0], [0.0, 0.0]],
            array![[0.0, 1.0], [0.0, 0.0]],
            array![[0.0, 1.0], [1.0, 0.0]],
            array![[0.0, 1.0], [1.0, 1.0]],
            array![[1.0, 1.0], [1.0, 1.0]],
        ];
        assert!(masks.outer_iter().zip(&expected).all(|(mask, expected)| mask == expected), "{masks}");
        // More steps than places, and a number of steps that does not divide it.
        for steps in [1, 3, 7] {
            let masks = hottest_first(&array![[0.1, 0.9], [0.9, 0.3]], steps);
            assert_eq!((masks.index_axis(Axis(0), 0).sum(), masks.index_axis(Axis(0), steps).sum()), (0.0, 4.0));
        }
    }

    #[test]
    fn areas_worked_out_by_hand() {
        assert_eq!(area(&[0.0, 1.0]), 0.5);
        assert_eq!(area(&[0.0, 1.0, 1.0, 1.0, 1.0]), 0.875);
        assert!((area(&[0.3; 17]) - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_map_of_the_object_inserts_it_first_and_its_opposite_last() {
        let object = Array2::from_shape_fn((10, 10), |(row, _)| f32::from(u8::from(row < 2)));
        // Over the first fifth of the pixels the probability rises, afterwards it is 1: area 0.1 + 0.8.
        let inserted = area(&curve(&hottest_first(&object, 10), &object));
        assert!((inserted - 0.9).abs() < 1e-6, "{inserted}");
        let opposite = area(&curve(&hottest_first(&object.mapv(|value| 1.0 - value), 10), &object));
        assert!((opposite - 0.1).abs() < 1e-6, "{opposite}");
        // What is inserted in one order is what is not yet deleted in it.
        let kept = hottest_first(&object, 10).mapv(|mask| 1.0 - mask);
        assert!((area(&curve(&kept, &object)) + inserted - 1.0).abs() < 1e-6);
    }

    #[test]
    fn probabilities_are_the_softmax_over_the_temperature() {
        let logits = array![2.0f32, 0.0, -1000.0];
        let expected = 1.0 / (1.0 + (-1.0f64).exp());
        assert!((probability(logits.view(), 2.0, 0) - expected).abs() < 1e-12);
        assert_eq!(probability(logits.view(), 1.0, 2), 0.0);
    }

    #[test]
    fn one_step_leads_from_a_blurred_picture_to_the_picture_and_from_there_to_nothing() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let engine = Engine::load(&root.join("models/resnet18-mask.safetensors"), Device::Cpu).unwrap();
        let picture = squeeze(&read_image(&root.join("samples/hopper_ffp2.jpg")).unwrap(), None, 224);
        let mean = engine.description().normalisation.mean.map(|value| (value * 255.0).round() as u8);
        let nothing = RgbImage::from_pixel(224, 224, image::Rgb(mean));
        let pictures = [blur(&picture, BLUR_PX), picture.clone(), nothing];
        let answers = engine.infer(&pictures.each_ref().map(Picture::from), Tap::Layer4).unwrap();
        for class in 0..3 {
            let [blurred, whole, nothing] =
                [0, 1, 2].map(|index: usize| f64::from(answers[index].probabilities[class]));
            let areas = Perturbed::new(&engine, &picture, 1).measure(&Array2::ones((224, 224)), class).unwrap();
            assert!((areas.insertion - (blurred + whole) / 2.0).abs() < 1e-3, "{class}: {areas:?}");
            // The mean colour is rounded to bytes here.
            assert!((areas.deletion - (whole + nothing) / 2.0).abs() < 1e-2, "{class}: {areas:?}");
        }
    }
}
