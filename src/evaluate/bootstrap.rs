//! How far a figure could be off because other pictures might have been taken: the percentile bootstrap (Efron 1979; Efron &
//! Tibshirani 1993, chapter 13).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Sets of pictures that are drawn, each as large as the given one, with replacement.
const RESAMPLES: usize = 10_000;
/// Every interval draws the same sets, so that equal figures have equal intervals and a run can be repeated.
const SEED: u64 = 0;
/// Share of the resampled means below and above the interval.
const TAIL: f64 = 0.025;

/// A mean and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower and upper bound.
    pub interval: (f64, f64),
}

/// The mean of `values`, and between which bounds 95 % of the means lie when pictures are drawn at random from those there
/// are. `pictures` names the picture of each value: several values of one picture are drawn together, since they are not
/// independent. For the mean difference of two methods give the differences (paired bootstrap).
///
/// `None` without values.
pub fn mean_with_interval(values: &[f64], pictures: &[usize]) -> Option<Estimate> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for (&value, &picture) in values.iter().zip(pictures) {
        if last != Some(picture) {
            sums.push((0.0, 0.0));
            last = Some(picture);
        }
        let (sum, count) = sums.last_mut()?;
        *sum += value;
        *count += 1.0;
    }
    if sums.is_empty() {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..sums.len()).map(|_| sums[random.random_range(0..sums.len())]);
            let (sum, count) = drawn.fold((0.0, 0.0), |total, one| (total.0 + one.0, total.1 + one.1));
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(Estimate { mean, interval: (quantile(&means, TAIL), quantile(&means, 1.0 - TAIL)) })
}

/// For any other figure of `pictures` pictures: `resamples` sets of as many, drawn with replacement, each as the number of
/// times that each picture was drawn. They are the same sets every time.
pub fn drawn_sets(pictures: usize, resamples: usize) -> impl Iterator<Item = Vec<u32>> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    (0..resamples).map(move |_| {
        let mut times = vec![0; pictures];
        for _ in 0..pictures {
            times[random.random_range(0..pictures)] += 1;
        }
        times
    })
}

/// Between which bounds 95 % of the figures of drawn sets lie; `None` without any.
pub fn interval(mut figures: Vec<f64>) -> Option<(f64, f64)> {
    figures.sort_by(f64::total_cmp);
    (!figures.is_empty()).then(|| (quantile(&figures, TAIL), quantile(&figures, 1.0 - TAIL)))
}

/// The value below which a share of `sorted` lies, between neighbours in proportion.
///
/// # Panics
///
/// Without values.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_its_own(values: &[f64]) -> Estimate {
        mean_with_interval(values, &(0..values.len()).collect::<Vec<_>>()).unwrap()
    }

    fn uniform(count: usize, seed: u64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| random.random_range(0.0..1.0)).collect()
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0, 0.025, 0.5, 0.9, 1])
        for (share, expected) in [(0.0, 1.0), (0.025, 1.075), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&[1.0, 2.0, 4.0, 8.0], share) - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(quantile(&[3.0], 0.975), 3.0);
    }

    #[test]
    fn the_interval_is_that_of_the_central_limit() {
        let values = uniform(400, 1);
        let Estimate { mean, interval } = each_its_own(&values);
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 400.0;
        let half = 1.96 * (variance / 400.0).sqrt();
        assert!((interval.0 - (mean - half)).abs() < 0.002 && (interval.1 - (mean + half)).abs() < 0.002);
        assert_eq!(each_its_own(&values), each_its_own(&values), "the same again");
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        let held = (0..200)
            .filter(|seed| {
                let (low, high) = each_its_own(&uniform(60, *seed)).interval;
                (low..=high).contains(&0.5)
            })
            .count();
        assert!((180..=198).contains(&held), "{held} of 200");
    }

    #[test]
    fn values_of_one_picture_are_drawn_together() {
        let values = uniform(50, 3);
        let doubled: Vec<f64> = values.iter().flat_map(|&value| [value, value]).collect();
        let pictures: Vec<usize> = (0..50).flat_map(|picture| [picture, picture]).collect();
        let (once, twice) = (each_its_own(&values), mean_with_interval(&doubled, &pictures).unwrap());
        // Sums in another order round differently.
        assert!((once.interval.0 - twice.interval.0).abs() < 1e-12);
        assert!((once.interval.1 - twice.interval.1).abs() < 1e-12);
        let (low, high) = each_its_own(&doubled).interval;
        assert!(high - low < 0.8 * (once.interval.1 - once.interval.0), "taken for independent they would look surer");
    }

    #[test]
    fn the_mean_of_drawn_sets_has_the_interval_of_the_mean() {
        let values = uniform(80, 4);
        let means = drawn_sets(80, 4000).map(|times| {
            assert_eq!(times.iter().sum::<u32>(), 80);
            times.iter().zip(&values).map(|(&times, value)| f64::from(times) * value).sum::<f64>() / 80.0
        });
        let (low, high) = interval(means.collect()).unwrap();
        let Estimate { interval: expected, .. } = each_its_own(&values);
        assert!((low - expected.0).abs() < 0.005 && (high - expected.1).abs() < 0.005, "{low} {high} {expected:?}");
        assert_eq!(interval(Vec::new()), None);
    }

    #[test]
    fn what_does_not_vary_is_certain() {
        assert_eq!(each_its_own(&[0.25; 7]), Estimate { mean: 0.25, interval: (0.25, 0.25) });
        assert_eq!(mean_with_interval(&[], &[]), None);
    }
}
