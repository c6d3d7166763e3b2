//! From rows of a picture to a line of the result.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_packs_epi32,
    _mm256_packus_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sra_epi32, _mm256_storeu_si256,
    _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use super::coefficients::Coefficients;

/// Levels that are summed at once.
const LANES: usize = 32;

/// Sums of rows.
#[derive(Debug)]
pub(super) struct Down {
    coefficients: Coefficients,
    has_avx2: bool,
}

impl Down {
    pub(super) fn new(coefficients: Coefficients) -> Self {
        Self { coefficients, has_avx2: is_x86_feature_detected!("avx2") }
    }

    /// A line of the result from `row`s, which have its length.
    pub(super) fn line<'a>(&self, output: usize, row: impl Fn(usize) -> &'a [u8], line: &mut [u8]) {
        let (first, last) = (self.coefficients.first[output], self.coefficients.pixels - 1);
        // Beyond the last one a weight is 0.
        let row = |tap: usize| row((first + tap).min(last));
        if self.has_avx2 && line.len() >= LANES {
            // SAFETY: the processor has the instructions.
            unsafe { many_at_once(&self.coefficients, output, row, line) }
        } else {
            one_by_one(&self.coefficients, output, row, line);
        }
    }
}

fn one_by_one<'a>(coefficients: &Coefficients, output: usize, row: impl Fn(usize) -> &'a [u8], line: &mut [u8]) {
    for (at, level) in line.iter_mut().enumerate() {
        let products =
            (0..).zip(coefficients.weights(output)).map(|(tap, &weight)| i32::from(weight) * i32::from(row(tap)[at]));
        *level = coefficients.level(coefficients.half() + products.sum::<i32>());
    }
}

/// Does what [`one_by_one`] does.
#[target_feature(enable = "avx2")]
fn many_at_once<'a>(coefficients: &Coefficients, output: usize, row: impl Fn(usize) -> &'a [u8], line: &mut [u8]) {
    let half = _mm256_set1_epi32(coefficients.half());
    let bits = _mm_cvtsi32_si128(coefficients.bits as i32);
    let zero = _mm256_setzero_si256();
    for start in (0..line.len()).step_by(LANES) {
        // The last ones once more, rather than fewer.
        let start = start.min(line.len() - LANES);
        let mut sums = [half; 4];
        for (pair, weights) in coefficients.weights(output).as_chunks::<2>().0.iter().enumerate() {
            let weights = _mm256_set1_epi32(together(*weights));
            let one = load(&row(2 * pair)[start..][..LANES]);
            let other = load(&row(2 * pair + 1)[start..][..LANES]);
            // Levels of both rows side by side, in 16 bits each.
            let (low, high) = (_mm256_unpacklo_epi8(one, other), _mm256_unpackhi_epi8(one, other));
            let levels = [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
                _mm256_unpacklo_epi8(high, zero),
                _mm256_unpackhi_epi8(high, zero),
            ];
            // Not by `map` and the like, which are not compiled for these instructions and would be called each time.
            for (sum, levels) in sums.iter_mut().zip(levels) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(levels, weights));
            }
        }
        for sum in &mut sums {
            *sum = _mm256_sra_epi32(*sum, bits);
        }
        let [a, b, c, d] = sums;
        let levels = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let to = &mut line[start..][..LANES];
        // SAFETY: as many bytes as the vector has.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), levels) };
    }
}

/// Two weights as one number, the first in its lower half.
fn together([first, second]: [i16; 2]) -> i32 {
    i32::from(first.cast_unsigned()) | i32::from(second) << 16
}

#[target_feature(enable = "avx2")]
fn load(levels: &[u8]) -> __m256i {
    assert_eq!(levels.len(), LANES);
    // SAFETY: as many bytes as the vector has.
    unsafe { _mm256_loadu_si256(levels.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn vectors_and_single_levels_give_the_same() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (rows, outputs, bytes) in [(40, 9, 31), (40, 9, 32), (30, 21, 33), (10, 25, 96), (1, 3, 100), (50, 3, 127)]
        {
            let levels: Vec<u8> = (0..rows as usize * bytes).map(|_| random.random()).collect();
            let row = |row: usize| &levels[row * bytes..][..bytes];
            let down = Down::new(Coefficients::new(rows, (0.0, f64::from(rows)), outputs));
            for output in 0..outputs as usize {
                let line = |has_avx2| {
                    let down =
                        Down { has_avx2, coefficients: Coefficients::new(rows, (0.0, f64::from(rows)), outputs) };
                    let mut line = vec![0; bytes];
                    down.line(output, row, &mut line);
                    line
                };
                assert_eq!(line(down.has_avx2), line(false), "{rows} rows to {outputs}, {bytes} bytes");
            }
        }
    }
}
