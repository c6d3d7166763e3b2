//! What can end an evaluation.

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
            Self::Dataset(error) => error.exit_code(),
            Self::Model(error) => error.exit_code(),
            Self::Explain(error) => error.exit_code(),
        }
    }
}
