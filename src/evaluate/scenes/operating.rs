//! What is counted at thresholds: right and false detections, confused classes, numbers of people, false alarms.

use ndarray::Array2;

use super::matching::{Outcome, Rule, reaches};
use super::scene::Scene;
use crate::evaluate::proportion::Proportion;

/// A picture and the thresholds that hold for it, one a class.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The picture.
    pub scene: &'a Scene,
    /// Least scores.
    pub thresholds: &'a [f32],
}

/// Detections and faces counted within classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Detections that found a face of their class.
    pub right: u64,
    /// Detections that found none and were not absorbed.
    pub wrong: u64,
    /// Faces that count.
    pub faces: u64,
}

impl Tally {
    /// Counts a detection.
    pub fn add(&mut self, outcome: Outcome) {
        self.right += u64::from(matches!(outcome, Outcome::Matched { .. }));
        self.wrong += u64::from(outcome == Outcome::False);
    }

    /// Share of the detections that are right.
    pub fn precision(self) -> Proportion {
        Proportion { count: self.right, total: self.right + self.wrong }
    }

    /// Share of the faces that are found.
    pub fn recall(self) -> Proportion {
        Proportion { count: self.right, total: self.faces }
    }

    /// Harmonic mean of precision and recall, in [0, 1]; `None` where there is neither a face nor a detection.
    pub fn f1(self) -> Option<f64> {
        let all = 2 * self.right + self.wrong + (self.faces - self.right);
        (all > 0).then(|| (2 * self.right) as f64 / all as f64)
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { right: self.right + other.right, wrong: self.wrong + other.wrong, faces: self.faces + other.faces }
    }
}

/// What is counted under one rule.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Within classes, by class.
    pub tallies: Vec<Tally>,
    /// Faces by their class (rows) and that of the detection that found them whatever its class (columns).
    pub confusion: Array2<u64>,
    /// Differences between the numbers of detections and of faces, summed over the pictures, by class.
    pub miscounts: Vec<u64>,
    /// The same of all classes together, whatever the class.
    pub miscount: u64,
    /// Pictures that were counted.
    pub pictures: u64,
}

impl Counts {
    /// Counts on pictures with faces of `classes` classes.
    pub fn new(measured: &[Measured], classes: usize, rule: Rule) -> Self {
        let mut counts = Self {
            tallies: vec![Tally::default(); classes],
            confusion: Array2::zeros((classes, classes)),
            miscounts: vec![0; classes],
            miscount: 0,
            pictures: measured.len() as u64,
        };
        for one in measured {
            counts.add(*one, rule);
        }
        counts
    }

    fn add(&mut self, Measured { scene, thresholds }: Measured, rule: Rule) {
        let mut here = vec![Tally::default(); self.tallies.len()];
        for face in scene.faces.iter().filter(|face| rule.counting.counts(face)) {
            if let Some(label) = face.label {
                here[label].faces += 1;
            }
        }
        for (detection, outcome) in scene.detections.iter().zip(rule.within_classes(scene)) {
            if reaches(detection, thresholds) {
                here[detection.label].add(outcome);
            }
        }
        for (class, tally) in here.iter().enumerate() {
            self.tallies[class] = self.tallies[class] + *tally;
            self.miscounts[class] += (tally.right + tally.wrong).abs_diff(tally.faces);
        }
        let mut detections = 0;
        for (detection, outcome) in scene.detections.iter().zip(rule.across_classes(scene, thresholds)) {
            detections += u64::from(matches!(outcome, Some(Outcome::Matched { .. } | Outcome::False)));
            let Some(Outcome::Matched { face, .. }) = outcome else { continue };
            if let Some(label) = scene.faces[face].label {
                self.confusion[[label, detection.label]] += 1;
            }
        }
        self.miscount += detections.abs_diff(here.iter().map(|tally| tally.faces).sum());
    }

    /// Within classes, all together.
    pub fn pooled(&self) -> Tally {
        self.tallies.iter().fold(Tally::default(), |sum, tally| sum + *tally)
    }

    /// Share of the found faces whose class is that of their detection: of one class, or of all.
    pub fn label_accuracy(&self, class: Option<usize>) -> Proportion {
        let of_rows = |row: usize| class.is_none_or(|class| class == row);
        let mut right = Proportion::default();
        for ((row, column), &faces) in self.confusion.indexed_iter().filter(|((row, _), _)| of_rows(*row)) {
            right.count += if row == column { faces } else { 0 };
            right.total += faces;
        }
        right
    }

    /// Mean absolute difference between the numbers of detections and of faces on a picture, of one class or of all.
    pub fn counting_error(&self, class: Option<usize>) -> Option<f64> {
        let sum = class.map_or(self.miscount, |class| self.miscounts[class]);
        (self.pictures > 0).then(|| sum as f64 / self.pictures as f64)
    }
}

/// Detections on pictures without faces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Pictures with at least one, of all.
    pub pictures: Proportion,
    /// How many there are.
    pub boxes: u64,
}

impl Alarms {
    /// Those of one class, or of all; `None` without pictures.
    pub fn new(face_free: &[Measured], class: Option<usize>) -> Option<Self> {
        let mut alarms = Self::default();
        for Measured { scene, thresholds } in face_free {
            let raised = scene.detections.iter().filter(|detection| {
                class.is_none_or(|class| class == detection.label) && reaches(detection, thresholds)
            });
            let boxes = raised.count() as u64;
            alarms.pictures.add(boxes > 0);
            alarms.boxes += boxes;
        }
        (alarms.pictures.total > 0).then_some(alarms)
    }

    /// Detections per 1,000 pictures.
    pub fn boxes_per_1000(self) -> f64 {
        1e3 * self.boxes as f64 / self.pictures.total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MASK, NO_MASK, RULE, random_scenes};
    use super::*;

    fn counts(scenes: &[Scene], threshold: f32) -> Counts {
        let thresholds = [threshold; 3];
        let measured: Vec<_> = scenes.iter().map(|scene| Measured { scene, thresholds: &thresholds }).collect();
        Counts::new(&measured, 3, RULE)
    }

    #[test]
    fn recall_falls_with_the_threshold_and_alarms_with_it() {
        let scenes = random_scenes(60, 3);
        let mut last: Option<(Counts, Alarms)> = None;
        for step in 0..=40 {
            let threshold = step as f32 / 40.0;
            let now = counts(&scenes, threshold);
            let thresholds = [threshold; 3];
            let measured: Vec<_> = scenes.iter().map(|scene| Measured { scene, thresholds: &thresholds }).collect();
            let alarms = Alarms::new(&measured, None).unwrap();
            if let Some((before, alarms_before)) = &last {
                for class in [MASK, NO_MASK] {
                    assert!(now.tallies[class].right <= before.tallies[class].right);
                    assert!(now.tallies[class].wrong <= before.tallies[class].wrong);
                    assert_eq!(now.tallies[class].faces, before.tallies[class].faces);
                }
                assert!(alarms.boxes <= alarms_before.boxes && alarms.pictures.count <= alarms_before.pictures.count);
            }
            last = Some((now, alarms));
        }
        assert!(Alarms::new(&[], None).is_none());
    }

    #[test]
    fn all_is_the_sum_of_the_classes() {
        let scenes = random_scenes(60, 4);
        let counts = counts(&scenes, 0.4);
        let pooled = counts.pooled();
        assert_eq!(pooled.right, counts.tallies[MASK].right + counts.tallies[NO_MASK].right);
        let [all, mask, no_mask] = [None, Some(MASK), Some(NO_MASK)].map(|class| counts.label_accuracy(class));
        assert_eq!((all.count, all.total), (mask.count + no_mask.count, mask.total + no_mask.total));
        assert_eq!(all.total, counts.confusion.sum());
        // Whatever the class, no fewer faces are found than within classes.
        assert!(all.total >= pooled.right && all.total <= pooled.faces);
        let sum = counts.miscounts[MASK] + counts.miscounts[NO_MASK];
        assert_eq!(counts.counting_error(Some(MASK)).unwrap(), counts.miscounts[MASK] as f64 / 60.0);
        assert!(sum > 0 && counts.counting_error(None).is_some());
    }
}
