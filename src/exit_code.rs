//! What the process tells its caller.

/// Exit codes of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything was done.
    Done,
    /// Something failed while running.
    Failed,
    /// The command line makes no sense. clap uses the same number.
    Usage,
    /// An input could not be opened or read.
    Input,
    /// A signal ended it, after draining.
    Interrupted,
}

impl From<ExitCode> for i32 {
    fn from(code: ExitCode) -> Self {
        match code {
            ExitCode::Done => 0,
            ExitCode::Failed => 1,
            ExitCode::Usage => 2,
            ExitCode::Input => 3,
            ExitCode::Interrupted => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_scripts_rely_on() {
        let codes = [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Input, ExitCode::Interrupted];
        assert_eq!(codes.map(i32::from), [0, 1, 2, 3, 130]);
    }
}
