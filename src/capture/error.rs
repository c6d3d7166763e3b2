//! What can go wrong with a source: each message is one line that says what is wrong and what to do.
//!
//! Paths are shown as typed; stream addresses are shown without credentials and query.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::StreamUrl;
use crate::exit_code::ExitCode;

/// Whose fault it is, and so which exit code the process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The argument makes no sense, whatever the world looks like.
    Usage,
    /// An input cannot be opened or read.
    Input,
    /// A source failed after it had delivered frames, or this program or build falls short.
    Running,
}

impl From<Fault> for ExitCode {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Usage => Self::Usage,
            Fault::Input => Self::Input,
            Fault::Running => Self::Failed,
        }
    }
}

/// An error of the capture stage.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The argument is no source at all.
    #[error("{arg:?} is not a source: {why}")]
    BadSource {
        /// What was typed, without credentials.
        arg: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// Neither a file nor a directory of that name.
    #[error("{path} does not exist: check the path")]
    NotFound {
        /// The missing path.
        path: PathBuf,
    },
    /// The operating system refuses to read the file.
    #[error("{path} cannot be read ({reason}): check its permissions")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The operating system's reason.
        reason: std::io::Error,
    },
    /// The directory or pattern yields nothing.
    #[error("{arg} holds no image or video: give a file, or a directory or pattern with some")]
    NothingInside {
        /// The directory or pattern.
        arg: String,
    },
    /// The file has no content.
    #[error("{path} is empty (0 bytes): copy or record it again")]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// FFmpeg cannot make a video of the file.
    #[error("{path} is not a video that can be decoded: check the file, or convert it to MP4 with H.264")]
    NotVideo {
        /// The file.
        path: PathBuf,
    },
    /// An MP4 whose index would have come at its end.
    #[error("{path} is incomplete, its index (moov) is missing: copy or record it again")]
    NoIndex {
        /// The file.
        path: PathBuf,
    },
    /// A video that opens but yields no picture.
    #[error("{file} holds no video frame: copy or record it again")]
    NoFrames {
        /// The file or address.
        file: String,
    },
    /// The file ends before its container says so.
    #[error("{file} is cut short: {decoded} frames{} could be decoded; copy or record it again", of_expected(.expected))]
    Truncated {
        /// The file or address.
        file: String,
        /// Frames delivered.
        decoded: u64,
        /// Frames that the container declares, if it does.
        expected: Option<u64>,
    },
    /// The file has its full length but parts of it cannot be decoded.
    #[error(
        "{file} is damaged: {decoded} frames could be decoded, {unreadable} packets could not; copy or record it again"
    )]
    Damaged {
        /// The file or address.
        file: String,
        /// Frames delivered.
        decoded: u64,
        /// Packets that yielded no frame.
        unreadable: u64,
    },
    /// The `image` crate cannot decode the file.
    #[error("{path} is not an image that can be decoded ({reason}): check the file, or convert it to PNG or JPEG")]
    NotImage {
        /// The file.
        path: PathBuf,
        /// The decoder's reason, one line.
        reason: String,
    },
    /// The picture would need more memory than a picture should.
    #[error("{path} is too large ({width}x{height} pixels, at most {} megapixels): scale it down", super::stills::MAX_STILL_PIXELS / 1_000_000)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// No such camera, or it refuses.
    #[error("camera {camera} cannot be opened: {why}")]
    Camera {
        /// The device.
        camera: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The stream cannot be opened.
    #[error("{url} cannot be opened: {why}")]
    Stream {
        /// The address, without credentials.
        url: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The stream did not open, or stopped delivering, within the time allowed.
    #[error("{name} gave no answer for {}: check that it is on and reachable", seconds(.waited))]
    Silent {
        /// The source.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// Whether it had been opened before.
        opened: bool,
    },
    /// A live source ended.
    #[error("{name} stopped delivering frames: check its connection and open it again")]
    Disconnected {
        /// The source.
        name: String,
    },
    /// OpenCV raised an exception.
    #[error("{name}: OpenCV failed ({reason}): check the source, then report this as a defect")]
    Backend {
        /// The source.
        name: String,
        /// OpenCV's message, one line.
        reason: String,
    },
    /// What the process that decodes a live source reported.
    #[error("{message}")]
    Decoder {
        /// Its error, in one line without credentials.
        message: String,
        /// Whose fault it is.
        fault: Fault,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// The process that decodes a live source ended without a word.
    #[error("the decoder of {name} ended unexpectedly ({how}): check the stream, then report this as a defect")]
    DecoderEnded {
        /// The source.
        name: String,
        /// How it ended.
        how: String,
    },
    /// The process that decodes a live source could not be started.
    #[error("the decoder of {name} cannot be started ({reason}): check the limits on processes and memory")]
    DecoderStart {
        /// The source.
        name: String,
        /// The operating system's reason.
        reason: std::io::Error,
    },
    /// This build has no OpenCV.
    #[error("{name} needs video support, which this build lacks: build with the feature \"opencv\"")]
    NoVideoSupport {
        /// The source.
        name: String,
    },
}

impl CaptureError {
    /// Whose fault it is: [`Fault::Input`] for everything that cannot be opened or read.
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadSource { .. } => Fault::Usage,
            Self::Decoder { fault, .. } => *fault,
            Self::Silent { opened: true, .. }
            | Self::Disconnected { .. }
            | Self::Backend { .. }
            | Self::DecoderEnded { .. }
            | Self::DecoderStart { .. }
            | Self::NoVideoSupport { .. } => Fault::Running,
            _ => Fault::Input,
        }
    }

    /// Whether opening the source again, a little later, may help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Decoder { retryable, .. } => *retryable,
            Self::Camera { .. }
            | Self::Stream { .. }
            | Self::Silent { .. }
            | Self::Disconnected { .. }
            | Self::DecoderEnded { .. }
            | Self::DecoderStart { .. } => true,
            _ => false,
        }
    }

    /// What the operating system says when a file cannot be opened.
    pub(super) fn from_io(path: impl Into<PathBuf>, reason: std::io::Error) -> Self {
        let path = path.into();
        match reason.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Unreadable { path, reason },
        }
    }

    /// The device file is missing.
    pub(super) fn no_such_camera(device: &Path) -> Self {
        let why = "no such device; plug it in, or see /dev/video* for others".to_owned();
        Self::Camera { camera: device.display().to_string(), why }
    }

    /// The host does not accept connections.
    pub(super) fn unreachable(url: &StreamUrl, error: &std::io::Error) -> Self {
        let port = url.endpoint().1;
        let why = format!("no connection to port {port} ({error}); check that it is on, and the port");
        Self::Stream { url: url.to_string(), why }
    }

    /// An OpenCV exception, reduced to one line.
    #[cfg(feature = "opencv")]
    pub(super) fn backend(name: &str, error: &opencv::Error) -> Self {
        Self::Backend { name: name.to_owned(), reason: one_line(&error.message) }
    }
}

/// Joins the lines of a foreign message.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_expected(expected: &Option<u64>) -> String {
    expected.map_or(String::new(), |n| format!(" of {n}"))
}

/// Seconds, with a fraction where there are few.
fn seconds(duration: &Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 3.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}
