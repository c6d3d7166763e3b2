//! What the frozen stages make of the training pictures, computed once and kept on disk.
//!
//! Frozen stages answer a picture always alike, so a training need not run them anew in each epoch: a fixed number of
//! varied views of each picture goes through them once, and training reads the feature maps in half precision.
//! [`store`] keeps each [`entry`] in a file whose [`size`] is known before, [`identity`] ties them to the parameters and
//! settings that they were made with, and [`fill`](fn@fill) computes what is missing.

pub mod entry;
pub mod fill;
pub mod identity;
pub mod size;
pub mod store;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Stamp};
pub use fill::{Filling, fill};
pub use identity::Identity;
pub use size::{required_bytes, views_within};
pub use store::FeatureStore;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::exit_code::ExitCode;
use crate::model::ModelError;

/// What can go wrong with the feature cache.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// There is something else at that place.
    #[error("{path} is not a feature cache and is left as it is; give another --cache", path = .0.display())]
    NotAStore(PathBuf),
    /// Another process has it open.
    #[error("the feature cache {path} is in use by another training; wait for its end, or give another --cache", path = .0.display())]
    Locked(PathBuf),
    /// No room is left.
    #[error(
        "the feature cache {path} cannot grow: {source}; free some space, give fewer --cached-views, or another --cache",
        path = .path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It cannot be created, read or written.
    #[error("cannot use the feature cache {path}: {reason}; check its permissions, or give another --cache", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It is not as it was written.
    #[error("the feature cache {path} is damaged ({reason}); delete it, or give another --cache", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Some value has no half-precision equal.
    #[error("the frozen stages answer {path} with values beyond half precision; train without --cached-views", path = .0.display())]
    Overflow(PathBuf),
    /// libtorch refused an operation.
    #[error(transparent)]
    Torch(ModelError),
}

impl FeatureError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotAStore(_) => ExitCode::Usage,
            Self::Unusable { .. } | Self::Damaged { .. } => ExitCode::Input,
            Self::Locked(_) | Self::Full { .. } | Self::Overflow(_) => ExitCode::Failed,
            Self::Torch(error) => error.exit_code(),
        }
    }

    fn from_io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::Full { path, source },
            _ => Self::Unusable { path, reason: source.to_string() },
        }
    }

    fn from_database(path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::Locked(path),
            redb::Error::Io(source) => Self::from_io(&path, source),
            redb::Error::Corrupted(reason) => Self::Damaged { path, reason },
            other => Self::Unusable { path, reason: other.to_string() },
        }
    }
}

impl From<tch::TchError> for FeatureError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
