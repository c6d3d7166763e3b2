//! Which of several overlapping detections are kept: greedy non-maximum suppression, across classes as well as within, as a
//! face has one answer.

use crate::boxes::Detection;

/// IoU with a kept detection above which one is dropped.
const MOST_IOU: f64 = 0.3;
/// Share of a detection inside a kept one, or of a kept one inside it, above which it is dropped: IoU alone would keep a
/// small box in a large one.
const MOST_INSIDE: f64 = 0.7;

/// The detections that are kept, by falling score, each with what belongs to it.
pub fn settle<T>(mut found: Vec<(Detection, T)>) -> Vec<(Detection, T)> {
    // A stable sort: of equals, the first class is kept.
    found.sort_by(|(one, _), (other, _)| other.score.total_cmp(&one.score));
    let mut kept: Vec<(Detection, T)> = Vec::new();
    for candidate in found {
        if !kept.iter().any(|(other, _)| is_same(other, &candidate.0)) {
            kept.push(candidate);
        }
    }
    kept
}

/// Whether two detections show one object.
fn is_same(one: &Detection, other: &Detection) -> bool {
    let smaller = one.rect.area().min(other.rect.area());
    let inside = one.rect.intersection(other.rect) as f64 / smaller as f64;
    one.rect.iou(other.rect) > MOST_IOU || inside > MOST_INSIDE
}
