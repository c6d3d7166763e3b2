//! A configuration file in place of a long command line: `run --config FILE.toml`.
//!
//! Each key is the name of an option of `run` without its dashes, and the table `[sources]` names the sources. The file is
//! turned into arguments that come before those typed, so that both are parsed, checked and documented in one place, and an
//! option that is typed replaces the file's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, CommandFactory, Parser};
use toml::{Table, Value};

use super::{Cli, Command};
use crate::exit_code::ExitCode;

/// The table of sources, by name.
const SOURCES: &str = "sources";
/// Options that make no sense in a file.
const NOT_IN_FILES: [&str; 4] = ["config", "check", "help", "version"];

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read ({reason}): check the path", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// It says what makes no sense.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do, on one line.
        reason: String,
    },
}

impl FileError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { .. } => ExitCode::Input,
            Self::Invalid { .. } => ExitCode::Usage,
        }
    }
}

/// Parses a command line, and the file that it names if it does. What is wrong with the command line itself is told by
/// clap, which then ends the process, as `--help` does.
///
/// # Errors
///
/// When there is such a file and it cannot be used.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, FileError> {
    let line: Vec<OsString> = line.into_iter().collect();
    let cli = Cli::parse_from(&line);
    let Command::Run(run) = &cli.command else { return Ok(cli) };
    let Some(path) = &run.config else { return Ok(cli) };
    let text = std::fs::read_to_string(path).map_err(|reason| FileError::Unreadable { path: path.clone(), reason })?;
    let invalid = |reason| FileError::Invalid { path: path.clone(), reason };
    let from_file = arguments(&text).map_err(invalid)?;
    // Alone first: what is wrong with it must not look like a typing mistake.
    check_alone(path, &from_file)?;
    // The first word is the program's own name.
    let place = line.iter().skip(1).position(|word| word == "run").expect("the command was parsed") + 2;
    let all = line[..place].iter().chain(&from_file).chain(&line[place..]);
    Ok(Cli::parse_from(all))
}

fn check_alone(path: &Path, from_file: &[OsString]) -> Result<(), FileError> {
    let words = ["maskwatch".into(), "run".into(), "--config=.".into()];
    match Cli::try_parse_from(words.iter().chain(from_file)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            let reason = first.trim_start_matches("error: ").replace("'--", "'").to_owned();
            Err(FileError::Invalid { path: path.to_owned(), reason })
        }
    }
}

/// The arguments that a file stands for.
fn arguments(text: &str) -> Result<Vec<OsString>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map_or(String::new(), |line| format!("line {line}: "));
        format!("{place}{}", error.message().replace('\n', " "))
    })?;
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("there is such a command");
    let mut arguments = Vec::new();
    let mut sources = Vec::new();
    for (key, value) in table {
        if key == SOURCES {
            sources = sources_of(value)?;
            continue;
        }
        let name = key.replace('_', "-");
        let option = run
            .get_arguments()
            .chain(command.get_arguments().filter(|argument| argument.is_global_set()))
            .find(|argument| argument.get_long() == Some(&name) && !NOT_IN_FILES.contains(&name.as_str()));
        let Some(option) = option else {
            return Err(format!(
                "unknown key {key:?}: keys are the options that 'maskwatch run --help' lists, and [sources]"
            ));
        };
        arguments.extend(argument(option, &key, &value)?);
    }
    Ok(arguments.into_iter().chain(sources).collect())
}

/// `[sources]`: a string a name.
fn sources_of(value: Value) -> Result<Vec<OsString>, String> {
    let Value::Table(sources) = value else {
        return Err("sources is a table: write [sources], and below it lines such as door = \"rtsp://...\"".to_owned());
    };
    let source = |(name, value)| match value {
        Value::String(source) => Ok(format!("{name}={source}").into()),
        _ => Err(format!("source {name} is no text: write {name} = \"rtsp://...\"")),
    };
    sources.into_iter().map(source).collect()
}

/// A key and its value as typed on a command line.
fn argument(option: &Arg, key: &str, value: &Value) -> Result<Option<OsString>, String> {
    let long = option.get_long().expect("found by its long name");
    let is_flag = matches!(option.get_action(), ArgAction::SetTrue);
    let text = match value {
        Value::Boolean(wanted) if is_flag => return Ok(wanted.then(|| format!("--{long}").into())),
        Value::Integer(number) if matches!(option.get_action(), ArgAction::Count) => {
            let count = usize::try_from(*number).map_err(|_| format!("{key} is a whole number of at least 0"))?;
            let short = option.get_short().unwrap_or_default().to_string().repeat(count);
            return Ok((count > 0).then(|| format!("-{short}").into()));
        }
        _ if is_flag => return Err(format!("{key} is true or false")),
        Value::Array(values) if option.get_value_delimiter().is_some() => {
            let texts: Vec<String> = values
                .iter()
                .map(|value| scalar(value).ok_or_else(|| format!("{key} is a list of texts or numbers")))
                .collect::<Result<_, _>>()?;
            texts.join(",")
        }
        value => scalar(value).ok_or_else(|| format!("{key} is a text or a number"))?,
    };
    Ok(Some(format!("--{long}={text}").into()))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RunArgs;

    fn run(text: &str, typed: &[&str]) -> Result<RunArgs, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let words = ["maskwatch", "run", "--config", path];
        let line = words.iter().chain(typed).map(OsString::from);
        match parse(line) {
            Ok(Cli { command: Command::Run(args), .. }) => Ok(*args),
            Ok(_) => panic!("not run"),
            Err(error) => Err(error.to_string().replace(path, "FILE")),
        }
    }

    #[test]
    fn a_file_says_what_a_command_line_says() {
        let args = run(
            "events = 'out.jsonl'\nlimit = 5\nthreshold = 0.25\nheadless = true\nall_boxes = false\n\
             [sources]\nhall = 'rtsp://u:p@camera/x'\ndoor = '/dev/video0'\n",
            &[],
        )
        .unwrap();
        assert_eq!(args.sources, ["hall=rtsp://u:p@camera/x", "door=/dev/video0"], "in the order of the file");
        assert_eq!((args.limit, args.output.headless, args.all_boxes), (Some(5), true, false));
        assert_eq!(args.output.events, Some(PathBuf::from("out.jsonl")));
    }

    #[test]
    fn what_is_typed_wins_and_adds() {
        let args = run("limit = 5\n[sources]\na = '0'\n", &["--limit", "7", "b=1"]).unwrap();
        assert_eq!((args.limit, args.sources), (Some(7), vec!["a=0".to_owned(), "b=1".to_owned()]));
        assert_eq!(run("", &["clip.mp4"]).unwrap().sources, ["clip.mp4"]);
    }

    #[test]
    fn mistakes_are_told_on_one_line() {
        for (text, expected) in [
            ("colour = 1", "FILE: unknown key \"colour\": keys are the options"),
            ("config = 'x'", "unknown key \"config\""),
            ("limit = 'many'", "invalid value 'many' for 'limit"),
            ("limit = 0", "invalid value '0'"),
            ("headless = 1", "headless is true or false"),
            ("limit = true", "limit is a text or a number"),
            ("limit = 1\nlimit = 2", "line 2: duplicate key"),
            ("x = ", "line 1: "),
            ("sources = ['0']", "sources is a table"),
            ("[sources]\na = 0", "source a is no text"),
            ("policy = 'fast'", "invalid value 'fast' for 'policy"),
        ] {
            let error = run(text, &["0"]).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
        let line = ["maskwatch", "run", "--config", "/nowhere.toml"].map(OsString::from);
        assert!(matches!(parse(line), Err(FileError::Unreadable { .. })));
    }
}
