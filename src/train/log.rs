//! The record of a training: one CSV line an epoch, there as soon as the epoch is over.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::files;

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: u32,
    /// Pictures trained on.
    pub pictures: usize,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean loss over the training pictures, in nats.
    pub train_loss: f64,
    /// Mean over the classes of the share of training pictures classified right.
    pub train_accuracy: f64,
    /// Mean cross entropy over the validation pictures, in nats.
    pub val_loss: f64,
    /// Mean over the classes of the share of validation pictures classified right.
    pub val_accuracy: f64,
    /// Duration of the epoch, validation included.
    pub seconds: f64,
    /// Whether the model of this epoch was the best so far.
    pub best: bool,
}

/// Writes all epochs so far.
///
/// # Errors
///
/// When the file cannot be written; the earlier one is then untouched.
pub fn write(path: &Path, records: &[EpochRecord]) -> Result<(), TrainError> {
    let unwritable = |source| TrainError::Log { path: path.to_owned(), source };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        writer.serialize(record).map_err(|error| unwritable(error.into()))?;
    }
    let text = writer.into_inner().map_err(|error| unwritable(error.into_error()))?;
    files::replace(path, &text).map_err(unwritable)
}
