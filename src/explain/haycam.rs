//! HayCAM (Örnek & Ceylan 2022, Algorithm 4): a class activation map reduced by principal component analysis.
//!
//! As we read it (printed, its last product is 1 x k and cannot be reshaped to rows x columns): positions are samples,
//! X = A - 1 mu' with the mean of each filter, V holds the k leading eigenvectors of the covariance, the class weights
//! are reduced with the same basis, and the map is
//!
//! m = X V V' w_c.
//!
//! It does not depend on the signs of the eigenvectors. X has at most P - 1 dimensions for P positions, so from
//! k = P - 1 on it is plain class activation mapping of centred activations.

use ndarray::{ArrayView1, ArrayView2};

use super::ClassActivationMap;
use crate::pca::{self, Basis, PcaError};

/// Principal components in the paper.
pub const PAPER_COMPONENTS: usize = 19;

/// The method with its one parameter.
#[derive(Debug, Clone, Copy)]
pub struct HayCam {
    /// Principal components to keep, at least 1.
    pub components: usize,
}

impl HayCam {
    /// The map of the class whose weights (filters) are given, from activations (positions, filters) on a grid of
    /// (rows, columns) positions.
    ///
    /// Activations that do not vary have a map of zeros: no position speaks more for the class than another.
    ///
    /// # Errors
    ///
    /// See [`pca::fit`].
    ///
    /// # Panics
    ///
    /// When the shapes do not fit each other.
    pub fn explain(
        &self,
        activations: ArrayView2<f32>,
        grid: (usize, usize),
        class_weights: ArrayView1<f32>,
    ) -> Result<ClassActivationMap, PcaError> {
        let basis = pca::fit(activations, self.components)?;
        let weights = basis.reduce(class_weights.mapv(f64::from).view());
        let values = project(activations, &basis, weights.view());
        Ok(ClassActivationMap {
            values: values.into_shape_with_order(grid).expect("one position for each place of the grid"),
            components: basis.components(),
            captured_variance: basis.captured_variance(),
        })
    }
}

/// (A - 1 mu') w, written as A w - mu' w so that the centred activations need not be kept.
fn project(activations: ArrayView2<f32>, basis: &Basis, weights: ArrayView1<f64>) -> ndarray::Array1<f32> {
    let offset = basis.mean.dot(&weights);
    (activations.mapv(f64::from).dot(&weights) - offset).mapv(|value| value as f32)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Axis, s};
    use ndarray_linalg::{Eigh, UPLO};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const GRID: (usize, usize) = (7, 7);
    const FILTERS: usize = 512;

    fn random(rows: usize, columns: usize, low: f32, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || rng.random_range(low..1.0f32))
    }

    fn activations(seed: u64) -> Array2<f32> {
        (random(49, 5, -1.0, seed).dot(&random(5, FILTERS, -1.0, seed + 1)) + random(49, FILTERS, -0.2, seed + 2))
            .mapv(|x| x.max(0.0))
    }

    fn weights(seed: u64) -> Array1<f32> {
        random(1, FILTERS, -1.0, seed).row(0).to_owned()
    }

    fn map(activations: &Array2<f32>, weights: &Array1<f32>, components: usize) -> Array1<f64> {
        let map = HayCam { components }.explain(activations.view(), GRID, weights.view()).unwrap();
        map.values.iter().map(|&value| f64::from(value)).collect()
    }

    fn centred(activations: &Array2<f32>) -> Array2<f64> {
        let activations = activations.mapv(f64::from);
        let mean = activations.mean_axis(Axis(0)).unwrap();
        activations - mean
    }

    /// The paper's way in double precision: eigenvectors of the 512 x 512 covariance, with signs of our choosing.
    fn by_covariance(
        activations: &Array2<f32>,
        weights: &Array1<f32>,
        components: usize,
        signs: &[f64],
    ) -> Array1<f64> {
        let x = centred(activations);
        let covariance = x.t().dot(&x) / (x.nrows() - 1) as f64;
        let (_, vectors) = covariance.eigh(UPLO::Lower).unwrap();
        let mut v = vectors.slice(s![.., FILTERS - components..]).to_owned();
        for (mut column, sign) in v.columns_mut().into_iter().zip(signs.iter().cycle()) {
            column *= *sign;
        }
        x.dot(&v).dot(&v.t().dot(&weights.mapv(f64::from)))
    }

    fn relative_difference(a: &Array1<f64>, b: &Array1<f64>) -> f64 {
        (a - b).mapv(|x| x * x).sum().sqrt() / b.mapv(|x| x * x).sum().sqrt()
    }

    #[test]
    fn equals_the_covariance_route_whatever_the_signs() {
        let (activations, weights) = (activations(1), weights(9));
        for (components, signs) in [(1, &[1.0][..]), (19, &[1.0]), (19, &[-1.0, 1.0, -1.0]), (30, &[-1.0])] {
            let reference = by_covariance(&activations, &weights, components, signs);
            assert!(relative_difference(&map(&activations, &weights, components), &reference) < 1e-4);
        }
    }

    #[test]
    fn all_components_are_centred_class_activation_mapping() {
        let (activations, weights) = (activations(2), weights(10));
        let cam = centred(&activations).dot(&weights.mapv(f64::from));
        assert!(relative_difference(&map(&activations, &weights, 48), &cam) < 1e-5);
        assert!(
            relative_difference(&map(&activations, &weights, 19), &cam) > 1e-3,
            "19 components must differ from all"
        );
    }

    #[test]
    fn flipping_an_eigenvector_changes_nothing() {
        let (activations, weights) = (activations(3), weights(11).mapv(f64::from));
        let mut basis = pca::fit(activations.view(), 19).unwrap();
        let before = project(activations.view(), &basis, basis.reduce(weights.view()).view());
        for component in 0..19 {
            basis.directions.column_mut(component).mapv_inplace(|value| -value);
            assert_eq!(project(activations.view(), &basis, basis.reduce(weights.view()).view()), before);
        }
    }

    #[test]
    fn degenerate_activations_have_a_defined_answer() {
        let weights = weights(12);
        let constant =
            HayCam { components: 19 }.explain(Array2::from_elem((49, FILTERS), 0.7).view(), GRID, weights.view());
        let constant = constant.unwrap();
        assert!(constant.values.iter().all(|&value| value == 0.0));
        assert_eq!((constant.components, constant.captured_variance), (0, 1.0));
        let single =
            HayCam { components: 19 }.explain(random(1, FILTERS, 0.0, 4).view(), (1, 1), weights.view()).unwrap();
        assert_eq!(single.values, Array2::<f32>::zeros((1, 1)));
        let broken = Array2::from_elem((49, FILTERS), f32::NAN);
        assert_eq!(
            HayCam { components: 19 }.explain(broken.view(), GRID, weights.view()).unwrap_err(),
            PcaError::NotFinite
        );
    }
}
