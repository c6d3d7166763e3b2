//! Rectangles in pixels.

use serde::Serialize;

/// A rectangle inside a picture, in its pixels: `x` and `y` are the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// At least 1.
    pub width: u32,
    /// At least 1.
    pub height: u32,
}

impl Rect {
    /// Pixels inside.
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Pixels of both.
    pub fn intersection(self, other: Self) -> u64 {
        let across = common_length((self.x, self.width), (other.x, other.width));
        across * common_length((self.y, self.height), (other.y, other.height))
    }

    /// Intersection over union of two rectangles (Jaccard 1901), in [0, 1]: 1 if they are the same.
    pub fn iou(self, other: Self) -> f64 {
        let intersection = self.intersection(other);
        intersection as f64 / (self.area() + other.area() - intersection) as f64
    }

    /// The same rectangle in a picture of another size: edges are rounded outwards, and it stays inside.
    ///
    /// `from` and `to` are (width, height).
    ///
    /// # Panics
    ///
    /// When one of these is 0: no picture is that small.
    pub fn scaled(self, from: (u32, u32), to: (u32, u32)) -> Self {
        let (x, width) = scaled_span(self.x, self.width, from.0, to.0);
        let (y, height) = scaled_span(self.y, self.height, from.1, to.1);
        Self { x, y, width, height }
    }
}

/// Length that two spans of (start, length) have in common.
fn common_length(one: (u32, u32), other: (u32, u32)) -> u64 {
    let end = |(start, length): (u32, u32)| u64::from(start) + u64::from(length);
    end(one).min(end(other)).saturating_sub(u64::from(one.0.max(other.0)))
}

fn scaled_span(start: u32, length: u32, from: u32, to: u32) -> (u32, u32) {
    let (start, end, from, to) = (u64::from(start), u64::from(start + length), u64::from(from), u64::from(to));
    let first = (start * to / from).min(to - 1);
    let last = (end * to).div_ceil(from).clamp(first + 1, to);
    (first as u32, (last - first) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_rounds_outwards_and_stays_inside() {
        let rect = Rect { x: 10, y: 0, width: 3, height: 224 };
        assert_eq!(rect.scaled((224, 224), (1280, 720)), Rect { x: 57, y: 0, width: 18, height: 720 });
        assert_eq!(rect.scaled((224, 224), (224, 224)), rect);
        let corner = Rect { x: 223, y: 223, width: 1, height: 1 };
        assert_eq!(corner.scaled((224, 224), (1, 1)), Rect { x: 0, y: 0, width: 1, height: 1 });
        for size in 1..400 {
            let Rect { x, y, width, height } = corner.scaled((224, 224), (size, size));
            assert!(width >= 1 && height >= 1 && x + width <= size && y + height <= size);
        }
    }
}
