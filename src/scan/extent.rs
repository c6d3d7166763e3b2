//! From a region of a map to the box of the face that caused it.
//!
//! A map shows a face blurred: each position sees its neighbours' pixels, and between positions the map is interpolated. The
//! region of a small face is therefore as wide as that blur, however small the face is. Widths of what is convolved add in
//! quadrature (exactly for Gaussians), so with the blur's width B, the region's width r and the face's width f
//!
//! r^2 = c f^2 + B^2, and f = sqrt((r^2 - B^2) / c);
//!
//! c is below 1 where a map shows less than the whole face, as most of what tells a mask is in its upper half. The same
//! holds of heights.

use crate::geometry::Rect;

/// How regions and faces relate, all measured in pixels of the scanned frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// Width of the blur, B, in pixels.
    pub blur: f32,
    /// Share of a face's squared width that its region shows, c across; above 0.
    pub across: f32,
    /// Share of a face's squared height that its region shows, c down; above 0.
    pub down: f32,
    /// How far below the middle of its region a face has its own, as a share of its height.
    pub lower: f32,
}

/// Least width of a face as a share of its region's: where neighbours cut a region off, it may be narrower than the blur.
const LEAST: f32 = 0.5;

impl Extent {
    /// Boxes are regions.
    pub const AS_THE_REGION: Self = Self { blur: 0.0, across: 1.0, down: 1.0, lower: 0.0 };

    /// The box in a frame of `frame` (width, height) of the face that caused a region, in cells of `cell` pixels of the
    /// scanned frame of `scan` (width, height). It lies inside the frame.
    pub fn face(&self, region: Rect, cell: u32, scan: (u32, u32), frame: (u32, u32)) -> Rect {
        let span = |start: u32, length: u32, share: f32, lower: f32| {
            let (start, length) = ((start * cell) as f32, (length * cell) as f32);
            let least = (LEAST * length).powi(2);
            let face = ((length.powi(2) - self.blur.powi(2)).max(least) / share).sqrt();
            (start + length / 2.0 - face / 2.0 + lower * face, face)
        };
        let (left, width) = span(region.x, region.width, self.across, 0.0);
        let (top, height) = span(region.y, region.height, self.down, self.lower);
        let (x, width) = inside(left, width, scan.0, frame.0);
        let (y, height) = inside(top, height, scan.1, frame.1);
        Rect { x, y, width, height }
    }
}

/// A span of a scanned side in pixels of the frame's side: at least one, inside.
fn inside(start: f32, length: f32, scan: u32, frame: u32) -> (u32, u32) {
    let scale = frame as f32 / scan as f32;
    let first = ((start * scale).round().max(0.0) as u32).min(frame - 1);
    let last = (((start + length) * scale).round().max(0.0) as u32).clamp(first + 1, frame);
    (first, last - first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: u32 = 4;
    const SCAN: (u32, u32) = (512, 384);

    #[test]
    fn a_face_convolved_with_a_gaussian_comes_back() {
        // Full widths at half maximum of Gaussians add in quadrature.
        let extent = Extent { blur: 60.0, across: 1.0, down: 0.5, lower: 0.0 };
        for face in [60.0f32, 90.0, 180.0] {
            let wide = ((face.powi(2) + 3600.0).sqrt() / CELL as f32).round() as u32;
            let high = ((0.5 * face.powi(2) + 3600.0).sqrt() / CELL as f32).round() as u32;
            let region = Rect { x: 64 - wide / 2, y: 48 - high / 2, width: wide, height: high };
            let found = extent.face(region, CELL, SCAN, SCAN);
            assert!((found.width as f32 - face).abs() < 0.2 * face, "{face}: {found:?}");
            assert!((found.height as f32 - face).abs() < 0.2 * face, "{face}: {found:?}");
        }
        let narrow = extent.face(Rect { x: 50, y: 50, width: 10, height: 10 }, CELL, SCAN, SCAN);
        assert_eq!(narrow.width, 20, "cut off by a neighbour: half of the region's 40 pixels");
    }

    #[test]
    fn without_a_blur_the_box_is_the_region_at_the_frames_size() {
        let region = Rect { x: 10, y: 20, width: 30, height: 40 };
        let found = Extent::AS_THE_REGION.face(region, CELL, SCAN, (1024, 768));
        assert_eq!(found, Rect { x: 80, y: 160, width: 240, height: 320 });
    }

    #[test]
    fn boxes_stay_inside_whatever_the_region() {
        let extent = Extent { blur: 100.0, across: 0.4, down: 0.2, lower: 0.3 };
        for frame in [(1, 1), (1, 500), (1920, 1080)] {
            for (x, y, width, height) in [(0, 0, 1, 1), (127, 95, 1, 1), (0, 0, 128, 96), (100, 60, 28, 36)] {
                let found = extent.face(Rect { x, y, width, height }, CELL, SCAN, frame);
                assert!(found.width >= 1 && found.height >= 1);
                assert!(found.x + found.width <= frame.0 && found.y + found.height <= frame.1, "{found:?}");
            }
        }
    }
}
