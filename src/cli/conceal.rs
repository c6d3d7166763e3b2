//! Keeps passwords out of the list of processes, which every user of a machine can read.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use url::Url;

/// The variables that take sources with a password; their number follows.
const VARIABLE: &str = "MASKWATCH_SOURCE_";

/// Replaces this process by one whose arguments hold no addresses with a password, but the names of variables that do. Returns
/// where there are none.
///
/// # Errors
///
/// When the process cannot be replaced; it can go on as it was started.
pub fn conceal_credentials(arguments: &[OsString]) -> io::Result<()> {
    let (arguments, variables) = concealed(arguments);
    if variables.is_empty() {
        return Ok(());
    }
    let (name, arguments) = arguments.split_first().expect("variables stand for arguments");
    Err(Command::new(std::env::current_exe()?).arg0(name).args(arguments).envs(variables).exec())
}

/// The arguments with variables in place of addresses that have credentials, and these variables.
fn concealed(arguments: &[OsString]) -> (Vec<OsString>, Vec<(String, String)>) {
    let mut variables = Vec::new();
    let conceal = |argument: &OsString| {
        let Some((name, address)) = argument.to_str().and_then(with_credentials) else { return argument.clone() };
        let variable = format!("{VARIABLE}{}", variables.len());
        let replaced = OsString::from(format!("{name}env:{variable}"));
        variables.push((variable, address.to_owned()));
        replaced
    };
    let is_run = arguments.iter().any(|argument| argument == OsStr::new("run"));
    let arguments = if is_run { arguments.iter().map(conceal).collect() } else { arguments.to_vec() };
    (arguments, variables)
}

/// The name that a source is given, with its equals sign, and its address, if that has credentials.
fn with_credentials(argument: &str) -> Option<(&str, &str)> {
    let scheme = argument[..argument.find("://")?].rfind('=').map_or(0, |equals| equals + 1);
    let (name, address) = argument.split_at(scheme);
    let url = Url::parse(address).ok()?;
    let is_option = name.starts_with('-');
    (!is_option && (url.password().is_some() || !url.username().is_empty())).then_some((name, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concealing(arguments: &[&str]) -> (Vec<String>, Vec<(String, String)>) {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let (concealed, variables) = concealed(&arguments);
        (concealed.into_iter().map(|argument| argument.into_string().unwrap()).collect(), variables)
    }

    #[test]
    fn addresses_with_credentials_become_variables() {
        let typed = [
            "maskwatch",
            "run",
            "door=rtsp://u:secret@host/a=b",
            "rtsp://host/x",
            "http://token@host/",
            "--save",
            "x.mp4",
        ];
        let (arguments, variables) = concealing(&typed);
        let expected = [
            "maskwatch",
            "run",
            "door=env:MASKWATCH_SOURCE_0",
            "rtsp://host/x",
            "env:MASKWATCH_SOURCE_1",
            "--save",
            "x.mp4",
        ];
        assert_eq!(arguments, expected);
        let values: Vec<&str> = variables.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["rtsp://u:secret@host/a=b", "http://token@host/"]);
    }

    #[test]
    fn nothing_else_is_touched() {
        for typed in
            [&["maskwatch", "run", "0", "a=b.mp4", "no://", "=://x", "rtsp://host/?u:p@"][..], &["maskwatch", "doctor"]]
        {
            let (arguments, variables) = concealing(typed);
            assert_eq!(arguments, typed);
            assert!(variables.is_empty());
        }
    }
}
