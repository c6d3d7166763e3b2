//! A box with fractions of a pixel, given by its centre: what is estimated is between pixels, and may leave the frame.

use crate::geometry::Rect;

/// A box in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxPx {
    /// Centre, from the left.
    pub x: f64,
    /// Centre, from the top.
    pub y: f64,
    /// Above 0.
    pub width: f64,
    /// Above 0.
    pub height: f64,
}

impl BoxPx {
    /// Side of the square of the same area: the unit of distances between boxes.
    pub fn side(self) -> f64 {
        (self.width * self.height).sqrt()
    }

    /// Intersection over union, in [0, 1].
    pub fn iou(self, other: Self) -> f64 {
        let across = common_length((self.x, self.width), (other.x, other.width));
        let down = common_length((self.y, self.height), (other.y, other.height));
        let intersection = across * down;
        intersection / (self.width * self.height + other.width * other.height - intersection)
    }

    /// Distance of the centres in [sides](Self::side), of which the larger of the two counts: a box that is found too small
    /// for once lies no further away.
    pub fn distance_in_sides(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y) / self.side().max(other.side())
    }

    /// The larger side over the smaller one, at least 1.
    pub fn side_ratio(self, other: Self) -> f64 {
        let ratio = self.side() / other.side();
        ratio.max(ratio.recip())
    }

    /// The pixels nearest to it in a frame of (width, height), both at least 1: at least one pixel, inside the frame.
    pub fn in_frame(self, frame: (u32, u32)) -> Rect {
        let (x, width) = span(self.x, self.width, frame.0);
        let (y, height) = span(self.y, self.height, frame.1);
        Rect { x, y, width, height }
    }
}

impl From<Rect> for BoxPx {
    fn from(rect: Rect) -> Self {
        let (width, height) = (f64::from(rect.width), f64::from(rect.height));
        Self { x: f64::from(rect.x) + width / 2.0, y: f64::from(rect.y) + height / 2.0, width, height }
    }
}

/// Length that two spans of (centre, length) have in common.
fn common_length(one: (f64, f64), other: (f64, f64)) -> f64 {
    let start = (one.0 - one.1 / 2.0).max(other.0 - other.1 / 2.0);
    let end = (one.0 + one.1 / 2.0).min(other.0 + other.1 / 2.0);
    (end - start).max(0.0)
}

fn span(centre: f64, length: f64, limit: u32) -> (u32, u32) {
    let start = (centre - length / 2.0).round().clamp(0.0, f64::from(limit - 1)) as u32;
    let end = (centre + length / 2.0).round().clamp(f64::from(start + 1), f64::from(limit)) as u32;
    (start, end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pixels_survive_and_agree_with_the_integer_geometry() {
        let one = Rect { x: 10, y: 20, width: 31, height: 40 };
        let other = Rect { x: 25, y: 10, width: 30, height: 47 };
        assert_eq!(BoxPx::from(one).in_frame((640, 480)), one);
        assert!((BoxPx::from(one).iou(other.into()) - one.iou(other)).abs() < 1e-12);
        assert_eq!(BoxPx::from(one).iou(BoxPx::from(one)), 1.0);
        assert_eq!(BoxPx::from(one).iou(Rect { x: 41, ..one }.into()), 0.0, "touching is not overlapping");
    }

    #[test]
    fn what_leaves_the_frame_is_cut_to_it() {
        let outside = |x, y| BoxPx { x, y, width: 20.0, height: 10.0 }.in_frame((100, 50));
        assert_eq!(outside(0.0, 0.0), Rect { x: 0, y: 0, width: 10, height: 5 });
        assert_eq!(outside(-500.0, 25.0), Rect { x: 0, y: 20, width: 1, height: 10 });
        assert_eq!(outside(500.0, 500.0), Rect { x: 99, y: 49, width: 1, height: 1 });
    }

    #[test]
    fn distance_counts_in_sides_of_the_larger_box() {
        let large = BoxPx { x: 0.0, y: 0.0, width: 40.0, height: 90.0 };
        let small = BoxPx { x: 36.0, y: 48.0, width: 10.0, height: 10.0 };
        assert_eq!((large.side(), large.distance_in_sides(small), small.distance_in_sides(large)), (60.0, 1.0, 1.0));
        assert_eq!((large.side_ratio(small), small.side_ratio(large)), (6.0, 6.0));
    }
}
