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
