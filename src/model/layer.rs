//! Activations as plain data.

use std::ops::Deref;

use ndarray::Array2;

use super::spare::Spare;

/// Of activations that are no longer needed: as much as both views of a frame take at 1280x720 and every position of `layer3`.
static SPARE: Spare<f32> = Spare::new(8_000_000);

/// What a stage of the network gives for one picture.
#[derive(Debug, Clone)]
pub struct Layer {
    /// (positions, filters); positions run row by row.
    pub activations: Array2<f32>,
    /// Rows and columns of positions.
    pub grid: (usize, usize),
}

/// Activations whose memory serves others once they are no longer needed.
#[derive(Debug)]
pub(super) struct Recycled(Array2<f32>);

/// Nothing yet, with room for so many values.
pub(super) fn room_for(values: usize) -> Vec<f32> {
    let mut memory = SPARE.take(values).unwrap_or_else(|| Vec::with_capacity(values));
    memory.clear();
    memory
}

impl From<Array2<f32>> for Recycled {
    fn from(activations: Array2<f32>) -> Self {
        Self(activations)
    }
}

impl Deref for Recycled {
    type Target = Array2<f32>;

    fn deref(&self) -> &Array2<f32> {
        &self.0
    }
}

impl Recycled {
    /// The activations, for good.
    pub(super) fn take(mut self) -> Array2<f32> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        let (memory, _) = std::mem::take(&mut self.0).into_raw_vec_and_offset();
        SPARE.give(memory);
    }
}
