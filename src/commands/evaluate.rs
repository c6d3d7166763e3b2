//! `maskwatch evaluate`: a model against labelled pictures.

use std::fmt::Write;
use std::ops::ControlFlow;

use crate::cli::EvaluateArgs;
use crate::config::{available_threads, shipped_model};
use crate::evaluate::classification::{Options, Report, Score, evaluate};
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::model::engine::Engine;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::threads;

/// Evaluates and prints the report.
///
/// # Errors
///
/// When model or data are unusable, or the user stops it.
pub fn run(args: &EvaluateArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    threads::size_pools(args.model.threads);
    let path = args.model.model.clone().unwrap_or_else(shipped_model);
    let engine = Engine::load(&path, device::resolve(args.model.device)?)?;
    let options =
        Options { batch_size: args.batch_size, loader_threads: args.model.threads.unwrap_or_else(available_threads) };
    let mut progress = None;
    let report = evaluate(&engine, &args.data, options, |done, total| {
        progress
            .get_or_insert_with(|| Progress::new(args.progress, "evaluating", Some(total as u64), "pictures"))
            .update(done as u64, "");
        if shutdown.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(progress) = &progress {
        progress.finish();
    }
    let report = report?;
    for class in &report.unknown_classes {
        tracing::warn!("left out: the folder {class}, which is no class of the model");
    }
    for (_, reason) in &report.unreadable {
        tracing::warn!("left out: {reason}");
    }
    super::print(describe(&report)?.as_bytes())
}

fn describe(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let line = |text: &mut String, what: &str, score: Score| match score.total {
        0 => Ok(()),
        _ => {
            writeln!(text, "{what:<44} {:>6.2} %  {:>5} of {:>5}", score.accuracy() * 100.0, score.correct, score.total)
        }
    };
    line(&mut text, "all classes", report.overall())?;
    line(&mut text, "mask or no mask, largest of all outputs", report.mask_or_not)?;
    line(&mut text, "mask or no mask, larger of the two outputs", report.mask_or_not_of_two)?;
    writeln!(text, "\nby class")?;
    for (index, class) in report.classes.iter().enumerate() {
        line(&mut text, &format!("  {class}"), report.of_class(index))?;
    }
    writeln!(text, "\nby source")?;
    for ((source, class), score) in &report.by_source {
        line(&mut text, &format!("  {source} {class}"), *score)?;
    }
    writeln!(text, "\nconfusion (a row is a true class, a column a predicted one)")?;
    let header: String = report.classes.iter().map(|class| format!("{class:>12}")).collect();
    writeln!(text, "  {:<12}{header}", "")?;
    for (row, class) in report.confusion.rows().into_iter().zip(&report.classes) {
        let cells: String = row.iter().map(|count| format!("{count:>12}")).collect();
        writeln!(text, "  {class:<12}{cells}")?;
    }
    Ok(text)
}
