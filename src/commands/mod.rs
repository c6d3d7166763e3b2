//! One file a command: thin, the library does the work.

pub mod bench;
pub mod capture_source;
pub mod completions;
pub mod doctor;
pub mod evaluate;
pub mod explain;
pub mod man;
pub mod run;
pub mod train;

use crate::bench::BenchError;
use crate::cli::FileError;
use crate::config::ConfigError;
use crate::evaluate::EvaluateError;
use crate::evaluate::report::ReportError;
use crate::exit_code::ExitCode;
use crate::model::ModelError;
use crate::train::TrainError;

/// The exit code for an error that ended a command.
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    let known = error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref().map(FileError::exit_code))
            .or_else(|| cause.downcast_ref().map(ConfigError::exit_code))
            .or_else(|| cause.downcast_ref().map(TrainError::exit_code))
            .or_else(|| cause.downcast_ref().map(EvaluateError::exit_code))
            .or_else(|| cause.downcast_ref().map(ReportError::exit_code))
            .or_else(|| cause.downcast_ref().map(BenchError::exit_code))
            .or_else(|| cause.downcast_ref().map(ModelError::exit_code))
    });
    known.unwrap_or(ExitCode::Failed)
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::Done),
    }
}
