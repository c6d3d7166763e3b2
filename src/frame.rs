//! Video frames on their way through the pipeline, one by one and in batches: pixels and where they come from.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;
use smallvec::SmallVec;

use crate::recycled::Recycled;
use crate::shared::{Places, Shared};

/// One for each frame of a batch, or for each of its views: as many as most batches have lie where the list itself does, so that none
/// asks for memory.
pub type Batch<T> = SmallVec<[T; 8]>;

/// A picture that several may have, and whose memory serves another once none does.
pub type SharedImage = Shared<Recycled<RgbImage>>;

/// In a place that another picture left: all have the same places, which a [`Shared`] of a recycled picture would not.
impl From<RgbImage> for SharedImage {
    fn from(image: RgbImage) -> Self {
        static PLACES: LazyLock<Places<Recycled<RgbImage>>> = LazyLock::new(Places::default);
        PLACES.put(image.into())
    }
}

/// A decoded picture with its place in its source.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Name of the source that delivered the picture, as shown to the user.
    pub source: Arc<str>,
    /// Position in the source, counted from 0 without gaps.
    pub index: u64,
    /// Presentation timestamp: time since the first instant of the source.
    pub pts: Duration,
    /// Wall-clock time at which the picture was captured (live) or decoded (recorded).
    pub captured_at: SystemTime,
    /// Monotonic time at which reading the picture began; latencies count from here.
    pub read_started: Instant,
    /// How long reading and decoding took.
    pub decode_time: Duration,
    /// 8-bit RGB pixels, row-major, upright (rotation metadata already applied). Shared, as several outputs may keep them.
    pub image: SharedImage,
}
