//! The first stage: from what the user typed to upright RGB frames with the right timestamps.
//!
//! [`SourceSpec::parse`] turns one argument into one or more specs, [`SourceSpec::open`] turns a
//! spec into a [`Source`], and [`Source::read`] is then called from one thread until it says end
//! or error. Videos, cameras and network streams go through OpenCV's `VideoCapture` (`video`);
//! `recorded` and `live` make sources of it, except for RTSP cameras, which go through GStreamer (`rtsp`). Where OpenCV gets rotation (`video`) or timestamps
//! (`timeline`) wrong, they are put right, and a file that was cut short, which OpenCV does not
//! notice, is found by what its own container declares (`container`). Pictures go through the
//! `image` crate (`stills`) and need no OpenCV; neither do the made-up frames of measurements (`synthetic`).
//!
//! No [`Source`] retries, sleeps or drops frames. Live ones are left to [`supervise`], which decodes each in a process of
//! its own, and tries again where [`CaptureError::retryable`] says that this may help.

#[cfg(feature = "opencv")]
mod container;
mod error;
#[cfg(feature = "opencv")]
mod live;
#[cfg(feature = "gstreamer")]
pub(crate) mod packets;
#[cfg(feature = "opencv")]
mod recorded;
#[cfg(all(feature = "opencv", feature = "gstreamer"))]
mod rtsp;
mod spec;
pub mod stills;
pub mod supervise;
mod synthetic;
#[cfg(feature = "opencv")]
mod timeline;
#[cfg(feature = "opencv")]
mod video;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::frame::Frame;

pub use error::{CaptureError, Fault};
pub use spec::{CameraId, SourceSpec, StreamUrl};
pub use supervise::{LiveEvent, LiveSettings, RtspTransport, SourceState, Supervisor};

/// What to do when the rest of the pipeline is slower than the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Keep only the newest frame: never lag, count what was dropped.
    Live,
    /// Wait: every frame is processed, in order.
    Recorded,
}

/// What is known of a source once it is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Short name for display and events; never holds credentials.
    pub name: String,
    /// Width of the delivered frames in pixels, rotation applied.
    pub width: u32,
    /// Height of the delivered frames in pixels, rotation applied.
    pub height: u32,
    /// How many frames the container declares: `None` if endless or not said. Some containers
    /// (Matroska, MPEG-TS) only imply it through their duration, and samples hidden by an edit
    /// list are counted but not delivered: use it for progress, not as a promise.
    pub frame_count: Option<u64>,
    /// Nominal frame rate in frames per second; the mean where the rate varies.
    pub frame_rate: Option<f64>,
    /// Policy that suits the source as opened: an `http` URL that turns out to be a finite file
    /// is [`Policy::Recorded`].
    pub policy: Policy,
}

/// How long to wait for sources that can keep silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Longest time for a network stream to open.
    pub open_timeout: Duration,
    /// Longest time for a network stream to deliver its next frame. Cameras wait 10 s, which
    /// OpenCV lets nobody change but through `OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT` (seconds).
    pub read_timeout: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { open_timeout: Duration::from_secs(10), read_timeout: Duration::from_secs(10) }
    }
}

/// An open source of frames.
pub trait Source: Send {
    /// What is known of the source.
    fn info(&self) -> &SourceInfo;

    /// Reads the next frame; `None` is the end of a recorded source, and stays so.
    ///
    /// Indices count from 0 without gaps and timestamps increase strictly. A recorded source
    /// starts at `pts` 0 and follows its container; a live one counts from the arrival of its
    /// first frame.
    ///
    /// # Errors
    ///
    /// A live source that falls silent or hangs up ([`CaptureError::retryable`]), or a file that
    /// is incomplete or damaged: then all frames that could be decoded came first.
    fn read(&mut self) -> Result<Option<Frame>, CaptureError>;
}

/// What FFmpeg is told about streams, unless the user says otherwise: UDP loses packets, which shows as smeared pictures
/// that then pass for real ones.
const FFMPEG_DEFAULT: &str = "rtsp_transport;tcp";

/// Stops OpenCV and FFmpeg from writing to the terminal, and asks RTSP cameras for TCP.
///
/// To be called first thing in `main`. Variables that the user has set are left alone, so the
/// back-ends can still be made to talk.
///
/// # Safety
///
/// Sets environment variables: no other thread may read or write the environment meanwhile.
pub unsafe fn silence_backends() {
    #[cfg(feature = "opencv")]
    {
        let defaults = [
            // OpenCV's windows are Qt's, which comments on the session it runs in.
            ("QT_LOGGING_RULES", "*.warning=false"),
            // FFmpeg's AV_LOG_QUIET; OpenCV asks for this variable each time it opens a capture.
            ("OPENCV_FFMPEG_LOGLEVEL", "-8"),
            ("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_DEFAULT),
            // Respected from OpenCV 4.7 on, see `video`.
            ("OPENCV_FFMPEG_THREADS", "1"),
        ];
        for (name, value) in defaults {
            if std::env::var_os(name).is_none() {
                // SAFETY: our caller guarantees that nobody else uses the environment now.
                unsafe { std::env::set_var(name, value) };
            }
        }
        // OPENCV_LOG_LEVEL itself is read before `main`, when the library is loaded.
        if std::env::var_os("OPENCV_LOG_LEVEL").is_none() {
            let silent = opencv::core::LogLevel::LOG_LEVEL_SILENT;
            if let Err(error) = opencv::core::set_log_level(silent) {
                tracing::debug!(%error, "OpenCV keeps its log level");
            }
        }
    }
}
