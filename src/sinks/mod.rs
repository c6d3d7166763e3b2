//! The last stage: where findings go. One file a sink, behind one trait.
//!
//! Each sink has a thread of its own (the pipeline sees to that), and all share the same findings.

pub mod access;
pub mod comparison;
pub mod events;
mod finding;
pub mod moments;
mod notice;
pub mod rotation;
#[cfg(feature = "gstreamer")]
pub mod rtsp;
#[cfg(feature = "gstreamer")]
pub mod save;
pub mod scan;
#[cfg(feature = "serve")]
pub mod serve;
pub mod snapshots;
pub mod stats_file;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(feature = "gstreamer")]
pub mod video;
#[cfg(feature = "opencv")]
pub mod window;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::capture::SourceInfo;
use crate::shared::Shared;

pub use finding::Finding;
pub use notice::{Happening, Notice, Origin};

/// Where annotated copies go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveTarget {
    /// One file, for the only source of the run.
    File(PathBuf),
    /// A folder with a file a source, named after it.
    Folder(PathBuf),
}

/// A file or folder into which a sink has written something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// How much of what, in words.
    pub what: String,
}

/// Why a sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A video file.
    #[cfg(feature = "gstreamer")]
    #[error(transparent)]
    Video(#[from] video::VideoError),
    /// Another file.
    #[error("cannot write {path}: {reason}; {}", remedy(.reason), path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: std::io::Error,
    },
    /// A snapshot.
    #[error("cannot write a snapshot into {folder}: {reason}; {}; the run goes on", remedy(.reason), folder = .folder.display())]
    Snapshot {
        /// The folder.
        folder: PathBuf,
        /// What went wrong.
        reason: std::io::Error,
    },
    /// The HTTP server.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    /// The RTSP server.
    #[cfg(feature = "gstreamer")]
    #[error(transparent)]
    Rtsp(#[from] rtsp::RtspError),
    /// The window.
    #[error("the window failed: {0}; run with --headless or --save")]
    Window(String),
}

impl SinkError {
    /// Whether the sink is lost as a whole, rather than its output for one source.
    pub fn ends_sink(&self) -> bool {
        match self {
            #[cfg(feature = "gstreamer")]
            Self::Video(error) => error.ends_all(),
            Self::Snapshot { .. } => false,
            #[cfg(feature = "serve")]
            Self::Serve(_) => true,
            #[cfg(feature = "gstreamer")]
            Self::Rtsp(_) => true,
            Self::File { .. } | Self::Window(_) => true,
        }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<std::io::Error>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }
}

fn remedy(reason: &std::io::Error) -> impl fmt::Display {
    match reason.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "free some space; what is there stays valid"
        }
        std::io::ErrorKind::FileTooLarge => "raise the limit on file sizes (ulimit -f); what is there stays valid",
        std::io::ErrorKind::PermissionDenied => "choose a place that you may write to",
        std::io::ErrorKind::NotFound => "make the folder first",
        _ => "choose another place",
    }
}

/// A source that begins to deliver.
#[derive(Debug, Clone, Copy)]
pub struct SourceContext<'a> {
    /// Its place in the order that the user gave.
    pub source: usize,
    /// What is known of it.
    pub info: &'a Arc<SourceInfo>,
}

/// An output of the pipeline. All sources go to the same sink, told apart by their number.
pub trait Sink: Send {
    /// As it is called in logs, statistics, and the name of its thread.
    fn name(&self) -> &'static str;

    /// Whether it must be driven by the main thread, as windows must. At most one sink of a run may.
    fn needs_main_thread(&self) -> bool {
        false
    }

    /// Whether it does something with frames: to others none are sent.
    fn wants_frames(&self) -> bool {
        true
    }

    /// Whether it does something with notices: to others none are sent.
    fn wants_notices(&self) -> bool {
        false
    }

    /// Whether it tells the log of the alarms that it takes, with what it has kept of them.
    fn logs_alarms(&self) -> bool {
        false
    }

    /// A source begins, or begins anew.
    ///
    /// # Errors
    ///
    /// After an error that [ends the sink](SinkError::ends_sink), here or below, it is not used any more; after another
    /// one, it ignores the source.
    fn open(&mut self, source: SourceContext) -> Result<(), SinkError>;

    /// Takes a finding.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError>;

    /// Takes what has happened, apart from the frames.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn notice(&mut self, _notice: &Notice) -> Result<(), SinkError> {
        Ok(())
    }

    /// A source is over: its files are completed. Called for a source closed already or never opened, it does nothing.
    ///
    /// # Errors
    ///
    /// When a file cannot be completed.
    fn close(&mut self, source: usize) -> Result<(), SinkError>;

    /// Time passes: called several times a second, between other calls.
    ///
    /// # Errors
    ///
    /// When something that was due cannot be done.
    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// It has failed for good: what it had begun is completed as far as it can be. Nothing is asked of it after that but
    /// [`Sink::written`].
    fn abandon(&mut self) {}

    /// Whether it goes on after an error, but does not do its work until that is mended.
    fn is_failing(&self) -> bool {
        false
    }

    /// What was written so far.
    fn written(&self) -> Vec<Written>;

    /// Whether the user has asked it to end the run.
    fn wants_to_stop(&self) -> bool {
        false
    }
}
