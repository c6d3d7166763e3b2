//! `maskwatch completions`: a completion script for a shell.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit_code::ExitCode;

/// Prints the script.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn run(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "maskwatch", &mut script);
    super::print(&script)
}
