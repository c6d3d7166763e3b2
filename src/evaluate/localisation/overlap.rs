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
