//! Occlusion (Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2): how far the
//! class's logit falls when a patch of the picture is covered. One forward pass a position.
//!
//! A patch is centred on each position of the grid in turn. It has the mean colour, which the network takes for nothing.

use ndarray::{Array1, Array3, s};

use super::evidence::MASKS_AT_ONCE;
use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// Side of the patch as a share of the picture's: two of seven positions, large enough to hide a mask or a mouth.
const PATCH_SHARE: f64 = 2.0 / 7.0;
/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct Occlusion;

impl Explainer for Occlusion {
    fn needs(&self) -> Needs {
        Needs::Network
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let (width, height) = evidence.picture.dimensions();
        let (width, height) = (width as usize, height as usize);
        let (rows, columns) = evidence.grid();
        let places: Vec<(usize, usize)> =
            (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).collect();
        let whole = evidence.inference.logits[evidence.class];
        let mut drops = Vec::with_capacity(places.len());
        for places in places.chunks(MASKS_AT_ONCE) {
            let mut masks = Array3::ones((places.len(), height, width));
            for (mut mask, &(row, column)) in masks.outer_iter_mut().zip(places) {
                let down = patch(row, rows, height);
                let along = patch(column, columns, width);
                mask.slice_mut(s![down, along]).fill(0.0);
            }
            drops.extend(evidence.logits_under_masks(masks.view())?.into_iter().map(|logit| whole - logit));
        }
        Ok(ClassActivationMap::on_grid(Array1::from(drops), (rows, columns)))
    }
}

/// The pixels that a patch around a position covers along one side.
fn patch(position: usize, positions: usize, pixels: usize) -> std::ops::Range<usize> {
    let centre = (position as f64 + 0.5) / positions as f64 * pixels as f64;
    let half = PATCH_SHARE * pixels as f64 / 2.0;
    (centre - half).max(0.0).round() as usize..((centre + half).round() as usize).min(pixels)
}
