//! `maskwatch evaluate`: a model against labelled pictures.

use std::ops::ControlFlow;

use crate::cli::EvaluateArgs;
use crate::config::{available_threads, shipped_model};
use crate::evaluate::classification::report::{self, Findings, text};
use crate::evaluate::classification::summary::Summary;
use crate::evaluate::classification::{Options, evaluate};
use crate::evaluate::report::ReportFolder;
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::model::engine::Engine;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::threads;

/// Evaluates, prints the figures, and writes the report that is asked for.
///
/// # Errors
///
/// When model or data are unusable, the report cannot be written, or the user stops it.
pub fn run(args: &EvaluateArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    threads::size_pools(args.model.threads);
    let path = args.model.model.clone().unwrap_or_else(shipped_model);
    let engine = Engine::load(&path, device::resolve(args.model.device)?)?;
    let class_folders: Vec<_> = engine.description().classes.iter().map(|class| args.data.join(class)).collect();
    let folder = match &args.report {
        Some(report) => Some(ReportFolder::prepare(report, &class_folders)?),
        None => None,
    };
    let options =
        Options { batch_size: args.batch_size, loader_threads: args.model.threads.unwrap_or_else(available_threads) };
    let mut progress = None;
    let evaluation = evaluate(&engine, &args.data, options, |done, total| {
        progress
            .get_or_insert_with(|| Progress::new(args.progress, "evaluating", Some(total as u64), "pictures"))
            .update(done as u64, "");
        if shutdown.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(progress) = &progress {
        progress.finish();
    }
    let evaluation = evaluation?;
    for class in &evaluation.unknown_classes {
        tracing::warn!("left out: the folder {class}, which is no class of the model");
    }
    for (_, reason) in &evaluation.unreadable {
        tracing::warn!("left out: {reason}");
    }
    let summary = Summary::new(&evaluation);
    // First the figures: they are not lost if the report cannot be written.
    let code = super::print(text::write(&evaluation, &summary).as_bytes())?;
    if let Some(folder) = folder {
        report::write(&folder, Findings { model: &path, evaluation: &evaluation, summary: &summary })?;
    }
    Ok(code)
}
