//! Running sums over the pictures of a pass.

use serde::{Deserialize, Serialize};

/// Loss and right answers so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    loss: f64,
    /// Right and all, by class.
    by_class: Vec<(usize, usize)>,
}

impl Tally {
    /// Nothing seen yet of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { loss: 0.0, by_class: vec![(0, 0); classes] }
    }

    /// Adds a batch: its mean loss, and predicted and true classes.
    pub fn add(&mut self, mean_loss: f64, predicted: &[usize], labels: &[i64]) {
        self.loss += mean_loss * labels.len() as f64;
        for (&predicted, &label) in predicted.iter().zip(labels) {
            let (right, all) = &mut self.by_class[label as usize];
            *right += usize::from(predicted == label as usize);
            *all += 1;
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.by_class.len()
    }

    /// Pictures seen.
    pub fn pictures(&self) -> usize {
        self.by_class.iter().map(|(_, all)| all).sum()
    }

    /// Mean loss of a picture; NaN before the first.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.pictures() as f64
    }

    /// Share of right answers, mean over the classes, so that a large class does not drown a small one.
    pub fn balanced_accuracy(&self) -> f64 {
        let seen = self.by_class.iter().filter(|(_, all)| *all > 0);
        seen.clone().map(|&(right, all)| right as f64 / all as f64).sum::<f64>() / seen.count() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_weigh_the_same_and_absent_ones_nothing() {
        let mut tally = Tally::new(3);
        tally.add(0.5, &[0, 0, 0, 1], &[0, 0, 0, 0]);
        tally.add(2.0, &[0], &[1]);
        assert_eq!(tally.pictures(), 5);
        assert!((tally.mean_loss() - 0.8).abs() < 1e-12);
        assert!((tally.balanced_accuracy() - (0.75 + 0.0) / 2.0).abs() < 1e-12);
    }
}
