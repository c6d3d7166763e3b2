//! Posteriors and HayCAM's maps in one product.
//!
//! With the notation of [`super::maps`], and d_c folded with the basis once, w^_c = V V' d_c, HayCAM's map is
//!
//! m_c = A w^_c + 1 b_c, where b_c = mu' (d_c - w^_c), or -mu' w^_c if centred.
//!
//! So the weights of the posteriors and the folded ones stand side by side, and a frame costs one product of its activations
//! with (filters, 2 classes). mu is the mean of the frame that is read, not of the one that the basis was fitted to: it is at
//! hand, and the mean of a map is then that of the exact one, whatever the basis.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use super::maps::{Head, Reading, softmax};
use crate::pca::Basis;

/// The last layer of the network, and what is left of it under a basis.
#[derive(Debug, Clone)]
pub struct FoldedHead {
    /// (filters, 2 classes): those of the logits, then the folded ones.
    weights: Array2<f32>,
    /// (classes), of the logits.
    biases: Array1<f32>,
    /// (filters, classes): what a frame's mean adds to its maps.
    mean_weights: Array2<f64>,
}

impl FoldedHead {
    /// Folds a head with a basis. If `centred`, maps leave out the mean of each filter.
    ///
    /// # Panics
    ///
    /// When the basis has other filters than the head.
    pub fn new(head: Head, basis: &Basis, centred: bool) -> Self {
        let speaking = head.speaking();
        let folded = basis.directions.dot(&basis.directions.t().dot(&speaking));
        let mean_weights = if centred { -&folded } else { speaking - &folded };
        let folded = folded.mapv(|weight| weight as f32);
        let weights = concatenate(Axis(1), &[head.weights.t(), folded.view()]);
        Self { weights: weights.expect("the basis has the head's filters"), biases: head.biases.clone(), mean_weights }
    }

    /// Reads activations (positions, filters) whose mean over the positions is `mean`.
    ///
    /// # Panics
    ///
    /// When there are other filters than the head's.
    pub fn read(&self, activations: ArrayView2<f32>, mean: &Array1<f64>) -> Reading {
        let classes = self.biases.len();
        let products = activations.dot(&self.weights);
        let offset = mean.dot(&self.mean_weights).mapv(|value| value as f32);
        let mut posteriors = &products.slice(s![.., ..classes]) + &self.biases;
        softmax(&mut posteriors);
        Reading { posteriors, evidence: &products.slice(s![.., classes..]) + &offset }
    }
}
