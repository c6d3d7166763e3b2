//! One file a command: thin, the library does the work.

pub mod completions;
pub mod doctor;
pub mod evaluate;
pub mod man;
pub mod run;
pub mod train;

use crate::capture::CaptureError;
use crate::config::{ConfigError, UsageError};
use crate::dataset::DatasetError;
use crate::evaluate::classification::EvaluateError;
use crate::exit_code::ExitCode;
use crate::model::ModelError;
use crate::train::TrainError;

/// The exit code for an error that ended a command.
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if let Some(code) = known(cause) {
            return code;
        }
    }
    ExitCode::Failed
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<ExitCode> {
    if cause.is::<UsageError>() {
        return Some(ExitCode::Usage);
    }
    if let Some(error) = cause.downcast_ref::<CaptureError>() {
        return Some(error.fault().into());
    }
    match cause.downcast_ref::<ConfigError>() {
        Some(ConfigError::Usage(_)) => return Some(ExitCode::Usage),
        Some(ConfigError::Source(error)) => return Some(error.fault().into()),
        None => {}
    }
    let model = match (cause.downcast_ref(), cause.downcast_ref(), cause.downcast_ref()) {
        (Some(error), ..) => error,
        (_, Some(TrainError::Model(error)), _) | (_, _, Some(EvaluateError::Model(error))) => error,
        (_, Some(TrainError::Dataset(_)), _) | (_, _, Some(EvaluateError::Dataset(_))) => return Some(ExitCode::Input),
        (_, _, Some(EvaluateError::Interrupted)) => return Some(ExitCode::Interrupted),
        _ => return cause.is::<DatasetError>().then_some(ExitCode::Input),
    };
    match model {
        ModelError::Unreadable { .. } | ModelError::Invalid { .. } => Some(ExitCode::Input),
        ModelError::Unwritable { .. } | ModelError::Device(_) | ModelError::Torch(_) => Some(ExitCode::Failed),
    }
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::Done),
    }
}
