//! What the supervisor and the process that decodes for it say to each other.
//!
//! The supervisor writes one [`Request`] as a line of JSON to the decoder's standard input, which it then keeps open: its
//! end is the end of the decoder. The decoder answers on standard output with [`Report`]s: length of the JSON text (32
//! bits, little endian), the text, and after [`Report::Frame`] the pixels.

#![cfg_attr(not(feature = "opencv"), allow(dead_code, reason = "without OpenCV nothing decodes"))]

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RtspTransport;
use crate::capture::{CameraId, CaptureError, Fault, SourceInfo, SourceSpec, StreamUrl};

/// Longest text of a report, bytes. Anything beyond is no report.
pub const MAX_TEXT: usize = 64 * 1024;
/// Largest picture, bytes.
const MAX_PIXELS: usize = 512 << 20;

/// What to decode, and how. Holds credentials, and is therefore neither shown nor logged.
#[derive(Serialize, Deserialize)]
pub struct Request {
    source: WireSource,
    /// Deliver every frame, and wait where nobody takes it, instead of the newest only.
    pub every_frame: bool,
    /// Longest wait for the source to open.
    pub open_timeout: Duration,
    /// Longest wait for a frame.
    pub progress_timeout: Duration,
    /// How RTSP cameras send.
    pub rtsp_transport: RtspTransport,
    /// Process id of the supervisor.
    pub parent: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireSource {
    Camera(PathBuf),
    Stream(String),
}

impl Request {
    /// `None` for a recorded source, which is decoded in the process that wants it.
    pub fn new(spec: &SourceSpec, settings: &super::LiveSettings, every_frame: bool) -> Option<Self> {
        let source = match spec {
            SourceSpec::Camera(camera) => WireSource::Camera(camera.device()),
            SourceSpec::Stream(url) => WireSource::Stream(url.secret().to_owned()),
            SourceSpec::VideoFile(_) | SourceSpec::Image(_) | SourceSpec::Synthetic { .. } => return None,
        };
        Some(Self {
            source,
            every_frame,
            open_timeout: settings.open_timeout,
            progress_timeout: settings.progress_timeout,
            rtsp_transport: settings.rtsp_transport,
            parent: std::process::id(),
        })
    }

    /// The source that is asked for.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub fn spec(&self) -> Result<SourceSpec, CaptureError> {
        Ok(match &self.source {
            WireSource::Camera(device) => SourceSpec::Camera(CameraId::Device(device.clone())),
            WireSource::Stream(url) => SourceSpec::Stream(StreamUrl::parse(url)?),
        })
    }

    /// Words that no message may contain.
    pub fn secrets(&self) -> Vec<String> {
        match &self.source {
            WireSource::Camera(_) => Vec::new(),
            WireSource::Stream(url) => StreamUrl::parse(url).map(|url| url.secrets()).unwrap_or_default(),
        }
    }
}

/// What the decoder has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The source is open.
    Opened(SourceInfo),
    /// A picture follows.
    Frame(FrameHeader),
    /// A recorded source is over.
    Ended,
    /// The source failed, and the decoder ends.
    Failed(Failure),
}

/// What comes before the pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameHeader {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// When the frame was there: nanoseconds of `CLOCK_MONOTONIC`, which all processes share.
    pub captured_nanos: u64,
    /// How long decoding took.
    pub decode_time: Duration,
    /// The time that the stream gives the frame, if it does; for a recorded source its timestamp.
    pub stream_time: Option<Duration>,
    /// Frames since the one before that were passed over because a newer one was there.
    pub skipped: u64,
}

impl FrameHeader {
    /// Bytes of the picture, if it has a size that pictures have.
    pub fn pixel_bytes(&self) -> Option<usize> {
        let pixels = (self.width as usize).checked_mul(self.height as usize)?;
        pixels.checked_mul(3).filter(|bytes| (1..=MAX_PIXELS).contains(bytes))
    }
}

/// An error on its way from the decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    message: String,
    fault: Fault,
    retryable: bool,
}

impl Failure {
    /// `secrets` are words that must not get out, whatever a library wrote into its message.
    pub fn new(error: &CaptureError, secrets: &[String]) -> Self {
        let mut message = error.to_string();
        for secret in secrets {
            message = message.replace(secret, "***");
        }
        // An exception of OpenCV may have to do with what the source sent, which will not last.
        let retryable = error.retryable() || matches!(error, CaptureError::Backend { .. });
        Self { message, fault: error.fault(), retryable }
    }
}

impl From<Failure> for CaptureError {
    fn from(failure: Failure) -> Self {
        Self::Decoder { message: failure.message, fault: failure.fault, retryable: failure.retryable }
    }
}

/// Sends a report; `pixels` belong to [`Report::Frame`] alone.
///
/// # Errors
///
/// When nobody reads.
pub fn write_report(out: &mut impl Write, report: &Report, pixels: &[u8]) -> io::Result<()> {
    let text = serde_json::to_vec(report)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut message = length.to_le_bytes().to_vec();
    message.extend(text);
    out.write_all(&message)?;
    out.write_all(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::supervise::LiveSettings;

    #[test]
    fn a_request_arrives_whole() {
        let url = "rtsp://admin:hunter2@cam/live";
        for arg in ["3", "/dev/video2", url] {
            let spec = SourceSpec::parse(arg).unwrap().remove(0);
            let request = Request::new(&spec, &LiveSettings::default(), true).unwrap();
            let text = serde_json::to_string(&request).unwrap();
            assert!(!text.contains('\n'));
            let received: Request = serde_json::from_str(&text).unwrap();
            assert_eq!(received.spec().unwrap().name(), spec.name().replace("camera3", "video3"));
            assert_eq!((received.open_timeout, received.parent), (request.open_timeout, std::process::id()));
        }
        let picture = SourceSpec::Image("x.png".into());
        assert!(Request::new(&picture, &LiveSettings::default(), true).is_none());
    }

    #[test]
    fn no_library_gives_a_secret_away() {
        let error = CaptureError::Backend { name: "cam".into(), reason: "cannot open rtsp://u:hunter2@cam".into() };
        let failure = Failure::new(&error, &["hunter2".into()]);
        assert!(!failure.message.contains("hunter2") && failure.message.contains("u:***@cam"), "{}", failure.message);
        assert!(CaptureError::from(failure).retryable());
    }

    #[test]
    fn sizes_that_no_picture_has_are_refused() {
        let bytes = |width, height| {
            FrameHeader { width, height, captured_nanos: 0, decode_time: Duration::ZERO, stream_time: None, skipped: 0 }
                .pixel_bytes()
        };
        assert_eq!(bytes(640, 480), Some(640 * 480 * 3));
        assert_eq!((bytes(0, 480), bytes(u32::MAX, u32::MAX), bytes(100_000, 100_000)), (None, None, None));
    }
}
