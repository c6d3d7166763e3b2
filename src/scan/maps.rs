//! From activations to a map a class: the posterior of each position, and HayCAM over the whole grid.
//!
//! With activations A (positions, filters), their mean mu, X = A - 1 mu', the basis V, and d_c = relu(w_c - w_background),
//! what speaks for a class rather than for nobody:
//!
//! * posterior: p = softmax(A W' + 1 b'), as global average pooling is linear: what the network answers for the picture is
//!   the softmax of the mean of these logits;
//! * HayCAM: m_c = relu((X V V' + 1 mu') d_c), without mu if centred;
//! * product: p_c min(1, m_c / saturation).

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::settings::{ScanMap, ScanSettings};
use crate::pca::Basis;

/// The last layer of the network.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// (classes, filters).
    pub weights: &'a Array2<f32>,
    /// (classes).
    pub biases: &'a Array1<f32>,
    /// Index of the class that says that nobody is there. Without it, classes are not compared with anything.
    pub background: Option<usize>,
}

impl Head<'_> {
    /// Probabilities (positions, classes) of activations (positions, filters). The model's temperature, which was fitted to
    /// whole pictures, does not apply.
    pub fn posteriors(&self, activations: ArrayView2<f32>) -> Array2<f32> {
        let mut posteriors = activations.dot(&self.weights.t()) + self.biases;
        for mut position in posteriors.rows_mut() {
            let largest = position.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            position.mapv_inplace(|logit| (logit - largest).exp());
            let sum = position.sum();
            position.mapv_inplace(|value| value / sum);
        }
        posteriors
    }

    /// A map a class in [0, 1], (rows, columns) of the grid; zeros for the background.
    ///
    /// # Panics
    ///
    /// When the grid does not have as many places as there are positions.
    pub fn maps(
        &self,
        activations: ArrayView2<f32>,
        posteriors: &Array2<f32>,
        basis: &Basis,
        grid: (usize, usize),
        settings: &ScanSettings,
    ) -> Vec<Array2<f32>> {
        let mut values = match settings.map {
            ScanMap::Posterior => posteriors.clone(),
            ScanMap::HayCam | ScanMap::Product => {
                let evidence = self.haycam(activations, basis, settings.centred);
                evidence.mapv(|value| (value / settings.saturation).clamp(0.0, 1.0))
            }
        };
        if settings.map == ScanMap::Product {
            values *= posteriors;
        }
        if let Some(background) = self.background {
            values.column_mut(background).fill(0.0);
        }
        let on_grid = |class: ndarray::ArrayView1<f32>| {
            let class = class.to_owned().into_shape_with_order(grid);
            class.expect("one value for each position of the grid")
        };
        values.columns().into_iter().map(on_grid).collect()
    }

    /// HayCAM's maps before they are cut: (positions, classes).
    fn haycam(&self, activations: ArrayView2<f32>, basis: &Basis, centred: bool) -> Array2<f32> {
        let mut speaking = self.weights.mapv(f64::from);
        if let Some(background) = self.background {
            let against = speaking.row(background).to_owned();
            speaking -= &against;
        }
        // (filters, classes)
        let speaking = speaking.mapv(|weight| weight.max(0.0)).reversed_axes();
        let reduced = basis.directions.dot(&basis.directions.t().dot(&speaking));
        // (X V V' + 1 mu') d, written as A V V' d + 1 mu' (d - V V' d) so that neither is kept.
        let mut offset = -basis.mean.dot(&reduced);
        if !centred {
            offset += &basis.mean.dot(&speaking);
        }
        let reduced = reduced.mapv(|weight| weight as f32);
        activations.dot(&reduced) + offset.mapv(|value| value as f32).insert_axis(Axis(0))
    }
}
