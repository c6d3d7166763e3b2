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

#[cfg(test)]
mod tests {
    use super::super::testing::{MASK, NO_MASK, RULE, detection, face, found_or_false, random_scenes, scene};
    use super::*;
    use crate::analyse::Detection;
    use crate::evaluate::bootstrap::drawn_sets;

    fn ap(scenes: &[Scene], class: usize) -> Option<f64> {
        Ranking::new(scenes, class, RULE).average_precision()
    }

    #[test]
    fn worked_out_by_hand() {
        let scenes = found_or_false(&[(0.9, true), (0.8, false), (0.7, true), (0.6, false), (0.5, true)]);
        // Precision 1, 1/2, 2/3, 2/4, 3/5; best from the right where a face is found: 1, 2/3, 3/5.
        assert!((ap(&scenes, MASK).unwrap() - (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0).abs() < 1e-12);
        assert_eq!(ap(&scenes, NO_MASK), None);
        let curve = Ranking::new(&scenes, MASK, RULE).curve();
        let precisions: Vec<f64> = curve.iter().map(|point| point.precision).collect();
        assert_eq!(precisions, [1.0, 0.5, 2.0 / 3.0, 0.5, 0.6]);
        assert_eq!(curve.last().unwrap().recall, 1.0);

        // A precision that grows again lifts what lies to its left: 1/2 becomes 2/3.
        let late = found_or_false(&[(0.9, false), (0.8, true), (0.7, true)]);
        assert!((ap(&late, MASK).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        // Of three faces one is never found.
        let mut missed = found_or_false(&[(0.9, true), (0.8, true)]);
        missed.push(scene(vec![face([9, 9, 50, 50], Some(MASK))], Vec::new()));
        assert!((ap(&missed, MASK).unwrap() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_scores_are_told_apart_by_no_order() {
        let scores = [(0.9, true), (0.5, false), (0.5, true), (0.5, false), (0.5, true)];
        let mut turned = scores;
        turned.reverse();
        assert_eq!(ap(&found_or_false(&scores), MASK), ap(&found_or_false(&turned), MASK));
        assert!((ap(&found_or_false(&scores), MASK).unwrap() - (1.0 + 2.0 * 0.6) / 3.0).abs() < 1e-12);
    }

    fn agree(found: Option<f64>, expected: Option<f64>) -> bool {
        match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-12,
            _ => found == expected,
        }
    }

    /// For each face the best precision of all thresholds at which as many are found, matched anew at each.
    fn reference(scenes: &[Scene], class: usize) -> Option<f64> {
        let counts = |threshold: f32| {
            let (mut right, mut all, mut faces) = (0, 0, 0);
            for scene in scenes {
                let mut surer = scene.clone();
                surer.detections.retain(|detection| detection.score >= threshold && detection.label == class);
                for outcome in RULE.within_classes(&surer) {
                    right += u32::from(matches!(outcome, Outcome::Matched { .. }));
                    all += u32::from(outcome != Outcome::Absorbed);
                }
                faces += surer.faces.iter().filter(|face| face.label == Some(class) && face.size() >= 32).count();
            }
            (right, all, faces as u32)
        };
        let tried: Vec<_> = (1..=40).map(|step| counts(step as f32 / 40.0)).collect();
        let faces = tried[0].2;
        let best = |found: u32| {
            let enough = tried.iter().filter(|(right, ..)| *right >= found);
            enough.map(|(right, all, _)| f64::from(*right) / f64::from(*all)).fold(0.0, f64::max)
        };
        (faces > 0).then(|| (1..=faces).map(best).sum::<f64>() / f64::from(faces))
    }

    #[test]
    fn random_scenes_agree_with_going_through_all_thresholds() {
        for seed in 0..30 {
            let scenes = random_scenes(8, seed);
            for class in [MASK, NO_MASK] {
                let (found, expected) = (ap(&scenes, class), reference(&scenes, class));
                assert!(agree(found, expected), "{seed}: {found:?} for {expected:?}");
            }
        }
    }

    #[test]
    fn drawn_pictures_count_as_often_as_they_were_drawn() {
        let scenes = random_scenes(12, 7);
        let ranking = Ranking::new(&scenes, MASK, RULE);
        for times in drawn_sets(12, 20) {
            let repeated = scenes.iter().zip(&times).flat_map(|(scene, &times)| vec![scene.clone(); times as usize]);
            let expected = ap(&repeated.collect::<Vec<_>>(), MASK);
            assert!(agree(ranking.of_drawn(&times), expected), "{times:?}");
        }
    }

    #[test]
    fn a_perfect_detector_has_one_and_a_less_sure_false_detection_adds_nothing() {
        let mut scenes = random_scenes(20, 9);
        for scene in &mut scenes {
            let faces = scene.faces.iter().filter(|face| RULE.counting.counts(face));
            let exact = faces.filter_map(|face| Some(Detection { rect: face.rect, score: 0.9, label: face.label? }));
            scene.detections = exact.collect();
        }
        assert_eq!((ap(&scenes, MASK), ap(&scenes, NO_MASK)), (Some(1.0), Some(1.0)));
        for seed in 0..30 {
            let mut scenes = random_scenes(8, seed);
            let before = ap(&scenes, MASK);
            scenes.push(scene(Vec::new(), vec![detection([0, 0, 50, 50], MASK, 0.01)]));
            assert!(ap(&scenes, MASK) <= before);
            scenes.push(scene(Vec::new(), vec![detection([0, 0, 50, 50], MASK, 1.0)]));
            assert!(ap(&scenes, MASK) <= before);
        }
    }
}
