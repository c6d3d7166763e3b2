//! HayCAM (Örnek & Ceylan 2022, Algorithm 4): a class activation map reduced by principal component analysis.
//!
//! The paper's algorithm cannot be run as printed: its last product is 1 x 19 and does not reshape to 7 x 7, and it does
//! not say over which axis the mean is taken. It can be read in three ways, for activations A (positions, filters) and
//! class weights w:
//!
//! * [`Reading::Positions`], ours: positions are samples, filters variables. X = A - 1 mu' with the mean of each filter, V
//!   holds the k leading eigenvectors of the filters' covariance, the class weights are reduced with the same basis, and
//!   the map is m = X V V' w. From k = P - 1 on, for P positions, it is plain CAM of centred activations.
//! * [`Reading::Filters`]: filters are samples, positions variables. X = A' - 1 mu' with the mean of each position, V holds
//!   the k leading eigenvectors of the positions' covariance; the printed product w' X V is then 1 x k indeed, and leads
//!   back to a map by m = V V' X' w.
//! * [`Reading::Loadings`]: the k filters that load most on the k leading components are kept (the largest share of
//!   their variance, sum over j of lambda_j V_cj^2), and m = A_S w_S.
//!
//! None depends on the signs of the eigenvectors. How they compare is in `docs/explainers.md`.

use ndarray::{Array1, ArrayView1, ArrayView2};

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};
use crate::pca::{self, Basis, Components, PcaError};

/// Principal components in the paper.
pub const PAPER_COMPONENTS: usize = 19;

/// What the paper's algorithm is taken to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Positions are samples.
    Positions,
    /// Filters are samples.
    Filters,
    /// The filters with the largest loadings are kept.
    Loadings,
}

/// The method.
#[derive(Debug, Clone, Copy)]
pub struct HayCam {
    /// Principal components to keep; for [`Reading::Loadings`] filters, too.
    pub components: Components,
    /// How the algorithm is read.
    pub reading: Reading,
}

impl Explainer for HayCam {
    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let basis = self.fit(evidence.activations(), self.components)?;
        Ok(self.map(evidence, &basis))
    }

    fn explain_with(&self, evidence: &Evidence, counts: &[usize]) -> Result<Vec<ClassActivationMap>, ExplainError> {
        let most = counts.iter().copied().max().unwrap_or(1);
        let basis = self.fit(evidence.activations(), Components::Count(most))?;
        Ok(counts.iter().map(|&count| self.map(evidence, &basis.leading(count))).collect())
    }
}

impl HayCam {
    fn fit(&self, activations: ArrayView2<f32>, components: Components) -> Result<Basis, PcaError> {
        match self.reading {
            Reading::Positions | Reading::Loadings => pca::fit(activations, components),
            Reading::Filters => pca::fit(activations.t(), components),
        }
    }

    fn map(&self, evidence: &Evidence, basis: &Basis) -> ClassActivationMap {
        let values = self.reduce(evidence.activations(), evidence.class_weights(), basis);
        ClassActivationMap { reduction: Some(basis.into()), ..ClassActivationMap::on_grid(values, evidence.grid()) }
    }

    /// One value a position. Activations that do not vary have a map of zeros: no position speaks more for the class than
    /// another.
    fn reduce(&self, activations: ArrayView2<f32>, class_weights: ArrayView1<f32>, basis: &Basis) -> Array1<f32> {
        let class_weights = class_weights.mapv(f64::from);
        match self.reading {
            Reading::Positions => project(activations, basis, basis.reduce(class_weights.view()).view()),
            Reading::Filters => {
                let total = class_weights.sum();
                // X' w, written without keeping X.
                let scores = activations.mapv(f64::from).dot(&class_weights) - &basis.mean * total;
                basis.reduce(scores.view()).mapv(|value| value as f32)
            }
            Reading::Loadings => {
                let loadings = basis.directions.mapv(|value| value * value).dot(&basis.variances);
                let mut filters: Vec<usize> = (0..loadings.len()).collect();
                filters.sort_by(|&a, &b| loadings[b].total_cmp(&loadings[a]));
                let mut kept = Array1::zeros(class_weights.len());
                for &filter in filters.iter().take(basis.components()) {
                    kept[filter] = class_weights[filter];
                }
                activations.mapv(f64::from).dot(&kept).mapv(|value| value as f32)
            }
        }
    }
}

/// (A - 1 mu') w, written as A w - mu' w so that the centred activations need not be kept.
fn project(activations: ArrayView2<f32>, basis: &Basis, weights: ArrayView1<f64>) -> Array1<f32> {
    let offset = basis.mean.dot(&weights);
    let position = |position: ArrayView1<f32>| (position.mapv(f64::from).dot(&weights) - offset) as f32;
    activations.rows().into_iter().map(position).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis, s};
    use ndarray_linalg::{Eigh, UPLO};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

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
        read(Reading::Positions, activations, weights, components)
    }

    fn read(reading: Reading, activations: &Array2<f32>, weights: &Array1<f32>, components: usize) -> Array1<f64> {
        let haycam = HayCam { components: Components::Count(components), reading };
        let basis = haycam.fit(activations.view(), haycam.components).unwrap();
        haycam.reduce(activations.view(), weights.view(), &basis).mapv(f64::from)
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
        let mut basis = pca::fit(activations.view(), Components::Count(19)).unwrap();
        let before = project(activations.view(), &basis, basis.reduce(weights.view()).view());
        for component in 0..19 {
            basis.directions.column_mut(component).mapv_inplace(|value| -value);
            assert_eq!(project(activations.view(), &basis, basis.reduce(weights.view()).view()), before);
        }
    }

    #[test]
    fn degenerate_activations_have_a_defined_answer() {
        let weights = weights(12);
        let haycam = HayCam { components: Components::Count(19), reading: Reading::Positions };
        let reduce = |activations: &Array2<f32>| {
            let basis = haycam.fit(activations.view(), haycam.components)?;
            Ok::<_, PcaError>((haycam.reduce(activations.view(), weights.view(), &basis), basis))
        };
        let (constant, basis) = reduce(&Array2::from_elem((49, FILTERS), 0.7)).unwrap();
        assert!(constant.iter().all(|&value| value == 0.0));
        assert_eq!((basis.components(), basis.captured_variance()), (0, 1.0));
        let (single, _) = reduce(&random(1, FILTERS, 0.0, 4)).unwrap();
        assert_eq!(single, Array1::<f32>::zeros(1));
        assert_eq!(reduce(&Array2::from_elem((49, FILTERS), f32::NAN)).unwrap_err(), PcaError::NotFinite);
    }

    /// The second reading step by step: 512 samples of 49 variables.
    #[test]
    fn filters_as_samples_equal_the_covariance_of_the_positions() {
        let (activations, weights) = (activations(5), weights(13));
        let samples = activations.mapv(f64::from).reversed_axes();
        let x = &samples - &samples.mean_axis(Axis(0)).unwrap();
        let (_, vectors) = x.t().dot(&x).eigh(UPLO::Lower).unwrap();
        let v = vectors.slice(s![.., 49 - 19..]);
        let reference = v.dot(&v.t().dot(&x.t().dot(&weights.mapv(f64::from))));
        assert!(relative_difference(&read(Reading::Filters, &activations, &weights, 19), &reference) < 1e-4);
    }

    #[test]
    fn the_filters_that_load_most_are_those_that_vary_most_when_all_components_count() {
        let (activations, weights) = (activations(6), weights(14));
        let x = centred(&activations);
        let mut filters: Vec<usize> = (0..FILTERS).collect();
        let variance = |filter: usize| x.column(filter).dot(&x.column(filter));
        filters.sort_by(|&a, &b| variance(b).total_cmp(&variance(a)));
        let mut reference = Array1::<f64>::zeros(49);
        for &filter in &filters[..48] {
            reference = reference + activations.column(filter).mapv(f64::from) * f64::from(weights[filter]);
        }
        assert!(relative_difference(&read(Reading::Loadings, &activations, &weights, 48), &reference) < 1e-5);
    }
}
