//! What an interrupted training needs to go on as if nothing had happened: parameters and velocities in full precision,
//! and how far it had come. One safetensors file beside the model, there until the training is complete.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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
pub struct Position {
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
    /// Files that could not be read, with the reason, for people.
    pub unreadable: BTreeMap<String, String>,
}

impl Position {
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
    pub fn finish_epoch(&mut self, record: EpochRecord) {
        self.records.push(record);
        self.epoch += 1;
        self.batches = 0;
        self.tally = Tally::new(self.tally.classes());
        self.seconds = 0.0;
    }

    /// Notes files that could not be read; the first reason counts.
    pub fn note_unreadable(&mut self, files: impl IntoIterator<Item = (PathBuf, String)>) {
        for (path, reason) in files {
            self.unreadable.entry(path.display().to_string()).or_insert(reason);
        }
    }

    /// The epoch whose model was kept.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.records.iter().rev().find(|record| record.best)
    }
}

/// A training as it is now.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// What it was asked to do.
    pub recipe: &'a Recipe,
    /// Identifies its pictures.
    pub fingerprint: &'a str,
    /// Parameters that began at random.
    pub random: &'a [String],
    /// How far it has come.
    pub position: &'a Position,
    /// The network.
    pub network: &'a ResNet18,
    /// The optimiser.
    pub sgd: &'a Sgd,
}

/// What the file says of itself.
#[derive(Serialize, Deserialize)]
struct Description {
    recipe: Value,
    fingerprint: String,
    random: Vec<String>,
    position: Position,
}

impl Snapshot<'_> {
    /// Writes the state, replacing an earlier one in one step.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the earlier one is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let invalid = |error: serde_json::Error| ModelError::invalid(path, error.to_string());
        let description = Description {
            recipe: serde_json::to_value(self.recipe).map_err(invalid)?,
            fingerprint: self.fingerprint.to_owned(),
            random: self.random.to_owned(),
            position: self.position.clone(),
        };
        let text = serde_json::to_string(&description).map_err(invalid)?;
        let velocities = self.sgd.velocities().map(|(name, tensor)| (format!("{VELOCITY}{name}"), tensor));
        let tensors: Vec<(String, &Tensor)> = self.network.named_tensors().into_iter().chain(velocities).collect();
        Ok(Weights::write(path, &tensors, Storage::Single, HashMap::from([(METADATA_KEY.to_owned(), text)]))?)
    }
}

/// An interrupted training.
#[derive(Debug)]
pub struct State {
    /// The network as it was.
    pub network: ResNet18,
    /// Parameters that began at random.
    pub random: Vec<String>,
    /// How far it had come.
    pub position: Position,
    /// What the optimiser remembered.
    pub velocities: Velocities,
}

/// What an optimiser remembered, by the name of the parameter.
#[derive(Debug)]
pub struct Velocities {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl State {
    /// Reads the state of a training that had the same recipe and pictures.
    ///
    /// # Errors
    ///
    /// When there is none, it is damaged, or it belongs to another training: what differs is named.
    pub fn load(path: &Path, recipe: &Recipe, fingerprint: &str, device: Device) -> Result<Self, TrainError> {
        if !path.exists() {
            return Err(TrainError::NothingToResume(path.to_owned()));
        }
        let Weights { mut tensors, metadata } = Weights::read(path)?;
        let text = metadata
            .get(METADATA_KEY)
            .ok_or_else(|| ModelError::invalid(path, "it does not hold the state of a training"))?;
        let damaged = |error: serde_json::Error| ModelError::invalid(path, format!("it cannot be read ({error})"));
        let saved: Description = serde_json::from_str(text).map_err(damaged)?;
        let asked = serde_json::to_value(recipe).map_err(damaged)?;
        if let Some(difference) = difference("recipe", &saved.recipe, &asked) {
            return Err(TrainError::OtherTraining { path: path.to_owned(), difference });
        }
        if saved.fingerprint != fingerprint {
            let difference = "the pictures have changed".to_owned();
            return Err(TrainError::OtherTraining { path: path.to_owned(), difference });
        }
        let Description { random, position, .. } = saved;
        if position.epoch == 0 || position.tally.classes() != recipe.classes.len() {
            return Err(ModelError::invalid(path, "its position makes no sense").into());
        }
        let network = ResNet18::assemble(recipe.classes.len() as i64, &mut |name, shape| {
            take(path, &mut tensors, name, shape)?.f_to_device(device).map_err(TrainError::from)
        })?;
        Ok(Self { network, random, position, velocities: Velocities { path: path.to_owned(), tensors } })
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

/// The first setting that differs, with both values, in the words of the command line.
fn difference(name: &str, saved: &Value, asked: &Value) -> Option<String> {
    if saved == asked {
        return None;
    }
    if let (Value::Object(saved), Value::Object(asked)) = (saved, asked) {
        let value = |from: &Map<String, Value>, name: &str| from.get(name).cloned().unwrap_or(Value::Null);
        let names = asked.keys().chain(saved.keys());
        return names.into_iter().find_map(|name| difference(name, &value(saved, name), &value(asked, name)));
    }
    let shown = |value: &Value| if value.is_null() { "not given".to_owned() } else { value.to_string() };
    Some(format!("--{} was {} and now is {}", name.replace('_', "-"), shown(saved), shown(asked)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_named_as_on_the_command_line() {
        let saved = json!({ "momentum": 0.9, "patience": null, "augmentation": { "crop_scale": 0.5, "blur": 0.0 } });
        assert_eq!(difference("recipe", &saved, &saved), None);
        let changed = |path: &str, value: Value| {
            let mut asked = saved.clone();
            *asked.pointer_mut(path).unwrap() = value;
            difference("recipe", &saved, &asked).unwrap()
        };
        assert_eq!(changed("/momentum", json!(0.5)), "--momentum was 0.9 and now is 0.5");
        assert_eq!(changed("/patience", json!(3)), "--patience was not given and now is 3");
        assert_eq!(changed("/augmentation/crop_scale", json!(0.7)), "--crop-scale was 0.5 and now is 0.7");
        assert!(difference("recipe", &Value::Null, &saved).is_some(), "what is no recipe at all is another one");
    }
}
