//! The leading directions alone, by randomised subspace iteration (Halko, Martinsson & Tropp 2011, "Finding structure with
//! randomness", algorithms 4.4 and 5.1).
//!
//! The exact fit grows with the cube of the positions. Here, random combinations of the positions are drawn through the
//! activations a few times, which turns them towards the leading directions, and the small problem that is left in the
//! subspace they span is solved exactly. The variances are those along the directions returned (Rayleigh-Ritz), so the
//! captured variance is never overstated.

use ndarray::{Array1, Array2, ArrayView2, s};
use ndarray_linalg::{Eigh, QR, UPLO};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fit::{Basis, Components, PcaError, centre, fit, rounding};

/// Directions tried beyond those that are kept (the paper's p, section 4.2).
const OVERSAMPLING: usize = 8;
/// How often the subspace goes through the activations and back after the first time (the paper's q).
const POWER_ITERATIONS: usize = 2;
/// Directions tried first where a share of the variance, and no number, is asked for.
const FIRST_WIDTH: usize = 32;
/// Directions whose variance is below this share of the largest are rounding: the products are in single precision.
const RANK_TOLERANCE: f64 = 1e-10;
/// The same combinations for every frame, so that equal frames have equal maps.
const SEED: u64 = 0x4a11;

/// As [`fit`], but the directions are approximate: they capture nearly the variance that the exact ones do. Where there are
/// few positions, or many components are asked for, it is the exact fit.
///
/// # Errors
///
/// See [`fit`].
pub fn fit_truncated(activations: ArrayView2<f32>, components: Components) -> Result<Basis, PcaError> {
    let (positions, filters) = activations.dim();
    let largest_width = positions.min(filters) / 2;
    let mut width = match components {
        Components::Count(count) => count.saturating_add(OVERSAMPLING),
        Components::Variance(_) => FIRST_WIDTH,
    };
    if width > largest_width {
        return fit(activations, components);
    }
    let (centred, mean) = centre(activations, components)?;
    let total_variance = centred.iter().map(|value| value * value).sum::<f64>();
    let floor = rounding(&mean, positions);
    if total_variance <= floor {
        let directions = Array2::zeros((filters, 0));
        return Ok(Basis { mean, directions, variances: Array1::zeros(0), total_variance: 0.0 });
    }
    let centred = centred.mapv(|value| value as f32);
    while width <= largest_width {
        let (directions, variances) = leading(&centred, width)?;
        let floor = (variances[0] * RANK_TOLERANCE).max(floor);
        let rank = variances.iter().filter(|&&variance| variance > floor).count();
        let kept = components.kept(variances.iter().copied().take(rank), total_variance);
        // The last directions of a subspace are the least accurate; where they are needed, a larger one is tried.
        if rank < width || kept + OVERSAMPLING <= width {
            return Ok(Basis {
                mean,
                directions: directions.slice(s![.., ..kept]).to_owned(),
                variances: variances.slice(s![..kept]).to_owned(),
                total_variance,
            });
        }
        width *= 2;
    }
    fit(activations, components)
}

/// Orthonormal directions (filters, `width`) by falling variance, and the sum of squares along each.
fn leading(centred: &Array2<f32>, width: usize) -> Result<(Array2<f64>, Array1<f64>), PcaError> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let combinations = Array2::from_shape_simple_fn((centred.nrows(), width), || random.random_range(-1.0f32..1.0));
    let mut subspace = orthonormal(centred.t().dot(&combinations))?;
    for _ in 0..POWER_ITERATIONS {
        subspace = orthonormal(centred.t().dot(&centred.dot(&subspace)))?;
    }
    let scores = centred.dot(&subspace).mapv(f64::from);
    let (variances, rotation) = scores.t().dot(&scores).eigh(UPLO::Lower).map_err(failed)?;
    // LAPACK sorts the eigenvalues upwards.
    let directions = subspace.mapv(f64::from).dot(&rotation.slice(s![.., ..;-1]));
    Ok((directions, variances.slice(s![..;-1]).to_owned()))
}

/// An orthonormal basis of what the columns span.
fn orthonormal(columns: Array2<f32>) -> Result<Array2<f32>, PcaError> {
    columns.qr().map(|(basis, _)| basis).map_err(failed)
}

fn failed(error: ndarray_linalg::error::LinalgError) -> PcaError {
    PcaError::Solver(error.to_string())
}
