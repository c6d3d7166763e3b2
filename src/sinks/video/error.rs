//! Why a video cannot be written, and how to read it from GStreamer's messages.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;

use super::left::Left;

/// Why a video could not be written. After all but `FrameSize` and `Timestamp`, the writer is of no
/// more use.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum VideoError {
    /// The file cannot be created.
    #[error("cannot create video {}: {source}; choose a writable place", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    /// GStreamer lacks a part.
    #[error("GStreamer element `{name}` is missing; install the package {debian_package}")]
    MissingElement { name: &'static str, debian_package: &'static str },
    /// The disk is full; what was written before stays playable.
    #[error("disk full while writing video {}: no further frames are saved; free some space; {left}", path.display())]
    DiskFull { path: PathBuf, left: Left },
    /// The file cannot grow, for example because of a size limit; what was written before stays
    /// playable.
    #[error("cannot go on writing video {}: {reason}; no further frames are saved; {left}", path.display())]
    Write { path: PathBuf, reason: String, left: Left },
    /// A frame of another size. It was left out, and writing can go on.
    #[error("{} holds frames of {}x{} pixels, now one of {}x{} came; save the rest by a new run", path.display(), expected.0, expected.1, actual.0, actual.1)]
    FrameSize { path: PathBuf, expected: (u32, u32), actual: (u32, u32) },
    /// A video of too small frames.
    #[error("frames of {width}x{height} pixels are too small for the H.264 of {} (16x16 at least); use --events", path.display())]
    TooSmall { path: PathBuf, width: u32, height: u32 },
    /// A frame that is not later than the one before. It was left out, and writing can go on.
    #[error("the time of the source goes back, from {previous:?} to {pts:?}, which {} cannot hold; save the rest by a new run", path.display())]
    Timestamp { path: PathBuf, pts: Duration, previous: Duration },
    /// The encoder or the muxer failed.
    #[error("encoding video failed: {reason}; maskwatch doctor checks the encoder")]
    Encoder { reason: String },
    /// Nothing moved for 30 s.
    #[error("the video encoder or its disk made no progress for 30 s; save to another disk")]
    Stalled,
    /// An earlier call has failed for good.
    #[error("the video was given up after an earlier error")]
    GivenUp,
}

impl VideoError {
    /// Whether other videos would fail, too: the disk and the encoder are the same for all.
    pub(crate) fn ends_all(&self) -> bool {
        !matches!(self, Self::TooSmall { .. } | Self::FrameSize { .. } | Self::Timestamp { .. } | Self::GivenUp)
    }

    pub(super) fn encoder(reason: impl ToString) -> Self {
        Self::Encoder { reason: reason.to_string() }
    }

    /// The error behind a message on the bus of the pipeline that wrote `path`, of which so much is left.
    pub(super) fn from_message(message: &gst::Message, path: &Path, left: Left) -> Self {
        let path = path.to_owned();
        let reason = describe(message);
        let resource = match message.view() {
            gst::MessageView::Error(error) => error.error().kind::<gst::ResourceError>(),
            _ => None,
        };
        match resource {
            Some(gst::ResourceError::NoSpaceLeft) => Self::DiskFull { path, left },
            Some(_) if reason.contains("File too large") => {
                Self::Write { path, reason: "it has reached the limit on file sizes (ulimit -f)".into(), left }
            }
            Some(_) => Self::Write { path, reason, left },
            None => Self::Encoder { reason },
        }
    }
}

/// The text of an error on the bus, on one line.
pub(super) fn describe(message: &gst::Message) -> String {
    let gst::MessageView::Error(error) = message.view() else {
        return "unexpected message".into();
    };
    let text = error.error().message().to_owned();
    // The first line of the details is a place in GStreamer's source; what follows tells, for one,
    // the error of the system.
    let details = error.debug().map(|debug| debug.lines().skip(1).collect::<Vec<_>>().join(" "));
    match details.filter(|details| !details.is_empty()) {
        Some(details) => format!("{text} {details}"),
        None => text,
    }
}
