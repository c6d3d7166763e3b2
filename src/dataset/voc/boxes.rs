//! Places annotated boxes on the picture as the program sees it: upright, in whole pixels, inside.

use std::fmt;

use image::metadata::Orientation;

use super::{Annotation, Problem, ProblemKind};
use crate::geometry::Rect;

/// The edges of a box as annotated, in pixels from the upper left corner of the picture: the leftmost pixel lies between 0
/// and 1.
///
/// So today's annotation tools write them. The first Pascal VOC sets meant numbers of pixels instead, counted from 1, the
/// last one included: what they mean begins one pixel further left and higher up than what is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corners {
    /// Left edge.
    pub xmin: f64,
    /// Upper edge.
    pub ymin: f64,
    /// Right edge.
    pub xmax: f64,
    /// Lower edge.
    pub ymax: f64,
}

/// A place in a picture where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledBox {
    /// What it is.
    pub class: String,
    /// In pixels of the upright picture, inside it.
    pub rect: Rect,
}

impl Annotation {
    /// Places the boxes on a picture that is `upright` (width, height) pixels large after `orientation` was applied to what
    /// is stored, and tells which are left out or changed.
    ///
    /// Some tools annotate the stored pixels, some the upright picture. Where the annotated size is that of the stored
    /// pixels and not that of the upright picture, the boxes are turned with it; otherwise they are taken as upright. Half
    /// turns and mirroring keep the size, and quarter turns keep that of a square: there the size cannot tell, and boxes are
    /// taken as upright.
    ///
    /// Edges are rounded outwards to whole pixels.
    pub fn on_picture(&self, upright: (u32, u32), orientation: Orientation) -> (Vec<LabelledBox>, Vec<Problem>) {
        let mut kinds = Vec::new();
        let stored = if swaps_sides(orientation) { (upright.1, upright.0) } else { upright };
        let stored_pixels = stored != upright && self.size == Some(stored);
        if let Some(annotated) = self.size.filter(|&size| size != upright && !stored_pixels) {
            kinds.push(ProblemKind::SizeDiffers { annotated, picture: upright });
        }
        let mut boxes = Vec::with_capacity(self.objects.len());
        for object in &self.objects {
            let (class, written) = (object.class.clone(), object.corners);
            if written.is_empty() {
                kinds.push(ProblemKind::EmptyBox { class, corners: written });
                continue;
            }
            let corners = if stored_pixels { written.turned(orientation, upright) } else { written };
            let Some(rect) = corners.pixels_within(upright) else {
                kinds.push(ProblemKind::BoxOutside { class, corners: written });
                continue;
            };
            if corners.leaves(upright) {
                kinds.push(ProblemKind::BoxClipped { class: class.clone(), corners: written });
            }
            boxes.push(LabelledBox { class, rect });
        }
        let problems = kinds.into_iter().map(|kind| Problem { path: self.path.clone(), kind }).collect();
        (boxes, problems)
    }
}

impl Corners {
    fn is_empty(self) -> bool {
        self.xmax <= self.xmin || self.ymax <= self.ymin
    }

    fn leaves(self, (width, height): (u32, u32)) -> bool {
        self.xmin < 0.0 || self.ymin < 0.0 || self.xmax > f64::from(width) || self.ymax > f64::from(height)
    }

    /// All pixels of a picture that the box touches, if any.
    fn pixels_within(self, (width, height): (u32, u32)) -> Option<Rect> {
        let (x, width) = span_within(self.xmin, self.xmax, width)?;
        let (y, height) = span_within(self.ymin, self.ymax, height)?;
        Some(Rect { x, y, width, height })
    }

    /// The same box after stored pixels were turned into a picture of `upright` (width, height) pixels.
    pub(super) fn turned(self, orientation: Orientation, upright: (u32, u32)) -> Self {
        let (width, height) = (f64::from(upright.0), f64::from(upright.1));
        let turn = |x: f64, y: f64| match orientation {
            Orientation::NoTransforms => (x, y),
            Orientation::Rotate90 => (width - y, x),
            Orientation::Rotate180 => (width - x, height - y),
            Orientation::Rotate270 => (y, height - x),
            Orientation::FlipHorizontal => (width - x, y),
            Orientation::FlipVertical => (x, height - y),
            Orientation::Rotate90FlipH => (y, x),
            Orientation::Rotate270FlipH => (width - y, height - x),
        };
        let (one, other) = (turn(self.xmin, self.ymin), turn(self.xmax, self.ymax));
        Self { xmin: one.0.min(other.0), ymin: one.1.min(other.1), xmax: one.0.max(other.0), ymax: one.1.max(other.1) }
    }
}

impl fmt::Display for Corners {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { xmin, ymin, xmax, ymax } = self;
        // As `Debug`, since the largest numbers have 309 digits otherwise.
        write!(f, "({xmin:?}, {ymin:?}, {xmax:?}, {ymax:?})")
    }
}

/// Start and length of the whole pixels from 0 to `end` that an interval touches, if any.
fn span_within(from: f64, to: f64, end: u32) -> Option<(u32, u32)> {
    // Whole numbers from 0 to `end` by now, so nothing is lost.
    let first = from.floor().clamp(0.0, f64::from(end)) as u32;
    let last = to.ceil().clamp(0.0, f64::from(end)) as u32;
    (first < last).then_some((first, last - first))
}

fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}
