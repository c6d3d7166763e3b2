//! Transfer learning, the HayCAM paper's Algorithm 1: remove the last layer, add one neuron a class, freeze the first
//! layers, retrain.
//!
//! [`settings`] say what is wanted and [`run`](fn@run) checks it; a [`session`] then does the work: the [`sampler`] picks
//! the pictures class-balanced, [`augment`] varies them, [`features`] keeps what the frozen stages make of them, [`sgd`]
//! takes the steps at the rate of the [`schedule`], [`temperature`] calibrates what was learnt, [`log`] keeps the record,
//! [`curves`] draws it, and [`state`] keeps what a resumption needs.

pub mod augment;
mod cached;
pub mod curves;
pub mod features;
pub mod log;
mod run;
pub mod sampler;
pub mod scenes;
pub mod schedule;
mod session;
pub mod settings;
pub mod sgd;
pub mod stages;
pub mod state;
pub mod tally;
pub mod temperature;
mod validate;

pub use run::{Ending, Outcome, run};
pub use settings::Settings;

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::dataset::{Dataset, DatasetError};
use crate::exit_code::ExitCode;
use crate::explain::ExplainError;
use crate::labels::BACKGROUND;
use crate::model::ModelError;
use crate::model::checkpoint::Initial;
use crate::plot::PlotError;
use log::EpochRecord;
use state::Position;

/// Watches a training and may stop it.
pub trait Observer {
    /// What the training starts from, how far it has come, and the pictures there are.
    fn started(&mut self, initial: &Initial, position: &Position, train: &Dataset, val: &Dataset);
    /// Views of the pictures go through the frozen stages and into the feature cache; `ControlFlow::Break` ends the
    /// training early.
    fn caching(&mut self, done: usize, total: usize) -> ControlFlow<()>;
    /// The places of faces are looked for; `ControlFlow::Break` ends the training early.
    fn locating(&mut self, done: usize, total: usize) -> ControlFlow<()>;
    /// A batch is done, with its mean loss unless none of its pictures could be read; `ControlFlow::Break` ends the
    /// training early.
    fn batch(&mut self, epoch: u32, done: usize, total: usize, loss: Option<f64>) -> ControlFlow<()>;
    /// Validation of an epoch begins or goes on; `ControlFlow::Break` ends the training early.
    fn validating(&mut self, done: usize, total: usize) -> ControlFlow<()>;
    /// An epoch is over.
    fn epoch(&mut self, record: &EpochRecord);
}

/// What can go wrong in a training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The pictures.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The place for the model makes no sense.
    #[error("--out {0}")]
    Output(String),
    /// A class without a name.
    #[error("--classes has an empty name; give names of folders, separated by single commas")]
    ClassName,
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
    /// Another training of that name was not completed.
    #[error(
        "{path} holds a training that was interrupted: go on with --resume, or delete that file to begin anew",
        path = .0.display()
    )]
    Unfinished(PathBuf),
    /// There is no interrupted training.
    #[error(
        "{path} does not exist, so there is no interrupted training to go on with; begin one without --resume",
        path = .0.display()
    )]
    NothingToResume(PathBuf),
    /// The interrupted training is another one.
    #[error(
        "{path} cannot be resumed like this, {difference}; give the settings and pictures that it was begun with",
        path = .path.display()
    )]
    OtherTraining {
        /// The state.
        path: PathBuf,
        /// What differs, in words.
        difference: String,
    },
    /// The state of a complete training stays.
    #[error("the training is complete, but {path} cannot be removed: {source}; delete it", path = .path.display())]
    StateRemains {
        /// The state.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The best model so far has gone.
    #[error(
        "{path} is gone, and with it the best model of the training that is to be resumed; put it back, or begin anew without {state}",
        path = .path.display(),
        state = .state.display()
    )]
    BestIsGone {
        /// The model.
        path: PathBuf,
        /// The state.
        state: PathBuf,
    },
    /// The observer asked for the end.
    #[error("interrupted")]
    Interrupted,
    /// Without frozen stages there is nothing to cache.
    #[error("--cached-views needs frozen stages, and --freeze-until none leaves none; freeze some, or cache nothing")]
    NothingToCache,
    /// The feature cache would grow beyond its limit.
    #[error(
        "the feature cache would take {needed:.1} GB, and --cache-limit is {limit:.1}; raise it, or give --cached-views {fitting} at most"
    )]
    CacheLimit {
        /// Size in gigabytes.
        needed: f64,
        /// Limit in gigabytes.
        limit: f64,
        /// Views that fit.
        fitting: u32,
    },
    /// Scenes need pictures without a face.
    #[error(
        "--scenes needs a class {BACKGROUND} of pictures without a face, and at least one class of faces; name them with --classes"
    )]
    NoBackground,
    /// The maps that tell where faces are.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// The curves cannot be drawn.
    #[error(transparent)]
    Curves(#[from] PlotError),
    /// The loss is not a number any more.
    #[error("the loss became {loss} in epoch {epoch}; lower --learning-rate")]
    Diverged {
        /// Epoch, counted from 1.
        epoch: u32,
        /// The loss.
        loss: f64,
    },
    /// The feature cache.
    #[error(transparent)]
    Features(#[from] features::FeatureError),
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
            Self::Features(error) => error.exit_code(),
            Self::Explain(error) => error.exit_code(),
            Self::Model(error) | Self::Torch(error) => error.exit_code(),
            Self::NothingToResume(_) | Self::BestIsGone { .. } => ExitCode::Input,
            Self::Interrupted => ExitCode::Interrupted,
            Self::Output(_)
            | Self::ClassName
            | Self::FrozenNoise { .. }
            | Self::Unfinished(_)
            | Self::OtherTraining { .. }
            | Self::NothingToCache
            | Self::NoBackground
            | Self::CacheLimit { .. } => ExitCode::Usage,
            Self::Log { .. } | Self::Curves(_) | Self::StateRemains { .. } | Self::Diverged { .. } => ExitCode::Failed,
        }
    }
}

impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
