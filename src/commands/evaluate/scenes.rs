//! `maskwatch evaluate --scenes`: detections against all faces of a picture.

use std::path::Path;

use serde_json::{Value, json};

use super::{report_folder, warn_of, watched};
use crate::analyse::{Analyser, AnalysisSettings};
use crate::boxes::default_threshold;
use crate::cli::EvaluateArgs;
use crate::config::evaluate::ScenesConfig;
use crate::dataset::voc::VocDataset;
use crate::evaluate::scenes::report::{self, Findings, text};
use crate::evaluate::scenes::summary::Summary;
use crate::evaluate::scenes::tuning::Tuning;
use crate::evaluate::scenes::{self, Detect, Settings};
use crate::exit_code::ExitCode;
use crate::explain::{Method, MethodSettings};
use crate::model::engine::Engine;
use crate::model::resnet::Resolution;
use crate::shutdown::Shutdown;

/// A detector and what a report says of it.
struct Detector {
    /// Least score of a detection unless another is given, one a class.
    thresholds: Vec<f32>,
    /// How it is set.
    notes: Value,
    detect: Box<Detect<'static>>,
}

/// Evaluates, prints the figures, and writes the report that is asked for.
pub(super) fn run(
    args: &EvaluateArgs,
    model: &Path,
    engine: Engine,
    config: ScenesConfig,
    shutdown: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let read = VocDataset::subfolders(&args.data).into_iter().chain(config.face_free.clone());
    let folder = report_folder(args, read.collect())?;
    let classes = engine.description().classes.clone();
    let mut detector = whole_pictures(engine);
    let thresholds = match config.threshold {
        Some(threshold) => vec![threshold; classes.len()],
        None => detector.thresholds,
    };
    let ScenesConfig { protocol, min_size, face_free, loader_threads, .. } = config;
    let settings = Settings { classes, thresholds, protocol, min_size, face_free, loader_threads };
    let evaluation = watched("evaluating", args.progress, shutdown, |observe| {
        scenes::evaluate(&mut detector.detect, &args.data, &settings, observe)
    })?;
    warn_of(&evaluation.problems);
    let tuning = Tuning::new(&evaluation, &settings);
    let summary = Summary::new(&evaluation, &settings, &tuning);
    let findings = Findings {
        model,
        detector: &detector.notes,
        settings: &settings,
        evaluation: &evaluation,
        tuning: &tuning,
        summary: &summary,
    };
    let code = super::super::print(text::write(findings).as_bytes())?;
    if let Some(folder) = folder {
        report::write(&folder, findings)?;
    }
    Ok(code)
}

/// Takes each picture as a whole and boxes what its map shows.
fn whole_pictures(engine: Engine) -> Detector {
    let (method, method_settings) = (Method::HayCamRefined, MethodSettings::default());
    let threshold = default_threshold(method, &method_settings, Resolution::Native);
    let thresholds = vec![0.5; engine.description().classes.len()];
    let settings = AnalysisSettings { method, method_settings, threshold, all_boxes: true };
    let analyser = Analyser::new(engine, settings);
    let notes = json!({"detector": "whole pictures", "method": method.name(), "threshold": threshold.to_string()});
    Detector { thresholds, notes, detect: Box::new(move |picture| Ok(analyser.analyse(picture)?.boxes)) }
}
