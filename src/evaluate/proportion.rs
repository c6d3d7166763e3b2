//! Shares of pictures with their uncertainty.

/// Standard normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// A share of pictures, with the counts that it comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proportion {
    /// Pictures of which it is true.
    pub count: u64,
    /// Pictures of which it could be true.
    pub total: u64,
}

impl Proportion {
    /// The share, in [0, 1]; `None` where there is nothing to take a share of.
    pub fn value(self) -> Option<f64> {
        (self.total > 0).then(|| self.count as f64 / self.total as f64)
    }

    /// The 95 % score interval (Wilson 1927; method 3 in Newcombe 1998): lower and upper bound in [0, 1].
    ///
    /// It takes the pictures for independent draws. Unlike the usual normal approximation it holds near 0 and 1 too.
    pub fn interval(self) -> Option<(f64, f64)> {
        let share = self.value()?;
        let total = self.total as f64;
        let centre = share + Z * Z / (2.0 * total);
        let half_width = Z * (share * (1.0 - share) / total + (Z / (2.0 * total)).powi(2)).sqrt();
        let scale = 1.0 + Z * Z / total;
        // At the ends one bound is exact; rounding must not move it.
        let low = if self.count == 0 { 0.0 } else { (centre - half_width) / scale };
        let high = if self.count == self.total { 1.0 } else { (centre + half_width) / scale };
        Some((low, high))
    }

    /// Counts one more picture.
    pub fn add(&mut self, is_true: bool) {
        self.count += u64::from(is_true);
        self.total += 1;
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn intervals_are_those_that_were_published() {
        // Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
        for (count, total, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let (actual_low, actual_high) = Proportion { count, total }.interval().unwrap();
            assert!((actual_low - low).abs() < 5.1e-5 && (actual_high - high).abs() < 5.1e-5, "{count} of {total}");
            // What is true of one share is true of the other, mirrored.
            let (mirrored_low, mirrored_high) = Proportion { count: total - count, total }.interval().unwrap();
            assert!((mirrored_low - (1.0 - actual_high)).abs() < 1e-12);
            assert!((mirrored_high - (1.0 - actual_low)).abs() < 1e-12);
        }
        assert_eq!(Proportion { count: 20, total: 20 }.interval().unwrap().1, 1.0);
        assert_eq!(Proportion::default().interval(), None);
        assert_eq!(Proportion::default().value(), None);
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for truth in [0.5, 0.9, 0.97] {
            let mut held = Proportion::default();
            for _ in 0..4000 {
                let count = (0..200).filter(|_| random.random_bool(truth)).count() as u64;
                let (low, high) = Proportion { count, total: 200 }.interval().unwrap();
                held.add((low..=high).contains(&truth));
            }
            assert!((held.value().unwrap() - 0.95).abs() < 0.025, "{truth}: {held:?}");
        }
    }
}
