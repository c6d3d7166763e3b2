//! Transfer learning, the HayCAM paper's Algorithm 1: remove the last layer, add one neuron a class, freeze the first
//! layers, retrain.
//!
//! [`sampler`] picks the pictures class-balanced, [`augment`] varies them, [`sgd`] takes the steps at the rate of the
//! [`schedule`], [`log`] keeps the record, [`run`](fn@run) ties them together.

pub mod augment;
pub mod log;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod sgd;

pub use run::{Observer, Outcome, Settings, run};

use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::model::ModelError;

/// What can go wrong in a training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The pictures.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
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

impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
