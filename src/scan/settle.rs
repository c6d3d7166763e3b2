//! Which of several overlapping detections are kept: greedy non-maximum suppression, across classes as well as within, as a
//! face has one answer.

use crate::boxes::{Detection, PerBox};

/// IoU with a kept detection above which one is dropped.
const MOST_IOU: f64 = 0.3;
/// Share of a detection inside a kept one, or of a kept one inside it, above which it is dropped: IoU alone would keep a
/// small box in a large one.
const MOST_INSIDE: f64 = 0.7;

/// The detections that are kept, each with what belongs to it, of those that come with a rank: by falling rank.
pub fn settle<T>(mut found: PerBox<(f32, Detection, T)>) -> PerBox<(Detection, T)> {
    // A stable sort: of equals, the first class is kept.
    found.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
    let mut kept = PerBox::<(Detection, T)>::new();
    for (_, candidate, belongings) in found {
        if !kept.iter().any(|(other, _)| is_same(other, &candidate)) {
            kept.push((candidate, belongings));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rect;

    fn found(x: u32, side: u32, score: f32, label: usize) -> (Detection, ()) {
        (Detection { rect: Rect { x, y: 10, width: side, height: side }, score, label }, ())
    }

    fn kept(detections: &[(Detection, ())]) -> Vec<f32> {
        let ranked = detections.iter().map(|&(found, ())| (found.score, found, ())).collect();
        settle(ranked).into_iter().map(|(detection, ())| detection.score).collect()
    }

    #[test]
    fn of_overlapping_detections_the_strongest_is_kept_whatever_the_class() {
        // Shifted by half of their side, squares have an IoU of a third; by 60 % of it, of a quarter.
        assert_eq!(kept(&[found(0, 20, 0.5, 0), found(10, 20, 0.9, 1)]), [0.9]);
        assert_eq!(kept(&[found(0, 20, 0.5, 0), found(12, 20, 0.9, 1)]), [0.9, 0.5]);
        assert_eq!(kept(&[found(0, 20, 0.5, 0), found(10, 20, 0.9, 0), found(20, 20, 0.4, 0)]), [0.9]);
    }

    #[test]
    fn one_inside_another_is_the_same() {
        for (inner, outer) in [(0.9, 0.5), (0.5, 0.9)] {
            assert_eq!(kept(&[found(5, 10, inner, 0), found(0, 100, outer, 1)]), [0.9]);
        }
    }

    #[test]
    fn what_was_dropped_drops_nothing() {
        let chain = [found(0, 20, 0.9, 0), found(8, 20, 0.8, 0), found(16, 20, 0.7, 0)];
        assert_eq!(kept(&chain), [0.9, 0.7]);
        assert!(kept(&[]).is_empty());
    }
}
