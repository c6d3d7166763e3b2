//! `maskwatch man`: the manual page, with a section for each command.

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit_code::ExitCode;

/// Prints the page in roff.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let manual = Man::new(subcommand.clone());
        page.extend(format!(".SH \"MASKWATCH {}\"\n", subcommand.get_name().to_uppercase()).bytes());
        manual.render_description_section(&mut page)?;
        manual.render_synopsis_section(&mut page)?;
        manual.render_options_section(&mut page)?;
        manual.render_extra_section(&mut page)?;
    }
    super::print(&page)
}
