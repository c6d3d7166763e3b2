//! The work of a training: epochs of batches, validation after each, the best model kept.

use std::ops::{ControlFlow, Range};
use std::time::Instant;

use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::{Reduction, TchError, Tensor};

use super::cached::{Cached, StoredMap};
use super::log::{self, EpochRecord};
use super::sampler::BalancedSampler;
use super::scenes::compose::Composer;
use super::scenes::{self, Scene};
use super::settings::Settings;
use super::sgd::Sgd;
use super::stages::{StageMode, StageModes};
use super::state::{Position, Snapshot};
use super::tally::Tally;
use super::validate::{predicted, validate};
use super::{Ending, Observer, TrainError, curves, temperature};
use crate::dataset::loader::{self, Request};
use crate::dataset::{Dataset, DatasetError};
use crate::model::checkpoint::{INPUT_SIZE, Model, ModelDescription};
use crate::model::preprocess::{Normalisation, to_input};
use crate::model::resnet::{ResNet18, Stage};
use crate::model::tensors::to_rows;

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
    /// How each stage takes part.
    pub modes: StageModes,
    /// Changes the network.
    pub sgd: Sgd,
    /// How far it has come.
    pub position: Position,
    /// Composes scenes of the pictures to learn from and to choose by, where scenes are asked for.
    pub composers: Option<Composers<'a>>,
}

/// What composes scenes.
#[derive(Debug)]
pub struct Composers<'a> {
    /// Of the pictures to learn from.
    pub train: Composer<'a>,
    /// Of the pictures to choose the best epoch by.
    pub val: Composer<'a>,
}

impl Session<'_> {
    /// Trains from where it stands to the end.
    ///
    /// # Errors
    ///
    /// When data or outputs fail, or the loss is not a number any more.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Ending, TrainError> {
        match self.work(observer) {
            Err(TrainError::Interrupted) => {
                self.save_state()?;
                Ok(Ending::Interrupted)
            }
            outcome => outcome,
        }
    }

    fn work(&mut self, observer: &mut dyn Observer) -> Result<Ending, TrainError> {
        let recipe = &self.settings.recipe;
        let cached = Cached::complete(self, observer)?;
        let mut sampler = BalancedSampler::new(self.train);
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
        // Drawn again, so that what follows is drawn as if nothing had happened.
        for _ in 1..self.position.epoch {
            sampler.draw(self.pictures_per_epoch(), &mut rng);
        }
        loop {
            if self.position.epoch > recipe.epochs {
                return Ok(Ending::Complete);
            }
            let best = self.position.best().map_or(0, |record| record.epoch);
            if recipe.patience.is_some_and(|patience| self.position.epoch - 1 - best >= patience) {
                return Ok(Ending::OutOfPatience);
            }
            let drawn = sampler.draw(self.pictures_per_epoch(), &mut rng);
            self.epoch(&drawn, cached.as_ref(), observer)?;
        }
    }

    fn pictures_per_epoch(&self) -> usize {
        self.settings.recipe.pictures_per_epoch.unwrap_or(self.train.pictures.len())
    }

    fn epoch(
        &mut self,
        drawn: &[usize],
        cached: Option<&Cached>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let started = Instant::now();
        let before = self.position.seconds;
        let outcome = self.train_epoch(drawn, cached, observer).and_then(|()| {
            // Validation may take long, too.
            self.save_state()?;
            let validation = validate(&self.network, self.val, self.settings, observer)?;
            let of_scenes = self.composers.as_ref().map(|composers| {
                scenes::validate::validate(&self.network, self.val, &composers.val, self.settings, observer)
            });
            Ok((validation, of_scenes.transpose()?))
        });
        self.position.seconds = before + started.elapsed().as_secs_f64();
        let (validation, loss_of_scenes) = outcome?;
        self.position.note_unreadable(validation.unreadable);
        self.refuse_all_unreadable(&validation.tally)?;

        let Position { epoch, ref tally, seconds, .. } = self.position;
        if !validation.tally.mean_loss().is_finite() {
            return Err(TrainError::Diverged { epoch, loss: validation.tally.mean_loss() });
        }
        let accuracy = validation.tally.balanced_accuracy();
        let val_loss = loss_of_scenes.unwrap_or(validation.tally.mean_loss());
        let record = EpochRecord {
            epoch,
            pictures: tally.pictures(),
            learning_rate: self.learning_rate(self.position.step.saturating_sub(1)),
            train_loss: tally.mean_loss(),
            train_accuracy: tally.balanced_accuracy(),
            val_loss,
            val_accuracy: accuracy,
            seconds,
            // Of equally accurate models the surer one.
            best: self.position.best().is_none_or(|best| match loss_of_scenes {
                Some(loss) => loss < best.val_loss,
                None => accuracy > best.val_accuracy || accuracy == best.val_accuracy && val_loss < best.val_loss,
            }),
        };
        if record.best {
            self.save_model(&record, temperature::fit(&validation.logits, &validation.labels))?;
        }
        observer.epoch(&record);
        self.position.finish_epoch(record);
        log::write(&self.settings.log(), &self.position.records)?;
        curves::draw(&self.position.records, &self.settings.curves())?;
        self.save_state()
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let recipe = &self.settings.recipe;
        let steps = u64::from(recipe.epochs) * self.pictures_per_epoch().div_ceil(recipe.batch_size) as u64;
        recipe.schedule.learning_rate(recipe.learning_rate, step, steps)
    }

    fn train_epoch(
        &mut self,
        drawn: &[usize],
        cached: Option<&Cached>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let device = self.settings.device;
        let recipe = &self.settings.recipe;
        if let Some(cached) = cached {
            let read = |request: &Request| cached.read(request);
            let step = |session: &mut Self, maps: Vec<StoredMap>, labels: &[i64]| {
                session.step(cached.stack(maps, device)?, cached.first_stage(), labels)
            };
            return self.learn(drawn, read, step, observer);
        }
        if let Some(composers) = self.composers.take() {
            let composer = &composers.train;
            let compose = |request: &Request| composer.compose(request, &mut random_stream(recipe.seed, request.draw));
            let step = |session: &mut Self, scenes: Vec<Scene>, labels: &[i64]| {
                session.step_of_scenes(scenes, labels, composer)
            };
            let outcome = self.learn(drawn, compose, step, observer);
            self.composers = Some(composers);
            return outcome;
        }
        let vary = |request: &Request| {
            let image = loader::decode(request)?;
            Ok(recipe.augmentation.apply(&image, INPUT_SIZE, &mut random_stream(recipe.seed, request.draw)))
        };
        let step = |session: &mut Self, images: Vec<RgbImage>, labels: &[i64]| {
            session.step(to_input(&images, &Normalisation::IMAGENET, device)?, 0, labels)
        };
        self.learn(drawn, vary, step, observer)
    }

    /// Learns what is left of an epoch. `fetch` gives what a picture contributes; `step` learns from some of that with
    /// their labels, and gives the mean loss before it.
    fn learn<T: Send>(
        &mut self,
        drawn: &[usize],
        fetch: impl Fn(&Request) -> Result<T, String> + Sync,
        mut step: impl FnMut(&mut Self, Vec<T>, &[i64]) -> Result<f64, TrainError>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let settings = self.settings;
        let batch_size = settings.recipe.batch_size;
        let Position { epoch, batches, .. } = self.position;
        let first_draw = u64::from(epoch - 1) * drawn.len() as u64;
        let mut done = (batches * batch_size).min(drawn.len());
        let requests: Vec<Request> = drawn
            .iter()
            .zip(first_draw..)
            .skip(done)
            .map(|(&index, draw)| Request::new(&self.train.pictures[index], draw))
            .collect();
        let mut saved = Instant::now();
        loader::load(&requests, batch_size, settings.loader_threads, fetch, |batch| {
            done += batch.labels.len() + batch.unreadable.len();
            let mut loss = None;
            // Nothing is learnt from a batch without pictures.
            if !batch.labels.is_empty() {
                let value = step(self, batch.items, &batch.labels)?;
                if !value.is_finite() {
                    return Err(TrainError::Diverged { epoch, loss: value });
                }
                loss = Some(value);
            }
            self.position.step += 1;
            self.position.batches += 1;
            self.position.note_unreadable(batch.unreadable);
            if saved.elapsed() >= settings.state_interval {
                self.save_state()?;
                saved = Instant::now();
            }
            going_on(observer.batch(epoch, done, drawn.len(), loss))
        })?;
        self.refuse_all_unreadable(&self.position.tally)
    }

    /// Takes one step with the input of the stage with the index `first`, and gives the mean loss before it.
    fn step(&mut self, input: Tensor, first: usize, labels: &[i64]) -> Result<f64, TrainError> {
        let activations = self.run_stages(first..Stage::ALL.len(), input)?;
        let logits = self.network.logits(&activations)?;
        let truth = Tensor::f_from_slice(labels)?.f_to_device(self.settings.device)?;
        let loss = cross_entropy(&logits, &truth, self.settings.recipe.label_smoothing)?;
        let value = loss.f_double_value(&[])?;
        self.position.tally.add(value, &predicted(to_rows(&logits)?.view()), labels);
        self.descend(&loss, value)
    }

    /// Takes one step with scenes, and gives the mean loss before it.
    fn step_of_scenes(&mut self, scenes: Vec<Scene>, labels: &[i64], composer: &Composer) -> Result<f64, TrainError> {
        let images: Vec<RgbImage> = scenes.iter().map(|scene| scene.image.clone()).collect();
        let input = to_input(&images, &Normalisation::IMAGENET, self.settings.device)?;
        let activations = self.run_stages(0..Stage::ALL.len(), input)?;
        let logits = self.network.position_logits(&activations)?;
        let (weights, predicted) = scenes::validate::judge(&logits, &scenes, composer)?;
        let mut loss = scenes::loss::loss(&logits, &weights)?;
        // -100 is libtorch's own "no label".
        let whole: Vec<i64> = scenes.iter().map(|scene| scene.whole.map_or(-100, |class| class as i64)).collect();
        if whole.iter().any(|&class| class >= 0) {
            let truth = Tensor::f_from_slice(&whole)?.f_to_device(self.settings.device)?;
            let of_whole =
                cross_entropy(&self.network.logits(&activations)?, &truth, self.settings.recipe.label_smoothing)?;
            loss = loss.f_add(&of_whole.f_mul_scalar(composer.recipe().whole_weight)?)?;
        }
        let value = loss.f_double_value(&[])?;
        self.position.tally.add(value, &predicted, labels);
        self.descend(&loss, value)
    }

    /// Goes against the gradient of a loss of this value, unless it is not a number.
    fn descend(&mut self, loss: &Tensor, value: f64) -> Result<f64, TrainError> {
        if value.is_finite() {
            self.sgd.step(loss, self.learning_rate(self.position.step))?;
        }
        Ok(value)
    }

    /// Runs the stages of these indices as the training does.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn run_stages(&self, stages: Range<usize>, input: Tensor) -> Result<Tensor, TchError> {
        let mut x = input.f_to_kind(self.settings.recipe.precision.kind())?;
        for index in stages {
            let mode = self.modes[index];
            let _no_gradients = (mode == StageMode::Frozen).then(tch::no_grad_guard);
            x = self.network.stage(Stage::ALL[index], &x, mode == StageMode::BatchStatistics)?;
        }
        Ok(x)
    }

    fn refuse_all_unreadable(&self, tally: &Tally) -> Result<(), TrainError> {
        match self.position.unreadable.values().next() {
            Some(reason) if tally.pictures() == 0 => Err(DatasetError::AllUnreadable(reason.clone()).into()),
            _ => Ok(()),
        }
    }

    fn save_model(&self, record: &EpochRecord, temperature: f64) -> Result<(), TrainError> {
        let settings = self.settings;
        let summary = json!({
            "algorithm": "transfer learning (HayCAM paper, Algorithm 1)",
            "program": concat!("maskwatch ", env!("CARGO_PKG_VERSION")),
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
        let Self { settings, fingerprint, random, position, network, sgd, .. } = self;
        Snapshot { recipe: &settings.recipe, fingerprint, random, position, network, sgd }.save(&settings.state())
    }
}

/// A stream of random numbers for each draw or view: it does not depend on which thread asks, and when.
pub fn random_stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number + 1);
    rng
}

/// What an observer's answer means for the training.
///
/// # Errors
///
/// When it is to end.
pub fn going_on(flow: ControlFlow<()>) -> Result<(), TrainError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(TrainError::Interrupted),
    }
}

/// Mean cross entropy of logits (pictures, classes) in nats.
///
/// # Errors
///
/// When libtorch refuses.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor, TchError> {
    // -100 is libtorch's own "no label"; no label has that value.
    logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, label_smoothing)
}
