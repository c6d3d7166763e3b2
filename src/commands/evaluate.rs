//! `maskwatch evaluate`: a model against labelled pictures.

mod scenes;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::cli::{EvaluateArgs, ProgressArg};
use crate::config::evaluate::{BoxesConfig, EvaluateConfig};
use crate::config::{scenes_model, shipped_model};
use crate::dataset::voc::{Problem, VocDataset};
use crate::evaluate::classification::{self, Options};
use crate::evaluate::localisation::tuning::Tuning;
use crate::evaluate::localisation::{self, Extent, Settings};
use crate::evaluate::report::ReportFolder;
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::model::engine::Engine;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::threads;

/// Problems of one kind that are told one by one; of more the rest is only counted.
const TOLD_PROBLEMS: usize = 5;

/// Evaluates, prints the figures, and writes the report that is asked for.
///
/// # Errors
///
/// When options, model or data are unusable, the report cannot be written, or the user stops it.
pub fn run(args: &EvaluateArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let config = EvaluateConfig::new(args)?;
    threads::size_pools(args.model.threads);
    let path = args.model.model.clone().unwrap_or_else(|| match config {
        EvaluateConfig::Classes(_) | EvaluateConfig::Boxes(_) => shipped_model(),
        EvaluateConfig::Scenes(_) => scenes_model(),
    });
    let engine = Engine::load(&path, device::resolve(args.model.device)?)?;
    let engine = engine.with_precision(args.model.precision.into())?;
    match config {
        EvaluateConfig::Classes(options) => classes(args, &path, &engine, options, shutdown),
        EvaluateConfig::Boxes(config) => boxes(args, &path, engine, config, shutdown),
        EvaluateConfig::Scenes(config) => scenes::run(args, &path, engine, config, shutdown),
    }
}

fn classes(
    args: &EvaluateArgs,
    model: &Path,
    engine: &Engine,
    options: Options,
    shutdown: &Shutdown,
) -> anyhow::Result<ExitCode> {
    use classification::report::{self, Findings, text};
    let class_folders = engine.description().classes.iter().map(|class| args.data.join(class));
    let folder = report_folder(args, class_folders.collect())?;
    let evaluation = watched("evaluating", args.progress, shutdown, |observe| {
        classification::evaluate(engine, &args.data, options, observe)
    })?;
    for class in &evaluation.unknown_classes {
        tracing::warn!("left out: the folder {class}, which is no class of the model");
    }
    for (_, reason) in &evaluation.unreadable {
        tracing::warn!("left out: {reason}");
    }
    let summary = classification::summary::Summary::new(&evaluation);
    // First the figures: they are not lost if the report cannot be written.
    let code = super::print(text::write(&evaluation, &summary).as_bytes())?;
    if let Some(folder) = folder {
        report::write(&folder, Findings { model, evaluation: &evaluation, summary: &summary })?;
    }
    Ok(code)
}

fn boxes(
    args: &EvaluateArgs,
    model: &Path,
    engine: Engine,
    config: BoxesConfig,
    shutdown: &Shutdown,
) -> anyhow::Result<ExitCode> {
    use localisation::report::{self, Findings, text};
    let BoxesConfig { mut settings, resolution, tune_on } = config;
    let engine = engine.with_resolution(resolution)?;
    let data = [&args.data].into_iter().chain(&tune_on);
    let folder = report_folder(args, data.flat_map(|data| VocDataset::subfolders(data)).collect())?;
    let measure = |title, data: &Path, settings: &Settings| {
        let evaluation = watched(title, args.progress, shutdown, |observe| {
            localisation::evaluate(&engine, data, settings, observe)
        })?;
        warn_of(&evaluation.problems);
        anyhow::Ok(evaluation)
    };
    let mut tuning = None;
    if let Some(other) = &tune_on {
        let settings_there = Settings { extent: Extent::Thresholds, ..settings.clone() };
        let tuned = Tuning::new(measure("choosing thresholds", other, &settings_there)?);
        settings.methods = tuned.methods.iter().map(|tuned| tuned.choice).collect();
        tuning = Some(tuned);
    }
    let evaluation = measure("evaluating", &args.data, &settings)?;
    let summary = localisation::summary::Summary::new(&evaluation);
    let findings = Findings {
        model,
        resolution,
        settings: &settings,
        evaluation: &evaluation,
        summary: &summary,
        tuning: tuning.as_ref(),
    };
    let code = super::print(text::write(findings).as_bytes())?;
    if let Some(folder) = folder {
        report::write(&folder, findings)?;
    }
    Ok(code)
}

/// Makes sure of the report's folder, if a report is asked for, which must not be one of the `data` folders.
fn report_folder(args: &EvaluateArgs, data: Vec<PathBuf>) -> anyhow::Result<Option<ReportFolder>> {
    Ok(args.report.as_deref().map(|report| ReportFolder::prepare(report, &data)).transpose()?)
}

/// Does something that reports how many of how many pictures are done, with progress on standard error, until the end is
/// asked for.
fn watched<T>(
    title: &str,
    when: ProgressArg,
    shutdown: &Shutdown,
    work: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> T,
) -> T {
    let mut progress = None;
    let result = work(&mut |done, total| {
        progress
            .get_or_insert_with(|| Progress::new(when, title, Some(total as u64), "pictures"))
            .update(done as u64, "");
        if shutdown.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(progress) = &progress {
        progress.finish();
    }
    result
}

/// Tells the first problems of each kind, and how many more there are.
fn warn_of(problems: &[Problem]) {
    let mut by_kind: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        by_kind.entry(problem.kind.name()).or_default().push(problem);
    }
    for (kind, problems) in by_kind {
        for problem in problems.iter().take(TOLD_PROBLEMS) {
            tracing::warn!("{problem}");
        }
        if problems.len() > TOLD_PROBLEMS {
            tracing::warn!("{} more problems of the kind {kind}; --report lists them", problems.len() - TOLD_PROBLEMS);
        }
    }
}
