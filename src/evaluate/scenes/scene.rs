//! One picture: what is annotated on it, what was detected, and which of its faces count.

use std::path::PathBuf;
use std::time::Duration;

use crate::analyse::Detection;
use crate::geometry::Rect;

/// A face that is annotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// In pixels of the upright picture.
    pub rect: Rect,
    /// Its class, as annotated.
    pub class: String,
    /// Index of its class; `None` for classes that the model does not have.
    pub label: Option<usize>,
}

impl Face {
    /// Its shorter side, in pixels of the picture.
    pub fn size(&self) -> u32 {
        self.rect.width.min(self.rect.height)
    }
}

/// A picture with its faces and detections.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The image file, relative to its folder.
    pub path: PathBuf,
    /// Width and height of the upright picture, in pixels.
    pub size: (u32, u32),
    /// What is annotated.
    pub faces: Vec<Face>,
    /// What was detected, by descending score.
    pub detections: Vec<Detection>,
    /// What the detector took.
    pub time: Duration,
}

impl Scene {
    /// Detections of equal score stay in their order.
    pub fn new(
        path: PathBuf,
        size: (u32, u32),
        faces: Vec<Face>,
        mut detections: Vec<Detection>,
        time: Duration,
    ) -> Self {
        detections.sort_by(|one, other| other.score.total_cmp(&one.score));
        Self { path, size, faces, detections, time }
    }
}

/// Sizes of faces, by their shorter side in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeBucket {
    /// Fewer than 16.
    Under16,
    /// From 16 to 31.
    From16To32,
    /// From 32 to 63.
    From32To64,
    /// 64 and more.
    Over64,
}

impl SizeBucket {
    /// From the smallest to the largest.
    pub const ALL: [Self; 4] = [Self::Under16, Self::From16To32, Self::From32To64, Self::Over64];

    /// A name for programs, which never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Under16 => "under_16",
            Self::From16To32 => "16_to_32",
            Self::From32To64 => "32_to_64",
            Self::Over64 => "over_64",
        }
    }

    /// A name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Under16 => "under 16 px",
            Self::From16To32 => "16 to 31 px",
            Self::From32To64 => "32 to 63 px",
            Self::Over64 => "64 px and more",
        }
    }

    fn holds(self, size: u32) -> bool {
        match self {
            Self::Under16 => size < 16,
            Self::From16To32 => (16..32).contains(&size),
            Self::From32To64 => (32..64).contains(&size),
            Self::Over64 => size >= 64,
        }
    }
}

/// Which faces count. The others are ignored: they are not missed, and whatever is detected on them is not false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Faces of the model's classes whose shorter side has at least so many pixels.
    AtLeast(u32),
    /// Faces of the model's classes of certain sizes.
    Bucket(SizeBucket),
}

impl Counting {
    /// Whether a face counts.
    pub fn counts(self, face: &Face) -> bool {
        face.label.is_some()
            && match self {
                Self::AtLeast(least) => face.size() >= least,
                Self::Bucket(bucket) => bucket.holds(face.size()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_one_bucket_and_only_faces_of_the_models_classes_count() {
        for size in 1..200 {
            let holding: Vec<_> = SizeBucket::ALL.into_iter().filter(|bucket| bucket.holds(size)).collect();
            assert_eq!(holding.len(), 1, "{size}");
            let rect = Rect { x: 0, y: 0, width: size, height: size + 9 };
            let mut face = Face { rect, class: "mask".to_owned(), label: Some(0) };
            assert!(Counting::Bucket(holding[0]).counts(&face));
            assert_eq!(Counting::AtLeast(32).counts(&face), size >= 32);
            face.label = None;
            assert!(!Counting::Bucket(holding[0]).counts(&face) && !Counting::AtLeast(1).counts(&face));
        }
    }
}
