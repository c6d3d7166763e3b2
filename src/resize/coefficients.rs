//! What the pixels along one direction weigh in those of the result.

/// Weights fit 16 bits with their sign.
const WEIGHT_BITS: u32 = 15;
/// So that a sum of 8-bit levels, and a bit of rounding, fit 32 bits with their sign.
const MOST_BITS: u32 = 21;

/// A triangle filter in fixed point, along one direction of a picture.
#[derive(Debug, PartialEq)]
pub(super) struct Coefficients {
    /// Of each output, the first pixel that it is a sum of.
    pub(super) first: Vec<usize>,
    /// Pixels that an output is a sum of, an even number: where fewer are needed, the last weigh nothing, and may lie beyond the
    /// picture.
    pub(super) taps: usize,
    /// (outputs, taps), in units of 2^-`bits`.
    weights: Vec<i16>,
    /// Of weights, behind the point.
    pub(super) bits: u32,
    /// Pixels that there are.
    pub(super) pixels: usize,
}

impl Coefficients {
    /// From a part (begin, length) of so many pixels to so many outputs.
    ///
    /// # Panics
    ///
    /// When the part is empty or reaches beyond the pixels.
    pub(super) fn new(pixels: u32, (begin, length): (f64, f64), outputs: u32) -> Self {
        let all = f64::from(pixels);
        assert!(
            begin >= 0.0 && length > 0.0 && begin + length <= all,
            "{length} pixels from {begin} on reach beyond {pixels}"
        );
        // By the part's end, as the reference has it.
        let scale = ((begin + length) - begin) / f64::from(outputs);
        let radius = scale.max(1.0);
        let (first, exact): (Vec<_>, Vec<_>) = (0..outputs)
            .map(|output| {
                let centre = begin + (f64::from(output) + 0.5) * scale;
                let window = (centre - radius).floor().max(0.0)..(centre + radius).ceil().min(all);
                triangle(window.start as usize..window.end as usize, centre - 0.5, radius)
            })
            .unzip();
        let largest = exact.iter().flatten().copied().fold(0.0, f64::max);
        let fits = |bits: &u32| (largest * f64::from(1 << bits)).round() < f64::from(1 << WEIGHT_BITS);
        let bits = (0..=MOST_BITS).take_while(fits).last().expect("no weight is more than 1");
        let taps = exact.iter().map(Vec::len).max().unwrap_or(0).next_multiple_of(2);
        let mut weights = vec![0; exact.len() * taps];
        for (fixed, exact) in weights.chunks_exact_mut(taps).zip(&exact) {
            for (fixed, exact) in fixed.iter_mut().zip(exact) {
                *fixed = (exact * f64::from(1 << bits)).round() as i16;
            }
        }
        Self { first, taps, weights, bits, pixels: pixels as usize }
    }

    /// Of an output, one for each tap.
    pub(super) fn weights(&self, output: usize) -> &[i16] {
        &self.weights[output * self.taps..][..self.taps]
    }

    /// What a sum begins with, so that it is rounded when its bits behind the point are cut off.
    pub(super) fn half(&self) -> i32 {
        1 << self.bits >> 1
    }

    /// The level that a sum stands for.
    pub(super) fn level(&self, sum: i32) -> u8 {
        // Weights are rounded, so that they may add up to a bit more than 1.
        (sum >> self.bits).min(255) as u8
    }
}

/// Weights of the pixels in a window under a triangle around `centre`, which add up to 1, from the first that weighs anything to the last.
fn triangle(window: std::ops::Range<usize>, centre: f64, radius: f64) -> (usize, Vec<f64>) {
    // A product, as the reference has it: a quotient rounds otherwise.
    let slope = 1.0 / radius;
    let weight = |pixel: usize| (1.0 - ((pixel as f64 - centre) * slope).abs()).max(0.0);
    let first = window.clone().find(|&pixel| weight(pixel) > 0.0).unwrap_or(window.start);
    let mut weights: Vec<f64> = (first..window.end).map(weight).collect();
    while weights.last() == Some(&0.0) {
        weights.pop();
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    (first, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one_around_the_place_of_the_output() {
        for (pixels, part, outputs) in
            [(1280, (0.0, 1280.0), 896), (7, (0.0, 7.0), 64), (100, (12.5, 33.3), 9), (1, (0.0, 1.0), 5)]
        {
            let coefficients = Coefficients::new(pixels, part, outputs);
            let one = f64::from(1 << coefficients.bits);
            for output in 0..outputs as usize {
                let weights = coefficients.weights(output);
                let sum: i32 = weights.iter().map(|&weight| i32::from(weight)).sum();
                assert!((f64::from(sum) - one).abs() <= coefficients.taps as f64 / 2.0, "{sum} of {one}");
                let places = (coefficients.first[output]..).zip(weights);
                let place = places.map(|(pixel, weight)| (pixel as f64 + 0.5) * f64::from(*weight)).sum::<f64>() / one;
                let expected = part.0 + (output as f64 + 0.5) * part.1 / f64::from(outputs);
                // At the edges a triangle is cut off.
                let reach = (part.1 / f64::from(outputs)).max(1.0);
                let is_inside = (reach..f64::from(pixels) - reach).contains(&expected);
                assert!(
                    (place - expected).abs() < if is_inside { 0.01 + 0.1 * reach } else { reach },
                    "{place} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_same_size_is_the_same_pixel() {
        let coefficients = Coefficients::new(9, (0.0, 9.0), 9);
        assert_eq!(coefficients.first, (0..9).collect::<Vec<_>>());
        assert!((0..9).all(|output| coefficients.weights(output) == [1 << coefficients.bits, 0]));
    }
}
