//! What a training is asked to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tch::{Device, Kind};

use super::augment::Augmentation;
use super::scenes::SceneRecipe;
use super::schedule::Schedule;
use crate::model::resnet::Stage;

/// A training: what to learn, from which files, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder with `train` and `val`, each with a folder a class.
    pub data: PathBuf,
    /// Weights to start from.
    pub init: PathBuf,
    /// Where the best model goes; log, curves and the state of an interrupted training go beside it.
    pub out: PathBuf,
    /// Go on where an interrupted training stopped.
    pub resume: bool,
    /// What decides the result.
    pub recipe: Recipe,
    /// Where the output of the frozen stages is kept if `recipe.cached_views` asks for it.
    pub cache: PathBuf,
    /// Size that it may have, in bytes.
    pub cache_limit: u64,
    /// Where the network runs.
    pub device: Device,
    /// Threads that read pictures.
    pub loader_threads: usize,
    /// Time between two copies of the state within an epoch: what a power cut costs at most, validation apart.
    pub state_interval: Duration,
}

impl Settings {
    /// The CSV log beside the model.
    pub fn log(&self) -> PathBuf {
        self.out.with_extension("csv")
    }

    /// The picture of the curves beside the model.
    pub fn curves(&self) -> PathBuf {
        self.out.with_extension("png")
    }

    /// The state of an unfinished training beside the model.
    pub fn state(&self) -> PathBuf {
        self.out.with_extension("state.safetensors")
    }

    /// The places of faces in the pictures beside the model.
    pub fn places(&self) -> PathBuf {
        self.out.with_extension("places.json")
    }

    /// The picture of some scenes beside the model.
    pub fn scenes(&self) -> PathBuf {
        self.out.with_extension("scenes.png")
    }

    /// Where the feature cache of a model goes unless another place is given.
    pub fn default_cache(out: &Path) -> PathBuf {
        out.with_extension("features")
    }
}

/// Everything that decides what is learnt from given pictures and weights. It is kept in the model file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Name of the file with the weights to start from.
    pub init: String,
    /// Classes to learn, in the order of the outputs; all folders of `train` if empty.
    pub classes: Vec<String>,
    /// Passes.
    pub epochs: u32,
    /// Epochs without a better model after which the training ends early.
    pub patience: Option<u32>,
    /// Pictures a pass; as many as there are in `train` if `None`.
    pub pictures_per_epoch: Option<usize>,
    /// Pictures a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Each trained stage below those that begin at random learns at this share of the rate of the stage above it
    /// ("discriminative fine-tuning", Howard & Ruder 2018), in (0, 1].
    pub stage_decay: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay of SGD.
    pub weight_decay: f64,
    /// Share of each label that is spread over all classes (Szegedy et al. 2016), in [0, 1).
    pub label_smoothing: f64,
    /// Last frozen stage; `None` trains all of them.
    pub freeze_until: Option<Stage>,
    /// What the network computes with while it learns.
    pub precision: Precision,
    /// Variations of the training pictures.
    pub augmentation: Augmentation,
    /// Variations of each picture that are made once and for all, their features being cached; if `None`, each time
    /// another one.
    pub cached_views: Option<u32>,
    /// How scenes are composed of the pictures; if `None`, each is learnt as it is.
    pub scenes: Option<SceneRecipe>,
    /// Decides everything random.
    pub seed: u64,
}

/// What the network computes with. Parameters and their velocities are kept in single precision either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits a number.
    Single,
    /// 16 bits a number, with the range of 32: about twice as fast where processor or GPU have instructions for it.
    Bfloat16,
}

impl Precision {
    /// libtorch's name of it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Single => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }
}
