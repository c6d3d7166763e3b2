//! A training from its settings to its outcome: everything is checked before the first picture is learnt.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::features;
use super::scenes::compose::Composer;
use super::scenes::places::Places;
use super::scenes::sheet;
use super::session::{Composers, Session};
use super::settings::Settings;
use super::sgd::Sgd;
use super::stages::{is_frozen, stage_modes, trained_parameters};
use super::state::{Position, State};
use super::{Observer, TrainError};
use crate::dataset::{Dataset, DatasetError};
use crate::files;
use crate::labels::BACKGROUND;
use crate::model::ModelError;
use crate::model::checkpoint::{INPUT_SIZE, Initial, load_initial};
use crate::model::engine::Engine;
use crate::model::resnet::stage_of;

/// What came of a training.
#[derive(Debug)]
pub struct Outcome {
    /// Epoch whose model was kept, and its accuracy on `val` (mean over the classes).
    pub best: Option<(u32, f64)>,
    /// Why it ended.
    pub ending: Ending,
    /// Files that could not be read, with the reason.
    pub unreadable: BTreeMap<String, String>,
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
/// With equal settings, pictures, weights and number of threads on the same CPU the result is the same to the bit,
/// interrupted and resumed or not.
///
/// # Errors
///
/// When data, weights or outputs are unusable, or libtorch fails. What was saved last can be resumed, unless the
/// parameters left the range of numbers.
pub fn run(settings: &Settings, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
    let settings = &with_classes(settings)?;
    refuse_unusable_output(settings)?;
    let classes = &settings.recipe.classes;
    let train = Dataset::scan(&settings.data.join("train"), classes)?;
    let val = Dataset::scan(&settings.data.join("val"), classes)?;
    refuse_unusable_cache(settings, train.pictures.len())?;
    let fingerprint = format!("{} {}", train.fingerprint()?, val.fingerprint()?);

    let (initial, position, velocities) = if settings.resume {
        let State { network, random, position, velocities } =
            State::load(&settings.state(), &settings.recipe, &fingerprint, settings.device)?;
        if position.best().is_some() && !settings.out.exists() {
            return Err(TrainError::BestIsGone { path: settings.out.clone(), state: settings.state() });
        }
        (Initial { network, random, kind: "training that was interrupted" }, position, Some(velocities))
    } else {
        tch::manual_seed(settings.recipe.seed as i64);
        let initial = load_initial(&settings.init, classes.len() as i64, settings.device)?;
        (initial, Position::new(classes.len()), None)
    };
    refuse_frozen_noise(&initial, settings)?;
    observer.started(&initial, &position, &train, &val);

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
    let places = find_places(settings, &[&train, &val], &fingerprint, observer)?;
    let composer = |dataset, recipe| {
        Composer::new(dataset, &places, recipe, settings.recipe.augmentation, INPUT_SIZE)
            .ok_or(TrainError::NoBackground)
    };
    let composers = settings
        .recipe
        .scenes
        .map(|recipe| Ok(Composers { train: composer(&train, recipe)?, val: composer(&val, recipe)? }))
        .transpose();
    let composers: Option<Composers> = composers.map_err(|error: TrainError| error)?;
    if let Some(composers) = &composers {
        sheet::write(&settings.scenes(), &train, &composers.train, settings.recipe.seed)?;
    }
    let mut session =
        Session { settings, train: &train, val: &val, fingerprint, network, random, modes, sgd, position, composers };
    let outcome = session.run(observer);
    // Going on would be of no use: nothing is left to do, or the same would happen again.
    let removed = match outcome {
        Ok(Ending::Complete | Ending::OutOfPatience)
        | Err(TrainError::Diverged { .. } | TrainError::Model(ModelError::Overflow { .. })) => {
            remove_state(&settings.state())
        }
        _ => Ok(()),
    };
    let ending = outcome?;
    removed?;
    let best = session.position.best().map(|record| (record.epoch, record.val_accuracy));
    Ok(Outcome { best, ending, unreadable: session.position.unreadable })
}

/// The settings with the classes named.
fn with_classes(settings: &Settings) -> Result<Settings, TrainError> {
    let mut settings = settings.clone();
    let folder = settings.data.join("train");
    let classes = &mut settings.recipe.classes;
    let named = !classes.is_empty();
    if !named {
        *classes = Dataset::class_folders(&folder)?;
    }
    if classes.len() < 2 {
        let found = if named { "--classes names".to_owned() } else { format!("{} has", folder.display()) };
        let noun = match (named, classes.len()) {
            (true, 1) => "class",
            (true, _) => "classes",
            (false, 1) => "class folder",
            (false, _) => "class folders",
        };
        let message =
            format!("{found} {} {noun}, and two are needed at least, such as mask and no_mask", classes.len());
        return Err(DatasetError::Classes(message).into());
    }
    if classes.iter().any(String::is_empty) {
        return Err(TrainError::ClassName);
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
    let mut places = vec![out.clone(), settings.log(), settings.curves(), settings.state()];
    if settings.recipe.cached_views.is_some() {
        places.push(settings.cache.clone());
    }
    for (index, place) in places.iter().enumerate() {
        if places[..index].contains(place) {
            let message = format!(
                "{} would be overwritten: model, log (.csv), curves (.png), state (.state.safetensors) and feature cache need places of their own; give the model another ending, such as .safetensors",
                place.display()
            );
            return Err(TrainError::Output(message));
        }
    }
    for place in [out, &settings.log(), &settings.curves(), &settings.state()] {
        let unwritable = |source| ModelError::Unwritable { path: place.clone(), source };
        files::check_replaceable(place).map_err(unwritable)?;
    }
    if !settings.resume && settings.state().exists() {
        return Err(TrainError::Unfinished(settings.state()));
    }
    Ok(())
}

/// Says before the first picture is read that the cache cannot be.
fn refuse_unusable_cache(settings: &Settings, pictures: usize) -> Result<(), TrainError> {
    let Some(views) = settings.recipe.cached_views else { return Ok(()) };
    let shape = settings.recipe.freeze_until.ok_or(TrainError::NothingToCache)?.output_shape(INPUT_SIZE);
    let needed = features::required_bytes(pictures, views, shape);
    if needed <= settings.cache_limit {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let fitting = features::views_within(settings.cache_limit, pictures, shape);
    Err(TrainError::CacheLimit { needed: gigabytes(needed), limit: gigabytes(settings.cache_limit), fitting })
}

/// Where the labelled faces are, as the model that the training starts from tells; unknown if it is no complete model.
fn find_places(
    settings: &Settings,
    sets: &[&Dataset],
    fingerprint: &str,
    observer: &mut dyn Observer,
) -> Result<Places, TrainError> {
    if settings.recipe.scenes.is_none() {
        return Ok(Places::unknown());
    }
    if !settings.recipe.classes.iter().any(|class| class == BACKGROUND) {
        return Err(TrainError::NoBackground);
    }
    let identity = format!("{} {fingerprint}", settings.recipe.init);
    if let Some(places) = Places::read(&settings.places(), &identity)? {
        return Ok(places);
    }
    match Engine::load(&settings.init, settings.device) {
        Ok(engine) => {
            let observe = &mut |done, total| observer.locating(done, total);
            Places::find(&engine, sets, settings.loader_threads, &settings.places(), &identity, observe)
        }
        Err(ModelError::Invalid { .. }) => {
            tracing::warn!(
                "{} is no complete model, so nothing tells where in the pictures the faces are: the whole picture is pasted",
                settings.init.display()
            );
            Ok(Places::unknown())
        }
        Err(error) => Err(error.into()),
    }
}

fn remove_state(path: &Path) -> Result<(), TrainError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(TrainError::StateRemains { path: path.to_owned(), source })
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
