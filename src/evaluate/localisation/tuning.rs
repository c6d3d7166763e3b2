//! Chooses the threshold of each method on a set of pictures other than the one that is reported.

use std::path::PathBuf;

use super::sweep::{THRESHOLDS, threshold};
use super::{Choice, Evaluation};
use crate::boxes::Threshold;
use crate::dataset::voc::Problem;

/// Every fifth of the swept thresholds is tried: 0.05, 0.10, ..., 0.95.
const STEP: usize = 5;

/// What was chosen, and from what.
#[derive(Debug)]
pub struct Tuning {
    /// The folder that it was chosen on.
    pub data: PathBuf,
    /// How many pictures that holds.
    pub pictures: usize,
    /// What was wrong with pictures and annotations there.
    pub problems: Vec<Problem>,
    /// One a method.
    pub methods: Vec<Tuned>,
}

/// What was chosen for one method.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The method with the chosen threshold.
    pub choice: Choice,
    /// Mean IoU there, in [0, 1].
    pub mean_iou: f64,
    /// Mean IoU by index of the threshold, see [`threshold`].
    pub iou_by_threshold: Vec<f64>,
}

impl Tuning {
    /// For each method the threshold with the best mean IoU for the annotated class, the lowest of equals. Nothing else is
    /// chosen.
    pub fn new(evaluation: Evaluation) -> Self {
        let methods = evaluation.methods.iter().enumerate();
        let methods = methods.map(|(index, choice)| {
            let iou_by_threshold = mean_iou_by_threshold(&evaluation, index);
            let (best, mean_iou) = best_tried(&iou_by_threshold);
            let choice = Choice { threshold: Threshold::Share(best), ..*choice };
            Tuned { choice, mean_iou, iou_by_threshold }
        });
        Self {
            methods: methods.collect(),
            data: evaluation.data,
            pictures: evaluation.pictures.len(),
            problems: evaluation.problems,
        }
    }
}

/// The best of the thresholds that are tried, and its IoU.
fn best_tried(iou_by_threshold: &[f64]) -> (f32, f64) {
    let mut best = (0.0, f64::NEG_INFINITY);
    for index in (STEP - 1..THRESHOLDS).step_by(STEP) {
        if iou_by_threshold[index] > best.1 {
            best = (threshold(index), iou_by_threshold[index]);
        }
    }
    best
}

/// Mean IoU of the method of an index over all subjects, by index of the threshold.
pub fn mean_iou_by_threshold(evaluation: &Evaluation, method: usize) -> Vec<f64> {
    let mut sums = vec![0.0; THRESHOLDS];
    for subject in &evaluation.subjects {
        for (sum, &iou) in sums.iter_mut().zip(&subject.measures[method].sweep.peak) {
            *sum += f64::from(iou);
        }
    }
    sums.iter().map(|sum| sum / evaluation.subjects.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_of_a_twentieth_are_tried_and_the_lowest_of_equals_is_taken() {
        let mut iou = vec![0.1; THRESHOLDS];
        assert_eq!(best_tried(&iou), (0.05, 0.1));
        iou[32] = 0.9; // 0.33
        iou[39] = 0.5; // 0.40
        iou[59] = 0.5; // 0.60
        assert_eq!(best_tried(&iou), (0.4, 0.5));
        iou[94] = 0.6; // 0.95
        iou[98] = 0.8; // 0.99
        assert_eq!(best_tried(&iou), (0.95, 0.6));
    }
}
