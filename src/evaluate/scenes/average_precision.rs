//! Average precision of one class: the area under its precision–recall curve, over all points, where the precision at a
//! recall is the best at that recall or beyond (Pascal VOC since 2010: Everingham & Winn, development kit, section 3.4.1).
//!
//! Detections of equal score belong together, since no threshold tells them apart: so the order of pictures does not matter.

use super::matching::{Outcome, Rule};
use super::scene::Scene;

/// The detections of one class on a set of pictures by descending score, without those that are absorbed.
#[derive(Debug, Clone)]
pub struct Ranking {
    detections: Vec<Ranked>,
    /// Faces that count, by picture.
    faces: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    score: f32,
    is_right: bool,
    /// Index of the picture.
    picture: u32,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Share of the faces that are found, in [0, 1].
    pub recall: f64,
    /// Share of the detections that are right, in [0, 1].
    pub precision: f64,
}

impl Ranking {
    /// Ranks the detections of the class of an index.
    pub fn new<'a>(scenes: impl IntoIterator<Item = &'a Scene>, class: usize, rule: Rule) -> Self {
        let (mut detections, mut faces) = (Vec::new(), Vec::new());
        for (scene, picture) in scenes.into_iter().zip(0..) {
            let of_class = |face: &&super::Face| face.label == Some(class) && rule.counting.counts(face);
            faces.push(scene.faces.iter().filter(of_class).count() as u32);
            for (detection, outcome) in scene.detections.iter().zip(rule.within_classes(scene)) {
                if detection.label == class && outcome != Outcome::Absorbed {
                    let is_right = matches!(outcome, Outcome::Matched { .. });
                    detections.push(Ranked { score: detection.score, is_right, picture });
                }
            }
        }
        detections.sort_by(|one, other| other.score.total_cmp(&one.score));
        Self { detections, faces }
    }

    /// The average precision, in [0, 1]; `None` without faces.
    pub fn average_precision(&self) -> Option<f64> {
        self.of_drawn(&vec![1; self.faces.len()])
    }

    /// That of a set in which each picture occurs so many times; `None` without faces.
    ///
    /// # Panics
    ///
    /// When `times` is shorter than the number of pictures.
    pub fn of_drawn(&self, times: &[u32]) -> Option<f64> {
        let faces: u64 = self.faces.iter().zip(times).map(|(&faces, &times)| u64::from(faces) * u64::from(times)).sum();
        if faces == 0 {
            return None;
        }
        let weight = |ranked: &Ranked| u64::from(times[ranked.picture as usize]);
        let mut all: u64 = self.detections.iter().map(weight).sum();
        let mut right: u64 = self.detections.iter().filter(|ranked| ranked.is_right).map(weight).sum();
        // From the least sure upwards: the best precision so far is that at this recall or beyond.
        let (mut best, mut area) = (0.0_f64, 0.0);
        for group in self.detections.chunk_by(|one, other| one.score == other.score).rev() {
            if all > 0 {
                best = best.max(right as f64 / all as f64);
            }
            let found: u64 = group.iter().filter(|ranked| ranked.is_right).map(weight).sum();
            area += found as f64 * best;
            right -= found;
            all -= group.iter().map(weight).sum::<u64>();
        }
        Some(area / faces as f64)
    }

    /// Recall and precision at each score, from the surest to the least sure; empty without faces.
    pub fn curve(&self) -> Vec<Point> {
        let faces: u32 = self.faces.iter().sum();
        if faces == 0 {
            return Vec::new();
        }
        let (mut right, mut all) = (0, 0);
        let groups = self.detections.chunk_by(|one, other| one.score == other.score);
        let points = groups.map(|group| {
            right += group.iter().filter(|ranked| ranked.is_right).count();
            all += group.len();
            Point { recall: right as f64 / f64::from(faces), precision: right as f64 / all as f64 }
        });
        points.collect()
    }
}
