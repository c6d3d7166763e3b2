//! Resizing frames where the network runs, as [`resize`](super::preprocess::resize) does it on the host: a triangle filter as wide
//! as the reduction asks.
//!
//! In half precision it is two products with sparse matrices that are kept as dense ones, for a GPU's tensor cores: libtorch's own
//! kernel, which gathers what counts for each place, took 0.6 ms for 8 frames on an H200, whose network took 1.4. Levels up to 255 are
//! exact in half precision; what is lost is a quarter of a level.

use std::cell::RefCell;
use std::collections::HashMap;

use tch::{Kind, TchError, Tensor};

/// Sides from which and to which there are matrices at most: a run has two views of frames of a size or two.
const MOST_KEPT: usize = 64;

/// Resizes on a device, and keeps what it needs for that there.
#[derive(Debug, Default)]
pub(super) struct DeviceResizer {
    /// (to, from) by these two.
    filters: RefCell<HashMap<(i64, i64), Tensor>>,
}

impl DeviceResizer {
    /// Levels from 0 to 255, (N, 3, rows, columns) of `kind`, of frames (N, rows, columns, 3) brought to a width and a height.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn levels(&self, frames: &Tensor, (width, height): (u32, u32), kind: Kind) -> Result<Tensor, TchError> {
        let (count, rows, columns, channels) = frames.size4()?;
        let (width, height) = (i64::from(width), i64::from(height));
        let levels = frames.f_to_kind(kind)?;
        if (columns, rows) == (width, height) {
            return levels.f_permute([0, 3, 1, 2]);
        }
        if kind != Kind::Half {
            return levels.f_permute([0, 3, 1, 2])?.f_internal_upsample_bilinear2d_aa(
                [height, width],
                false,
                None,
                None,
            );
        }
        // Rows first: their channels may lie side by side.
        let levels =
            self.filter(rows, height, frames)?.f_matmul(&levels.f_view([count, rows, columns * channels])?)?;
        let planes = levels.f_view([count, height, columns, channels])?.f_permute([0, 3, 1, 2])?;
        planes.f_matmul(&self.filter(columns, width, frames)?.f_transpose(0, 1)?)
    }

    /// What `from` levels in a row count for each of `to`: (to, from), in half precision, on the device of `beside`.
    fn filter(&self, from: i64, to: i64, beside: &Tensor) -> Result<Tensor, TchError> {
        if let Some(filter) = self.filters.borrow().get(&(to, from)) {
            return Ok(filter.shallow_clone());
        }
        let values: Vec<f32> = (0..to).flat_map(|place| weights(place, from, to)).collect();
        let filter = Tensor::f_from_slice(&values)?.f_view([to, from])?;
        let filter = filter.f_to_kind(Kind::Half)?.f_to_device(beside.device())?;
        let mut filters = self.filters.borrow_mut();
        if filters.len() >= MOST_KEPT {
            filters.clear();
        }
        filters.insert((to, from), filter.shallow_clone());
        Ok(filter)
    }
}

/// What each of `from` levels in a row counts for one of `to`: a triangle around its middle, cut at the ends, that adds up to 1.
fn weights(place: i64, from: i64, to: i64) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let (middle, reach) = ((place as f64 + 0.5) * scale, scale.max(1.0));
    let weight = |level: i64| (1.0 - (level as f64 + 0.5 - middle).abs() / reach).max(0.0);
    let sum: f64 = (0..from).map(weight).sum();
    (0..from).map(|level| (weight(level) / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn weights_are_those_of_libtorchs_own_kernel() {
        for (from, to) in [(720, 512), (1280, 384), (7, 3), (5, 9), (4, 4), (1, 6)] {
            let rows = Tensor::eye(from, (Kind::Float, Device::Cpu)).view([1, 1, from, from]);
            let theirs = rows.internal_upsample_bilinear2d_aa([to, from], false, None, None);
            let theirs = Vec::<f32>::try_from(theirs.flatten(0, 3)).unwrap();
            let ours = (0..to).flat_map(|place| weights(place, from, to));
            let largest = ours.zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
            // Its places are in single precision: at 1280, a step is 1e-4 of a level.
            assert!(largest < 1e-4, "{from} to {to}: {largest}");
        }
    }
}
