//! The work of a training: epochs of batches, validation after each, the best model kept.

use std::ops::{ControlFlow, RangeInclusive};
use std::time::{Duration, Instant};

use image::RgbImage;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::{Device, Kind, Reduction, TchError, Tensor};

use super::features::{self, FeatureError, FeatureStore, Filling, Identity};
use super::log::{self, EpochRecord};
use super::sampler::BalancedSampler;
use super::settings::Settings;
use super::sgd::Sgd;
use super::state::{self, Progress};
use super::tally::Tally;
use super::{Ending, Observer, TrainError, curves, temperature};
use crate::dataset::loader::{self, Request};
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

impl From<FeatureError> for Stop {
    fn from(error: FeatureError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<TchError> for Stop {
    fn from(error: TchError) -> Self {
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
        let features = match self.cached_features(observer) {
            Ok(features) => features,
            Err(Stop::Interrupted) => {
                self.save_state()?;
                return Ok(Ending::Interrupted);
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
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
            match self.epoch(&drawn, features.as_ref(), observer) {
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

    fn epoch(
        &mut self,
        drawn: &[usize],
        features: Option<&FeatureStore>,
        observer: &mut dyn Observer,
    ) -> Result<(), Stop> {
        let started = Instant::now();
        let before = self.progress.seconds;
        let outcome = self.train_epoch(drawn, features, observer).and_then(|()| self.validate(observer));
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
        curves::draw(&self.progress.records, &self.settings.curves()).map_err(TrainError::from)?;
        self.save_state()?;
        Ok(())
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let recipe = &self.settings.recipe;
        let steps = u64::from(recipe.epochs) * self.pictures_per_epoch().div_ceil(recipe.batch_size) as u64;
        recipe.schedule.learning_rate(recipe.learning_rate, step, steps)
    }

    /// The output of the frozen stages for all views of all pictures, if it is to be cached: opened, and completed.
    fn cached_features(&mut self, observer: &mut dyn Observer) -> Result<Option<FeatureStore>, Stop> {
        let settings = self.settings;
        let recipe = &settings.recipe;
        let Some(views) = recipe.cached_views else { return Ok(None) };
        let last_frozen = recipe.freeze_until.ok_or(TrainError::NothingToCache)?;
        let shape = last_frozen.output_shape(INPUT_SIZE);
        let needed = features::required_bytes(self.train.pictures.len(), views, shape);
        if needed > settings.cache_limit {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let fitting = features::views_within(settings.cache_limit, self.train.pictures.len(), shape);
            let (needed, limit) = (gigabytes(needed), gigabytes(settings.cache_limit));
            return Err(TrainError::CacheLimit { needed, limit, fitting }.into());
        }
        let filling = Filling {
            pictures: &self.train.pictures,
            views,
            batch_size: recipe.batch_size,
            threads: settings.loader_threads,
        };
        let preparation = format!(
            "{:?} {INPUT_SIZE} {:?} {:?} {} {} {:?}",
            recipe.augmentation,
            Normalisation::IMAGENET,
            recipe.precision,
            recipe.seed,
            filling.batch_size,
            settings.device
        );
        let identity = Identity::new(&self.network, last_frozen, shape, &preparation)?;
        let store = FeatureStore::open(&settings.cache, &settings.data, &identity).map_err(TrainError::from)?;
        let vary = |image: RgbImage, picture: usize, view: u32| {
            let number = u64::from(view) * filling.pictures.len() as u64 + picture as u64;
            recipe.augmentation.apply(&image, INPUT_SIZE, &mut random_stream(recipe.seed, number))
        };
        let forward = |images: &[RgbImage]| {
            let _no_gradients = tch::no_grad_guard();
            let input = to_input(images, &Normalisation::IMAGENET, settings.device)?;
            Ok(self.run_stages(0..=last_frozen as usize, input)?)
        };
        let observe = |done, total| going_on(observer.caching(done, total));
        let filled = features::fill(&store, &filling, vary, forward, observe)?;
        self.progress.unreadable.extend(filled.unreadable);
        Ok(Some(store))
    }

    fn train_epoch(
        &mut self,
        drawn: &[usize],
        features: Option<&FeatureStore>,
        observer: &mut dyn Observer,
    ) -> Result<(), Stop> {
        let device = self.settings.device;
        let recipe = &self.settings.recipe;
        match features.zip(recipe.cached_views).zip(recipe.freeze_until) {
            None => {
                let vary = |request: &Request| {
                    let image = loader::decode(request)?;
                    Ok(recipe.augmentation.apply(&image, INPUT_SIZE, &mut random_stream(recipe.seed, request.draw)))
                };
                let input = |images: Vec<RgbImage>| Ok(to_input(&images, &Normalisation::IMAGENET, device)?);
                self.learn(drawn, vary, input, 0, observer)
            }
            Some(((store, views), last_frozen)) => {
                let read = |request: &Request| {
                    let view = random_stream(recipe.seed, request.draw).random_range(0..views);
                    match store.get(&request.path, view) {
                        Ok(None) => Err("it is not in the feature cache".to_owned()),
                        Ok(Some(map)) => Ok(Ok(map)),
                        // Not the picture's fault: it ends the training.
                        Err(error) => Ok(Err(error)),
                    }
                };
                let input = |maps: Vec<Result<Vec<u8>, FeatureError>>| {
                    let maps = maps.into_iter().collect::<Result<Vec<_>, _>>()?;
                    Ok(store.stack(&maps, device)?)
                };
                self.learn(drawn, read, input, last_frozen as usize + 1, observer)
            }
        }
    }

    /// Learns what is left of an epoch. `fetch` gives what a picture contributes, `input` makes of that the input of the
    /// stage with the index `first`.
    fn learn<T: Send>(
        &mut self,
        drawn: &[usize],
        fetch: impl Fn(&Request) -> Result<T, String> + Sync,
        input: impl Fn(Vec<T>) -> Result<Tensor, TrainError>,
        first: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), Stop> {
        let settings = self.settings;
        let batch_size = settings.recipe.batch_size;
        let Progress { epoch, batches, .. } = self.progress;
        let first_draw = u64::from(epoch - 1) * drawn.len() as u64;
        let mut done = (batches * batch_size).min(drawn.len());
        let requests: Vec<Request> = drawn
            .iter()
            .zip(first_draw..)
            .skip(done)
            .map(|(&index, draw)| request(&self.train.pictures[index], draw))
            .collect();
        let mut saved = Instant::now();
        loader::load(&requests, batch_size, settings.loader_threads, fetch, |batch| {
            done += batch.labels.len() + batch.unreadable.len();
            let mut loss = None;
            // Nothing is learnt from a batch without pictures.
            if !batch.labels.is_empty() {
                let value = self.step(input(batch.items)?, first, &batch.labels)?;
                if !value.is_finite() {
                    return Err(Stop::Failed(TrainError::Diverged { epoch, loss: value }));
                }
                loss = Some(value);
            }
            self.progress.step += 1;
            self.progress.batches += 1;
            for (path, reason) in batch.unreadable {
                self.progress.unreadable.entry(path).or_insert(reason);
            }
            if saved.elapsed() > STATE_INTERVAL {
                self.save_state()?;
                saved = Instant::now();
            }
            going_on(observer.batch(epoch, done, drawn.len(), loss))
        })?;
        self.refuse_all_unreadable(&self.progress.tally)?;
        Ok(())
    }

    /// Takes one step with the input of the stage with the index `first`, and gives the mean loss before it.
    fn step(&mut self, input: Tensor, first: usize, labels: &[i64]) -> Result<f64, TrainError> {
        let activations = self.run_stages(first..=Stage::ALL.len() - 1, input)?;
        let logits = self.network.logits(&activations)?;
        let truth = Tensor::f_from_slice(labels)?.f_to_device(self.settings.device)?;
        let loss = cross_entropy(&logits, &truth, self.settings.recipe.label_smoothing)?;
        let value = loss.f_double_value(&[])?;
        self.progress.tally.add(value, &argmax(&logits)?, labels);
        if value.is_finite() {
            self.sgd.step(&loss, self.learning_rate(self.progress.step))?;
        }
        Ok(value)
    }

    /// Runs the stages of these indices as the training does.
    fn run_stages(&self, stages: RangeInclusive<usize>, input: Tensor) -> Result<Tensor, TchError> {
        let mut x = input.f_to_kind(self.settings.recipe.precision.kind())?;
        for index in stages {
            let mode = self.modes[index];
            let _no_gradients = (mode == StageMode::Frozen).then(tch::no_grad_guard);
            x = self.network.stage(Stage::ALL[index], &x, mode == StageMode::BatchStatistics)?;
        }
        Ok(x)
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Validation, Stop> {
        let settings = self.settings;
        let requests: Vec<Request> = self.val.pictures.iter().map(|picture| request(picture, 0)).collect();
        let prepare = |request: &Request| loader::decode(request).map(|image| squeeze(&image, None, INPUT_SIZE));
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
                let input = to_input(&batch.items, &Normalisation::IMAGENET, settings.device)?;
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

/// A stream of random numbers for each draw or view: it does not depend on which thread asks, and when.
fn random_stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number + 1);
    rng
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

fn cross_entropy(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor, TchError> {
    // -100 is libtorch's own "no label"; no label has that value.
    logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, label_smoothing)
}

fn argmax(logits: &Tensor) -> Result<Vec<i64>, TchError> {
    let indices = logits.f_argmax(1, false)?.f_to_device(Device::Cpu)?;
    let mut values = vec![0; indices.numel()];
    indices.f_copy_data(&mut values, indices.numel())?;
    Ok(values)
}

fn to_vec(logits: &Tensor) -> Result<Vec<f32>, TchError> {
    let logits = logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; logits.numel()];
    logits.f_copy_data(&mut values, logits.numel())?;
    Ok(values)
}
