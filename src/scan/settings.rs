//! What is set on a scan.

use std::fmt;

use super::extent::Extent;
use super::near::NEAR_SIDE;
use crate::explain::haycam::PAPER_COMPONENTS;
use crate::labels::{MASK, NO_MASK};
use crate::pca::Components;

/// Short side of the resized frame unless something else is asked for, in pixels. Of a frame of 720 lines it finds faces
/// from about 75 pixels of height on ([`FACE_AT_SCAN`]).
pub const SHORT_SIDE: u32 = 512;
/// Height of a face in the resized frame that is found reliably, in pixels.
pub const FACE_AT_SCAN: u32 = 64;
/// Smallest and largest short side that the smallest face may ask for, in pixels. The cost grows with the square.
pub const SHORT_SIDES: (u32, u32) = (96, 1024);

/// Score from which a `mask` counts.
pub const MASK_THRESHOLD: f32 = 0.35;
/// Score from which a `no_mask` counts.
pub const NO_MASK_THRESHOLD: f32 = 0.325;
/// Score from which any other class counts; nothing is known of such models.
pub const OTHER_THRESHOLD: f32 = 0.3;

/// HayCAM's map from which on a place counts as fully evident: about what it is in the middle of a face.
const SATURATION: f32 = 70.0;
/// Share of a region's peak down to which it reaches.
const EXTENT: f32 = 0.6;
/// How the regions of the shipped model relate to faces.
const EXTENT_OF_FACES: Extent = Extent { blur: 60.0, across: 0.7, down: 0.4, lower: 0.1 };
/// Share of the lower of two peaks by which the map must fall between them for two faces.
const PROMINENCE: f32 = 0.2;
/// Score below which nothing is reported, whatever the threshold.
const FLOOR: f32 = 0.05;

/// How a scan is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanSettings {
    /// Short side of the resized frame, in pixels.
    pub short_side: u32,
    /// Short side of a second view, for faces that are near, in pixels.
    pub near_side: Option<u32>,
    /// The smallest face that is looked for, in pixels of the frame; decides the short side of each frame if given.
    pub min_face: Option<u32>,
    /// Principal components to keep.
    pub components: Components,
    /// What the maps are made of.
    pub map: ScanMap,
    /// Whether the mean of each filter is left out of HayCAM's map.
    pub centred: bool,
    /// HayCAM's map from which on a place counts as fully evident, above 0.
    pub saturation: f32,
    /// Share of a region's peak down to which it reaches, in [0, 1].
    pub extent: f32,
    /// What regions say of the boxes of faces.
    pub extent_of_faces: Extent,
    /// Share of the lower of two peaks by which the map must fall between them for two regions, in [0, 1].
    pub prominence: f32,
    /// Lowest score that is reported, in (0, 1).
    pub floor: f32,
}

/// What the map of a class is made of; in [0, 1] whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanMap {
    /// The probability of the class at each position: sure of what, vague of where.
    Posterior,
    /// HayCAM's map, cut at the saturation: sure of where, vague of what.
    HayCam,
    /// Their product.
    Product,
}

impl fmt::Display for ScanMap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Posterior => "posterior",
            Self::HayCam => "haycam",
            Self::Product => "product",
        })
    }
}

impl Default for ScanSettings {
    fn default() -> Self {
        Self {
            short_side: SHORT_SIDE,
            min_face: None,
            near_side: Some(NEAR_SIDE),
            components: Components::Count(PAPER_COMPONENTS),
            map: ScanMap::Product,
            centred: false,
            saturation: SATURATION,
            extent: EXTENT,
            extent_of_faces: EXTENT_OF_FACES,
            prominence: PROMINENCE,
            floor: FLOOR,
        }
    }
}

impl ScanSettings {
    /// Short side of a resized frame of (width, height).
    pub fn short_side_of(&self, (width, height): (u32, u32)) -> u32 {
        let Some(min_face) = self.min_face else { return self.short_side };
        let wanted = u64::from(width.min(height)) * u64::from(FACE_AT_SCAN) / u64::from(min_face.max(1));
        (wanted.min(SHORT_SIDES.1.into()) as u32).max(SHORT_SIDES.0)
    }
}

/// Score from which a class counts unless something else is asked for.
pub fn default_threshold(class: &str) -> f32 {
    match class {
        MASK => MASK_THRESHOLD,
        NO_MASK => NO_MASK_THRESHOLD,
        _ => OTHER_THRESHOLD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_face_decides_the_short_side() {
        let short_side = |min_face, size| ScanSettings { min_face, ..Default::default() }.short_side_of(size);
        assert_eq!(short_side(None, (1920, 1080)), SHORT_SIDE);
        assert_eq!(short_side(Some(80), (1920, 1080)), 864);
        assert_eq!(short_side(Some(80), (1080, 1920)), 864);
        assert_eq!(short_side(Some(1), (1920, 1080)), 1024);
        assert_eq!(short_side(Some(u32::MAX), (1920, 1080)), 96);
        assert_eq!(short_side(Some(0), (u32::MAX, u32::MAX)), 1024);
    }
}
