//! The record of a training: one CSV line an epoch, written as soon as the epoch is over.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::TrainError;

/// One epoch.
#[derive(Debug, Clone, Serialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: u32,
    /// Pictures trained on.
    pub pictures: usize,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean cross entropy over the training pictures, in nats.
    pub train_loss: f64,
    /// Share of training pictures classified right.
    pub train_accuracy: f64,
    /// Mean cross entropy over the validation pictures, in nats.
    pub val_loss: f64,
    /// Mean over the classes of the share of validation pictures classified right.
    pub val_accuracy: f64,
    /// Duration of the epoch, validation included.
    pub seconds: f64,
    /// Whether the model of this epoch was kept.
    pub best: bool,
}

/// The open log.
#[derive(Debug)]
pub struct TrainingLog {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl TrainingLog {
    /// Begins a new log.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let file = File::create(path).map_err(|source| TrainError::Log { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), writer: csv::Writer::from_writer(file) })
    }

    /// Adds an epoch.
    ///
    /// # Errors
    ///
    /// When the line cannot be written.
    pub fn add(&mut self, record: &EpochRecord) -> Result<(), TrainError> {
        self.writer
            .serialize(record)
            .map_err(std::io::Error::from)
            .and_then(|()| self.writer.flush())
            .map_err(|source| TrainError::Log { path: self.path.clone(), source })
    }
}
