//! Encoding: alone, and as the output of a pipeline. Builds without GStreamer have neither.

#[cfg(not(feature = "gstreamer"))]
mod absent;
#[cfg(feature = "gstreamer")]
mod video;

use std::path::{Path, PathBuf};

use crate::capture::SourceSpec;
use crate::cli::PresetArg;

/// Where and how videos are written.
#[derive(Debug)]
#[cfg_attr(not(feature = "gstreamer"), allow(dead_code, reason = "nothing is written"))]
pub(super) struct Saving {
    folder: PathBuf,
    source: SourceSpec,
    preset: Option<PresetArg>,
}

impl Saving {
    /// Annotated copies of a source go into a folder.
    pub(super) fn new(folder: &Path, source: &SourceSpec, preset: Option<PresetArg>) -> Self {
        Self { folder: folder.to_owned(), source: source.clone(), preset }
    }
}
