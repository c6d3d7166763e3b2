//! The work of a training: epochs of batches, validation after each, the best model kept.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ndarray::Array2;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::{Device, Kind, Reduction, Tensor};

use super::log::{self, EpochRecord};
use super::sampler::BalancedSampler;
use super::settings::Settings;
use super::sgd::Sgd;
use super::state::{self, Progress};
use super::tally::Tally;
use super::{Ending, Observer, TrainError, temperature};
use crate::dataset::loader::{self, Batch, Request};
use crate::dataset::{Dataset, DatasetError, Picture};
use crate::model::checkpoint::{INPUT_SIZE, Model, ModelDescription};
use crate::model::preprocess::{Normalisation, squeeze, to_input};
use crate::model::resnet::{ResNet18, Stage};

/// Time between two copies of the state within an epoch: what a power cut costs at most.
const STATE_INTERVAL: Duration = Duration::from_secs(300);

/// Why a pass over pictures ended before its last.
enum Stop {
    Interrupted,
    Failed(TrainError),
}

impl From<TrainError> for Stop {
    fn from(error: TrainError) -> Self {
        Self::Failed(error)
    }
}

impl From<DatasetError> for Stop {
    fn from(error: DatasetError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<tch::TchError> for Stop {
    fn from(error: tch::TchError) -> Self {
        Self::Failed(error.into())
    }
}

/// How a stage takes part in the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageMode {
    /// Nothing of it changes.
    Frozen,
    /// Its parameters learn; batch normalisation keeps the statistics that were loaded.
    FixedStatistics,
    /// Its parameters learn; batch normalisation takes the statistics of the batch.
    BatchStatistics,
}

/// A training under way.
#[derive(Debug)]
pub struct Session<'a> {
    /// What is asked for; the classes are named.
    pub settings: &'a Settings,
    /// Pictures to learn from.
    pub train: &'a Dataset,
    /// Pictures to choose the best epoch by.
    pub val: &'a Dataset,
    /// Identifies the pictures.
    pub fingerprint: String,
    /// The network.
    pub network: ResNet18,
    /// Parameters that began at random.
    pub random: Vec<String>,
    /// How each stage takes part, in the order of the data flow.
    pub modes: [StageMode; Stage::ALL.len()],
    /// Changes the network.
    pub sgd: Sgd,
    /// How far it has come.
    pub progress: Progress,
}

impl Session<'_> {
    /// Trains from where it stands to the end.
    ///
    /// # Errors
    ///
    /// When data or outputs fail, or the loss is not a number any more.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Ending, TrainError> {
        let recipe = &self.settings.recipe;
        let mut sampler = BalancedSampler::new(self.train);
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
        // Drawn again, so that what follows is drawn as if nothing had happened.
        for _ in 1..self.progress.epoch {
            sampler.draw(self.pictures_per_epoch(), &mut rng);
        }
        loop {
            let best = self.progress.best().map_or(0, |record| record.epoch);
            if recipe.patience.is_some_and(|patience| self.progress.epoch - 1 - best >= patience) {
                return Ok(Ending::OutOfPatience);
            }
            if self.progress.epoch > recipe.epochs {
                return Ok(Ending::Complete);
            }
            let drawn = sampler.draw(self.pictures_per_epoch(), &mut rng);
            match self.epoch(&drawn, observer) {
                Ok(()) => {}
                Err(Stop::Interrupted) => {
                    self.save_state()?;
                    return Ok(Ending::Interrupted);
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }

    fn pictures_per_epoch(&self) -> usize {
        self.settings.recipe.pictures_per_epoch.unwrap_or(self.train.pictures.len())
    }

    fn epoch(&mut self, drawn: &[usize], observer: &mut dyn Observer) -> Result<(), Stop> {
        let started = Instant::now();
        let before = self.progress.seconds;
        let outcome = self.train_epoch(drawn, observer).and_then(|()| self.validate(observer));
        self.progress.seconds = before + started.elapsed().as_secs_f64();
        let validation = outcome?;

        let Progress { epoch, ref tally, seconds, .. } = self.progress;
        if !validation.tally.mean_loss().is_finite() {
            return Err(Stop::Failed(TrainError::Diverged { epoch, loss: validation.tally.mean_loss() }));
        }
        let accuracy = validation.tally.balanced_accuracy();
        let record = EpochRecord {
            epoch,
            pictures: tally.pictures(),
            learning_rate: self.learning_rate(self.progress.step.saturating_sub(1)),
            train_loss: tally.mean_loss(),
            train_accuracy: tally.balanced_accuracy(),
            val_loss: validation.tally.mean_loss(),
            val_accuracy: accuracy,
            seconds,
            best: self.progress.best().is_none_or(|best| accuracy > best.val_accuracy),
        };
        if record.best {
            self.save_model(&record, temperature::fit(&validation.logits, &validation.labels))?;
        }
        observer.epoch(&record);
        self.progress.finish_epoch(record, self.train.classes.len());
        log::write(&self.settings.log(), &self.progress.records)?;
        self.save_state()?;
        Ok(())
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let recipe = &self.settings.recipe;
        let steps = u64::from(recipe.epochs) * self.pictures_per_epoch().div_ceil(recipe.batch_size) as u64;
        recipe.schedule.learning_rate(recipe.learning_rate, step, steps)
    }

    fn train_epoch(&mut self, drawn: &[usize], observer: &mut dyn Observer) -> Result<(), Stop> {
        let settings = self.settings;
        let recipe = &settings.recipe;
        let Progress { epoch, batches, .. } = self.progress;
        let first_draw = u64::from(epoch - 1) * drawn.len() as u64;
        let done_before = (batches * recipe.batch_size).min(drawn.len());
        let requests: Vec<Request> = drawn
            .iter()
            .zip(first_draw..)
            .skip(done_before)
            .map(|(&index, draw)| request(&self.train.pictures[index], draw))
            .collect();
        let vary = |image, request: &Request| {
            // A stream a draw: the variation does not depend on which thread makes it.
            let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
            rng.set_stream(request.draw + 1);
            recipe.augmentation.apply(&image, INPUT_SIZE, &mut rng)
        };
        let mut done = done_before;
        let mut saved = Instant::now();
        loader::load(&requests, recipe.batch_size, settings.loader_threads, vary, |batch| {
            done += batch.labels.len() + batch.unreadable.len();
            let loss = self.train_batch(&batch)?;
            if let Some(loss) = loss.filter(|loss| !loss.is_finite()) {
                return Err(Stop::Failed(TrainError::Diverged { epoch, loss }));
            }
            self.progress.step += 1;
            self.progress.batches += 1;
            self.progress.unreadable.extend(batch.unreadable);
            if saved.elapsed() > STATE_INTERVAL {
                self.save_state()?;
                saved = Instant::now();
            }
            going_on(observer.batch(epoch, done, drawn.len(), loss))
        })?;
        self.refuse_all_unreadable(&self.progress.tally)?;
        Ok(())
    }

    /// Takes one step and gives its loss; nothing is learnt from a batch without pictures.
    fn train_batch(&mut self, batch: &Batch) -> Result<Option<f64>, TrainError> {
        if batch.labels.is_empty() {
            return Ok(None);
        }
        let recipe = &self.settings.recipe;
        let labels = Tensor::f_from_slice(&batch.labels)?.f_to_device(self.settings.device)?;
        let input = to_input(&batch.images, &Normalisation::IMAGENET, self.settings.device)?;
        let mut x = input.f_to_kind(recipe.precision.kind())?;
        for (stage, mode) in Stage::ALL.into_iter().zip(self.modes) {
            let _no_gradients = (mode == StageMode::Frozen).then(tch::no_grad_guard);
            x = self.network.stage(stage, &x, mode == StageMode::BatchStatistics)?;
        }
        let logits = self.network.logits(&x)?;
        let loss = cross_entropy(&logits, &labels, recipe.label_smoothing)?;
        let value = loss.f_double_value(&[])?;
        self.progress.tally.add(value, &argmax(&logits)?, &batch.labels);
        if value.is_finite() {
            self.sgd.step(&loss, self.learning_rate(self.progress.step))?;
        }
        Ok(Some(value))
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Validation, Stop> {
        let settings = self.settings;
        let requests: Vec<Request> = self.val.pictures.iter().map(|picture| request(picture, 0)).collect();
        let prepare = |image, _: &Request| squeeze(&image, None, INPUT_SIZE);
        let classes = self.val.classes.len();
        let mut tally = Tally::new(classes);
        let mut rows = Vec::with_capacity(requests.len() * classes);
        let mut labels = Vec::with_capacity(requests.len());
        let mut done = 0;
        loader::load(&requests, settings.recipe.batch_size, settings.loader_threads, prepare, |batch| {
            done += batch.labels.len() + batch.unreadable.len();
            if !batch.labels.is_empty() {
                let _no_gradients = tch::no_grad_guard();
                let truth = Tensor::f_from_slice(&batch.labels)?.f_to_device(settings.device)?;
                let input = to_input(&batch.images, &Normalisation::IMAGENET, settings.device)?;
                let logits = self.network.logits(&self.network.activations(&input)?)?;
                let loss = cross_entropy(&logits, &truth, 0.0)?.f_double_value(&[])?;
                tally.add(loss, &argmax(&logits)?, &batch.labels);
                rows.extend(to_vec(&logits)?);
                labels.extend(batch.labels);
            }
            self.progress.unreadable.extend(batch.unreadable);
            going_on(observer.validating(done, requests.len()))
        })?;
        self.refuse_all_unreadable(&tally)?;
        let logits = Array2::from_shape_vec((labels.len(), classes), rows).expect("a row of logits for each label");
        Ok(Validation { tally, logits, labels })
    }

    fn refuse_all_unreadable(&self, tally: &Tally) -> Result<(), TrainError> {
        match self.progress.unreadable.values().next() {
            Some(reason) if tally.pictures() == 0 => Err(DatasetError::AllUnreadable(reason.clone()).into()),
            _ => Ok(()),
        }
    }

    fn save_model(&self, record: &EpochRecord, temperature: f64) -> Result<(), TrainError> {
        let settings = self.settings;
        let summary = json!({
            "algorithm": "transfer learning (HayCAM paper, Algorithm 1)",
            "program": concat!("maskwatch ", env!("CARGO_PKG_VERSION")),
            "init": settings.init.file_name().map(|name| name.to_string_lossy()),
            "random": self.random,
            "pictures": { "train": self.train.count_by_class(), "val": self.val.count_by_class() },
            "recipe": settings.recipe,
            "best": { "epoch": record.epoch, "val_loss": record.val_loss, "val_accuracy": record.val_accuracy },
        });
        let mut description =
            ModelDescription::new(self.train.classes.clone(), INPUT_SIZE, Normalisation::IMAGENET, summary);
        description.temperature = temperature;
        Ok(Model::save(&settings.out, &description, &self.network)?)
    }

    fn save_state(&self) -> Result<(), TrainError> {
        let Self { settings, fingerprint, random, progress, network, sgd, .. } = self;
        state::save(&settings.state(), &settings.recipe, fingerprint, random, progress, network, sgd)
    }
}

/// What the network says of the validation pictures.
struct Validation {
    tally: Tally,
    /// (pictures, classes)
    logits: Array2<f32>,
    labels: Vec<i64>,
}

fn request(picture: &Picture, draw: u64) -> Request {
    Request { path: picture.path.clone(), label: picture.label, draw }
}

fn going_on(flow: ControlFlow<()>) -> Result<(), Stop> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stop::Interrupted),
    }
}

fn cross_entropy(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor, tch::TchError> {
    // -100 is libtorch's own "no label"; no label has that value.
    logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, label_smoothing)
}

fn argmax(logits: &Tensor) -> Result<Vec<i64>, tch::TchError> {
    let indices = logits.f_argmax(1, false)?.f_to_device(Device::Cpu)?;
    let mut values = vec![0; indices.numel()];
    indices.f_copy_data(&mut values, indices.numel())?;
    Ok(values)
}

fn to_vec(logits: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    let logits = logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; logits.numel()];
    logits.f_copy_data(&mut values, logits.numel())?;
    Ok(values)
}
