//! MaxBoxAccV2 (Choe et al. 2020, "Evaluation for weakly supervised object localization: protocol, metrics, and
//! datasets", arXiv:2007.04178), with thresholds in steps of 0.01.
//!
//! For each IoU of 0.3, 0.5 and 0.7 it takes the threshold at which most pictures have a box that fits that well, any of the
//! boxes of a map against any annotated one, and it is the mean of the three shares. The thresholds are chosen on the very
//! set that is measured: it is an **oracle**, to compare methods by, not a figure that a use of the program would see.

use super::sweep::{Sweep, THRESHOLDS, threshold};

/// IoUs from which on a box counts as right.
pub const LEAST_IOU: [f32; 3] = [0.3, 0.5, 0.7];

/// The measure and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxBoxAcc {
    /// For each of [`LEAST_IOU`], the share of right boxes by index of the threshold, in [0, 1].
    pub by_threshold: [Vec<f64>; 3],
}

/// The best threshold for one IoU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// The lowest of the best, in (0, 1).
    pub threshold: f32,
    /// Share of right boxes there, in [0, 1].
    pub share: f64,
}

impl MaxBoxAcc {
    /// Measures maps, of which there must be at least one.
    pub fn new<'a>(maps: impl Iterator<Item = &'a Sweep>) -> Self {
        let mut right = [[0u32; THRESHOLDS]; 3];
        let mut count = 0.0;
        for sweep in maps {
            for (right, least) in right.iter_mut().zip(LEAST_IOU) {
                for (right, &iou) in right.iter_mut().zip(&sweep.best) {
                    *right += u32::from(iou >= least);
                }
            }
            count += 1.0;
        }
        Self { by_threshold: right.map(|right| right.map(|right| f64::from(right) / count).to_vec()) }
    }

    /// For each of [`LEAST_IOU`], the best threshold.
    pub fn best(&self) -> [Best; 3] {
        std::array::from_fn(|which| {
            let shares = self.by_threshold[which].iter().enumerate();
            let (index, &share) =
                shares.rev().max_by(|one, other| one.1.total_cmp(other.1)).expect("there are thresholds");
            Best { threshold: threshold(index), share }
        })
    }

    /// MaxBoxAccV2, in [0, 1].
    pub fn value(&self) -> f64 {
        self.best().iter().map(|best| best.share).sum::<f64>() / LEAST_IOU.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map whose best box has the IoU that is given for ranges of thresholds.
    fn map(steps: &[(std::ops::RangeInclusive<usize>, f32)]) -> Sweep {
        let mut best = vec![0.0; THRESHOLDS];
        for (percent, iou) in steps {
            percent.clone().for_each(|percent| best[percent - 1] = *iou);
        }
        Sweep { peak: vec![0.0; THRESHOLDS], best }
    }

    #[test]
    fn four_maps_worked_out_by_hand() {
        let maps = [
            map(&[(10..=40, 0.75)]),
            map(&[(20..=30, 0.5), (31..=50, 0.31)]),
            map(&[(35..=60, 0.69)]),
            map(&[(1..=99, 0.1)]),
        ];
        let measured = MaxBoxAcc::new(maps.iter());
        // 0.3: three maps from 0.35 to 0.40. 0.5: two maps from 0.20 to 0.30, and again from 0.35. 0.7: one from 0.10 on.
        let [low, middle, high] = measured.best();
        assert_eq!((low.share, low.threshold), (0.75, 0.35));
        assert_eq!((middle.share, middle.threshold), (0.5, 0.2));
        assert_eq!((high.share, high.threshold), (0.25, 0.1));
        assert!((measured.value() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn perfect_and_useless_maps_are_the_bounds() {
        let (perfect, useless) = (map(&[(50..=50, 1.0)]), map(&[]));
        assert_eq!(MaxBoxAcc::new([&perfect, &perfect].into_iter()).value(), 1.0);
        assert_eq!(MaxBoxAcc::new([&useless].into_iter()).value(), 0.0);
        assert_eq!(MaxBoxAcc::new([&perfect, &useless].into_iter()).value(), 0.5);
    }
}
