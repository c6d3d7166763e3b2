//! A training from its settings to its outcome: everything is checked before the first picture is learnt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::session::{Session, StageMode};
use super::settings::{Recipe, Settings};
use super::sgd::Sgd;
use super::state::{Progress, State};
use super::{Observer, TrainError};
use crate::dataset::{Dataset, DatasetError};
use crate::files;
use crate::model::ModelError;
use crate::model::checkpoint::{Initial, load_initial};
use crate::model::resnet::{ResNet18, Stage, is_statistic, stage_of};

/// What came of a training.
#[derive(Debug)]
pub struct Outcome {
    /// Epoch whose model was kept, and its accuracy on `val` (mean over the classes).
    pub best: Option<(u32, f64)>,
    /// Why it ended.
    pub ending: Ending,
    /// Files that could not be read, with the reason.
    pub unreadable: BTreeMap<PathBuf, String>,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The last epoch is over.
    Complete,
    /// No better model was found for as many epochs as asked.
    OutOfPatience,
    /// The observer ended it; it can be resumed.
    Interrupted,
}

/// Trains a model (HayCAM paper, Algorithm 1).
///
/// With equal settings, pictures, weights and number of threads the result is the same to the bit, interrupted and
/// resumed or not.
///
/// # Errors
///
/// When data, weights or outputs are unusable, or libtorch fails. What a run has reached by then is kept and can be
/// resumed, unless its loss diverged.
pub fn run(settings: &Settings, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
    let settings = &with_classes(settings)?;
    refuse_unusable_output(settings)?;
    let classes = &settings.recipe.classes;
    let train = Dataset::scan(&settings.data.join("train"), classes)?;
    let val = Dataset::scan(&settings.data.join("val"), classes)?;
    let fingerprint = format!("{} {}", train.fingerprint()?, val.fingerprint()?);

    let (initial, progress, velocities) = if settings.resume {
        let State { network, random, progress, velocities } =
            State::load(&settings.state(), &settings.recipe, &fingerprint, settings.device)?;
        (Initial { network, random, kind: "training that was interrupted" }, progress, Some(velocities))
    } else {
        tch::manual_seed(settings.recipe.seed as i64);
        let initial = load_initial(&settings.init, classes.len() as i64, settings.device)?;
        (initial, Progress::new(classes.len()), None)
    };
    refuse_frozen_noise(&initial, settings)?;
    observer.started(&initial, &progress, &train, &val);

    let Initial { network, random, .. } = initial;
    let modes = stage_modes(&network, &random, settings.recipe.freeze_until)?;
    let mut sgd = Sgd::new(
        trained_parameters(&network, &random, &settings.recipe),
        settings.recipe.momentum,
        settings.recipe.weight_decay,
    )?;
    if let Some(velocities) = velocities {
        velocities.restore(&mut sgd)?;
    }
    let mut session =
        Session { settings, train: &train, val: &val, fingerprint, network, random, modes, sgd, progress };
    let outcome = session.run(observer);
    // Going on from either would be of no use: the one has nothing left to do, the other would diverge again.
    if matches!(outcome, Ok(Ending::Complete | Ending::OutOfPatience) | Err(TrainError::Diverged { .. })) {
        remove_state(&settings.state())?;
    }
    let ending = outcome?;
    let best = session.progress.best().map(|record| (record.epoch, record.val_accuracy));
    Ok(Outcome { best, ending, unreadable: session.progress.unreadable })
}

/// The settings with the classes named.
fn with_classes(settings: &Settings) -> Result<Settings, TrainError> {
    let mut settings = settings.clone();
    let folder = settings.data.join("train");
    let classes = &mut settings.recipe.classes;
    if classes.is_empty() {
        *classes = Dataset::class_folders(&folder)?;
    }
    if classes.len() < 2 {
        let message = format!(
            "{} has {} class folder(s) where two are needed at least, such as mask and no_mask",
            folder.display(),
            classes.len()
        );
        return Err(DatasetError::Classes(message).into());
    }
    if let Some(twice) =
        classes.iter().enumerate().find_map(|(index, class)| classes[..index].contains(class).then_some(class))
    {
        return Err(DatasetError::Classes(format!("the class {twice} is named twice; name each class once")).into());
    }
    Ok(settings)
}

/// Says now what would otherwise fail after the first epoch, or destroy what an earlier training has reached.
fn refuse_unusable_output(settings: &Settings) -> Result<(), TrainError> {
    let out = &settings.out;
    if out.is_dir() || out.file_name().is_none() {
        return Err(TrainError::Output(format!("{} is a folder; give the name of a file", out.display())));
    }
    for beside in [settings.log(), settings.curves(), settings.state()] {
        if *out == beside {
            let message = format!(
                "{} is where the log, the curves or the state would go; give the model another ending, such as .safetensors",
                out.display()
            );
            return Err(TrainError::Output(message));
        }
    }
    files::check_replaceable(out).map_err(|source| ModelError::Unwritable { path: out.clone(), source })?;
    if !settings.resume && settings.state().exists() {
        return Err(TrainError::Unfinished(settings.state()));
    }
    Ok(())
}

fn remove_state(path: &Path) -> Result<(), TrainError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let error = ModelError::Unwritable { path: path.to_owned(), source: error };
            Err(TrainError::State { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// What begins at random and is frozen stays random.
fn refuse_frozen_noise(initial: &Initial, settings: &Settings) -> Result<(), TrainError> {
    let frozen = |name: &&String| stage_of(name).is_some_and(|stage| is_frozen(stage, settings.recipe.freeze_until));
    match initial.random.iter().find(frozen) {
        None => Ok(()),
        Some(name) => {
            let init = settings.init.display().to_string();
            Err(TrainError::FrozenNoise { init, parameter: name.clone() })
        }
    }
}

fn is_frozen(stage: Stage, freeze_until: Option<Stage>) -> bool {
    freeze_until.is_some_and(|last| stage <= last)
}

/// How each stage takes part.
///
/// A stage that was loaded with its batch normalisation folded into the convolutions has no statistics (mean 0, variance
/// 1): to normalise by those of the batch would undo what it has learnt.
fn stage_modes(
    network: &ResNet18,
    random: &[String],
    freeze_until: Option<Stage>,
) -> Result<[StageMode; Stage::ALL.len()], TrainError> {
    let mut modes = Stage::ALL.map(|stage| match is_frozen(stage, freeze_until) {
        true => StageMode::Frozen,
        false => StageMode::FixedStatistics,
    });
    for (name, tensor) in network.named_tensors() {
        let Some(stage) = stage_of(&name) else { continue };
        let mode = &mut modes[stage as usize];
        let has_statistics = name.ends_with(".running_mean") && tensor.f_any()?.f_int64_value(&[])? != 0;
        if *mode == StageMode::FixedStatistics && (has_statistics || random.contains(&name)) {
            *mode = StageMode::BatchStatistics;
        }
    }
    Ok(modes)
}

/// Gradients flow into what comes after the last frozen stage; batch-norm statistics have none. With the factor on the
/// learning rate of each.
fn trained_parameters(network: &ResNet18, random: &[String], recipe: &Recipe) -> Vec<(String, Tensor, f64)> {
    // The fully connected layer comes after the last stage, and always begins at random.
    let depth = |name: &str| stage_of(name).map_or(Stage::ALL.len(), |stage| stage as usize);
    let first_random = random.iter().map(|name| depth(name)).min().unwrap_or(Stage::ALL.len());
    network
        .named_tensors()
        .into_iter()
        .filter(|(name, _)| {
            !is_statistic(name) && stage_of(name).is_none_or(|stage| !is_frozen(stage, recipe.freeze_until))
        })
        .map(|(name, tensor)| {
            let below = first_random.saturating_sub(depth(&name));
            let rate_factor = recipe.stage_decay.powi(below as i32);
            (name, tensor.shallow_clone(), rate_factor)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::train::augment::Augmentation;
    use crate::train::schedule::Schedule;
    use crate::train::settings::Precision;

    /// A network whose stem to `layer2` have lost their statistics and whose `layer3` has them.
    fn network() -> ResNet18 {
        let cpu = (Kind::Float, Device::Cpu);
        ResNet18::assemble(2, &mut |name, shape| {
            let lost = stage_of(name).is_some_and(|stage| stage < Stage::Layer3);
            if name.ends_with(".running_mean") && !lost {
                Tensor::f_ones(shape, cpu)
            } else {
                Tensor::f_zeros(shape, cpu)
            }
        })
        .unwrap()
    }

    fn recipe(freeze_until: Option<Stage>) -> Recipe {
        Recipe {
            classes: vec!["a".into(), "b".into()],
            epochs: 1,
            patience: None,
            pictures_per_epoch: None,
            batch_size: 1,
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            stage_decay: 0.5,
            momentum: 0.9,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            freeze_until,
            precision: Precision::Single,
            augmentation: Augmentation::PLAIN,
            cached_views: None,
            seed: 1,
        }
    }

    #[test]
    fn only_statistics_that_exist_or_never_did_follow_the_batch() {
        use StageMode::{BatchStatistics, FixedStatistics, Frozen};
        let random = ["layer4.0.conv1.weight".to_owned(), "fc.weight".to_owned()];
        let modes = |freeze_until| stage_modes(&network(), &random, freeze_until).unwrap();
        assert_eq!(modes(None), [FixedStatistics, FixedStatistics, FixedStatistics, BatchStatistics, BatchStatistics]);
        assert_eq!(modes(Some(Stage::Layer1)), [Frozen, Frozen, FixedStatistics, BatchStatistics, BatchStatistics]);
        assert_eq!(modes(Some(Stage::Layer4)), [Frozen; 5]);
    }

    #[test]
    fn each_stage_below_the_random_ones_learns_more_slowly() {
        let factors = |random: &[&str], freeze_until| -> Vec<f64> {
            let random: Vec<String> = random.iter().map(|&name| name.to_owned()).collect();
            let parameters = trained_parameters(&network(), &random, &recipe(freeze_until));
            assert!(parameters.iter().all(|(name, ..)| !is_statistic(name)));
            let mut factors: Vec<f64> = parameters.into_iter().map(|(_, _, factor)| factor).collect();
            factors.dedup();
            factors
        };
        let last = ["fc.weight", "fc.bias"];
        assert_eq!(factors(&last, None), [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0]);
        let random_layer4 = ["layer4.0.conv1.weight", "fc.weight", "fc.bias"];
        assert_eq!(factors(&random_layer4, None), [0.0625, 0.125, 0.25, 0.5, 1.0]);
        assert_eq!(factors(&random_layer4, Some(Stage::Layer2)), [0.5, 1.0]);
    }
}
