//! Class activation maps: which positions of a picture speak for a class.
//!
//! A method turns activations and class weights into a [`ClassActivationMap`]; [`normalise`] makes it comparable.

pub mod haycam;
pub mod normalise;

use ndarray::Array2;

pub use haycam::HayCam;

/// Evidence for one class by position.
#[derive(Debug, Clone)]
pub struct ClassActivationMap {
    /// (rows, columns) of the network's grid, unbounded: more is more evidence.
    pub values: Array2<f32>,
    /// Principal components used.
    pub components: usize,
    /// Share of the activations' variance that these components capture, in [0, 1].
    pub captured_variance: f64,
}
