//! What an interrupted training needs to go on as if nothing had happened: parameters and velocities in full precision,
//! and how far it had come. One safetensors file beside the model, there until the training is complete.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Tensor};

use super::TrainError;
use super::log::EpochRecord;
use super::settings::Recipe;
use super::sgd::Sgd;
use super::tally::Tally;
use crate::model::ModelError;
use crate::model::resnet::ResNet18;
use crate::model::weights::{Storage, Weights};

/// Key of the metadata under which the file describes itself.
const METADATA_KEY: &str = "maskwatch-training";
/// What the names of velocities begin with.
const VELOCITY: &str = "velocity.";

/// How far a training has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The current epoch, counted from 1.
    pub epoch: u32,
    /// Batches of it that are done.
    pub batches: usize,
    /// Loss and right answers in them.
    pub tally: Tally,
    /// Time spent on it, in seconds.
    pub seconds: f64,
    /// Steps taken since the beginning.
    pub step: u64,
    /// Epochs that are over.
    pub records: Vec<EpochRecord>,
    /// Files that could not be read, with the reason.
    pub unreadable: BTreeMap<PathBuf, String>,
}

impl Progress {
    /// At the beginning of a training of so many classes.
    pub fn new(classes: usize) -> Self {
        Self {
            epoch: 1,
            batches: 0,
            tally: Tally::new(classes),
            seconds: 0.0,
            step: 0,
            records: Vec::new(),
            unreadable: BTreeMap::new(),
        }
    }

    /// Adds an epoch that is over, and goes on to the next.
    pub fn finish_epoch(&mut self, record: EpochRecord, classes: usize) {
        self.records.push(record);
        self.epoch += 1;
        self.batches = 0;
        self.tally = Tally::new(classes);
        self.seconds = 0.0;
    }

    /// The epoch whose model was kept.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.records.iter().rev().find(|record| record.best)
    }
}

/// What the file says of itself.
#[derive(Serialize, Deserialize)]
struct Description {
    recipe: Value,
    /// Identifies the pictures.
    pictures: String,
    random: Vec<String>,
    progress: Progress,
}

/// An interrupted training.
#[derive(Debug)]
pub struct State {
    /// The network as it was.
    pub network: ResNet18,
    /// Parameters that began at random.
    pub random: Vec<String>,
    /// How far it had come.
    pub progress: Progress,
    /// What the optimiser remembered.
    pub velocities: Velocities,
}

/// What the optimiser remembered, by the name of the parameter.
#[derive(Debug)]
pub struct Velocities {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

/// Writes the state, replacing an earlier one in one step.
///
/// # Errors
///
/// When the file cannot be written; the earlier one is then untouched.
pub fn save(
    path: &Path,
    recipe: &Recipe,
    pictures: &str,
    random: &[String],
    progress: &Progress,
    network: &ResNet18,
    sgd: &Sgd,
) -> Result<(), TrainError> {
    let invalid = |error: serde_json::Error| ModelError::invalid(path, error.to_string());
    let description = Description {
        recipe: serde_json::to_value(recipe).map_err(invalid)?,
        pictures: pictures.to_owned(),
        random: random.to_owned(),
        progress: progress.clone(),
    };
    let text = serde_json::to_string(&description).map_err(invalid)?;
    let velocities = sgd.velocities().map(|(name, tensor)| (format!("{VELOCITY}{name}"), tensor));
    let tensors: Vec<(String, &Tensor)> = network.named_tensors().into_iter().chain(velocities).collect();
    Weights::write(path, &tensors, Storage::Single, HashMap::from([(METADATA_KEY.to_owned(), text)]))
        .map_err(|error| TrainError::State { path: path.to_owned(), error })
}

impl State {
    /// Reads the state of a training that had the same recipe and pictures.
    ///
    /// # Errors
    ///
    /// When there is none, it is damaged, or it belongs to another training: what differs is named.
    pub fn load(path: &Path, recipe: &Recipe, pictures: &str, device: Device) -> Result<Self, TrainError> {
        if !path.exists() {
            return Err(TrainError::NothingToResume(path.to_owned()));
        }
        let Weights { mut tensors, metadata } = Weights::read(path)?;
        let description: Description = metadata
            .get(METADATA_KEY)
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| ModelError::invalid(path, "it does not hold the state of a training"))?;
        if let Some(difference) = difference(&description.recipe, recipe) {
            return Err(TrainError::OtherTraining { path: path.to_owned(), difference });
        }
        if description.pictures != pictures {
            let difference = "the pictures have changed".to_owned();
            return Err(TrainError::OtherTraining { path: path.to_owned(), difference });
        }
        let network = ResNet18::assemble(recipe.classes.len() as i64, &mut |name, shape| {
            take(path, &mut tensors, name, shape)?.f_to_device(device).map_err(TrainError::from)
        })?;
        let Description { random, progress, .. } = description;
        Ok(Self { network, random, progress, velocities: Velocities { path: path.to_owned(), tensors } })
    }
}

impl Velocities {
    /// Hands them to an optimiser of the same parameters.
    ///
    /// # Errors
    ///
    /// When one is missing or has another shape.
    pub fn restore(mut self, sgd: &mut Sgd) -> Result<(), TrainError> {
        sgd.restore(|name, shape| take(&self.path, &mut self.tensors, &format!("{VELOCITY}{name}"), shape))
    }
}

fn take(path: &Path, tensors: &mut BTreeMap<String, Tensor>, name: &str, shape: &[i64]) -> Result<Tensor, TrainError> {
    match tensors.remove(name) {
        Some(tensor) if tensor.size() == shape => Ok(tensor),
        _ => Err(ModelError::invalid(path, format!("{name} is missing or has another shape")).into()),
    }
}

/// The first setting that differs, with both values.
fn difference(saved: &Value, recipe: &Recipe) -> Option<String> {
    let asked = serde_json::to_value(recipe).ok()?;
    let (saved, asked) = (saved.as_object()?, asked.as_object()?);
    let name = asked.keys().find(|name| saved.get(*name) != asked.get(*name))?;
    let value = |from: &serde_json::Map<String, Value>| from.get(name).map_or_else(String::new, Value::to_string);
    Some(format!("its {} was {}, and now is {}", name.replace('_', " "), value(saved), value(asked)))
}
