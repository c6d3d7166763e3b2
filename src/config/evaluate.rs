//! What `evaluate` does: its options checked against the kind of folder that it is given.

use std::path::{Path, PathBuf};

use super::scan::scan_settings;
use super::{ConfigError, UsageError, available_threads, refuse_unheeded};
use crate::analyse::ScanAnalysisSettings;
use crate::boxes::default_threshold;
use crate::cli::{BoxesArgs, EvaluateArgs, LayerArg, Methods, ResolutionArg, ScanArgs, ScenesArgs};
use crate::dataset::voc::VocDataset;
use crate::evaluate::classification::Options;
use crate::evaluate::localisation::{Choice, Extent, Settings};
use crate::evaluate::scenes::tuning::Protocol;
use crate::model::resnet::Resolution;

const BATCH_SIZE: usize = 32;
const CURVE_STEPS: usize = 16;
const MIN_SIZE_PX: u32 = 32;

/// What is evaluated and how.
#[derive(Debug)]
pub enum EvaluateConfig {
    /// Classes, on class folders.
    Classes(Options),
    /// Boxes, on annotated pictures.
    Boxes(BoxesConfig),
    /// Detections, on annotated pictures.
    Scenes(ScenesConfig),
}

/// How boxes are evaluated.
#[derive(Debug)]
pub struct BoxesConfig {
    /// What is measured.
    pub settings: Settings,
    /// How densely `layer4` looks.
    pub resolution: Resolution,
    /// Where thresholds are chosen first.
    pub tune_on: Option<PathBuf>,
}

/// How scenes are evaluated.
#[derive(Debug, Clone)]
pub struct ScenesConfig {
    /// How pictures are scanned, and what counts unless thresholds are chosen.
    pub detector: ScanAnalysisSettings,
    /// How densely `layer4` looks.
    pub resolution: Resolution,
    /// Whether thresholds are chosen.
    pub protocol: Protocol,
    /// Shorter side, in pixels of the picture, below which a face is ignored.
    pub min_size: u32,
    /// A folder of pictures without faces.
    pub face_free: Option<PathBuf>,
    /// Threads that read pictures.
    pub loader_threads: usize,
}

impl EvaluateConfig {
    /// Checks a command line.
    ///
    /// # Errors
    ///
    /// When options are given that mean nothing for this folder, or the folder to tune on is the one that is evaluated.
    pub fn new(args: &EvaluateArgs) -> Result<Self, ConfigError> {
        let loader_threads = args.model.threads.unwrap_or_else(available_threads);
        let data = args.data.display();
        if !VocDataset::is_voc(&args.data) {
            if args.scenes.scenes {
                return Err(UsageError(format!(
                    "--scenes is for annotated boxes, but {data} has no images/ and annotations/; leave it out"
                ))
                .into());
            }
            refuse_scenes(&args.scenes, &args.scan)?;
            if let Some(option) = first_given(&args.boxes).or(first_shared(&args.boxes)) {
                return Err(UsageError(format!(
                    "{option} is for annotated boxes, but {data} has no images/ and annotations/; leave it out"
                ))
                .into());
            }
            let batch_size = args.batch_size.unwrap_or(BATCH_SIZE);
            return Ok(Self::Classes(Options { batch_size, loader_threads }));
        }
        if args.batch_size.is_some() {
            return Err(UsageError(format!(
                "--batch-size is for class folders, but {data} has images/ and annotations/; leave it out"
            ))
            .into());
        }
        if args.scenes.scenes {
            return Ok(Self::Scenes(ScenesConfig::new(args, loader_threads)?));
        }
        refuse_scenes(&args.scenes, &args.scan)?;
        if let Some(other) = args.boxes.tune_on.as_deref().filter(|other| is_same(other, &args.data)) {
            return Err(UsageError(format!(
                "--tune-on {}: thresholds are chosen on other pictures than those evaluated; give another folder",
                other.display()
            ))
            .into());
        }
        refuse_unheeded(&args.boxes.explanation, &args.boxes.methods.clone().unwrap_or_default().0)?;
        Ok(Self::Boxes(BoxesConfig::new(&args.boxes, loader_threads)))
    }
}

impl BoxesConfig {
    fn new(args: &BoxesArgs, loader_threads: usize) -> Self {
        let resolution = args.resolution.unwrap_or(ResolutionArg::Atrous).into();
        let method_settings = args.explanation.method_settings(LayerArg::Both);
        let Methods(methods) = args.methods.clone().unwrap_or_default();
        let with_threshold = |method| Choice {
            method,
            threshold: args
                .explanation
                .threshold
                .unwrap_or_else(|| default_threshold(method, &method_settings, resolution)),
        };
        let settings = Settings {
            methods: methods.into_iter().map(with_threshold).collect(),
            method_settings,
            gradient_source: args.gradients.map(Into::into).unwrap_or_default(),
            extent: Extent::Full { curve_steps: args.curve_steps.map_or(CURVE_STEPS, usize::from) },
            loader_threads,
        };
        Self { settings, resolution, tune_on: args.tune_on.clone() }
    }
}

impl ScenesConfig {
    fn new(args: &EvaluateArgs, loader_threads: usize) -> Result<Self, UsageError> {
        if let Some(option) = first_given(&args.boxes) {
            return Err(UsageError(format!("{option} compares methods of explanation, not scenes; leave it out")));
        }
        let Some(detector) = scan_settings(&args.scan, &args.boxes.explanation)? else {
            return Err(UsageError("--scan whole: --scenes measures scans; give a size, or leave it out".to_owned()));
        };
        let ScenesArgs { tune_first, folds, .. } = args.scenes;
        let protocol = match (tune_first, folds) {
            (Some(first), _) => Protocol::First(first),
            (None, Some(folds)) => Protocol::Folds(folds.into()),
            (None, None) => Protocol::Given,
        };
        Ok(Self {
            detector,
            resolution: args.boxes.resolution.map_or(Resolution::Native, Into::into),
            protocol,
            min_size: args.scenes.min_size.unwrap_or(MIN_SIZE_PX),
            face_free: args.scenes.face_free.clone(),
            loader_threads,
        })
    }
}

/// Options for scenes are mistakes without `--scenes`.
fn refuse_scenes(args: &ScenesArgs, scan: &ScanArgs) -> Result<(), UsageError> {
    let given = [
        ("--min-size", args.min_size.is_some()),
        ("--face-free", args.face_free.is_some()),
        ("--tune-first", args.tune_first.is_some()),
        ("--folds", args.folds.is_some()),
        ("--scan", scan.scan.is_some()),
        ("--min-face", scan.min_face.is_some()),
        ("--scan-map", scan.scan_map.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(UsageError(format!("{option} is for scenes; give --scenes, or leave it out"))),
        None => Ok(()),
    }
}

/// The first option that is given of those for annotated boxes alone.
fn first_given(args: &BoxesArgs) -> Option<&'static str> {
    let given = [
        ("--methods", args.methods.is_some()),
        ("--gradients", args.gradients.is_some()),
        ("--curve-steps", args.curve_steps.is_some()),
        ("--tune-on", args.tune_on.is_some()),
        ("--layer", args.explanation.layer.is_some()),
        ("--class-weights", args.explanation.class_weights.is_some()),
    ];
    given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
}

/// The first option that is given of those that annotated boxes and scenes share.
fn first_shared(args: &BoxesArgs) -> Option<&'static str> {
    let given = [
        ("--resolution", args.resolution.is_some()),
        ("--components", args.explanation.components.is_some()),
        ("--centred", args.explanation.centred),
        ("--threshold", args.explanation.threshold.is_some()),
    ];
    given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
}

fn is_same(one: &Path, other: &Path) -> bool {
    // What does not exist is told when it is read.
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}
