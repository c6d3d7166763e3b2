//! Whether the probabilities mean what they say.

use ndarray::Array1;

use crate::evaluate::proportion::Proportion;
use crate::labels::argmax;

/// Equal-width bins of the confidence, as in Guo et al. 2017, On Calibration of Modern Neural Networks.
pub const BINS: usize = 15;
/// Probabilities below this count as this much, so that one certain mistake does not make the likelihood infinite.
const LOWEST_PROBABILITY: f64 = 1e-12;

/// The pictures whose confidence lies in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// How many of them are classified right.
    pub accuracy: Proportion,
    confidence_sum: f64,
}

impl Bin {
    /// Mean confidence of its pictures, in [0, 1]; `None` for an empty bin.
    pub fn confidence(&self) -> Option<f64> {
        (self.accuracy.total > 0).then(|| self.confidence_sum / self.accuracy.total as f64)
    }
}

/// The confidences in a bin, as (above, up to and including).
pub fn bin_range(bin: usize) -> (f64, f64) {
    (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64)
}

/// How far confidence and accuracy agree. Confidence is the probability of the predicted class.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// From the lowest confidences to the highest, [`BINS`] of them.
    pub bins: Vec<Bin>,
    /// Mean negative logarithm of the true class's probability, in nats.
    pub negative_log_likelihood: f64,
    /// Mean squared distance between the probabilities and the truth, summed over the classes, in [0, 2] (Brier 1950).
    pub brier: f64,
}

impl Calibration {
    /// Measures pairs of (true class, probabilities of all classes). There must be at least one.
    pub fn new<'a>(answers: impl IntoIterator<Item = (usize, &'a Array1<f32>)>) -> Self {
        let mut bins = vec![Bin::default(); BINS];
        let (mut likelihoods, mut squares, mut pictures) = (0.0, 0.0, 0.0);
        for (truth, probabilities) in answers {
            let predicted = argmax(probabilities);
            let confidence = f64::from(probabilities[predicted]);
            let bin = &mut bins[bin_of(confidence)];
            bin.accuracy.add(predicted == truth);
            bin.confidence_sum += confidence;
            likelihoods -= f64::from(probabilities[truth]).max(LOWEST_PROBABILITY).ln();
            let distances = probabilities.iter().enumerate();
            squares += distances
                .map(|(class, &probability)| (f64::from(probability) - f64::from(u8::from(class == truth))).powi(2))
                .sum::<f64>();
            pictures += 1.0;
        }
        Self { bins, negative_log_likelihood: likelihoods / pictures, brier: squares / pictures }
    }

    /// Expected calibration error in [0, 1]: the mean gap between confidence and accuracy over the bins, weighted by
    /// their pictures (Guo et al. 2017, equation 3).
    pub fn expected_error(&self) -> f64 {
        let pictures: u64 = self.bins.iter().map(|bin| bin.accuracy.total).sum();
        let gaps = self.bins.iter().map(|bin| (bin.accuracy.count as f64 - bin.confidence_sum).abs());
        gaps.sum::<f64>() / pictures as f64
    }
}

fn bin_of(confidence: f64) -> usize {
    ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Two-class answers of which `accuracy(confidence)` are right.
    fn draws(accuracy: impl Fn(f64) -> f64, confidence: impl Fn(&mut ChaCha8Rng) -> f64) -> Calibration {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let answers: Vec<(usize, Array1<f32>)> = (0..100_000)
            .map(|_| {
                let confidence = confidence(&mut random);
                let right = random.random_bool(accuracy(confidence));
                (usize::from(!right), Array1::from(vec![confidence as f32, 1.0 - confidence as f32]))
            })
            .collect();
        Calibration::new(answers.iter().map(|(truth, probabilities)| (*truth, probabilities)))
    }

    #[test]
    fn bins_are_closed_above() {
        assert_eq!([0.0, 0.01, 0.5, 0.94, 1.0].map(bin_of), [0, 0, 7, 14, 14]);
        for bin in 0..BINS {
            let (low, high) = bin_range(bin);
            assert_eq!(bin_of((low + high) / 2.0), bin);
        }
    }

    #[test]
    fn four_pictures_worked_out_by_hand() {
        let answers: [(usize, [f32; 3]); 4] =
            [(0, [0.875, 0.125, 0.0]), (1, [0.875, 0.0625, 0.0625]), (2, [0.25, 0.25, 0.5]), (2, [0.0, 0.0, 1.0])];
        let answers = answers.map(|(truth, answer)| (truth, Array1::from(answer.to_vec())));
        let calibration = Calibration::new(answers.iter().map(|(truth, answer)| (*truth, answer)));
        // 0.875 twice, one right: gap 0.375. 0.5 once, right: gap 0.5. 1.0 once, right: no gap.
        assert!((calibration.expected_error() - (2.0 * 0.375 + 0.5) / 4.0).abs() < 1e-12);
        let likelihood = -(0.875f64.ln() + 0.0625f64.ln() + 0.5f64.ln()) / 4.0;
        assert!((calibration.negative_log_likelihood - likelihood).abs() < 1e-12);
        let brier = (2.0 * 0.015625 + (0.765625 + 0.87890625 + 0.00390625) + (0.0625 + 0.0625 + 0.25)) / 4.0;
        assert!((calibration.brier - brier).abs() < 1e-12, "{}", calibration.brier);
        assert_eq!(calibration.bins[13].accuracy, Proportion { count: 1, total: 2 });
        assert_eq!(calibration.bins[13].confidence(), Some(0.875));
        assert_eq!(calibration.bins[0].confidence(), None);
    }

    #[test]
    fn who_is_right_as_often_as_confident_has_no_error() {
        let calibration = draws(|confidence| confidence, |random| random.random_range(0.5..1.0));
        assert!(calibration.expected_error() < 0.01, "{}", calibration.expected_error());
    }

    #[test]
    fn overconfidence_is_measured() {
        let calibration = draws(|_| 0.7, |_| 0.9);
        assert!((calibration.expected_error() - 0.2).abs() < 0.01, "{}", calibration.expected_error());
        let calibration = draws(|confidence| confidence - 0.1, |random| random.random_range(0.6..1.0));
        assert!((calibration.expected_error() - 0.1).abs() < 0.01, "{}", calibration.expected_error());
    }

    #[test]
    fn a_certain_mistake_is_bad_but_finite() {
        let calibration = Calibration::new([(1, &Array1::from(vec![1.0, 0.0]))]);
        assert_eq!((calibration.expected_error(), calibration.brier), (1.0, 2.0));
        assert!(calibration.negative_log_likelihood.is_finite());
    }
}
