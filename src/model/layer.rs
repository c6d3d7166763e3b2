//! Activations as plain data.

use ndarray::Array2;

/// What a stage of the network gives for one picture.
#[derive(Debug, Clone)]
pub struct Layer {
    /// (positions, filters); positions run row by row.
    pub activations: Array2<f32>,
    /// Rows and columns of positions.
    pub grid: (usize, usize),
}
