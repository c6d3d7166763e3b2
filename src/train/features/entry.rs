//! What a store is asked for.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Tells whether a picture was changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Length of the file.
    pub(super) bytes: u64,
    /// Time of the last modification, since 1970.
    pub(super) modified_nanos: i128,
}

impl Stamp {
    /// The stamp of a file as it is now.
    ///
    /// # Errors
    ///
    /// When the file cannot be found.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|file| Self::from(&file))
    }
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        let modified_nanos = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
        Self { bytes: file.len(), modified_nanos }
    }
}

/// One view of a picture as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The image file.
    pub path: &'a Path,
    /// Its state.
    pub stamp: Stamp,
    /// Number of the view.
    pub view: u32,
}
