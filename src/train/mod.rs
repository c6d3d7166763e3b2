//! Transfer learning, the HayCAM paper's Algorithm 1: remove the last layer, add one neuron a class, freeze the first
//! layers, retrain.
//!
//! [`sampler`] picks the pictures class-balanced, [`augment`] varies them, [`sgd`] takes the steps at the rate of the
//! [`schedule`], [`log`] keeps the record, [`curves`] draws it, [`run`](fn@run) ties them together.

pub mod augment;
pub mod curves;
pub mod log;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod sgd;

pub use run::{Observer, Outcome, Settings, run};

use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::exit_code::ExitCode;
use crate::model::ModelError;

/// What can go wrong in a training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The pictures.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The place for the model makes no sense.
    #[error("--out {0}")]
    Output(String),
    /// Parameters without a start would never be trained.
    #[error(
        "{init} does not hold {parameter}, which would stay random: freeze less (--freeze-until), or start from a complete file"
    )]
    FrozenNoise {
        /// Where the training starts.
        init: String,
        /// The first such parameter.
        parameter: String,
    },
    /// The record cannot be written.
    #[error("cannot write the training log {path}: {source}; free some space or choose another path", path = .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The loss is not a number any more.
    #[error("the loss became {loss} in epoch {epoch}; lower --learning-rate")]
    Diverged {
        /// Epoch, counted from 1.
        epoch: u32,
        /// The loss.
        loss: f64,
    },
    /// The network or its file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// libtorch refused an operation.
    #[error(transparent)]
    Torch(ModelError),
}

impl TrainError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Dataset(error) => error.exit_code(),
            Self::Model(error) | Self::Torch(error) => error.exit_code(),
            Self::Output(_) | Self::FrozenNoise { .. } => ExitCode::Usage,
            Self::Log { .. } | Self::Diverged { .. } => ExitCode::Failed,
        }
    }
}

impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
