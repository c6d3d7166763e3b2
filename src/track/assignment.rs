//! Who is who: the pairs of tracks and detections whose affinities sum to the most (Kuhn 1955, Munkres 1957).

use ndarray::Array2;
use pathfinding::prelude::{Matrix, kuhn_munkres};

use crate::boxes::PerBox;

/// Affinities are compared to a millionth: the solver needs numbers that are totally ordered.
const STEPS: f64 = 1e6;

/// The column of each row, or none.
///
/// `affinities` are in [0, 1]; a pair of affinity 0 is never made. Of several best assignments the outcome is always the
/// same one.
pub fn assign(affinities: &Array2<f64>) -> PerBox<Option<usize>> {
    undisputed(affinities).unwrap_or_else(|| solve(affinities))
}

/// The assignment where no row and no column has two possible partners, as mostly; nothing where one has.
fn undisputed(affinities: &Array2<f64>) -> Option<PerBox<Option<usize>>> {
    let mut assigned = PerBox::from_elem(None, affinities.nrows());
    for ((row, column), &affinity) in affinities.indexed_iter() {
        if steps(affinity) > 0 {
            if assigned[row].is_some() || assigned.contains(&Some(column)) {
                return None;
            }
            assigned[row] = Some(column);
        }
    }
    Some(assigned)
}

/// Of affinities of which some can be paired.
fn solve(affinities: &Array2<f64>) -> PerBox<Option<usize>> {
    let (rows, columns) = affinities.dim();
    if rows > columns {
        // The solver wants at least as many columns as rows.
        let mut assigned = PerBox::from_elem(None, rows);
        for (column, row) in solve(&affinities.t().to_owned()).into_iter().enumerate() {
            if let Some(row) = row {
                assigned[row] = Some(column);
            }
        }
        return assigned;
    }
    let weights = Matrix::from_fn(rows, columns, |place| steps(affinities[place]));
    let (_, assigned) = kuhn_munkres(&weights);
    assigned.into_iter().enumerate().map(|(row, column)| (weights[(row, column)] > 0).then_some(column)).collect()
}

fn steps(affinity: f64) -> i64 {
    (affinity * STEPS).round() as i64
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The largest sum, by trying everything.
    fn most(affinities: &Array2<f64>, row: usize, used: &mut Vec<bool>) -> f64 {
        if row == affinities.nrows() {
            return 0.0;
        }
        let mut best = most(affinities, row + 1, used);
        for column in 0..affinities.ncols() {
            if !used[column] && affinities[[row, column]] > 0.0 {
                used[column] = true;
                best = best.max(affinities[[row, column]] + most(affinities, row + 1, used));
                used[column] = false;
            }
        }
        best
    }

    #[test]
    fn no_other_assignment_is_better() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..400 {
            let (rows, columns) = (rng.random_range(1..6), rng.random_range(1..6));
            let affinities = Array2::from_shape_fn((rows, columns), |_| {
                if rng.random_bool(0.4) { 0.0 } else { f64::from(rng.random_range(1..100_u32)) / 100.0 }
            });
            let assigned = assign(&affinities);
            let mut sum = 0.0;
            let mut used = vec![false; columns];
            for (row, column) in assigned.iter().enumerate().filter_map(|(row, &column)| Some((row, column?))) {
                assert!(affinities[[row, column]] > 0.0 && !used[column], "{affinities} {assigned:?}");
                used[column] = true;
                sum += affinities[[row, column]];
            }
            let best = most(&affinities, 0, &mut vec![false; columns]);
            assert!((sum - best).abs() < 1e-9, "{affinities} {assigned:?}: {sum} instead of {best}");
        }
    }

    #[test]
    fn what_nobody_disputes_is_what_the_solver_finds() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut found = 0;
        for _ in 0..400 {
            let (rows, columns) = (rng.random_range(1..6), rng.random_range(1..6));
            let affinities = Array2::from_shape_fn((rows, columns), |_| {
                if rng.random_bool(0.8) { 0.0 } else { f64::from(rng.random_range(1..100_u32)) / 100.0 }
            });
            if let Some(assigned) = undisputed(&affinities) {
                found += 1;
                assert_eq!(assigned, solve(&affinities), "{affinities}");
            }
        }
        assert!((100..300).contains(&found), "{found}");
        assert_eq!(undisputed(&array![[0.2, 0.1]]), None);
        assert_eq!(undisputed(&array![[0.2], [0.1]]), None);
    }

    #[test]
    fn nobody_is_paired_with_nothing() {
        assert_eq!(assign(&Array2::zeros((0, 3)))[..], []);
        assert_eq!(assign(&Array2::zeros((2, 0)))[..], [None, None]);
        assert_eq!(assign(&Array2::zeros((2, 3)))[..], [None, None]);
        assert_eq!(assign(&array![[0.2], [0.9], [0.0]])[..], [None, Some(0), None]);
    }
}
