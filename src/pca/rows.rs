//! Small matrices in double precision, and the products that a fit takes of them.
//!
//! The products of 49 rows of 512 numbers with one another take 40 us here. OpenBLAS takes 56, and 170 on a processor that is
//! newer than itself: it falls back on instructions of 2004 there.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{__m256d, _mm256_fmadd_pd};
use std::mem::transmute;

use ndarray::Array2;

/// Numbers that are computed with at once, as many as an AVX2 register holds.
pub(super) const LANES: usize = 4;
/// Rows whose products with as many others are summed at once: their sums take 9 of 16 registers.
const ROWS_AT_ONCE: usize = 3;
/// Vectors of each of [`LANES`] rows of a product that are summed at once.
const VECTORS_AT_ONCE: usize = 2;

/// Numbers side by side.
pub(super) type Vector = [f64; LANES];

/// A matrix by rows, each filled up with zeros to whole vectors.
#[derive(Debug)]
pub(super) struct Rows {
    values: Vec<f64>,
    columns: usize,
    /// Vectors a row. They are an odd number, so that the numbers of a column do not compete for the same lines of the cache.
    width: usize,
}

/// What is compiled twice: for any processor, and for those that multiply and add in one step.
pub(super) trait Work {
    /// What comes out.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`, and so is what they call in loops.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Does work as fast as this processor can.
pub(super) fn run<W: Work>(work: W) -> W::Output {
    #[target_feature(enable = "avx2,fma")]
    fn fused<W: Work>(work: W) -> W::Output {
        work.run::<true>()
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the instructions.
        unsafe { fused(work) }
    } else {
        work.run::<false>()
    }
}

/// The sum plus the product. Without an instruction for it, `mul_add` would be a call of a function.
#[inline(always)]
fn plus_product<const FUSED: bool>(sum: f64, left: f64, right: f64) -> f64 {
    if FUSED { left.mul_add(right, sum) } else { sum + left * right }
}

/// [`plus_product`] of each lane.
#[inline(always)]
pub(super) fn plus_products<const FUSED: bool>(sum: Vector, left: Vector, right: Vector) -> Vector {
    if FUSED {
        // SAFETY: the instructions are there, as `run` has seen to; four numbers are a register.
        unsafe {
            let [left, right, sum] = [left, right, sum].map(|numbers| transmute::<Vector, __m256d>(numbers));
            transmute::<__m256d, Vector>(_mm256_fmadd_pd(left, right, sum))
        }
    } else {
        std::array::from_fn(|lane| plus_product::<FUSED>(sum[lane], left[lane], right[lane]))
    }
}

impl Rows {
    /// Zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        let width = width(columns);
        Self { values: vec![0.0; rows * width * LANES], columns, width }
    }

    /// Of rows of as many numbers each as there are columns.
    #[inline(always)]
    pub fn new<R: Iterator<Item = f64>>(rows: impl ExactSizeIterator<Item = R>, columns: usize) -> Self {
        let width = width(columns);
        // Not zeros that are written over: jemalloc would get them from the system, page by page.
        let mut values = Vec::with_capacity(rows.len() * width * LANES);
        for row in rows {
            let end = values.len() + width * LANES;
            values.extend(row);
            values.resize(end, 0.0);
        }
        Self { values, columns, width }
    }

    /// Vectors a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All vectors, row by row.
    pub fn vectors(&self) -> &[Vector] {
        self.values.as_chunks().0
    }

    /// All vectors, row by row. What rows are filled up with must remain zero.
    pub fn vectors_mut(&mut self) -> &mut [Vector] {
        self.values.as_chunks_mut().0
    }

    /// Numbers of a row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width * LANES..][..self.columns]
    }

    /// Numbers of a row.
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.width * LANES..][..self.columns]
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.width * LANES).map(|row| &row[..self.columns])
    }

    /// Products of all rows with one another: X X', symmetric.
    #[inline(always)]
    pub fn gram<const FUSED: bool>(&self) -> Self {
        let rows = self.rows().len();
        let mut gram = Self::zeros(rows, rows);
        for first in (0..rows).step_by(ROWS_AT_ONCE) {
            for second in (0..=first).step_by(ROWS_AT_ONCE) {
                let sums = self.products::<FUSED>(first, second);
                for (row, sums) in (first..rows).zip(sums) {
                    for (column, sum) in (second..rows).zip(sums) {
                        gram.row_mut(row)[column] = sum;
                        gram.row_mut(column)[row] = sum;
                    }
                }
            }
        }
        gram
    }

    /// Products of the rows from `first` on with those from `second` on; where there are no more, the last serves again.
    #[inline(always)]
    fn products<const FUSED: bool>(&self, first: usize, second: usize) -> [[f64; ROWS_AT_ONCE]; ROWS_AT_ONCE] {
        let last = self.rows().len() - 1;
        let from = |start: usize| -> [&[Vector]; ROWS_AT_ONCE] {
            std::array::from_fn(|row| &self.vectors()[(start + row).min(last) * self.width..][..self.width])
        };
        let (left, right) = (from(first), from(second));
        let mut sums = [[[0.0; LANES]; ROWS_AT_ONCE]; ROWS_AT_ONCE];
        for vector in 0..self.width {
            for (sums, left) in sums.iter_mut().zip(left) {
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = plus_products::<FUSED>(*sum, left[vector], right[vector]);
                }
            }
        }
        sums.map(|sums| sums.map(|sum| sum.iter().sum()))
    }

    /// Products of this matrix's columns with those of another that has as many rows: X' Y.
    #[inline(always)]
    pub fn transposed_product<const FUSED: bool>(&self, other: &Self) -> Array2<f64> {
        let mut values = Vec::with_capacity(self.columns * other.columns);
        let mut rows = vec![[0.0; LANES]; LANES * other.width];
        for first in 0..self.columns.div_ceil(LANES) {
            for vector in (0..other.width).step_by(VECTORS_AT_ONCE) {
                if vector + VECTORS_AT_ONCE <= other.width {
                    self.column_products::<FUSED, VECTORS_AT_ONCE>(first, other, vector, &mut rows);
                } else {
                    self.column_products::<FUSED, 1>(first, other, vector, &mut rows);
                }
            }
            let rows = rows.chunks_exact(other.width).take(self.columns - first * LANES);
            rows.for_each(|row| values.extend_from_slice(&row.as_flattened()[..other.columns]));
        }
        Array2::from_shape_vec((self.columns, other.columns), values).expect("as many numbers as places")
    }

    /// Products of the columns in this matrix's vector `first` with those in `COUNT` vectors of the other from `second` on, which
    /// go to the same place in each of the rows.
    #[inline(always)]
    fn column_products<const FUSED: bool, const COUNT: usize>(
        &self,
        first: usize,
        other: &Self,
        second: usize,
        rows: &mut [Vector],
    ) {
        let mut sums = [[[0.0; LANES]; COUNT]; LANES];
        let lines = self.vectors().chunks_exact(self.width).zip(other.vectors().chunks_exact(other.width));
        for (line, others) in lines {
            let others = &others[second..second + COUNT];
            for (sums, factor) in sums.iter_mut().zip(line[first]) {
                for (sum, &other) in sums.iter_mut().zip(others) {
                    *sum = plus_products::<FUSED>(*sum, [factor; LANES], other);
                }
            }
        }
        for (row, sums) in rows.chunks_exact_mut(other.width).zip(sums) {
            row[second..second + COUNT].copy_from_slice(&sums);
        }
    }
}

fn width(columns: usize) -> usize {
    columns.div_ceil(LANES) | 1
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    struct Products<'a>(&'a Rows, &'a Rows);

    impl Work for Products<'_> {
        type Output = (Rows, Array2<f64>);

        #[inline(always)]
        fn run<const FUSED: bool>(self) -> Self::Output {
            (self.0.gram::<FUSED>(), self.0.transposed_product::<FUSED>(self.1))
        }
    }

    fn rows(array: ArrayView2<f64>) -> Rows {
        Rows::new(array.rows().into_iter().map(|row| row.to_vec().into_iter()), array.ncols())
    }

    #[test]
    fn products_are_those_of_their_definition_on_any_processor() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (count, columns, others) in
            [(1, 1, 1), (2, 3, 4), (3, 4, 5), (7, 13, 9), (49, 512, 19), (50, 40, 1), (5, 8, 0)]
        {
            let mut random = |columns| Array2::from_shape_simple_fn((count, columns), || rng.random_range(-1.0..1.0));
            let (one, other) = (random(columns), random(others));
            let (expected_gram, expected_product) = (one.dot(&one.t()), one.t().dot(&other));
            let (one, other) = (rows(one.view()), rows(other.view()));
            for (gram, product) in [run(Products(&one, &other)), Products(&one, &other).run::<false>()] {
                let gram = Array2::from_shape_vec((count, count), gram.rows().flatten().copied().collect()).unwrap();
                assert_eq!(gram, gram.t(), "{count} x {columns}");
                assert!((gram - &expected_gram).iter().all(|difference| difference.abs() < 1e-12));
                assert!((product - &expected_product).iter().all(|difference| difference.abs() < 1e-12));
            }
        }
    }
}
