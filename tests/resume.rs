//! Trainings interrupted at every point where an observer can ask for one.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use image::RgbImage;
use maskwatch::dataset::Dataset;
use maskwatch::model::checkpoint::Initial;
use maskwatch::model::resnet::Stage;
use maskwatch::model::weights::Weights;
use maskwatch::train::augment::Augmentation;
use maskwatch::train::log::EpochRecord;
use maskwatch::train::schedule::Schedule;
use maskwatch::train::settings::{Precision, Recipe};
use maskwatch::train::state::Position;
use maskwatch::train::{Ending, Observer, Outcome, Settings, TrainError, run};
use tch::Device;

/// libtorch has one generator of random numbers for the whole process, and a training begins with it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Ends a training at the n-th occasion.
struct StopAt {
    occasions_left: usize,
    /// Whether it was the last that ended it.
    stopped: bool,
}

impl StopAt {
    fn nth(occasion: usize) -> Self {
        Self { occasions_left: occasion, stopped: false }
    }

    fn occasion(&mut self) -> ControlFlow<()> {
        self.occasions_left = self.occasions_left.saturating_sub(1);
        if self.occasions_left > 0 {
            return ControlFlow::Continue(());
        }
        self.stopped = true;
        ControlFlow::Break(())
    }
}

impl Observer for StopAt {
    fn started(&mut self, _: &Initial, _: &Position, _: &Dataset, _: &Dataset) {}

    fn locating(&mut self, _: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn caching(&mut self, _: usize, _: usize) -> ControlFlow<()> {
        self.occasion()
    }

    fn batch(&mut self, _: u32, _: usize, _: usize, _: Option<f64>) -> ControlFlow<()> {
        self.occasion()
    }

    fn validating(&mut self, _: usize, _: usize) -> ControlFlow<()> {
        self.occasion()
    }

    fn epoch(&mut self, _: &EpochRecord) {}
}

/// Never ends it.
fn patient() -> StopAt {
    StopAt::nth(usize::MAX)
}

/// Seven pictures to learn from, one of them unreadable, and three to validate with.
fn data() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    for (set, pictures) in [("train", 7u8), ("val", 3)] {
        for number in 0..pictures {
            let folder = data.path().join(set).join(if number % 2 == 0 { "even" } else { "odd" });
            std::fs::create_dir_all(&folder).unwrap();
            let picture = RgbImage::from_fn(24, 24, |x, y| image::Rgb([number * 30, (x * 9) as u8, (y * 9) as u8]));
            picture.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    // A name that is no UTF-8 must not stand in the way of the state.
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"broken\xff.png");
    std::fs::write(data.path().join("train/odd").join(name), "not a picture").unwrap();
    data
}

fn settings(data: &Path, name: &str, cached_views: Option<u32>, resume: bool) -> Settings {
    let recipe = Recipe {
        init: "resnet18-mask.safetensors".into(),
        classes: vec!["even".into(), "odd".into()],
        epochs: 3,
        patience: Some(2),
        pictures_per_epoch: Some(7),
        batch_size: 3,
        learning_rate: 0.05,
        schedule: Schedule::OneCycle,
        stage_decay: 1.0,
        momentum: 0.9,
        weight_decay: 0.01,
        label_smoothing: 0.1,
        freeze_until: Some(Stage::Layer4),
        precision: Precision::Single,
        augmentation: Augmentation::ROBUST,
        cached_views,
        scenes: None,
        seed: 3,
    };
    Settings {
        data: data.to_owned(),
        init: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet18-mask.safetensors")),
        out: data.join(name),
        resume,
        recipe,
        cache: data.join(name).with_extension("features"),
        cache_limit: u64::MAX,
        device: Device::Cpu,
        loader_threads: 2,
        state_interval: Duration::ZERO,
    }
}

/// What a training leaves behind, the durations apart.
fn result(settings: &Settings, outcome: &Outcome) -> impl PartialEq + std::fmt::Debug + use<> {
    let Weights { tensors, metadata } = Weights::read(&settings.out).unwrap();
    let log: Vec<EpochRecord> =
        csv::Reader::from_path(settings.log()).unwrap().deserialize().collect::<Result<_, _>>().unwrap();
    let log: Vec<EpochRecord> = log.into_iter().map(|record| EpochRecord { seconds: 0.0, ..record }).collect();
    assert!(!settings.state().exists());
    (tensors, metadata, log, outcome.best, outcome.ending, outcome.unreadable.clone())
}

#[test]
fn wherever_it_is_interrupted_it_goes_on_to_the_same_result() {
    let _alone = ONE_AT_A_TIME.lock();
    for cached_views in [None, Some(2)] {
        let data = data();
        let whole = settings(data.path(), "whole.safetensors", cached_views, false);
        let outcome = run(&whole, &mut patient()).unwrap();
        assert_eq!(outcome.unreadable.len(), 1);
        let expected = result(&whole, &outcome);
        for occasion in 1.. {
            let name = format!("{occasion}.safetensors");
            let mut observer = StopAt::nth(occasion);
            let outcome = run(&settings(data.path(), &name, cached_views, false), &mut observer).unwrap();
            if !observer.stopped {
                let occasions = if cached_views.is_some() { 14 } else { 8 };
                assert!(occasion > occasions, "only {occasion} occasions: something is not observed");
                break;
            }
            assert_eq!(outcome.ending, Ending::Interrupted);
            let resumed = settings(data.path(), &name, cached_views, true);
            let outcome = run(&resumed, &mut patient()).unwrap();
            assert_eq!(result(&resumed, &outcome), expected, "interrupted at occasion {occasion}");
        }
    }
}

#[test]
fn a_resumption_needs_the_best_model_so_far() {
    let _alone = ONE_AT_A_TIME.lock();
    let data = data();
    // Occasions of an epoch: three batches and one of validation; the fifth is in the second epoch.
    run(&settings(data.path(), "x.safetensors", None, false), &mut StopAt::nth(5)).unwrap();
    let resumed = settings(data.path(), "x.safetensors", None, true);
    std::fs::remove_file(&resumed.out).unwrap();
    assert!(matches!(run(&resumed, &mut patient()), Err(TrainError::BestIsGone { .. })));
    assert!(resumed.state().exists());
}

#[test]
fn places_that_collide_are_refused() {
    let _alone = ONE_AT_A_TIME.lock();
    let data = data();
    for (out, cache) in [("x.png", "y"), ("x.csv", "y"), ("x", "x"), ("x.features", "x.features")] {
        let mut colliding = settings(data.path(), out, Some(1), false);
        colliding.cache = data.path().join(cache);
        assert!(matches!(run(&colliding, &mut patient()), Err(TrainError::Output(_))), "{out} {cache}");
    }
    std::fs::create_dir(data.path().join("z.png")).unwrap();
    let blocked = run(&settings(data.path(), "z.safetensors", None, false), &mut patient()).unwrap_err();
    assert!(blocked.to_string().contains("z.png"), "{blocked}");
}
