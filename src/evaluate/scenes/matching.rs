//! Which detection found which face: one to one, the surest detection first, each taking the free face that it agrees with
//! best (after Everingham et al. 2010, section 4.2, where a detection may not turn to its second best).
//!
//! Ignored faces absorb what is left over and lies on them, as ignored regions do in the VisDrone benchmark (Zhu et al. 2021).

use super::scene::{Counting, Face, Scene};
use crate::analyse::Detection;
use crate::evaluate::overlap::{iou, share_covered};
use crate::geometry::Rect;

/// Share of a detection that must lie on ignored faces for it to be absorbed.
const ABSORBED_SHARE: f64 = 0.5;

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// It found a face that counts.
    Matched {
        /// Index of the face on its scene.
        face: usize,
        /// Their IoU.
        iou: f64,
    },
    /// It lies on ignored faces: neither right nor false.
    Absorbed,
    /// It found nothing.
    False,
}

/// How detections and faces are compared.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Which faces count.
    pub counting: Counting,
    /// Least IoU of a detection with the face that it finds.
    pub least_iou: f64,
}

impl Rule {
    /// Matches within each class, all detections: an outcome each, in their order. Because the surest are matched first,
    /// those above any threshold have the same outcome without the rest.
    pub fn within_classes(self, scene: &Scene) -> Vec<Outcome> {
        let of_class = |face: &Face, detection: &Detection| face.label == Some(detection.label);
        self.matched(scene, |_| true, of_class).into_iter().flatten().collect()
    }

    /// Matches whatever the class, only detections that reach the threshold of their class: an outcome each, `None` for the
    /// rest.
    pub fn across_classes(self, scene: &Scene, thresholds: &[f32]) -> Vec<Option<Outcome>> {
        self.matched(scene, |detection| reaches(detection, thresholds), |_, _| true)
    }

    fn matched(
        self,
        scene: &Scene,
        takes_part: impl Fn(&Detection) -> bool,
        may_match: impl Fn(&Face, &Detection) -> bool,
    ) -> Vec<Option<Outcome>> {
        let counted: Vec<bool> = scene.faces.iter().map(|face| self.counting.counts(face)).collect();
        let ignored: Vec<Rect> =
            scene.faces.iter().zip(&counted).filter(|(_, counted)| !**counted).map(|(face, _)| face.rect).collect();
        let mut free = counted;
        let detections = scene.detections.iter().map(|detection| {
            if !takes_part(detection) {
                return None;
            }
            let candidates = scene.faces.iter().enumerate();
            let candidates = candidates.filter(|(index, face)| free[*index] && may_match(face, detection));
            let agreeing = candidates.map(|(index, face)| (index, iou(detection.rect, face.rect)));
            let best = agreeing
                .filter(|(_, iou)| *iou >= self.least_iou)
                .reduce(|best, other| if other.1 > best.1 { other } else { best });
            Some(match best {
                Some((face, iou)) => {
                    free[face] = false;
                    Outcome::Matched { face, iou }
                }
                None if share_covered(detection.rect, &ignored) >= ABSORBED_SHARE => Outcome::Absorbed,
                None => Outcome::False,
            })
        });
        detections.collect()
    }
}

/// Whether a detection is sure enough for its class.
pub fn reaches(detection: &Detection, thresholds: &[f32]) -> bool {
    detection.score >= thresholds[detection.label]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MASK, NO_MASK, RULE, detection, face, random_scenes, scene};
    use super::*;

    const PLACE: [u32; 4] = [100, 100, 60, 60];

    #[test]
    fn the_surest_detection_takes_the_free_face_that_it_agrees_with_best() {
        let beside = [120, 100, 60, 60];
        let faces = vec![face(PLACE, Some(MASK)), face(beside, Some(MASK))];
        let detections = vec![
            detection([118, 100, 60, 60], MASK, 0.7),
            detection([119, 100, 60, 60], MASK, 0.9),
            detection([121, 100, 60, 60], MASK, 0.8),
        ];
        let scene = scene(faces, detections);
        let found: Vec<_> = RULE.within_classes(&scene).into_iter().map(found_face).collect();
        // The second best of the second is free, and nothing is left for the third.
        assert_eq!(found, [Some(1), Some(0), None]);
        let strict = Rule { least_iou: 0.5, ..RULE };
        let found: Vec<_> = strict.within_classes(&scene).into_iter().map(found_face).collect();
        assert_eq!(found, [Some(1), None, Some(0)], "{:?}", strict.within_classes(&scene));
    }

    #[test]
    fn the_wrong_class_is_false_within_classes_and_found_across_them() {
        let scene = scene(vec![face(PLACE, Some(NO_MASK))], vec![detection(PLACE, MASK, 0.9)]);
        assert_eq!(RULE.within_classes(&scene), [Outcome::False]);
        assert_eq!(RULE.across_classes(&scene, &[0.9, 0.0]), [Some(Outcome::Matched { face: 0, iou: 1.0 })]);
        assert_eq!(RULE.across_classes(&scene, &[0.91, 0.0]), [None]);
    }

    #[test]
    fn ignored_faces_absorb_any_number_of_detections_that_lie_on_them_by_half() {
        let (small, unknown) = ([10, 10, 20, 40], [30, 10, 60, 40]);
        let faces = vec![face(small, Some(MASK)), face(unknown, None), face(PLACE, Some(MASK))];
        let detections = vec![
            detection(PLACE, MASK, 0.9),
            detection(PLACE, MASK, 0.8),
            detection(small, MASK, 0.7),
            detection(small, NO_MASK, 0.6),
            detection([20, 10, 20, 40], MASK, 0.5), // on both, half on each
            detection([80, 10, 20, 40], MASK, 0.4), // half of it
            detection([81, 10, 20, 40], MASK, 0.3), // a little less
            detection([0, 0, 300, 300], MASK, 0.2), // around all of them
        ];
        let absorbed = Outcome::Absorbed;
        let outcomes = RULE.within_classes(&scene(faces, detections));
        let expected = [Outcome::False, absorbed, absorbed, absorbed, absorbed, Outcome::False, Outcome::False];
        assert_eq!(outcomes[1..], expected);
        assert_eq!(found_face(outcomes[0]), Some(2));
    }

    #[test]
    fn random_scenes_are_matched_one_to_one_and_thresholds_change_no_outcome_above_them() {
        for scene in random_scenes(200, 1) {
            let outcomes = RULE.within_classes(&scene);
            let mut found: Vec<usize> = outcomes.iter().copied().filter_map(found_face).collect();
            let pairs = scene.detections.iter().zip(&outcomes);
            for (detection, outcome) in pairs {
                let Outcome::Matched { face, iou: agreement } = *outcome else { continue };
                let face = &scene.faces[face];
                assert!(RULE.counting.counts(face) && face.label == Some(detection.label) && agreement >= 0.3);
                assert_eq!(agreement, iou(detection.rect, face.rect));
            }
            found.sort_unstable();
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
            for threshold in [0.2, 0.5, 0.9] {
                let mut surer = scene.clone();
                surer.detections.retain(|detection| detection.score >= threshold);
                assert_eq!(RULE.within_classes(&surer), outcomes[..surer.detections.len()]);
            }
        }
    }

    /// Against another way to the same: pairs are taken one by one from all that are possible.
    #[test]
    fn random_scenes_are_matched_as_by_going_through_all_pairs() {
        for scene in random_scenes(200, 2) {
            let mut pairs: Vec<(usize, usize, f64)> = Vec::new();
            for (place, detection) in scene.detections.iter().enumerate() {
                for (index, face) in scene.faces.iter().enumerate().filter(|(_, face)| RULE.counting.counts(face)) {
                    let agreement = iou(detection.rect, face.rect);
                    if agreement >= 0.3 && face.label == Some(detection.label) {
                        pairs.push((place, index, agreement));
                    }
                }
            }
            pairs.sort_by(|one, other| one.0.cmp(&other.0).then(other.2.total_cmp(&one.2)));
            let mut expected = vec![None; scene.detections.len()];
            while let Some(&(place, face, _)) = pairs.first() {
                expected[place] = Some(face);
                pairs.retain(|pair| pair.0 != place && pair.1 != face);
            }
            let found: Vec<_> = RULE.within_classes(&scene).into_iter().map(found_face).collect();
            assert_eq!(found, expected);
        }
    }

    fn found_face(outcome: Outcome) -> Option<usize> {
        match outcome {
            Outcome::Matched { face, .. } => Some(face),
            _ => None,
        }
    }
}
