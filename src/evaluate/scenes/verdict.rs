//! What became of each detection and each face of a picture, for tables and pictures: at the smaller IoU.

use super::matching::{Outcome, Rule, reaches};
use super::operating::Measured;
use crate::evaluate::overlap::iou;

/// What a detection is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectionVerdict {
    /// It found a face of its class.
    Right,
    /// It found a face, but of another class; within its class it is false.
    Mislabelled,
    /// It found no face.
    False,
    /// It lies on ignored faces.
    Absorbed,
    /// It does not reach the threshold of its class.
    BelowThreshold,
}

/// What became of a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaceVerdict {
    /// A detection of its class found it.
    Found,
    /// Only one of another class found it.
    Mislabelled,
    /// It counts, and none found it.
    Missed,
    /// It does not count.
    Ignored,
}

/// The verdicts on one picture.
#[derive(Debug, Clone)]
pub struct Verdicts {
    /// One a detection, in their order.
    pub detections: Vec<DetectionVerdict>,
    /// The face that each detection found within its class, or else across classes, or else agrees with best, and the IoU;
    /// `None` if it touches none.
    pub nearest: Vec<Option<(usize, f64)>>,
    /// The face that each detection found whatever its class, at the thresholds.
    pub across: Vec<Option<usize>>,
    /// One a face, in their order.
    pub faces: Vec<FaceVerdict>,
}

impl Verdicts {
    /// Judges a picture.
    pub fn new(Measured { scene, thresholds }: Measured, rule: Rule) -> Self {
        let within = rule.within_classes(scene);
        let across = rule.across_classes(scene, thresholds);
        let mut faces: Vec<FaceVerdict> = scene
            .faces
            .iter()
            .map(|face| if rule.counting.counts(face) { FaceVerdict::Missed } else { FaceVerdict::Ignored })
            .collect();
        let (mut detections, mut nearest, mut across_classes) = (Vec::new(), Vec::new(), Vec::new());
        for ((detection, within), across) in scene.detections.iter().zip(within).zip(across) {
            let touched = scene.faces.iter().map(|face| iou(detection.rect, face.rect)).enumerate();
            let best = touched.filter(|(_, iou)| *iou > 0.0).max_by(|one, other| one.1.total_cmp(&other.1));
            nearest.push(match (within, across) {
                (Outcome::Matched { face, iou }, _) | (_, Some(Outcome::Matched { face, iou })) => Some((face, iou)),
                _ => best,
            });
            let found_across = match across {
                Some(Outcome::Matched { face, .. }) => Some(face),
                _ => None,
            };
            across_classes.push(found_across);
            if !reaches(detection, thresholds) {
                detections.push(DetectionVerdict::BelowThreshold);
                continue;
            }
            let other = found_across.filter(|&face| scene.faces[face].label != Some(detection.label));
            if let Some(face) = other.filter(|&face| faces[face] == FaceVerdict::Missed) {
                faces[face] = FaceVerdict::Mislabelled;
            }
            detections.push(match (within, other) {
                (Outcome::Matched { face, .. }, _) => {
                    faces[face] = FaceVerdict::Found;
                    DetectionVerdict::Right
                }
                (Outcome::Absorbed, _) => DetectionVerdict::Absorbed,
                (Outcome::False, Some(_)) => DetectionVerdict::Mislabelled,
                (Outcome::False, None) => DetectionVerdict::False,
            });
        }
        Self { detections, nearest, across: across_classes, faces }
    }

    /// False and mislabelled detections, and missed faces.
    pub fn errors(&self) -> usize {
        let wrong =
            |verdict: &&DetectionVerdict| matches!(verdict, DetectionVerdict::False | DetectionVerdict::Mislabelled);
        let missed = |verdict: &&FaceVerdict| **verdict == FaceVerdict::Missed;
        self.detections.iter().filter(wrong).count() + self.faces.iter().filter(missed).count()
    }
}
