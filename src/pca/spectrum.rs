//! Eigenvalues of a symmetric matrix, and the eigenvectors of the largest.
//!
//! Reflections make the matrix tridiagonal, rotations diagonal (Golub & Van Loan, "Matrix Computations", 4th edition, algorithms
//! 8.3.1 and 8.3.2; the rotations as in EISPACK's `tql2`). LAPACK applies each rotation to a whole matrix of vectors as it goes;
//! here they are kept, and applied backwards to the vectors that are asked for. At 49 rows and 19 vectors this takes 0.12 ms,
//! LAPACK's `dsyev` 0.25 to 0.4; at 512 rows and all vectors 0.13 s, LAPACK 0.2.

use super::rows::{LANES, Rows, Vector, plus_products};

/// Rotations through the matrix until an eigenvalue is found: LAPACK's limit. Two are usual.
const SWEEPS_PER_VALUE: usize = 30;

/// A symmetric matrix as reflections, rotations, and what they leave.
#[derive(Debug)]
pub(super) struct Spectrum {
    /// All eigenvalues, falling.
    pub values: Vec<f64>,
    /// Where the eigenvalues lie that were sorted.
    order: Vec<usize>,
    /// I - scale v v', in the order in which they were done; v is what a row holds right of the diagonal.
    reflections: Rows,
    scales: Vec<f64>,
    /// In the order in which they were done.
    rotations: Vec<Rotation>,
}

/// Of a row and the next.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    row: usize,
    cosine: f64,
    sine: f64,
}

impl Spectrum {
    /// That of a symmetric matrix of finite numbers; none if the rotations do not come to an end.
    #[inline(always)]
    pub fn of<const FUSED: bool>(mut matrix: Rows) -> Option<Self> {
        let (mut diagonal, mut beside, scales) = tridiagonal::<FUSED>(&mut matrix);
        let rotations = diagonalise(&mut diagonal, &mut beside)?;
        let mut order: Vec<usize> = (0..diagonal.len()).collect();
        order.sort_by(|&one, &other| diagonal[other].total_cmp(&diagonal[one]));
        let values = order.iter().map(|&place| diagonal[place]).collect();
        Some(Self { values, order, reflections: matrix, scales, rotations })
    }

    /// Orthonormal eigenvectors (rows, count) of the `count` largest eigenvalues.
    #[inline(always)]
    pub fn leading<const FUSED: bool>(&self, count: usize) -> Rows {
        let rows = self.values.len();
        let mut leading = Rows::zeros(rows, count);
        for (column, &place) in self.order[..count].iter().enumerate() {
            leading.row_mut(place)[column] = 1.0;
        }
        let width = leading.width();
        for &Rotation { row, cosine, sine } in self.rotations.iter().rev() {
            let (upper, lower) = leading.vectors_mut()[row * width..][..2 * width].split_at_mut(width);
            for (upper, lower) in upper.iter_mut().zip(lower) {
                let before = *upper;
                *upper = plus_products::<FUSED>(lower.map(|value| sine * value), [cosine; LANES], before);
                *lower = plus_products::<FUSED>(lower.map(|value| cosine * value), [-sine; LANES], before);
            }
        }
        let mut along = vec![[0.0; LANES]; width];
        for (row, &scale) in self.scales.iter().enumerate().rev() {
            let reflection = &self.reflections.row(row)[row + 1..rows];
            let below = &mut leading.vectors_mut()[(row + 1) * width..];
            along.fill([0.0; LANES]);
            for (&part, vectors) in reflection.iter().zip(below.chunks_exact(width)) {
                add::<FUSED>(&mut along, part, vectors);
            }
            for (&part, vectors) in reflection.iter().zip(below.chunks_exact_mut(width)) {
                add::<FUSED>(vectors, -scale * part, &along);
            }
        }
        leading
    }
}

/// Adds a multiple of other vectors.
#[inline(always)]
fn add<const FUSED: bool>(to: &mut [Vector], factor: f64, others: &[Vector]) {
    for (to, &other) in to.iter_mut().zip(others) {
        *to = plus_products::<FUSED>(*to, [factor; LANES], other);
    }
}

#[inline(always)]
fn dot<const FUSED: bool>(left: &[Vector], right: &[Vector]) -> f64 {
    let sums =
        left.iter().zip(right).fold([0.0; LANES], |sum, (&left, &right)| plus_products::<FUSED>(sum, left, right));
    sums.iter().sum()
}

/// Reflects a symmetric matrix until nothing is left but the diagonal and what lies beside it. Gives these two (the second has
/// a zero at its end) and the scales of the reflections, whose vectors take the matrix's place.
#[inline(always)]
fn tridiagonal<const FUSED: bool>(matrix: &mut Rows) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (rows, width) = (matrix.rows().len(), matrix.width());
    let (mut diagonal, mut beside, mut scales) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows]);
    let mut products = vec![[0.0; LANES]; width];
    for row in 0..rows {
        diagonal[row] = matrix.row(row)[row];
        if row + 1 == rows {
            break;
        }
        let next = row + 1;
        matrix.row_mut(row)[..next].fill(0.0);
        // Of all rows, only the vectors from this one on are not done with.
        let first = next / LANES;
        let (done, rest) = matrix.vectors_mut().split_at_mut(next * width);
        let reflection = &mut done[row * width..][first..];
        let leading = std::mem::take(&mut reflection[0][next % LANES]);
        let rest_square = dot::<FUSED>(reflection, reflection);
        if rest_square < f64::MIN_POSITIVE {
            // There is nothing to be reflected away.
            beside[row] = leading;
            continue;
        }
        let square = rest_square + leading * leading;
        beside[row] = -square.sqrt().copysign(leading);
        reflection[0][next % LANES] = leading - beside[row];
        let scale = 1.0 / (square - leading * beside[row]);
        scales[row] = scale;
        let reflection = &*reflection;
        let parts = &reflection.as_flattened()[next % LANES..];
        // With p = scale A v and w = p - (scale p'v / 2) v, the reflected matrix is A - v w' - w v'.
        let products = &mut products[first..];
        products.fill([0.0; LANES]);
        for (&part, values) in parts.iter().zip(rest.chunks_exact(width)) {
            add::<FUSED>(products, scale * part, &values[first..]);
        }
        let share = 0.5 * scale * dot::<FUSED>(products, reflection);
        add::<FUSED>(products, -share, reflection);
        let parts = parts.iter().zip(&products.as_flattened()[next % LANES..]);
        for ((&part, &product), values) in parts.zip(rest.chunks_exact_mut(width)) {
            let others = products.iter().zip(reflection);
            for (values, (&products, &reflection)) in values[first..].iter_mut().zip(others) {
                let less = plus_products::<FUSED>(*values, [-part; LANES], products);
                *values = plus_products::<FUSED>(less, [-product; LANES], reflection);
            }
        }
    }
    (diagonal, beside, scales)
}

/// Rotates a tridiagonal matrix until the diagonal alone is left (implicit QL with Wilkinson's shifts).
#[inline(always)]
fn diagonalise(diagonal: &mut [f64], beside: &mut [f64]) -> Option<Vec<Rotation>> {
    let rows = diagonal.len();
    let largest = diagonal.iter().chain(&*beside).fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let mut rotations = Vec::with_capacity(rows * rows);
    let mut sweeps = SWEEPS_PER_VALUE * rows;
    for first in 0..rows {
        loop {
            // Measured by their neighbours, small eigenvalues beside large ones are exact, too. What is rounding even of
            // rounding, however, might never become small beside its neighbours.
            let is_nothing = |&row: &usize| {
                let neighbours = diagonal[row].abs() + diagonal[row + 1].abs() + f64::EPSILON * largest;
                beside[row].abs() <= f64::EPSILON * neighbours
            };
            let last = (first..rows - 1).find(is_nothing).unwrap_or(rows - 1);
            if last == first {
                break;
            }
            sweeps = sweeps.checked_sub(1)?;
            sweep(diagonal, beside, first, last, &mut rotations);
        }
    }
    Some(rotations)
}

/// Rotates once from the last row of a block up to the first.
#[inline(always)]
fn sweep(diagonal: &mut [f64], beside: &mut [f64], first: usize, last: usize, rotations: &mut Vec<Rotation>) {
    let half = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let root = half.hypot(1.0);
    let shift = diagonal[first] - beside[first] / (half + root.copysign(half));
    let mut remaining = diagonal[last] - shift;
    let (mut cosine, mut sine, mut moved) = (1.0, 1.0, 0.0);
    for row in (first..last).rev() {
        let aside = sine * beside[row];
        let along = cosine * beside[row];
        let square = aside * aside + remaining * remaining;
        if square < f64::MIN_POSITIVE {
            // The block falls apart here.
            diagonal[row + 1] -= moved;
            beside[row + 1] = 0.0;
            beside[last] = 0.0;
            return;
        }
        let length = square.sqrt();
        beside[row + 1] = length;
        // In place of dividing by the length: root and reciprocal do not wait for one another.
        let shrink = length * (1.0 / square);
        sine = aside * shrink;
        cosine = remaining * shrink;
        let before = diagonal[row + 1] - moved;
        let turned = (diagonal[row] - before) * sine + 2.0 * cosine * along;
        moved = sine * turned;
        diagonal[row + 1] = before + moved;
        remaining = cosine * turned - along;
        rotations.push(Rotation { row, cosine, sine });
    }
    diagonal[first] -= moved;
    beside[first] = remaining;
    beside[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, s};
    use ndarray_linalg::{Eigh, UPLO};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::pca::rows::{Work, run};

    struct Solve<'a>(&'a Array2<f64>, usize);

    impl Work for Solve<'_> {
        type Output = (Array1<f64>, Array2<f64>);

        #[inline(always)]
        fn run<const FUSED: bool>(self) -> Self::Output {
            let rows = self.0.nrows();
            let matrix = Rows::new(self.0.rows().into_iter().map(|row| row.to_vec().into_iter()), rows);
            let spectrum = Spectrum::of::<FUSED>(matrix).expect("it comes to an end");
            let leading = spectrum.leading::<FUSED>(self.1).rows().flatten().copied().collect();
            (spectrum.values.into(), Array2::from_shape_vec((rows, self.1), leading).unwrap())
        }
    }

    /// Products of random rows, the last `repeated` of which are those before again.
    fn gram(rows: usize, columns: usize, repeated: usize, seed: u64) -> Array2<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut random = Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0..1.0));
        for row in rows - repeated..rows {
            let before = random.row(row - repeated).to_owned();
            random.row_mut(row).assign(&before);
        }
        random.dot(&random.t())
    }

    fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
        values.into_iter().fold(0.0, |largest, value| largest.max(value.abs()))
    }

    #[test]
    fn it_is_lapacks_and_the_vectors_are_what_their_name_says() {
        let mut one_hot = Array2::from_elem((49, 49), 1.0 / 2401.0);
        one_hot[[20, 20]] = 0.96;
        let random = gram(49, 60, 0, 1);
        let graded = |base: f64| Array2::from_shape_fn((49, 49), |at| random[at] * base.powi((at.0 + at.1) as i32));
        let cases = [
            ("one", gram(1, 3, 0, 2)),
            ("two", gram(2, 3, 0, 3)),
            ("even", gram(8, 30, 0, 4)),
            ("odd", gram(49, 512, 0, 5)),
            ("few columns", gram(49, 5, 0, 6)),
            ("repeated rows", gram(49, 512, 24, 7)),
            ("many", gram(150, 200, 0, 8)),
            ("zero", Array2::zeros((49, 49))),
            ("constant", Array2::from_elem((49, 49), 3.0)),
            ("identity", Array2::eye(49)),
            ("one hot", one_hot),
            ("falling", graded(0.5)),
            ("rising", graded(2.0)),
            ("small", gram(49, 60, 20, 9) * 1e-89),
            ("large", gram(49, 60, 20, 10) * 1e77),
        ];
        for (name, matrix) in cases {
            let rows = matrix.nrows();
            let (expected, _) = matrix.eigh(UPLO::Lower).unwrap();
            let tolerance = 1e-13 * largest(expected.iter().copied());
            for count in [0, 1, rows.min(19), rows] {
                for (values, vectors) in [run(Solve(&matrix, count)), Solve(&matrix, count).run::<false>()] {
                    let differences =
                        values.iter().zip(expected.iter().rev()).map(|(value, expected)| value - expected);
                    assert!(largest(differences) <= tolerance, "{name}: eigenvalues");
                    assert!(values.iter().rev().is_sorted(), "{name}: order");
                    let residual = matrix.dot(&vectors) - &vectors * &values.slice(s![..count]);
                    assert!(largest(residual) <= 4.0 * tolerance, "{name}: eigenvectors");
                    let products = vectors.t().dot(&vectors) - Array2::<f64>::eye(count);
                    assert!(largest(products) < 1e-12, "{name}: orthonormal");
                }
            }
        }
    }

    /// Not the absolute precision that a reduction to the norm of the matrix would give.
    #[test]
    fn small_eigenvalues_beside_a_large_one_are_exact() {
        let mut matrix = gram(49, 512, 0, 11);
        matrix.row_mut(0).mapv_inplace(|value| value * 1e6);
        matrix.column_mut(0).mapv_inplace(|value| value * 1e6);
        let (expected, _) = matrix.eigh(UPLO::Lower).unwrap();
        let (values, _) = run(Solve(&matrix, 0));
        for (value, expected) in values.iter().zip(expected.iter().rev()) {
            assert!((value / expected - 1.0).abs() < 1e-5, "{value:e} for {expected:e}");
        }
    }
}
