//! The fit by whichever are fewer: the P x P Gram matrix of the positions, or the C x C covariance of the filters.
//!
//! Both have the same non-zero spectrum: with X = A - 1 mu' centred, X X' = U L U' gives the covariance's eigenvectors
//! as V = X' U L^-1/2. At 49 positions and 512 filters that is a 49-wide eigenproblem (0.1 ms) in place of a 512-wide
//! one (60 ms).

use std::fmt;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use super::rows::{self, Rows, Work};
use super::spectrum::Spectrum;

/// Directions whose variance is below this share of the largest are rounding, not signal: single-precision activations
/// carry relative errors of about 1e-7, which is 1e-14 in variance.
const RANK_TOLERANCE: f64 = 1e-12;
/// Variance of a constant that was rounded to single precision, as a share of its square.
const ROUNDING_VARIANCE: f64 = f32::EPSILON as f64 * f32::EPSILON as f64;

/// Why activations have no principal components.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcaError {
    /// An activation is NaN or infinite.
    #[error("the activations hold NaN or infinite values; the model file is probably damaged")]
    NotFinite,
    /// There is no activation at all.
    #[error("there are no activations to analyse")]
    Empty,
    /// No component was asked for.
    #[error("at least one component is needed")]
    NoComponents,
    /// The eigenvalue solver gave up.
    #[error("the eigenvalue solver failed: {0}")]
    Solver(String),
}

/// How many principal components are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Components {
    /// This many, at least 1, or as many as there are.
    Count(usize),
    /// As few as capture at least this share of the variance, in (0, 1].
    Variance(f64),
}

impl fmt::Display for Components {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Variance(share) => write!(f, "{} % of the variance", share * 100.0),
        }
    }
}

impl Components {
    /// How many of the variances, which fall, are kept.
    pub(super) fn kept(self, variances: impl Iterator<Item = f64>, total_variance: f64) -> usize {
        match self {
            Self::Count(count) => variances.take(count).count(),
            Self::Variance(share) => {
                let mut captured = 0.0;
                let is_short = |variance: &f64| {
                    let is_short = captured < share * total_variance;
                    captured += variance;
                    is_short
                };
                variances.take_while(is_short).count()
            }
        }
    }
}

/// The leading principal directions of a set of activations.
#[derive(Debug, Clone)]
pub struct Basis {
    /// Mean of each filter over the positions, (filters).
    pub mean: Array1<f64>,
    /// Orthonormal directions, (filters, components), by falling variance. There may be fewer than were asked for: no
    /// more than the rank, which is below the number of positions.
    pub directions: Array2<f64>,
    /// Sum of squares along each of `directions`.
    pub variances: Array1<f64>,
    /// Sum of squares of the centred activations.
    pub total_variance: f64,
}

/// Fits the leading directions to activations (positions, filters).
///
/// Activations without variance (constant, or of a single position) have a basis without directions.
///
/// # Errors
///
/// When there is no activation, one is not finite, or no component is asked for.
pub fn fit(activations: ArrayView2<f32>, components: Components) -> Result<Basis, PcaError> {
    rows::run(Fit { activations, components })
}

/// What [`fit`] does.
struct Fit<'a> {
    activations: ArrayView2<'a, f32>,
    components: Components,
}

impl Work for Fit<'_> {
    type Output = Result<Basis, PcaError>;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Self::Output {
        let Self { activations, components } = self;
        let mean = mean(activations, components)?;
        let (positions, filters) = activations.dim();
        let by_positions = positions <= filters;
        let centred = centred(activations, &mean, by_positions);
        let gram = centred.gram::<FUSED>();
        let total_variance = (0..positions.min(filters)).map(|row| gram.row(row)[row]).sum();
        let spectrum = Spectrum::of::<FUSED>(gram).ok_or_else(|| PcaError::Solver("no end in sight".to_owned()))?;
        let floor = (spectrum.values[0] * RANK_TOLERANCE).max(rounding(&mean, positions));
        let rank = spectrum.values.iter().filter(|&&value| value > floor).count();
        let kept = components.kept(spectrum.values.iter().copied().take(rank), total_variance);

        let variances = &spectrum.values[..kept];
        let mut leading = spectrum.leading::<FUSED>(kept);
        let directions = if by_positions {
            for row in 0..positions {
                leading.row_mut(row).iter_mut().zip(variances).for_each(|(value, variance)| *value /= variance.sqrt());
            }
            centred.transposed_product::<FUSED>(&leading)
        } else {
            let values = leading.rows().flatten().copied().collect();
            Array2::from_shape_vec((filters, kept), values).expect("as many numbers as places")
        };
        let total_variance = if rank == 0 { 0.0 } else { total_variance };
        Ok(Basis { mean, directions, variances: Array1::from(variances.to_vec()), total_variance })
    }
}

/// Mean of each filter over the positions.
///
/// # Errors
///
/// See [`fit`].
pub(super) fn mean(activations: ArrayView2<f32>, components: Components) -> Result<Array1<f64>, PcaError> {
    if components == Components::Count(0) {
        return Err(PcaError::NoComponents);
    }
    if activations.is_empty() {
        return Err(PcaError::Empty);
    }
    let mut mean = Array1::<f64>::zeros(activations.ncols());
    for position in activations.rows() {
        mean.zip_mut_with(&position, |sum, &value| *sum += f64::from(value));
    }
    mean /= activations.nrows() as f64;
    // A sum with an infinite or undefined summand is not finite.
    if mean.iter().all(|value| value.is_finite()) { Ok(mean) } else { Err(PcaError::NotFinite) }
}

/// Activations without the mean of each filter: a row for each position, or for each filter.
#[inline(always)]
fn centred(activations: ArrayView2<f32>, mean: &Array1<f64>, by_positions: bool) -> Rows {
    let activations = if by_positions { activations } else { activations.reversed_axes() };
    let activations = activations.as_standard_layout();
    let columns = activations.ncols();
    let rows = activations.as_slice().expect("the layout is standard").chunks_exact(columns);
    if by_positions {
        Rows::new(rows.map(|row| row.iter().zip(mean).map(|(&value, mean)| f64::from(value) - mean)), columns)
    } else {
        Rows::new(rows.zip(mean).map(|(row, mean)| row.iter().map(move |&value| f64::from(value) - mean)), columns)
    }
}

/// Variance, as a sum of squares over all positions, that single precision makes of a constant.
pub(super) fn rounding(mean: &Array1<f64>, positions: usize) -> f64 {
    mean.dot(mean) * positions as f64 * ROUNDING_VARIANCE
}

impl Basis {
    /// Number of directions.
    pub fn components(&self) -> usize {
        self.variances.len()
    }

    /// Share of the variance that the directions capture, in [0, 1]; 1 where there is none to capture.
    pub fn captured_variance(&self) -> f64 {
        if self.total_variance == 0.0 { 1.0 } else { (self.variances.sum() / self.total_variance).min(1.0) }
    }

    /// The same basis without all but the first `components` directions.
    pub fn leading(&self, components: usize) -> Self {
        let kept = components.min(self.components());
        Self {
            mean: self.mean.clone(),
            directions: self.directions.slice(s![.., ..kept]).to_owned(),
            variances: self.variances.slice(s![..kept]).to_owned(),
            total_variance: self.total_variance,
        }
    }

    /// Weights (filters) reduced to the directions and expressed as filters again: V V' w.
    pub fn reduce(&self, weights: ArrayView1<f64>) -> Array1<f64> {
        self.directions.dot(&self.directions.t().dot(&weights))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;
    use ndarray_linalg::{Eigh, UPLO};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::Components::{Count, Variance};
    use super::*;

    /// Activations like a network's: rectified, correlated, a few strong directions.
    fn activations(positions: usize, filters: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut random =
            |rows, columns| Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0f32..1.0));
        let (scores, loadings, noise) = (random(positions, 6), random(6, filters), random(positions, filters));
        (scores.dot(&loadings) + 0.3 * noise).mapv(|value| value.max(0.0))
    }

    /// The textbook way, as an independent reference: eigenvectors of the filters' covariance.
    fn projector_by_covariance(activations: &Array2<f32>, components: usize) -> (Array2<f64>, f64) {
        let mut centred = activations.mapv(f64::from);
        let mean = centred.mean_axis(Axis(0)).unwrap();
        centred -= &mean;
        let (eigenvalues, eigenvectors) = centred.t().dot(&centred).eigh(UPLO::Upper).unwrap();
        let first = eigenvalues.len() - components;
        let leading = eigenvectors.slice(s![.., first..]);
        (leading.dot(&leading.t()), eigenvalues.slice(s![first..]).sum() / eigenvalues.sum())
    }

    fn largest_difference(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        (a - b).iter().fold(0.0, |largest, difference| largest.max(difference.abs()))
    }

    #[test]
    fn gram_route_equals_covariance_route() {
        for (seed, components, filters) in [(1, 1, 128), (2, 6, 128), (3, 19, 128), (4, 48, 128), (5, 6, 40)] {
            let activations = activations(49, filters, seed);
            let basis = fit(activations.view(), Count(components)).unwrap();
            let (projector, captured) = projector_by_covariance(&activations, components);
            assert!(largest_difference(&basis.directions.dot(&basis.directions.t()), &projector) < 1e-9);
            assert!((basis.captured_variance() - captured).abs() < 1e-12);
        }
    }

    #[test]
    fn directions_are_orthonormal_and_sorted() {
        let basis = fit(activations(49, 512, 5).view(), Count(19)).unwrap();
        assert!(largest_difference(&basis.directions.t().dot(&basis.directions), &Array2::eye(19)) < 1e-9);
        assert!(basis.variances.iter().rev().is_sorted());
    }

    #[test]
    fn captured_variance_grows_to_one_at_full_rank() {
        let activations = activations(49, 512, 6);
        let captured: Vec<f64> = (1..=60)
            .map(|components| fit(activations.view(), Count(components)).unwrap().captured_variance())
            .collect();
        assert!(captured.is_sorted());
        assert!(captured[0] > 0.0 && captured[46] < 1.0 - 1e-6);
        assert!((captured[47] - 1.0).abs() < 1e-12 && captured[59] == captured[47]);
    }

    #[test]
    fn the_leading_directions_are_those_of_a_smaller_fit() {
        let activations = activations(49, 128, 11);
        let (all, few) = (fit(activations.view(), Count(40)).unwrap(), fit(activations.view(), Count(7)).unwrap());
        assert_eq!(all.leading(7).directions, few.directions);
        assert_eq!(all.leading(7).captured_variance(), few.captured_variance());
        assert_eq!(all.leading(99).components(), 40);
    }

    #[test]
    fn as_few_components_are_kept_as_the_variance_asks_for() {
        let activations = activations(49, 512, 10);
        for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let kept = fit(activations.view(), Variance(share)).unwrap();
            let fewer = fit(activations.view(), Count(kept.components() - 1));
            assert!(kept.captured_variance() > share - 1e-12, "{share}");
            assert!(fewer.map_or(0.0, |basis| basis.captured_variance()) < share, "{share}");
        }
    }

    #[test]
    fn nothing_varies_in_a_constant_or_a_single_position() {
        let rounded =
            Array2::from_shape_fn(
                (49, 64),
                |(row, column)| {
                    if (row * 7 + column) % 3 == 0 { 0.7f32 } else { 0.7f32.next_up() }
                },
            );
        let cases = [Array2::zeros((49, 64)), Array2::from_elem((49, 64), 0.1f32), rounded, activations(1, 64, 7)];
        for constant in cases {
            let basis = fit(constant.view(), Count(19)).unwrap();
            assert_eq!((basis.components(), basis.captured_variance()), (0, 1.0));
            assert_eq!(basis.reduce(Array1::ones(64).view()), Array1::<f64>::zeros(64));
        }
    }

    #[test]
    fn what_has_no_components_is_an_error() {
        let mut broken = activations(49, 64, 8);
        broken[[3, 4]] = f32::NAN;
        assert_eq!(fit(broken.view(), Count(19)).unwrap_err(), PcaError::NotFinite);
        broken[[3, 4]] = f32::INFINITY;
        assert_eq!(fit(broken.view(), Count(19)).unwrap_err(), PcaError::NotFinite);
        assert_eq!(fit(Array2::zeros((0, 64)).view(), Count(19)).unwrap_err(), PcaError::Empty);
        assert_eq!(fit(activations(49, 64, 9).view(), Count(0)).unwrap_err(), PcaError::NoComponents);
    }
}
