//! All figures of an evaluation, worked out from its predictions.

use std::collections::{BTreeMap, BTreeSet};

use super::calibration::Calibration;
use super::metrics::Confusion;
use super::{Evaluation, Prediction};
use crate::evaluate::proportion::Proportion;
use crate::labels::{MASK, NO_MASK};

/// The figures.
#[derive(Debug)]
pub struct Summary {
    /// By true and predicted class.
    pub confusion: Confusion,
    /// Mask against no mask, by the largest of all outputs: any other class counts as wrong. Empty unless there are
    /// pictures of both.
    pub mask_or_not: Proportion,
    /// The same by the larger of the two outputs alone, as a network of two classes would answer.
    pub mask_or_not_of_two: Proportion,
    /// The same as `confusion` for each source, the prefix of the file names.
    pub sources: BTreeMap<String, Confusion>,
    /// Whether the probabilities mean what they say.
    pub calibration: Calibration,
}

impl Summary {
    /// Works out the figures.
    pub fn new(evaluation: &Evaluation) -> Self {
        let Evaluation { classes, predictions, .. } = evaluation;
        let confusion = |predictions: &mut dyn Iterator<Item = &Prediction>| {
            Confusion::new(classes.len(), predictions.map(|prediction| (prediction.label, prediction.predicted())))
        };
        let names: BTreeSet<&String> = predictions.iter().map(|prediction| &prediction.source).collect();
        let of_source = |name: &String| confusion(&mut predictions.iter().filter(|other| other.source == *name));
        let (mask_or_not, mask_or_not_of_two) = mask_or_not(classes, predictions);
        Self {
            confusion: confusion(&mut predictions.iter()),
            mask_or_not,
            mask_or_not_of_two,
            sources: names.into_iter().map(|name| (name.clone(), of_source(name))).collect(),
            calibration: Calibration::new(
                predictions.iter().map(|prediction| (prediction.label, &prediction.probabilities)),
            ),
        }
    }
}

/// Mask against no mask by the largest of all outputs, and by the larger of the two.
fn mask_or_not(classes: &[String], predictions: &[Prediction]) -> (Proportion, Proportion) {
    let index_of = |name: &str| classes.iter().position(|class| class == name);
    let (mut of_all, mut of_two) = (Proportion::default(), Proportion::default());
    let Some((mask, no_mask)) = index_of(MASK).zip(index_of(NO_MASK)) else { return (of_all, of_two) };
    let are_there = [mask, no_mask].iter().all(|&class| predictions.iter().any(|prediction| prediction.label == class));
    let of_either = predictions.iter().filter(|prediction| [mask, no_mask].contains(&prediction.label));
    for prediction in of_either.filter(|_| are_there) {
        let masked = prediction.probabilities[mask] >= prediction.probabilities[no_mask];
        of_all.add(prediction.is_right());
        of_two.add(masked == (prediction.label == mask));
    }
    (of_all, of_two)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn evaluation(answers: &[(&str, usize, [f32; 3])]) -> Evaluation {
        let predictions = answers.iter().map(|&(source, label, probabilities)| Prediction {
            path: PathBuf::from("x.jpg"),
            source: source.to_owned(),
            label,
            probabilities: probabilities.to_vec().into(),
        });
        Evaluation {
            data: PathBuf::from("data"),
            classes: [MASK, NO_MASK, "background"].map(str::to_owned).to_vec(),
            predictions: predictions.collect(),
            unknown_classes: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    #[test]
    fn a_face_taken_for_nobody_is_wrong_unless_only_two_answers_count() {
        let evaluation = evaluation(&[
            ("a", 0, [0.3, 0.1, 0.6]),
            ("a", 0, [0.9, 0.05, 0.05]),
            ("b", 1, [0.7, 0.2, 0.1]),
            ("b", 2, [0.0, 0.0, 1.0]),
        ]);
        let summary = Summary::new(&evaluation);
        assert_eq!(summary.mask_or_not, Proportion { count: 1, total: 3 });
        assert_eq!(summary.mask_or_not_of_two, Proportion { count: 2, total: 3 });
        assert_eq!(summary.confusion.accuracy(), Proportion { count: 2, total: 4 });
        assert_eq!(summary.sources["a"].accuracy(), Proportion { count: 1, total: 2 });
        assert_eq!(summary.sources["b"].of_class(2).sensitivity, Proportion { count: 1, total: 1 });
        assert_eq!(summary.sources["b"].of_class(0).specificity, Proportion { count: 1, total: 2 });
        assert_eq!(summary.sources["b"].of_class(0).sensitivity.value(), None);
    }

    #[test]
    fn without_both_classes_mask_or_no_mask_is_no_question() {
        let summary = Summary::new(&evaluation(&[("a", 0, [0.9, 0.05, 0.05]), ("a", 2, [0.0, 0.0, 1.0])]));
        assert_eq!(summary.mask_or_not.value(), None);
        assert_eq!(summary.mask_or_not_of_two.value(), None);
    }
}
