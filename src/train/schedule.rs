//! The learning rate over the steps of a training.

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same from first to last, as in the paper.
    Constant,
    /// Rises for 3/10 of the steps to --learning-rate, then falls to almost nothing, both along a cosine
    /// (Smith 2018, "Super-convergence").
    OneCycle,
}

/// Share of the steps in which the rate rises.
const WARM_UP: f64 = 0.3;
/// Rate of the first step, as a share of the highest.
const START: f64 = 1.0 / 25.0;

impl Schedule {
    /// Learning rate of step `step` (from 0) of `steps`, where `highest` is the rate asked for.
    pub fn learning_rate(self, highest: f64, step: u64, steps: u64) -> f64 {
        match self {
            Self::Constant => highest,
            Self::OneCycle => {
                let progress = step as f64 / steps.max(2).saturating_sub(1) as f64;
                let (from, to, part) = if progress < WARM_UP {
                    (START, 1.0, progress / WARM_UP)
                } else {
                    (1.0, START * 1e-4, (progress - WARM_UP) / (1.0 - WARM_UP))
                };
                highest * (to + (from - to) * (1.0 + (std::f64::consts::PI * part).cos()) / 2.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_rises_then_falls() {
        let rates: Vec<f64> = (0..101).map(|step| Schedule::OneCycle.learning_rate(0.1, step, 101)).collect();
        assert!((rates[0] - 0.1 / 25.0).abs() < 1e-12);
        assert!((rates[30] - 0.1).abs() < 1e-12);
        assert!(rates[100] < 1e-6);
        assert!(rates[..31].is_sorted() && rates[30..].iter().rev().is_sorted());
        assert_eq!(Schedule::Constant.learning_rate(0.1, 7, 101), 0.1);
    }
}
