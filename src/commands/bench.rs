//! `maskwatch bench`: how long each stage takes.

use std::path::Path;

use crate::bench::report::text;
use crate::bench::{self, BenchError};
use crate::cli::BenchArgs;
use crate::config::bench::BenchConfig;
use crate::exit_code::ExitCode;
use crate::files;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::sinks::SinkError;

/// Measures, and prints or writes the figures: those of the completed rounds if the user stops it.
///
/// # Errors
///
/// When options, model or video are unusable, a stage fails, or the figures cannot be written.
pub fn run(args: &BenchArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let config = BenchConfig::new(args)?;
    let to_stdout = Path::new("-");
    let file = args.json.as_deref().filter(|path| *path != to_stdout);
    let unwritable = |path: &Path, error| BenchError::from(SinkError::file(path, error));
    if let Some(path) = file {
        files::check_replaceable(path).map_err(|error| unwritable(path, error))?;
    }
    let mut progress = Progress::new(args.progress, "measuring", Some(bench::turns(&config) as u64), "turns");
    let measured = bench::measure(&config, shutdown, &mut |turns| progress.update(turns as u64, ""));
    progress.finish();
    let Some(report) = measured? else {
        tracing::warn!("interrupted before the first round was over: nothing is measured");
        return Ok(ExitCode::Interrupted);
    };
    let json = serde_json::to_string_pretty(&report)? + "\n";
    match args.json.as_deref() {
        Some(path) if path == to_stdout => super::print(json.as_bytes())?,
        _ => super::print(text::write(&report).as_bytes())?,
    };
    if let Some(path) = file {
        files::replace(path, json.as_bytes()).map_err(|error| unwritable(path, error))?;
    }
    Ok(if report.interrupted { ExitCode::Interrupted } else { ExitCode::Done })
}
