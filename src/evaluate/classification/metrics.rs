//! Numbers that follow from counts: what a confusion matrix says of each class.

use ndarray::Array2;

use crate::evaluate::proportion::Proportion;

/// Pictures by true and by predicted class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion(Array2<u64>);

/// What a confusion matrix says of one class, taken as "this class" against "any other".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMetrics {
    /// Pictures of this class.
    pub support: u64,
    /// Share of its pictures that are found (recall).
    pub sensitivity: Proportion,
    /// Share of the other pictures that are not taken for it.
    pub specificity: Proportion,
    /// Share of the pictures taken for it that are it. Empty for a class without pictures: it could only be 0.
    pub precision: Proportion,
    /// Harmonic mean of precision and sensitivity, in [0, 1]; `None` for a class without pictures.
    pub f1: Option<f64>,
}

impl Confusion {
    /// Counts pairs of (true, predicted) class index, all below `classes`.
    pub fn new(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = Array2::zeros((classes, classes));
        for pair in pairs {
            counts[pair] += 1;
        }
        Self(counts)
    }

    /// Counts by (true, predicted) class.
    pub fn counts(&self) -> &Array2<u64> {
        &self.0
    }

    /// Share of the pictures classified right.
    pub fn accuracy(&self) -> Proportion {
        Proportion { count: self.0.diag().sum(), total: self.0.sum() }
    }

    /// The metrics of one class.
    pub fn of_class(&self, class: usize) -> ClassMetrics {
        let found = self.0[[class, class]];
        let support = self.0.row(class).sum();
        let predicted = self.0.column(class).sum();
        let others = self.0.sum() - support;
        let precision = match support {
            0 => Proportion::default(),
            _ => Proportion { count: found, total: predicted },
        };
        ClassMetrics {
            support,
            sensitivity: Proportion { count: found, total: support },
            specificity: Proportion { count: others - (predicted - found), total: others },
            precision,
            // The harmonic mean, written so that it is 0, not undefined, for a class that was never predicted.
            f1: (support > 0).then(|| 2.0 * found as f64 / (support + predicted) as f64),
        }
    }

    /// Mean of the sensitivities, over the classes that have pictures.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        self.mean_over_classes(|class| class.sensitivity.value())
    }

    /// Mean of F1, over the classes that have pictures.
    pub fn macro_f1(&self) -> Option<f64> {
        self.mean_over_classes(|class| class.f1)
    }

    fn mean_over_classes(&self, metric: impl Fn(ClassMetrics) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = (0..self.0.nrows()).filter_map(|class| metric(self.of_class(class))).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random_confusion(classes: usize, pictures: usize, seed: u64) -> Confusion {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Confusion::new(
            classes,
            (0..pictures).map(|_| (random.random_range(0..classes), random.random_range(0..classes))),
        )
    }

    #[test]
    fn a_matrix_worked_out_by_hand() {
        // True class 0: 8 right, 2 taken for class 1. True class 1: 1 taken for class 0, 5 right. Class 2: 4 right.
        let rows = [[8, 2, 0], [1, 5, 0], [0, 0, 4]];
        let pairs =
            (0..3).flat_map(|truth| (0..3).flat_map(move |predicted| vec![(truth, predicted); rows[truth][predicted]]));
        let confusion = Confusion::new(3, pairs);
        assert_eq!(confusion.accuracy(), Proportion { count: 17, total: 20 });
        let first = confusion.of_class(0);
        assert_eq!(first.support, 10);
        assert_eq!(first.sensitivity, Proportion { count: 8, total: 10 });
        assert_eq!(first.specificity, Proportion { count: 9, total: 10 });
        assert_eq!(first.precision, Proportion { count: 8, total: 9 });
        assert!((confusion.balanced_accuracy().unwrap() - (0.8 + 5.0 / 6.0 + 1.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn f1_is_the_harmonic_mean_of_precision_and_sensitivity() {
        for seed in 0..20 {
            let confusion = random_confusion(4, 100, seed);
            for class in 0..4 {
                let ClassMetrics { sensitivity, precision, f1, .. } = confusion.of_class(class);
                let (sensitivity, precision) = (sensitivity.value().unwrap(), precision.value().unwrap());
                if sensitivity > 0.0 {
                    let harmonic = 2.0 / (1.0 / sensitivity + 1.0 / precision);
                    assert!((f1.unwrap() - harmonic).abs() < 1e-12);
                }
            }
        }
        let never_predicted = Confusion::new(2, [(0, 1), (1, 1)]).of_class(0);
        assert_eq!((never_predicted.f1, never_predicted.precision.value()), (Some(0.0), None));
    }

    #[test]
    fn of_two_classes_the_sensitivity_of_one_is_the_specificity_of_the_other() {
        for seed in 0..20 {
            let confusion = random_confusion(2, 50, seed);
            assert_eq!(confusion.of_class(0).sensitivity, confusion.of_class(1).specificity);
            assert_eq!(confusion.of_class(1).sensitivity, confusion.of_class(0).specificity);
        }
    }

    #[test]
    fn accuracy_is_the_mean_of_the_sensitivities_weighted_by_support() {
        let confusion = random_confusion(5, 300, 3);
        let weighted: f64 = (0..5)
            .map(|class| confusion.of_class(class))
            .map(|class| class.sensitivity.value().unwrap() * class.support as f64)
            .sum();
        assert!((weighted / 300.0 - confusion.accuracy().value().unwrap()).abs() < 1e-12);
    }

    #[test]
    fn a_class_without_pictures_has_no_figures_and_spoils_no_mean() {
        let confusion = Confusion::new(3, [(0, 0), (0, 2), (1, 1), (1, 1)]);
        let missing = confusion.of_class(2);
        assert_eq!(missing.support, 0);
        assert_eq!((missing.sensitivity.value(), missing.precision.value(), missing.f1), (None, None, None));
        assert_eq!(missing.specificity, Proportion { count: 3, total: 4 }, "how often it is seen where it is not");
        assert_eq!(confusion.balanced_accuracy(), Some(0.75));
        assert_eq!(confusion.macro_f1(), Some((2.0 / 3.0 + 1.0) / 2.0));
        assert_eq!(Confusion::new(3, []).balanced_accuracy(), None);
    }
}
