//! `maskwatch train`: a model from labelled pictures.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::cli::{ProgressArg, TrainArgs};
use crate::config::{available_threads, shipped_model};
use crate::dataset::Dataset;
use crate::exit_code::ExitCode;
use crate::model::checkpoint::Initial;
use crate::model::device;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::threads;
use crate::train::augment::Augmentation;
use crate::train::log::EpochRecord;
use crate::train::scenes::SceneRecipe;
use crate::train::settings::Recipe;
use crate::train::state::Position;
use crate::train::{self, Ending, Observer, Settings};

/// Time between two copies of the state within an epoch.
const STATE_INTERVAL: Duration = Duration::from_secs(300);

/// Trains until the last epoch or the user stops it.
///
/// # Errors
///
/// When data, weights or outputs are unusable.
pub fn run(args: &TrainArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    threads::size_pools(args.threads);
    let init = args.init.clone().unwrap_or_else(|| {
        let shipped = shipped_model();
        if !args.resume {
            tracing::info!("starting from the shipped model, {} (choose another start with --init)", shipped.display());
        }
        shipped
    });
    let recipe = Recipe {
        init: init.file_name().unwrap_or(init.as_os_str()).to_string_lossy().into_owned(),
        classes: args.classes.clone(),
        epochs: args.epochs,
        patience: args.patience,
        pictures_per_epoch: args.pictures_per_epoch,
        batch_size: args.batch_size,
        learning_rate: args.learning_rate,
        schedule: args.schedule.into(),
        stage_decay: args.stage_decay,
        momentum: args.momentum,
        weight_decay: args.weight_decay,
        label_smoothing: args.label_smoothing,
        freeze_until: args.freeze_until.into(),
        precision: args.precision.into(),
        augmentation: Augmentation::from(&args.augmentation),
        cached_views: args.cached_views,
        scenes: args.scenes.then(SceneRecipe::default),
        seed: args.seed,
    };
    let settings = Settings {
        data: args.data.clone(),
        init,
        out: args.out.clone(),
        resume: args.resume,
        recipe,
        cache: args.cache.clone().unwrap_or_else(|| Settings::default_cache(&args.out)),
        cache_limit: (args.cache_limit * 1e9) as u64,
        device: device::resolve(args.device)?,
        loader_threads: args.threads.unwrap_or_else(available_threads),
        state_interval: STATE_INTERVAL,
    };
    let mut display = Display { when: args.progress, epochs: args.epochs, progress: None, shutdown };
    let outcome = train::run(&settings, &mut display);
    display.clear();
    let outcome = outcome?;

    if !outcome.unreadable.is_empty() {
        tracing::warn!("could not be read and were left out ({}):", outcome.unreadable.len());
        for reason in outcome.unreadable.values() {
            tracing::warn!("  {reason}");
        }
    }
    let log = settings.log();
    let mut text = match outcome.best {
        Some((epoch, accuracy)) => format!(
            "{}: the model of epoch {epoch}, {:.2} % right on val (mean over the classes); log in {}, curves in {}\n",
            settings.out.display(),
            accuracy * 100.0,
            log.display(),
            settings.curves().display()
        ),
        None => "no epoch was completed, so there is no model yet\n".to_owned(),
    };
    match outcome.ending {
        Ending::Complete => {}
        Ending::OutOfPatience => text.push_str("ended early, since the model did not get better any more\n"),
        Ending::Interrupted => text.push_str("interrupted; the same command with --resume goes on from here\n"),
    }
    super::print(text.as_bytes())?;
    Ok(if outcome.ending == Ending::Interrupted { ExitCode::Interrupted } else { ExitCode::Done })
}

struct Display<'a> {
    when: ProgressArg,
    epochs: u32,
    progress: Option<(String, Progress)>,
    shutdown: &'a Shutdown,
}

impl Display<'_> {
    fn show(&mut self, title: String, done: usize, total: usize, detail: &str) -> ControlFlow<()> {
        if self.progress.as_ref().is_none_or(|(current, _)| *current != title) {
            self.clear();
            let progress = Progress::new(self.when, &title, Some(total as u64), "pictures");
            self.progress = Some((title, progress));
        }
        if let Some((_, progress)) = &mut self.progress {
            progress.update(done as u64, detail);
        }
        if self.shutdown.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn clear(&mut self) {
        if let Some((_, progress)) = self.progress.take() {
            progress.finish();
        }
    }
}

impl Observer for Display<'_> {
    fn started(&mut self, initial: &Initial, position: &Position, train: &Dataset, val: &Dataset) {
        tracing::info!("starting from a {}", initial.kind);
        if position.step > 0 {
            tracing::info!("going on in epoch {}, after {} steps in all", position.epoch, position.step);
        }
        tracing::info!("begun at random: {}", initial.random.join(", "));
        for (name, set) in [("train", train), ("val", val)] {
            let counts: Vec<String> =
                set.count_by_class().into_iter().map(|(class, count)| format!("{class} {count}")).collect();
            tracing::info!("pictures in {name}: {}", counts.join(", "));
        }
    }

    fn caching(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        self.show("caching features".to_owned(), done, total, "")
    }

    fn locating(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        self.show("locating faces".to_owned(), done, total, "")
    }

    fn batch(&mut self, epoch: u32, done: usize, total: usize, loss: Option<f64>) -> ControlFlow<()> {
        let loss = loss.map_or_else(String::new, |loss| format!("loss {loss:.3}"));
        self.show(format!("epoch {epoch}/{}", self.epochs), done, total, &loss)
    }

    fn validating(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        self.show("validating".to_owned(), done, total, "")
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.clear();
        tracing::info!(
            "epoch {}/{}: train loss {:.4}, {:.2} % right; val loss {:.4}, {:.2} % right{} ({:.0} s)",
            record.epoch,
            self.epochs,
            record.train_loss,
            record.train_accuracy * 100.0,
            record.val_loss,
            record.val_accuracy * 100.0,
            if record.best { ", best so far" } else { "" },
            record.seconds
        );
    }
}
