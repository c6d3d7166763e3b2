//! The training itself: epochs of batches, validation after each, the best model kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::{Device, Reduction, Tensor};

use super::TrainError;
use super::augment::Augmentation;
use super::log::{EpochRecord, TrainingLog};
use super::sampler::BalancedSampler;
use super::schedule::Schedule;
use super::sgd::Sgd;
use crate::dataset::loader::{self, Batch, Request};
use crate::dataset::{Dataset, DatasetError, Picture};
use crate::model::checkpoint::{INPUT_SIZE, Initial, Model, ModelDescription, load_initial};
use crate::model::preprocess::{Normalisation, squeeze, to_input};
use crate::model::resnet::{ResNet18, Stage, is_statistic, stage_of};

/// Everything that decides a training.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder with `train` and `val`, each with a folder a class.
    pub data: PathBuf,
    /// Classes to learn, in the order of the outputs; all folders of `train` if empty.
    pub classes: Vec<String>,
    /// Weights to start from.
    pub init: PathBuf,
    /// Where the best model goes; the log goes beside it, as `.csv`.
    pub out: PathBuf,
    /// Passes.
    pub epochs: u32,
    /// Pictures a pass; as many as there are in `train` if `None`.
    pub pictures_per_epoch: Option<usize>,
    /// Pictures a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay of SGD.
    pub weight_decay: f64,
    /// Last frozen stage; `None` trains all of them.
    pub freeze_until: Option<Stage>,
    /// Variations of the training pictures.
    pub augmentation: Augmentation,
    /// Decides everything random.
    pub seed: u64,
    /// Where the network runs.
    pub device: Device,
    /// Threads that read pictures.
    pub loader_threads: usize,
}

/// Watches a training and may stop it.
pub trait Observer {
    /// What the training starts from, and how many pictures of each class there are.
    fn started(&mut self, initial: &Initial, train: &Dataset, val: &Dataset);
    /// A batch is done, with its mean loss unless none of its pictures could be read; `ControlFlow::Break` ends the training early.
    fn batch(&mut self, epoch: u32, done: usize, total: usize, loss: Option<f64>) -> ControlFlow<()>;
    /// Validation of an epoch begins or goes on; `ControlFlow::Break` ends the training early.
    fn validating(&mut self, done: usize, total: usize) -> ControlFlow<()>;
    /// An epoch is over.
    fn epoch(&mut self, record: &EpochRecord);
}

/// What came of a training.
#[derive(Debug)]
pub struct Outcome {
    /// Epoch whose model was kept, and its accuracy on `val` (mean over the classes).
    pub best: Option<(u32, f64)>,
    /// Whether the observer ended it early.
    pub interrupted: bool,
    /// Files that could not be read, with the reason.
    pub unreadable: BTreeMap<PathBuf, String>,
    /// Where the log is.
    pub log: PathBuf,
}

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

/// Trains a model (HayCAM paper, Algorithm 1).
///
/// # Errors
///
/// When data, weights or outputs are unusable, or libtorch fails.
pub fn run(settings: &Settings, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
    let train_folder = settings.data.join("train");
    let classes =
        if settings.classes.is_empty() { Dataset::class_folders(&train_folder)? } else { settings.classes.clone() };
    if classes.len() < 2 {
        let message = format!(
            "{} has {} class folder(s) where two are needed at least, such as mask and no_mask",
            train_folder.display(),
            classes.len()
        );
        return Err(DatasetError::Classes(message).into());
    }
    if let Some(twice) =
        classes.iter().enumerate().find_map(|(index, class)| classes[..index].contains(class).then_some(class))
    {
        return Err(DatasetError::Classes(format!("the class {twice} is named twice; name each class once")).into());
    }
    refuse_unusable_output(&settings.out)?;
    let train = Dataset::scan(&train_folder, &classes)?;
    let val = Dataset::scan(&settings.data.join("val"), &classes)?;

    tch::manual_seed(settings.seed as i64);
    let initial = load_initial(&settings.init, classes.len() as i64, settings.device)?;
    refuse_frozen_noise(&initial, settings)?;
    observer.started(&initial, &train, &val);
    let log_path = settings.out.with_extension("csv");
    let mut session = Session {
        settings,
        log: TrainingLog::create(&log_path)?,
        sgd: Sgd::new(
            trained_parameters(&initial.network, settings.freeze_until),
            settings.momentum,
            settings.weight_decay,
        )?,
        sampler: BalancedSampler::new(&train),
        rng: ChaCha8Rng::seed_from_u64(settings.seed),
        train,
        val,
        network: initial.network,
        best: None,
        unreadable: BTreeMap::new(),
        step: 0,
    };
    let mut interrupted = false;
    for epoch in 1..=settings.epochs {
        match session.epoch(epoch, observer) {
            Ok(()) => {}
            Err(Stop::Interrupted) => {
                interrupted = true;
                break;
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    Ok(Outcome { best: session.best, interrupted, unreadable: session.unreadable, log: log_path })
}

/// Says now what would otherwise fail after the first epoch.
fn refuse_unusable_output(out: &Path) -> Result<(), TrainError> {
    if out.is_dir() || out.file_name().is_none() {
        return Err(TrainError::Output(format!("{} is a folder; give the name of a file", out.display())));
    }
    if out.extension().is_some_and(|extension| extension == "csv") {
        return Err(TrainError::Output(format!(
            "{} is where the log goes; give the model another ending",
            out.display()
        )));
    }
    Ok(())
}

/// What begins at random and is frozen stays random.
fn refuse_frozen_noise(initial: &Initial, settings: &Settings) -> Result<(), TrainError> {
    let frozen =
        |name: &&String| stage_of(name).is_some_and(|stage| settings.freeze_until.is_some_and(|last| stage <= last));
    match initial.random.iter().find(frozen) {
        None => Ok(()),
        Some(name) => {
            let init = settings.init.display().to_string();
            Err(TrainError::FrozenNoise { init, parameter: name.clone() })
        }
    }
}

/// Gradients flow into what comes after the last frozen stage; batch-norm statistics have none.
fn trained_parameters(network: &ResNet18, freeze_until: Option<Stage>) -> Vec<Tensor> {
    network
        .named_tensors()
        .into_iter()
        .filter(|(name, _)| {
            !is_statistic(name) && stage_of(name).is_none_or(|stage| freeze_until.is_none_or(|last| stage > last))
        })
        .map(|(_, tensor)| tensor.shallow_clone())
        .collect()
}

struct Session<'a> {
    settings: &'a Settings,
    train: Dataset,
    val: Dataset,
    network: ResNet18,
    sgd: Sgd,
    sampler: BalancedSampler,
    rng: ChaCha8Rng,
    log: TrainingLog,
    best: Option<(u32, f64)>,
    unreadable: BTreeMap<PathBuf, String>,
    /// Steps taken so far.
    step: u64,
}

/// Running sums over the pictures of a pass.
#[derive(Default)]
struct Tally {
    loss: f64,
    /// Right and all, by class.
    by_class: Vec<(usize, usize)>,
}

impl Tally {
    fn new(classes: usize) -> Self {
        Self { loss: 0.0, by_class: vec![(0, 0); classes] }
    }

    fn add(&mut self, mean_loss: f64, predicted: &[i64], labels: &[i64]) {
        self.loss += mean_loss * labels.len() as f64;
        for (predicted, &label) in predicted.iter().zip(labels) {
            let (right, all) = &mut self.by_class[label as usize];
            *right += usize::from(*predicted == label);
            *all += 1;
        }
    }

    fn pictures(&self) -> usize {
        self.by_class.iter().map(|(_, all)| all).sum()
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.pictures() as f64
    }

    /// Mean over the classes, so that a large class does not drown a small one.
    fn balanced_accuracy(&self) -> f64 {
        let seen = self.by_class.iter().filter(|(_, all)| *all > 0);
        seen.clone().map(|&(right, all)| right as f64 / all as f64).sum::<f64>() / seen.count() as f64
    }
}

impl Session<'_> {
    fn epoch(&mut self, epoch: u32, observer: &mut dyn Observer) -> Result<(), Stop> {
        let started = Instant::now();
        let (train, learning_rate) = self.train_epoch(epoch, observer)?;
        let val = self.validate(observer)?;
        let accuracy = val.balanced_accuracy();
        if !val.mean_loss().is_finite() {
            return Err(Stop::Failed(TrainError::Diverged { epoch, loss: val.mean_loss() }));
        }
        let is_best = self.best.is_none_or(|(_, best)| accuracy > best);
        let record = EpochRecord {
            epoch,
            pictures: train.pictures(),
            learning_rate,
            train_loss: train.mean_loss(),
            train_accuracy: train.balanced_accuracy(),
            val_loss: val.mean_loss(),
            val_accuracy: accuracy,
            seconds: started.elapsed().as_secs_f64(),
            best: is_best,
        };
        if is_best {
            self.save(&record)?;
            self.best = Some((epoch, accuracy));
        }
        self.log.add(&record)?;
        observer.epoch(&record);
        Ok(())
    }

    fn train_epoch(&mut self, epoch: u32, observer: &mut dyn Observer) -> Result<(Tally, f64), Stop> {
        let settings = self.settings;
        let total = settings.pictures_per_epoch.unwrap_or(self.train.pictures.len());
        let steps = u64::from(settings.epochs) * total.div_ceil(settings.batch_size) as u64;
        let drawn = self.sampler.draw(total, &mut self.rng);
        let first_draw = u64::from(epoch - 1) * total as u64;
        let requests: Vec<Request> =
            drawn.iter().zip(first_draw..).map(|(&index, draw)| request(&self.train.pictures[index], draw)).collect();
        let varied = |request: &Request| {
            let image = loader::decode(request)?;
            // A stream a draw: the variation does not depend on which thread makes it.
            let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
            rng.set_stream(request.draw + 1);
            Ok(settings.augmentation.apply(&image, INPUT_SIZE, &mut rng))
        };
        let mut tally = Tally::new(self.train.classes.len());
        let mut learning_rate = settings.learning_rate;
        let mut done = 0;
        loader::load(&requests, settings.batch_size, settings.loader_threads, varied, |batch| {
            done += batch.labels.len() + batch.unreadable.len();
            learning_rate = settings.schedule.learning_rate(settings.learning_rate, self.step, steps);
            self.step += 1;
            let loss = self.train_batch(&batch, learning_rate, &mut tally)?;
            if let Some(loss) = loss.filter(|loss| !loss.is_finite()) {
                return Err(Stop::Failed(TrainError::Diverged { epoch, loss }));
            }
            self.unreadable.extend(batch.unreadable);
            going_on(observer.batch(epoch, done, total, loss))
        })?;
        self.refuse_all_unreadable(&tally)?;
        Ok((tally, learning_rate))
    }

    /// Takes one step and gives its loss; nothing is learnt from a batch without pictures.
    fn train_batch(
        &mut self,
        batch: &Batch<RgbImage>,
        learning_rate: f64,
        tally: &mut Tally,
    ) -> Result<Option<f64>, TrainError> {
        if batch.labels.is_empty() {
            return Ok(None);
        }
        let labels = Tensor::f_from_slice(&batch.labels)?.f_to_device(self.settings.device)?;
        let mut x = to_input(&batch.items, &Normalisation::IMAGENET, self.settings.device)?;
        for stage in Stage::ALL {
            let frozen = self.settings.freeze_until.is_some_and(|last| stage <= last);
            x = if frozen {
                let _no_gradients = tch::no_grad_guard();
                self.network.stage(stage, &x, false)?
            } else {
                self.network.stage(stage, &x, true)?
            };
        }
        let logits = self.network.logits(&x)?;
        let loss = cross_entropy(&logits, &labels)?;
        let value = loss.f_double_value(&[])?;
        tally.add(value, &argmax(&logits)?, &batch.labels);
        if value.is_finite() {
            self.sgd.step(&loss, learning_rate)?;
        }
        Ok(Some(value))
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Tally, Stop> {
        let _no_gradients = tch::no_grad_guard();
        let settings = self.settings;
        let total = self.val.pictures.len();
        let requests: Vec<Request> = self.val.pictures.iter().map(|picture| request(picture, 0)).collect();
        let whole = |request: &Request| loader::decode(request).map(|image| squeeze(&image, None, INPUT_SIZE));
        let mut tally = Tally::new(self.val.classes.len());
        let mut done = 0;
        loader::load(&requests, settings.batch_size, settings.loader_threads, whole, |batch| {
            done += batch.labels.len() + batch.unreadable.len();
            if !batch.labels.is_empty() {
                let input = to_input(&batch.items, &Normalisation::IMAGENET, settings.device)?;
                let logits = self.network.logits(&self.network.activations(&input)?)?;
                let labels = Tensor::f_from_slice(&batch.labels)?.f_to_device(settings.device)?;
                let loss = cross_entropy(&logits, &labels)?.f_double_value(&[])?;
                tally.add(loss, &argmax(&logits)?, &batch.labels);
            }
            self.unreadable.extend(batch.unreadable);
            going_on(observer.validating(done, total))
        })?;
        self.refuse_all_unreadable(&tally)?;
        Ok(tally)
    }

    fn refuse_all_unreadable(&self, tally: &Tally) -> Result<(), DatasetError> {
        match self.unreadable.values().next() {
            Some(reason) if tally.pictures() == 0 => Err(DatasetError::AllUnreadable(reason.clone())),
            _ => Ok(()),
        }
    }

    fn save(&self, record: &EpochRecord) -> Result<(), TrainError> {
        let settings = self.settings;
        let summary = json!({
            "algorithm": "transfer learning (HayCAM paper, Algorithm 1)",
            "program": concat!("maskwatch ", env!("CARGO_PKG_VERSION")),
            "init": settings.init.file_name().map(|name| name.to_string_lossy()),
            "freeze_until": settings.freeze_until.map(|stage| stage.to_string()),
            "pictures": { "train": self.train.count_by_class(), "val": self.val.count_by_class() },
            "optimiser": {
                "name": "sgd", "learning_rate": settings.learning_rate, "schedule": settings.schedule,
                "momentum": settings.momentum, "weight_decay": settings.weight_decay, "batch_size": settings.batch_size,
            },
            "augmentation": { "flip": settings.augmentation.flip, "crop_scale": settings.augmentation.crop_scale },
            "seed": settings.seed,
            "epochs": settings.epochs,
            "pictures_per_epoch": settings.pictures_per_epoch.unwrap_or(self.train.pictures.len()),
            "best": { "epoch": record.epoch, "val_loss": record.val_loss, "val_accuracy": record.val_accuracy },
        });
        let description =
            ModelDescription::new(self.train.classes.clone(), INPUT_SIZE, Normalisation::IMAGENET, summary);
        Ok(Model::save(&settings.out, &description, &self.network)?)
    }
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

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor, tch::TchError> {
    // -100 is libtorch's own "no label"; no label has that value.
    logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)
}

fn argmax(logits: &Tensor) -> Result<Vec<i64>, tch::TchError> {
    let indices = logits.f_argmax(1, false)?.f_to_device(Device::Cpu)?;
    let mut values = vec![0; indices.numel()];
    indices.f_copy_data(&mut values, indices.numel())?;
    Ok(values)
}
