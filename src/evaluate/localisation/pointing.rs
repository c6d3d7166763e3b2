//! The pointing game (Zhang et al. 2018, "Top-down neural attention by excitation backprop"): does the hottest
//! place of a map lie in a box of its class?
//!
//! The paper lets a peak miss by 15 pixels; here it must lie inside. Of places that are equally hot the first is the peak,
//! from top to bottom and from left to right.

use ndarray::Array2;

use crate::boxes::hottest;
use crate::geometry::Rect;

/// Whether the middle of the hottest place of `heat` lies in one of the boxes, given in pixels of a picture of (width,
/// height) over which the map is spread. A map that is cold everywhere points nowhere.
pub fn points_at(heat: &Array2<f32>, annotated: &[Rect], (width, height): (u32, u32)) -> bool {
    let (rows, columns) = heat.dim();
    hottest(heat).is_some_and(|((row, column), _)| {
        let x = (column as f64 + 0.5) * f64::from(width) / columns as f64;
        let y = (row as f64 + 0.5) * f64::from(height) / rows as f64;
        annotated.iter().any(|&rect| holds(rect, x, y))
    })
}

/// Whether a place, in pixels from the upper left corner of the picture, lies in a box.
pub fn holds(rect: Rect, x: f64, y: f64) -> bool {
    let within =
        |place: f64, start: u32, length: u32| (f64::from(start)..f64::from(start) + f64::from(length)).contains(&place);
    within(x, rect.x, rect.width) && within(y, rect.y, rect.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_found_where_the_picture_has_it() {
        // 4 x 2 places over 200 x 60 pixels: the peak's middle is at (175, 15).
        let mut heat = Array2::zeros((2, 4));
        heat[[0, 3]] = 1.0;
        heat[[1, 0]] = 0.5;
        let points = |rect| points_at(&heat, &[rect], (200, 60));
        assert!(points(Rect { x: 175, y: 15, width: 1, height: 1 }));
        assert!(points(Rect { x: 150, y: 0, width: 50, height: 30 }));
        assert!(!points(Rect { x: 150, y: 0, width: 25, height: 30 }), "the right edge is outside");
        assert!(!points(Rect { x: 0, y: 30, width: 50, height: 30 }), "hot, but not the peak");
        let several = [Rect { x: 0, y: 30, width: 50, height: 30 }, Rect { x: 170, y: 10, width: 10, height: 10 }];
        assert!(points_at(&heat, &several, (200, 60)));
        assert!(!points_at(&heat, &[], (200, 60)));
    }

    #[test]
    fn cold_maps_point_nowhere_and_of_equals_the_first_counts() {
        let whole = [Rect { x: 0, y: 0, width: 9, height: 9 }];
        assert!(!points_at(&Array2::zeros((3, 3)), &whole, (9, 9)));
        let even = Array2::from_elem((3, 3), 0.5);
        assert!(points_at(&even, &[Rect { x: 0, y: 0, width: 3, height: 3 }], (9, 9)));
        assert!(!points_at(&even, &[Rect { x: 3, y: 3, width: 6, height: 6 }], (9, 9)));
    }
}
