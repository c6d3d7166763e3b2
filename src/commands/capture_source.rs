//! `maskwatch capture-source`: the process that decodes one live source for another maskwatch. Hidden, for nobody to type.

use crate::exit_code::ExitCode;

/// Serves the request on standard input.
///
/// # Errors
///
/// When nobody asks.
pub fn run() -> anyhow::Result<ExitCode> {
    #[cfg(feature = "opencv")]
    {
        crate::capture::supervise::decoder::serve()?;
        Ok(ExitCode::Done)
    }
    #[cfg(not(feature = "opencv"))]
    anyhow::bail!("this build has no video support: build with the feature \"opencv\"")
}
