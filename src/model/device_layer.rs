//! What a stage of the network gave, left on the device where it was computed, and the few products that maps are made of.
//!
//! Maps are a hundredth of the activations that they are read from. On a GPU, only they need to leave it.

use ndarray::{Array1, Array2, Axis};
use tch::{Device, Kind, Tensor};

use super::ModelError;
use super::device_matrix::DeviceMatrix;
use super::layer::Layer;
use super::tensors::to_rows;

/// What a stage of the network gave for one picture, on its device. It belongs to the thread that owns the engine.
#[derive(Debug)]
pub struct DeviceLayer {
    /// (positions, filters); positions run row by row.
    activations: Tensor,
    grid: (usize, usize),
    mean: Array1<f64>,
}

impl DeviceLayer {
    /// One a picture, from a batch (N, C, H, W) of any precision.
    ///
    /// # Errors
    ///
    /// When libtorch refuses or an activation is not finite.
    pub(super) fn from_batch(batch: &Tensor) -> Result<Vec<Self>, ModelError> {
        let (_, _, rows, columns) = batch.size4()?;
        let grid = (rows.unsigned_abs() as usize, columns.unsigned_abs() as usize);
        let means = to_rows(&batch.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?)?;
        // A sum with an infinite or undefined summand is not finite.
        if means.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        // (N, C, H, W) -> (N, H W, C): a position's filters side by side, as every explainer reads them. Principal components
        // need single precision.
        let by_position = batch.f_flatten(2, 3)?.f_transpose(1, 2)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let of_picture = |(index, mean): (i64, ndarray::ArrayView1<f32>)| {
            Ok(Self { activations: by_position.f_get(index)?, grid, mean: mean.mapv(f64::from) })
        };
        (0..).zip(means.axis_iter(Axis(0))).map(of_picture).collect()
    }

    /// What a CPU computed.
    ///
    /// # Errors
    ///
    /// When libtorch refuses or an activation is not finite.
    pub(super) fn from_host(layer: &Layer) -> Result<Self, ModelError> {
        let mut mean = Array1::zeros(layer.activations.ncols());
        for position in layer.activations.rows() {
            mean.zip_mut_with(&position, |sum, &value| *sum += f64::from(value));
        }
        mean /= layer.activations.nrows() as f64;
        if mean.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        let values = layer.activations.as_slice().expect("rows one after another");
        let shape = [layer.activations.nrows() as i64, layer.activations.ncols() as i64];
        Ok(Self { activations: Tensor::f_from_slice(values)?.f_view(shape)?, grid: layer.grid, mean })
    }

    /// Rows and columns of positions.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// Mean of each filter over the positions.
    pub fn mean(&self) -> &Array1<f64> {
        &self.mean
    }

    /// A copy of all activations.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn to_host(&self) -> Result<Layer, ModelError> {
        Ok(Layer { activations: to_rows(&self.activations)?, grid: self.grid })
    }

    /// The product of the activations and weights (filters, columns): (positions, columns).
    ///
    /// # Errors
    ///
    /// When libtorch refuses, other numbers of filters for example.
    pub fn times(&self, weights: &DeviceMatrix) -> Result<Array2<f32>, ModelError> {
        let _no_gradients = tch::no_grad_guard();
        Ok(to_rows(&self.activations.f_matmul(&weights.on(self.activations.device())?)?)?)
    }

    /// With X the activations less `centre` (1, filters): |X V|^2 along orthonormal directions V (filters, components), and
    /// |X|^2.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, other numbers of filters for example.
    pub fn sums_of_squares(&self, centre: &DeviceMatrix, directions: &DeviceMatrix) -> Result<(f64, f64), ModelError> {
        let _no_gradients = tch::no_grad_guard();
        let device = self.activations.device();
        let centred = self.activations.f_sub(&centre.on(device)?)?;
        let scores = centred.f_matmul(&directions.on(device)?)?;
        let sum = |values: &Tensor| values.f_square()?.f_sum(Kind::Double);
        // One transfer for both.
        let sums =
            Vec::<f64>::try_from(&Tensor::f_stack(&[sum(&scores)?, sum(&centred)?], 0)?.f_to_device(Device::Cpu)?)?;
        Ok((sums[0], sums[1]))
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Two pictures, 7 filters, 3 rows and 4 columns.
    fn batch() -> Tensor {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f32> = (0..2 * 7 * 12).map(|_| random.random_range(-1.0..2.0)).collect();
        Tensor::from_slice(&values).view([2, 7, 3, 4])
    }

    fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || random.random_range(-1.0..1.0))
    }

    fn largest(values: impl Iterator<Item = f64>) -> f64 {
        values.fold(0.0, |largest, value| largest.max(value.abs()))
    }

    #[test]
    fn products_and_sums_are_those_of_the_activations_that_come_off_the_device() {
        let layers = DeviceLayer::from_batch(&batch()).unwrap();
        assert_eq!(layers.len(), 2);
        for (picture, layer) in layers.iter().enumerate() {
            let host = layer.to_host().unwrap();
            assert_eq!((host.grid, layer.grid(), host.activations.dim()), ((3, 4), (3, 4), (12, 7)));
            let value = batch().double_value(&[picture as i64, 5, 1, 2]);
            assert_eq!(f64::from(host.activations[[6, 5]]), value, "positions run row by row");

            let activations = host.activations.mapv(f64::from);
            let mean = activations.mean_axis(Axis(0)).unwrap();
            assert!(largest((layer.mean() - &mean).into_iter()) < 1e-6);
            // Columns side by side and below one another in memory.
            for weights in [matrix(7, 5, 2), matrix(5, 7, 3).reversed_axes()] {
                let products = layer.times(&DeviceMatrix::new(weights.clone())).unwrap().mapv(f64::from);
                let expected = activations.dot(&weights.mapv(f64::from));
                assert!(largest((products - expected).into_iter()) < 1e-5);
            }
            let (centre, directions) = (matrix(1, 7, 4), matrix(7, 2, 5));
            let of = |matrix: &Array2<f32>| DeviceMatrix::new(matrix.clone());
            let (along, total) = layer.sums_of_squares(&of(&centre), &of(&directions)).unwrap();
            let centred = &activations - &centre.mapv(f64::from);
            let square = |values: &Array2<f64>| values.iter().map(|value| value * value).sum::<f64>();
            let scores = centred.dot(&directions.mapv(f64::from));
            assert!((along / square(&scores) - 1.0).abs() < 1e-5 && (total / square(&centred) - 1.0).abs() < 1e-5);
            assert_eq!(layer.sums_of_squares(&of(&centre), &of(&Array2::zeros((7, 0)))).unwrap().0, 0.0);
        }
    }

    #[test]
    fn what_is_no_number_and_what_does_not_fit_are_errors() {
        for broken in [f64::NAN, f64::INFINITY] {
            let batch = batch();
            let _ = batch.get(1).get(3).get(2).get(0).fill_(broken);
            assert!(matches!(DeviceLayer::from_batch(&batch), Err(ModelError::NotFinite)));
        }
        let layer = DeviceLayer::from_batch(&batch()).unwrap().remove(0);
        assert!(matches!(layer.times(&DeviceMatrix::new(matrix(6, 2, 6))), Err(ModelError::Torch(_))));
    }

    #[test]
    fn half_precision_and_its_order_in_memory_are_left_behind() {
        let channels_last = batch().permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let exact = DeviceLayer::from_batch(&batch()).unwrap();
        let half = DeviceLayer::from_batch(&channels_last.to_kind(Kind::Half)).unwrap();
        for (exact, half) in exact.iter().zip(&half) {
            assert_eq!(half.activations.kind(), Kind::Float);
            // Values below 2 are rounded by at most 2^-11, half of their last place.
            let difference = &half.to_host().unwrap().activations - &exact.to_host().unwrap().activations;
            assert!(largest(difference.mapv(f64::from).into_iter()) <= 1.0 / 2048.0);
            assert!(largest((half.mean() - exact.mean()).into_iter()) <= 1.0 / 2048.0);
        }
    }
}
