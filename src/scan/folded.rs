//! Posteriors and HayCAM's maps in one product.
//!
//! With the notation of [`super::maps`], and d_c folded with the basis once, w^_c = V V' d_c, HayCAM's map is
//!
//! m_c = A w^_c + 1 b_c, where b_c = mu' (d_c - w^_c), or -mu' w^_c if centred.
//!
//! So the weights of the posteriors and the folded ones stand side by side, and a frame costs one product of its activations
//! with (filters, 2 classes). mu is the mean of the frame that is read, not of the one that the basis was fitted to: it is at
//! hand, and the mean of a map is then that of the exact one, whatever the basis.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use super::maps::{Head, Reading};
use super::settings::ScanSettings;
use crate::model::ModelError;
use crate::model::device_layer::DeviceLayer;
use crate::model::device_matrix::DeviceMatrix;
use crate::pca::{Basis, Components, PcaError, fit_truncated};
use crate::recycled::Recycled;

/// How bases are fitted, and the last layer folded with them.
#[derive(Debug, Clone)]
pub struct Folding {
    /// (classes, filters), of the logits.
    weights: Array2<f32>,
    /// (classes), of the logits.
    biases: Array1<f32>,
    /// (filters, classes): what maps are made with.
    speaking: Array2<f64>,
    /// Whether maps leave out the mean of each filter.
    centred: bool,
    components: Components,
}

impl Folding {
    /// As scans do it.
    pub fn of_scan(head: Head, settings: &ScanSettings) -> Self {
        Self::new(head, head.speaking(), settings.centred, settings.components)
    }

    /// Maps of what `speaking` (filters, classes) makes of activations.
    pub fn new(head: Head, speaking: Array2<f64>, centred: bool, components: Components) -> Self {
        Self { weights: head.weights.clone(), biases: head.biases.clone(), speaking, centred, components }
    }

    /// How many principal components are kept.
    pub fn components(&self) -> Components {
        self.components
    }

    /// The basis of activations (positions, filters).
    ///
    /// # Errors
    ///
    /// When one is not finite, which a damaged model causes.
    pub fn fit(&self, activations: ArrayView2<f32>) -> Result<Basis, PcaError> {
        fit_truncated(activations, self.components)
    }

    /// The network's last layer under a basis, which reads activations.
    ///
    /// # Panics
    ///
    /// When the basis has other filters than the head.
    pub fn fold(&self, basis: &Basis) -> FoldedHead {
        let folded = basis.directions.dot(&basis.directions.t().dot(&self.speaking));
        let mean_weights = if self.centred { -&folded } else { &self.speaking - &folded };
        let folded = folded.mapv(|weight| weight as f32);
        let weights = concatenate(Axis(1), &[self.weights.t(), folded.view()]);
        let weights = DeviceMatrix::new(weights.expect("the basis has the head's filters"));
        FoldedHead { weights, biases: self.biases.clone(), mean_weights }
    }
}

/// The last layer of the network, and what is left of it under a basis.
#[derive(Debug, Clone)]
pub struct FoldedHead {
    /// (filters, 2 classes): those of the logits, then the folded ones.
    weights: DeviceMatrix,
    /// (classes), of the logits.
    biases: Array1<f32>,
    /// (filters, classes): what a frame's mean adds to its maps.
    mean_weights: Array2<f64>,
}

impl FoldedHead {
    /// What activations are multiplied with: (filters, 2 classes).
    pub fn weights(&self) -> &DeviceMatrix {
        &self.weights
    }

    /// Logits of each class at each position, then its evidence, (positions, 2 classes): from the products of activations and
    /// [`Self::weights`], in their memory, and the mean of each filter over the positions. [`Reading::of`] tells what they say.
    ///
    /// # Panics
    ///
    /// When there are other numbers of columns or filters.
    pub fn sums(&self, mut products: Recycled<Array2<f32>>, mean: &Array1<f64>) -> Recycled<Array2<f32>> {
        let (mut logits, mut evidence) = products.view_mut().split_at(Axis(1), self.biases.len());
        logits += &self.biases;
        for (mut evidence, weights) in evidence.columns_mut().into_iter().zip(self.mean_weights.columns()) {
            evidence += mean.dot(&weights) as f32;
        }
        products
    }

    /// As [`Self::sums`], of activations on the network's device.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn sums_of_layer(&self, layer: &DeviceLayer) -> Result<Recycled<Array2<f32>>, ModelError> {
        Ok(self.sums(layer.times(&self.weights)?, layer.mean()))
    }

    /// What activations on the network's device say.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn read_layer(&self, layer: &DeviceLayer) -> Result<Reading, ModelError> {
        Ok(Reading::of(self.sums_of_layer(layer)?))
    }

    /// What activations (positions, filters) say.
    ///
    /// # Panics
    ///
    /// When there are other filters than the head's.
    pub fn read(&self, activations: ArrayView2<f32>, mean: &Array1<f64>) -> Reading {
        Reading::of(self.sums(activations.dot(self.weights.host()).into(), mean))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::s;
    use ndarray_linalg::{Eigh, UPLO};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::pca::{Components, fit, fit_truncated};

    const FILTERS: usize = 64;
    const CLASSES: usize = 3;

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0f32..1.0))
    }

    /// Rectified, a few directions stronger than the others.
    fn activations(positions: usize, seed: u64) -> Array2<f32> {
        let strong = random(positions, 6, seed).dot(&random(6, FILTERS, seed + 1)) * 2.0;
        (strong + random(positions, FILTERS, seed + 2)).mapv(|value| value.max(0.0))
    }

    struct Layer {
        weights: Array2<f32>,
        biases: Array1<f32>,
    }

    impl Layer {
        fn new(seed: u64) -> Self {
            Self { weights: random(CLASSES, FILTERS, seed), biases: random(1, CLASSES, seed + 1).row(0).to_owned() }
        }

        fn head(&self, background: Option<usize>) -> Head<'_> {
            Head { weights: &self.weights, biases: &self.biases, background }
        }
    }

    fn fold(head: Head, basis: &Basis, centred: bool) -> FoldedHead {
        Folding::of_scan(head, &ScanSettings { centred, ..ScanSettings::default() }).fold(basis)
    }

    /// HayCAM as it is written, in double precision: X V V' d + 1 mu' d, with the eigenvectors of X' X; (positions, classes).
    fn reference(a: &Array2<f32>, layer: &Layer, background: Option<usize>, kept: usize, centred: bool) -> Array2<f64> {
        let a = a.mapv(f64::from);
        let mean = a.sum_axis(Axis(0)) / a.nrows() as f64;
        let x = &a - &mean;
        let (_, vectors) = x.t().dot(&x).eigh(UPLO::Upper).unwrap();
        let leading = vectors.slice(s![.., FILTERS - kept..]);
        let mut maps = Array2::zeros((a.nrows(), CLASSES));
        for class in 0..CLASSES {
            let weight = |filter: usize| {
                let nobody = background.map_or(0.0, |class| f64::from(layer.weights[[class, filter]]));
                (f64::from(layer.weights[[class, filter]]) - nobody).max(0.0)
            };
            let d = Array1::from_shape_fn(FILTERS, weight);
            let scores = leading.t().dot(&d);
            let map = x.dot(&leading).dot(&scores) + if centred { 0.0 } else { mean.dot(&d) };
            maps.column_mut(class).assign(&map);
        }
        maps
    }

    /// Largest difference, as a share of the largest value.
    fn difference(one: ArrayView2<f32>, other: &Array2<f64>) -> f64 {
        let largest = other.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let difference = one.iter().zip(other).map(|(one, other)| (f64::from(*one) - other).abs());
        difference.fold(0.0, f64::max) / largest
    }

    #[test]
    fn with_a_fresh_basis_it_is_the_exact_map() {
        for (positions, kept, seed) in [(40, 6, 1), (200, 19, 10), (200, 1, 20), (300, 40, 30)] {
            for (background, centred) in [(Some(2), false), (Some(2), true), (None, false), (Some(0), false)] {
                let (activations, layer) = (activations(positions, seed), Layer::new(seed + 5));
                let basis = fit(activations.view(), Components::Count(kept)).unwrap();
                let folded = fold(layer.head(background), &basis, centred);
                let reading = folded.read(activations.view(), &basis.mean);
                let expected = reference(&activations, &layer, background, kept, centred);
                let difference = difference(reading.evidence(), &expected);
                assert!(difference < 1e-4, "{positions} {kept} {background:?} {centred}: {difference}");
                let alone = layer.head(background).posteriors(activations.view());
                let alone = alone.mapv(f64::from);
                assert!(self::difference(reading.posteriors(), &alone) < 1e-5);
            }
        }
    }

    #[test]
    fn with_another_frames_basis_the_mean_of_a_map_is_exact() {
        let layer = Layer::new(1);
        let (fitted, read) = (activations(200, 2), activations(200, 3) * 1.5);
        let kept = fit_truncated(fitted.view(), Components::Count(4)).unwrap();
        let mean = read.mapv(f64::from).mean_axis(Axis(0)).unwrap();
        for centred in [false, true] {
            let reading = fold(layer.head(Some(2)), &kept, centred).read(read.view(), &mean);
            let exact = reference(&read, &layer, Some(2), 4, centred);
            assert!(difference(reading.evidence(), &exact) > 1e-3, "the bases differ");
            for class in 0..2 {
                let mean = reading.evidence().column(class).mapv(f64::from).mean().unwrap();
                let expected = exact.column(class).mean().unwrap();
                assert!((mean - expected).abs() < 1e-3, "{mean} {expected}");
            }
        }
    }

    #[test]
    fn signs_and_order_of_the_directions_do_not_matter() {
        let (activations, layer) = (activations(200, 4), Layer::new(5));
        let basis = fit(activations.view(), Components::Count(7)).unwrap();
        let mut turned = basis.clone();
        turned.directions.invert_axis(Axis(1));
        turned.directions.column_mut(2).mapv_inplace(|value| -value);
        let read = |basis| fold(layer.head(Some(2)), basis, false).read(activations.view(), &basis.mean);
        let expected = read(&basis).evidence().mapv(f64::from);
        assert!(difference(read(&turned).evidence(), &expected) < 1e-6);
    }
}
