//! What can end an evaluation.

use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::exit_code::ExitCode;
use crate::explain::ExplainError;
use crate::model::ModelError;

/// Why an evaluation ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The observer asked for it.
    #[error("interrupted")]
    Interrupted,
    /// There are too few pictures to choose thresholds on some and measure the others.
    #[error("--{option} needs {needed} pictures or more, but {path} has {pictures} that can be used", path = .path.display())]
    TooFewPictures {
        /// The evaluated folder.
        path: PathBuf,
        /// Pictures there are.
        pictures: usize,
        /// Pictures that are needed.
        needed: usize,
        /// What asks for them.
        option: &'static str,
    },
    /// The pictures.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The maps.
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

impl EvaluateError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::Interrupted,
            Self::TooFewPictures { .. } => ExitCode::Usage,
            Self::Dataset(error) => error.exit_code(),
            Self::Model(error) => error.exit_code(),
            Self::Explain(error) => error.exit_code(),
        }
    }
}
