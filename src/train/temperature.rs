//! Calibrated confidence: one temperature for all logits (Guo et al. 2017, "On calibration of modern neural networks",
//! section 4.2).

use ndarray::{Array2, ArrayView1};

/// Bounds of the temperature: where every validation picture is classified right, ever more confidence would fit best.
const LOWEST: f64 = 0.125;
const HIGHEST: f64 = 8.0;
/// Halvings of the interval: more than a double can tell apart.
const STEPS: u32 = 60;

/// The temperature that fits logits (pictures, classes) best to the labels: it minimises the mean cross entropy of
/// softmax(logits / temperature). 1 without pictures.
pub fn fit(logits: &Array2<f32>, labels: &[i64]) -> f64 {
    if labels.is_empty() {
        return 1.0;
    }
    // The cross entropy is convex in the inverse temperature, so its slope changes sign once at most.
    let (mut low, mut high) = (1.0 / HIGHEST, 1.0 / LOWEST);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        // Where all is right, the slope is too small for a number long before the bound.
        if slope(logits, labels, middle) <= 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    1.0 / f64::midpoint(low, high)
}

/// Derivative of the summed cross entropy by the inverse temperature: the mean logit under the softmax, less that of the
/// label.
fn slope(logits: &Array2<f32>, labels: &[i64], inverse: f64) -> f64 {
    logits
        .rows()
        .into_iter()
        .zip(labels)
        .map(|(row, &label)| mean_logit(row, inverse) - f64::from(row[label as usize]))
        .sum()
}

fn mean_logit(logits: ArrayView1<f32>, inverse: f64) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut weighted, mut total) = (0.0, 0.0);
    for &logit in logits {
        let weight = (inverse * f64::from(logit - largest)).exp();
        weighted += weight * f64::from(logit);
        total += weight;
    }
    weighted / total
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let exponentials: Vec<f64> = logits.iter().map(|logit| logit.exp()).collect();
        let total: f64 = exponentials.iter().sum();
        exponentials.iter().map(|value| value / total).collect()
    }

    fn cross_entropy(logits: &Array2<f32>, labels: &[i64], temperature: f64) -> f64 {
        let pictures = logits.rows().into_iter().zip(labels);
        pictures
            .map(|(row, &label)| {
                let scaled: Vec<f64> = row.iter().map(|&logit| f64::from(logit) / temperature).collect();
                -softmax(&scaled)[label as usize].ln()
            })
            .sum()
    }

    /// Labels are drawn from softmax(z); the network claims `exaggeration` z.
    fn exaggerated(exaggeration: f64) -> (Array2<f32>, Vec<i64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut logits = Array2::zeros((6000, 3));
        let mut labels = Vec::new();
        for mut row in logits.rows_mut() {
            let truth = [(); 3].map(|()| rng.random_range(-2.0..2.0));
            let drawn: f64 = rng.random();
            let probabilities = softmax(&truth);
            labels.push(if drawn < probabilities[0] { 0 } else { 1 + i64::from(drawn >= 1.0 - probabilities[2]) });
            row.iter_mut().zip(truth).for_each(|(logit, z)| *logit = (exaggeration * z) as f32);
        }
        (logits, labels)
    }

    #[test]
    fn a_known_exaggeration_is_found() {
        for exaggeration in [0.5, 1.0, 3.0] {
            let (logits, labels) = exaggerated(exaggeration);
            let temperature = fit(&logits, &labels);
            assert!((temperature / exaggeration - 1.0).abs() < 0.1, "{temperature} for {exaggeration}");
        }
    }

    #[test]
    fn no_neighbour_fits_better() {
        let (logits, labels) = exaggerated(2.0);
        let temperature = fit(&logits, &labels);
        let best = cross_entropy(&logits, &labels, temperature);
        for other in [temperature * 0.99, temperature * 1.01] {
            assert!(cross_entropy(&logits, &labels, other) > best);
        }
    }

    #[test]
    fn perfect_answers_stay_within_bounds() {
        let logits = Array2::from_shape_fn((4, 2), |(row, column)| if row % 2 == column { 9.0 } else { -9.0 });
        assert!((fit(&logits, &[0, 1, 0, 1]) - LOWEST).abs() < 1e-9);
        assert!((fit(&logits, &[1, 0, 1, 0]) - HIGHEST).abs() < 1e-9);
        assert_eq!(fit(&Array2::zeros((0, 2)), &[]), 1.0);
    }
}
