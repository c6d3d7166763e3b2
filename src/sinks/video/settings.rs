//! What the caller of the video writer chooses.

use std::path::PathBuf;
use std::time::Duration;

/// Effort of the x264 encoder: more makes smaller files rather than better pictures.
///
/// Measured on 150 frames of 720p (a person before a wall) with the writer's other settings, one
/// thread: processor time and size a frame.
///
/// | preset | quality | ms | kB | PSNR (dB) |
/// |---|---|---|---|---|
/// | ultrafast | 20 | 7.5 | 16.0 | 40.4 |
/// | ultrafast | 23 | 7.3 | 11.3 | 39.9 |
/// | superfast | 23 | 9.3 | 7.2 | 40.3 |
/// | veryfast | 23 | 11.7 | 6.1 | 40.3 |
/// | faster | 23 | 17.9 | 6.0 | 40.4 |
/// | medium | 23 | 28.3 | 6.0 | 40.4 |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of x264")]
pub enum Preset {
    Ultrafast,
    /// The default: half the size of ultrafast at equal quality, for 2 ms a frame.
    #[default]
    Superfast,
    Veryfast,
    Faster,
    Medium,
}

impl Preset {
    /// The name that x264 knows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ultrafast => "ultrafast",
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
            Self::Faster => "faster",
            Self::Medium => "medium",
        }
    }
}

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct VideoSettings {
    /// The MP4 file; replaced if it exists.
    pub path: PathBuf,
    /// Width of the frames in pixels, 16 or more.
    pub width: u32,
    /// Height of the frames in pixels, 16 or more.
    pub height: u32,
    /// A media file whose first audio stream is copied without re-encoding. It must share the
    /// timeline of the frames.
    pub audio_from: Option<PathBuf>,
    /// Time at which the video begins on the timeline of that file.
    pub audio_offset: Duration,
    /// Effort of the encoder.
    pub preset: Preset,
    /// Constant rate factor of x264, 0 (lossless) to 50: 18 looks like the original, 28 is coarse.
    pub quality: u32,
    /// Threads of the encoder. Each beyond the first also holds one more frame back.
    pub threads: u32,
}

impl VideoSettings {
    /// Silent video, with a balance of file size and work that suits a machine busy with inference:
    /// one thread encodes 720p at 100 frames a second, and leaves the other cores alone.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, width: u32, height: u32) -> Self {
        Self {
            path: path.into(),
            width,
            height,
            audio_from: None,
            audio_offset: Duration::ZERO,
            preset: Preset::default(),
            quality: 23,
            threads: 1,
        }
    }
}
