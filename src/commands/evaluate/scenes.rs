//! `maskwatch evaluate --scenes`: detections against all faces of a picture.

use std::path::Path;

use serde_json::{Value, json};

use super::{report_folder, warn_of, watched};
use crate::analyse::ScanAnalysisSettings;
use crate::cli::EvaluateArgs;
use crate::config::evaluate::ScenesConfig;
use crate::dataset::voc::VocDataset;
use crate::evaluate::scenes::report::{self, Findings, text};
use crate::evaluate::scenes::summary::Summary;
use crate::evaluate::scenes::tuning::Tuning;
use crate::evaluate::scenes::{self, Detect, Settings};
use crate::exit_code::ExitCode;
use crate::model::engine::Engine;
use crate::scan::Scanner;
use crate::scan::settings::default_threshold;
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
    let Detector { thresholds, notes, mut detect } = scanner(engine.with_resolution(config.resolution)?, &config);
    let ScenesConfig { protocol, min_size, face_free, loader_threads, .. } = config;
    let settings = Settings { classes, thresholds, protocol, min_size, face_free, loader_threads };
    let evaluation = watched("evaluating", args.progress, shutdown, |observe| {
        scenes::evaluate(&mut detect, &args.data, &settings, observe)
    })?;
    warn_of(&evaluation.problems);
    let tuning = Tuning::new(&evaluation, &settings);
    let summary = Summary::new(&evaluation, &settings, &tuning);
    let findings = Findings {
        model,
        detector: &notes,
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

/// Scans each picture.
fn scanner(engine: Engine, config: &ScenesConfig) -> Detector {
    let ScanAnalysisSettings { scan, threshold, .. } = config.detector;
    let classes = engine.description().classes.iter();
    let thresholds = classes.map(|class| threshold.unwrap_or_else(|| default_threshold(class))).collect();
    let notes = json!({
        "detector": "scan",
        "short_side": scan.short_side,
        "near_side": scan.near_side,
        "min_face": scan.min_face,
        "resolution": config.resolution,
        "map": scan.map.to_string(),
        "components": scan.components.to_string(),
        "centred": scan.centred,
    });
    let scanner = Scanner::new(engine, scan);
    Detector { thresholds, notes, detect: Box::new(move |picture| Ok(scanner.scan(picture)?.detections.into_vec())) }
}
