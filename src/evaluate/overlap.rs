//! How well two boxes agree: IoU and Dice.

use crate::geometry::Rect;

/// See [`Rect::iou`].
pub fn iou(one: Rect, other: Rect) -> f64 {
    one.iou(other)
}

/// Twice the intersection over the sum of both areas (Dice 1945), in [0, 1]: 1 if they are the same.
pub fn dice(one: Rect, other: Rect) -> f64 {
    2.0 * one.intersection(other) as f64 / (one.area() + other.area()) as f64
}

/// The best IoU that a box has with one of several; 0 without any.
pub fn best_iou(found: Rect, annotated: &[Rect]) -> f64 {
    annotated.iter().map(|&rect| iou(found, rect)).fold(0.0, f64::max)
}

/// The best Dice that a box has with one of several; 0 without any.
pub fn best_dice(found: Rect, annotated: &[Rect]) -> f64 {
    annotated.iter().map(|&rect| dice(found, rect)).fold(0.0, f64::max)
}

/// Share of a box that lies on at least one of several others, in [0, 1].
pub fn share_covered(rect: Rect, others: &[Rect]) -> f64 {
    let end = |start: u32, length: u32| u64::from(start) + u64::from(length);
    // The parts inside the box, as (left, right, top, bottom).
    let parts: Vec<(u64, u64, u64, u64)> = others
        .iter()
        .filter(|&&other| rect.intersection(other) > 0)
        .map(|other| {
            let left = u64::from(rect.x.max(other.x));
            let top = u64::from(rect.y.max(other.y));
            let right = end(rect.x, rect.width).min(end(other.x, other.width));
            (left, right, top, end(rect.y, rect.height).min(end(other.y, other.height)))
        })
        .collect();
    let mut edges: Vec<u64> = parts.iter().flat_map(|&(left, right, ..)| [left, right]).collect();
    edges.sort_unstable();
    // Between neighbouring edges every part is there in full width or not at all.
    let columns = edges.windows(2).map(|pair| {
        let mut spans: Vec<(u64, u64)> = parts
            .iter()
            .filter(|&&(left, right, ..)| left <= pair[0] && pair[1] <= right)
            .map(|&(_, _, top, bottom)| (top, bottom))
            .collect();
        spans.sort_unstable();
        let (mut length, mut reached) = (0, 0);
        for (top, bottom) in spans {
            length += bottom.max(reached) - top.max(reached);
            reached = reached.max(bottom);
        }
        (pair[1] - pair[0]) * length
    });
    columns.sum::<u64>() as f64 / rect.area() as f64
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SIDE: u32 = 24;

    fn random_rect(random: &mut ChaCha8Rng) -> Rect {
        let (x, y) = (random.random_range(0..SIDE), random.random_range(0..SIDE));
        Rect { x, y, width: random.random_range(1..=SIDE - x), height: random.random_range(1..=SIDE - y) }
    }

    /// By counting pixels: of both, and of either.
    fn counted(one: Rect, other: Rect) -> (f64, f64) {
        let holds = |rect: Rect, x: u32, y: u32| {
            (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y)
        };
        let count = |is_counted: &dyn Fn(u32, u32) -> bool| {
            (0..SIDE * SIDE).filter(|place| is_counted(place % SIDE, place / SIDE)).count() as f64
        };
        (count(&|x, y| holds(one, x, y) && holds(other, x, y)), count(&|x, y| holds(one, x, y) || holds(other, x, y)))
    }

    #[test]
    fn boxes_worked_out_by_hand() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        // 5 x 10 of both, 150 of either.
        assert_eq!(iou(rect(0, 0, 10, 10), rect(5, 0, 10, 10)), 50.0 / 150.0);
        assert_eq!(dice(rect(0, 0, 10, 10), rect(5, 0, 10, 10)), 0.5);
        assert_eq!(iou(rect(0, 0, 4, 4), rect(4, 0, 4, 4)), 0.0, "they only touch");
        assert_eq!(iou(rect(1, 1, 2, 2), rect(0, 0, 4, 4)), 0.25);
        assert_eq!(best_iou(rect(1, 1, 2, 2), &[rect(0, 0, 4, 4), rect(1, 1, 2, 4)]), 0.5);
        assert_eq!(best_iou(rect(1, 1, 2, 2), &[]), 0.0);
        let whole = rect(0, 0, u32::MAX, u32::MAX);
        assert_eq!(iou(whole, whole), 1.0);
    }

    #[test]
    fn the_covered_share_is_the_pixel_count() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        for count in 0..60 {
            let rect = random_rect(&mut random);
            let others: Vec<Rect> = (0..count % 6).map(|_| random_rect(&mut random)).collect();
            let holds = |rect: &Rect, x: u32, y: u32| {
                (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y)
            };
            let places = (0..SIDE * SIDE).map(|place| (place % SIDE, place / SIDE));
            let inside: Vec<_> = places.filter(|&(x, y)| holds(&rect, x, y)).collect();
            let on_others = inside.iter().filter(|&&(x, y)| others.iter().any(|other| holds(other, x, y))).count();
            assert_eq!(share_covered(rect, &others), on_others as f64 / inside.len() as f64, "{rect:?} {others:?}");
        }
    }

    #[test]
    fn random_boxes_obey_the_laws_and_the_pixel_count() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..300 {
            let (one, other) = (random_rect(&mut random), random_rect(&mut random));
            let (both, either) = counted(one, other);
            let found = iou(one, other);
            assert!((found - both / either).abs() < 1e-12, "{one:?} {other:?}");
            assert_eq!(found, iou(other, one));
            assert_eq!((iou(one, one), dice(one, one)), (1.0, 1.0));
            assert!((dice(one, other) - 2.0 * found / (1.0 + found)).abs() < 1e-12);
            assert!((best_dice(one, &[other, one]) - 1.0).abs() < 1e-12);
        }
    }
}
