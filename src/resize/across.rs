//! From a line, as wide as the picture was, to one of the result.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm_setr_epi8, _mm_storel_epi64, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_loadu2_m128i, _mm256_madd_epi16, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permutevar8x32_epi32,
    _mm256_set1_epi32, _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_sra_epi32,
};
use std::ops::Range;

use super::coefficients::Coefficients;

/// Outputs that are summed at once.
const GROUP: usize = 8;
/// Pixels, of those that an output is a sum of, at once. They are read as 16 bytes, of which they take 12.
const QUAD: usize = 4;
const QUAD_BYTES: usize = 3 * QUAD;
const READ_BYTES: usize = 16;

/// Sums along a line.
#[derive(Debug)]
pub(super) struct Across {
    coefficients: Coefficients,
    /// Pixels that any output is a sum of; a line begins with the first.
    columns: Range<usize>,
    vectors: Option<Vectors>,
}

/// The tables as vectors read them.
#[derive(Debug)]
struct Vectors {
    /// Bytes of a line before the first pixel of an output. The last group is filled up.
    starts: Vec<[u32; GROUP]>,
    /// Quads of an output.
    quads: usize,
    /// (groups, 4, quads, 2): of each group its outputs j and j + 4 in the halves of a vector; of these, the weights of the first two
    /// pixels of a quad, then of the others, for red, green, blue, and nothing.
    weights: Vec<[i16; 16]>,
}

impl Across {
    pub(super) fn new(mut coefficients: Coefficients) -> Self {
        let begin = coefficients.first.iter().copied().min().unwrap_or(0);
        let end = coefficients.first.iter().map(|first| first + coefficients.taps).max().unwrap_or(0);
        let columns = begin..end.min(coefficients.pixels);
        coefficients.first.iter_mut().for_each(|first| *first -= begin);
        let vectors = is_x86_feature_detected!("avx2").then(|| Vectors::new(&coefficients));
        Self { coefficients, columns, vectors }
    }

    /// Columns of the picture that a line is made of.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Bytes of a line: its columns, and what is read behind them, whatever it holds.
    pub(super) fn line_bytes(&self) -> usize {
        let taps = self.coefficients.taps.next_multiple_of(QUAD);
        3 * (self.columns.len() + taps) + READ_BYTES
    }

    /// A line of the result from one of [`line_bytes`](Self::line_bytes).
    pub(super) fn line(&self, line: &[u8], result: &mut [u8]) {
        assert!(line.len() == self.line_bytes() && result.len() == 3 * self.coefficients.first.len());
        match &self.vectors {
            // SAFETY: vectors are made where the processor has the instructions, and the line is as long as they ask.
            Some(vectors) => unsafe {
                match vectors.quads {
                    1 => groups::<1>(&self.coefficients, vectors, line, result),
                    2 => groups::<2>(&self.coefficients, vectors, line, result),
                    3 => groups::<3>(&self.coefficients, vectors, line, result),
                    _ => groups::<0>(&self.coefficients, vectors, line, result),
                }
            },
            None => one_by_one(&self.coefficients, line, result),
        }
    }
}

impl Vectors {
    fn new(coefficients: &Coefficients) -> Self {
        let outputs = coefficients.first.len();
        let quads = coefficients.taps.div_ceil(QUAD);
        let groups = outputs.div_ceil(GROUP);
        let mut starts = vec![[0; GROUP]; groups];
        for (start, first) in starts.as_flattened_mut().iter_mut().zip(&coefficients.first) {
            *start = 3 * *first as u32;
        }
        let mut weights = vec![[0; 16]; groups * 4 * quads * 2];
        for output in 0..outputs {
            let (group, place) = (output / GROUP, output % GROUP);
            let (vector, half) = (4 * group + place % 4, 8 * (place / 4));
            for (tap, &weight) in coefficients.weights(output).iter().enumerate() {
                let pair = &mut weights[2 * quads * vector + tap / 2];
                for channel in 0..3 {
                    pair[half + 2 * channel + tap % 2] = weight;
                }
            }
        }
        Self { starts, quads, weights }
    }
}

fn one_by_one(coefficients: &Coefficients, line: &[u8], result: &mut [u8]) {
    for (output, pixel) in result.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let pixels = line[3 * coefficients.first[output]..].as_chunks::<3>().0;
        for (channel, level) in pixel.iter_mut().enumerate() {
            let products = coefficients.weights(output).iter().zip(pixels);
            let sum: i32 = products.map(|(&weight, pixel)| i32::from(weight) * i32::from(pixel[channel])).sum();
            *level = coefficients.level(coefficients.half() + sum);
        }
    }
}

/// Does what [`one_by_one`] does. `QUADS` is how many an output has, or 0 for any number.
///
/// # Safety
///
/// Behind the first pixel of each output, the line holds its quads and what is read with the last.
#[target_feature(enable = "avx2")]
unsafe fn groups<const QUADS: usize>(coefficients: &Coefficients, vectors: &Vectors, line: &[u8], result: &mut [u8]) {
    let quads = if QUADS == 0 { vectors.quads } else { QUADS };
    let half = _mm256_set1_epi32(coefficients.half());
    let bits = _mm_cvtsi32_si128(coefficients.bits as i32);
    // Red, green and blue of the first two pixels side by side, in 16 bits each; then of the others.
    let first = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    let second = _mm256_broadcastsi128_si256(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    // Without the fourth of each four bytes.
    let colours = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    // Both halves have four pixels in their first 12 bytes.
    let together = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    let groups = vectors.starts.iter().zip(vectors.weights.chunks_exact(8 * quads));
    for ((starts, weights), result) in groups.zip(result.chunks_mut(3 * GROUP)) {
        let mut sums = [half; 4];
        for (place, sum) in sums.iter_mut().enumerate() {
            let weights = &weights[2 * quads * place..][..2 * quads];
            for (quad, [of_first, of_second]) in weights.as_chunks::<2>().0.iter().enumerate() {
                // SAFETY: the line is as long as the caller promises.
                let pixels = unsafe {
                    let at = |start: u32| line.as_ptr().add(start as usize + QUAD_BYTES * quad).cast();
                    _mm256_loadu2_m128i(at(starts[place + 4]), at(starts[place]))
                };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, first), load(of_first)));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, second), load(of_second)));
            }
        }
        for sum in &mut sums {
            *sum = _mm256_sra_epi32(*sum, bits);
        }
        let [a, b, c, d] = sums;
        let levels = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let pixels = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(levels, colours), together);
        match <&mut [u8; 3 * GROUP]>::try_from(&mut *result) {
            Ok(result) => store(pixels, result),
            // The last group.
            Err(_) => {
                let mut whole = [0; 3 * GROUP];
                store(pixels, &mut whole);
                result.copy_from_slice(&whole[..result.len()]);
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn load(weights: &[i16; 16]) -> __m256i {
    // SAFETY: as many bytes as the vector has.
    unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) }
}

/// The first 24 bytes.
#[target_feature(enable = "avx2")]
fn store(pixels: __m256i, to: &mut [u8; 3 * GROUP]) {
    // SAFETY: 16 bytes and the 8 behind them.
    unsafe {
        _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(pixels));
        _mm_storel_epi64(to.as_mut_ptr().add(16).cast(), _mm256_extracti128_si256::<1>(pixels));
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn vectors_and_single_levels_give_the_same() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (pixels, outputs) in [(40, 9), (9, 40), (30, 21), (1, 3), (50, 7), (200, 16), (200, 3), (64, 64)] {
            for part in [(0.0, f64::from(pixels)), (0.3 * f64::from(pixels), 0.4 * f64::from(pixels))] {
                let across = |has_vectors| {
                    let across = Across::new(Coefficients::new(pixels, part, outputs));
                    Across { vectors: across.vectors.filter(|_| has_vectors), ..across }
                };
                let line: Vec<u8> = (0..across(false).line_bytes()).map(|_| random.random()).collect();
                let result = |has_vectors| {
                    let mut result = vec![0; 3 * outputs as usize];
                    across(has_vectors).line(&line, &mut result);
                    result
                };
                assert_eq!(result(true), result(false), "{part:?} of {pixels} pixels to {outputs}");
            }
        }
    }
}
