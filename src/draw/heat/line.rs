//! Heat over one line of a picture: eight pixels at once where the processor has AVX2, which takes a third of the time.

use std::arch::x86_64::{
    __m256i, _mm_setr_epi8, _mm_storel_epi64, _mm_storeu_si128, _mm256_add_epi16, _mm256_add_ps,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cvttps_epi32, _mm256_extracti128_si256,
    _mm256_floor_ps, _mm256_i32gather_epi32, _mm256_i32gather_ps, _mm256_loadu_ps, _mm256_loadu2_m128i, _mm256_max_ps,
    _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi16, _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_sub_epi16, _mm256_sub_ps, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};
use std::ops::Range;

use ndarray::Array1;

use crate::explain::normalise::{Alignment, position};
use crate::recycled::Recycled;

/// What each level of heat does to a pixel: red, green, blue, and how many 256ths of the pixel they replace.
pub(super) type Paints = [[u8; 4]; 256];

/// Levels of heat, of 255, below which a pixel stays as it is. What lies between two of them is below 1, whatever is rounded.
const COLD: f32 = 0.5;

/// Where the pixels of a line lie on a map.
pub(super) struct Across {
    /// From 0 to the last of `columns`, rising.
    positions: Recycled<Array1<f32>>,
    columns: usize,
    has_avx2: bool,
}

impl Across {
    /// Edges on edges.
    pub(super) fn new(columns: usize, width: usize) -> Self {
        assert!(columns <= 1 << f32::MANTISSA_DIGITS, "positions are exact to a column");
        let positions = (0..width).map(|pixel| position(columns, width, Alignment::Edges, pixel));
        Self { positions: Recycled::of(width, positions), columns, has_avx2: is_x86_feature_detected!("avx2") }
    }

    /// Blends heat over a line of pixels. `levels` are those of the map's columns, in 255ths, the last one twice.
    pub(super) fn paint(&self, line: &mut [u8], levels: &[f32], paints: &Paints) {
        let positions = self.positions.as_slice().expect("it has one axis");
        assert_eq!((line.len(), levels.len()), (3 * positions.len(), self.columns + 1));
        let Range { start, end } = warm(positions, levels);
        let pixels = Pixels { line: &mut line[3 * start..3 * end], positions: &positions[start..end] };
        let rest = if self.has_avx2 {
            // SAFETY: the processor has AVX2. There are as many positions as pixels and a level more than columns, as asserted, and
            // positions are clamped to the columns.
            unsafe { eights(pixels, levels, paints) }
        } else {
            pixels
        };
        one_by_one(rest, levels, paints);
    }
}

/// The pixels between the first and the last column with any heat.
fn warm(positions: &[f32], levels: &[f32]) -> Range<usize> {
    let is_warm = |level: &f32| *level >= COLD;
    let Some(first) = levels.iter().position(is_warm) else { return 0..0 };
    let last = levels.iter().rposition(is_warm).unwrap_or(first);
    // Where the columns on both sides are cold, all between them is.
    let start = positions.partition_point(|position| position + 1.0 < first as f32);
    let end = positions.partition_point(|&position| position < (last + 1) as f32);
    start..end
}

/// Neighbouring pixels and their places.
struct Pixels<'a> {
    line: &'a mut [u8],
    positions: &'a [f32],
}

fn one_by_one(pixels: Pixels, levels: &[f32], paints: &Paints) {
    let (line, _) = pixels.line.as_chunks_mut::<3>();
    for (pixel, &position) in line.iter_mut().zip(pixels.positions) {
        let left = position.floor();
        let (before, behind, part) = (levels[left as usize], levels[left as usize + 1], position - left);
        // A float cast saturates, so values out of range cannot index out of the table.
        let level = (before + (behind - before) * part) as u8;
        let [red, green, blue, weight] = paints[usize::from(level)].map(u16::from);
        for (channel, colour) in pixel.iter_mut().zip([red, green, blue]) {
            *channel = ((u16::from(*channel) * (256 - weight) + colour * weight) >> 8) as u8;
        }
    }
}

/// Blends as many pixels as can be had by eights, with the arithmetic of [`one_by_one`], and gives those that remain.
///
/// # Safety
///
/// There are as many positions as pixels. All are at least 0, and less than the last place of `levels`.
#[target_feature(enable = "avx2")]
unsafe fn eights<'a>(pixels: Pixels<'a>, levels: &[f32], paints: &Paints) -> Pixels<'a> {
    let Pixels { line, positions } = pixels;
    // Of four paints the colours, and the weight of each three times, as the bytes of four pixels lie.
    let colours = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    let weights = _mm256_broadcastsi128_si256(_mm_setr_epi8(3, 3, 3, 7, 7, 7, 11, 11, 11, 15, 15, 15, -1, -1, -1, -1));
    // Both halves have four pixels in their first 12 bytes.
    let together = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    let zero = _mm256_setzero_si256();
    // What is read ends four bytes behind the eight pixels.
    let eights = line.len().saturating_sub(4) / 24;
    for eight in 0..eights {
        // SAFETY: the eight pixels and the four bytes behind them lie within the line, which has as many positions as pixels.
        // Columns lie within the levels, as the caller promises, and levels of 0 to 255 within the paints.
        unsafe {
            let position = _mm256_loadu_ps(positions.as_ptr().add(8 * eight));
            let left = _mm256_floor_ps(position);
            let (part, left) = (_mm256_sub_ps(position, left), _mm256_cvttps_epi32(left));
            let before = _mm256_i32gather_ps::<4>(levels.as_ptr(), left);
            let behind = _mm256_i32gather_ps::<4>(levels.as_ptr().add(1), left);
            let level = _mm256_add_ps(before, _mm256_mul_ps(_mm256_sub_ps(behind, before), part));
            // What is no number becomes the 0, which stands second.
            let level = _mm256_min_ps(_mm256_max_ps(level, _mm256_setzero_ps()), _mm256_set1_ps(255.0));
            let paint = _mm256_i32gather_epi32::<4>(paints.as_ptr().cast(), _mm256_cvttps_epi32(level));
            let (colour, weight) = (_mm256_shuffle_epi8(paint, colours), _mm256_shuffle_epi8(paint, weights));

            let at = line.as_mut_ptr().add(24 * eight);
            let pixels = _mm256_loadu2_m128i(at.add(12).cast(), at.cast());
            let low = mixed(
                _mm256_unpacklo_epi8(pixels, zero),
                _mm256_unpacklo_epi8(zero, pixels),
                _mm256_unpacklo_epi8(colour, zero),
                _mm256_unpacklo_epi8(weight, zero),
            );
            let high = mixed(
                _mm256_unpackhi_epi8(pixels, zero),
                _mm256_unpackhi_epi8(zero, pixels),
                _mm256_unpackhi_epi8(colour, zero),
                _mm256_unpackhi_epi8(weight, zero),
            );
            // The 24 bytes and no more: where the next eight begin, nothing may be on its way to memory, or reading them waits.
            let mixed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), together);
            _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(mixed));
            _mm_storel_epi64(at.add(16).cast(), _mm256_extracti128_si256::<1>(mixed));
        }
    }
    Pixels { line: &mut line[24 * eights..], positions: &positions[8 * eights..] }
}

/// (256 pixel + (colour - pixel) weight) / 256. The sum has 16 bits, so that what goes beyond them on the way does not matter.
#[target_feature(enable = "avx2")]
fn mixed(pixel: __m256i, pixel_times_256: __m256i, colour: __m256i, weight: __m256i) -> __m256i {
    let change = _mm256_mullo_epi16(_mm256_sub_epi16(colour, pixel), weight);
    _mm256_srli_epi16::<8>(_mm256_add_epi16(pixel_times_256, change))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::draw::heat::paints;

    #[test]
    fn vectors_and_single_pixels_give_the_same() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for width in (1..40).chain([101, 426, 1280]) {
            for columns in [1, 2, 7, 28, 224] {
                // Beyond 0 and 255 as well, and what is no number.
                let mut levels: Vec<f32> = (0..columns).map(|_| rng.random_range(-100.0..400.0)).collect();
                levels[rng.random_range(0..columns)] = f32::NAN;
                levels.push(levels[columns - 1]);
                let line: Vec<u8> = (0..3 * width).map(|_| rng.random()).collect();
                let across = Across::new(columns, width);
                let painted = |has_avx2| {
                    let (mut line, across) = (line.clone(), Across { has_avx2, ..Across::new(columns, width) });
                    across.paint(&mut line, &levels, paints());
                    line
                };
                assert_eq!(painted(across.has_avx2), painted(false), "{width} pixels, {columns} columns");
            }
        }
    }
}
