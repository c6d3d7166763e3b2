//! ScoreCAM (Wang et al. 2020, "Score-CAM: Score-weighted visual explanations for convolutional neural networks",
//! algorithm 1): filters are weighted with the score that the picture keeps under the mask they make.
//!
//! Each filter is stretched to [0, 1], enlarged to the picture and multiplied with it; one forward pass a filter, 512 in
//! all. The weights are the softmax over the filters of the class's logits.

use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};

use super::evidence::MASKS_AT_ONCE;
use super::normalise::{Alignment, enlarge_aligned};
use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct ScoreCam;

impl Explainer for ScoreCam {
    fn needs(&self) -> Needs {
        Needs::Network
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let activations = evidence.activations();
        let (width, height) = evidence.picture.dimensions();
        let mut logits = Vec::with_capacity(activations.ncols());
        for filters in activations.axis_chunks_iter(Axis(1), MASKS_AT_ONCE) {
            let mut masks = Array3::zeros((filters.ncols(), height as usize, width as usize));
            for (filter, mut mask) in filters.columns().into_iter().zip(masks.outer_iter_mut()) {
                mask.assign(&mask_of(filter, evidence.grid(), (height as usize, width as usize)));
            }
            logits.extend(evidence.logits_under_masks(masks.view())?);
        }
        let weights = softmax(&Array1::from(logits));
        Ok(ClassActivationMap::on_grid(activations.dot(&weights), evidence.grid()))
    }
}

/// The filter enlarged to (rows, columns) and then stretched to [0, 1]; all zeros if it does not vary.
fn mask_of(filter: ArrayView1<f32>, grid: (usize, usize), (rows, columns): (usize, usize)) -> Array2<f32> {
    let map = filter.to_owned().into_shape_with_order(grid).expect("one activation for each position of the grid");
    // Corners on corners, as the reference implementation enlarges here and nowhere else.
    let enlarged = enlarge_aligned(&map, rows, columns, Alignment::Corners);
    let lowest = enlarged.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = enlarged.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = highest - lowest;
    if range > 0.0 { enlarged.mapv(|value| (value - lowest) / range) } else { Array2::zeros((rows, columns)) }
}

fn softmax(logits: &Array1<f32>) -> Array1<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = logits.mapv(|logit| (logit - highest).exp());
    let sum = exponentials.sum();
    exponentials / sum
}
