//! Sources, their names, and how patient we are with those that are live.

use std::collections::HashSet;

use super::ConfigError;
use crate::capture::{LiveSettings, RtspTransport, SourceSpec};
use crate::cli::{CaptureArgs, RetriesArg, RtspTransportArg};
use crate::pipeline::NamedSource;

/// Understands sources as typed, each under a name that no other one has.
///
/// # Errors
///
/// When one makes no sense or is not there.
pub fn named_sources(args: &[String]) -> Result<Vec<NamedSource>, ConfigError> {
    let mut named = Vec::new();
    for arg in args {
        let (name, specs) = SourceSpec::parse_named(arg)?;
        let name_of = |spec: &SourceSpec| name.clone().unwrap_or_else(|| spec.name());
        named.extend(specs.into_iter().map(|spec| NamedSource { name: name_of(&spec), spec }));
    }
    Ok(number_repeated_names(named))
}

/// Sources under their own names.
pub(super) fn with_unique_names(specs: Vec<SourceSpec>) -> Vec<NamedSource> {
    number_repeated_names(specs.into_iter().map(|spec| NamedSource { name: spec.name(), spec }).collect())
}

/// Names that repeat (`a/clip.mp4 b/clip.mp4`) get a number.
fn number_repeated_names(mut sources: Vec<NamedSource>) -> Vec<NamedSource> {
    let mut taken = HashSet::new();
    for source in &mut sources {
        let wanted = source.name.clone();
        let mut number = 1;
        while !taken.insert(source.name.clone()) {
            number += 1;
            source.name = format!("{wanted}-{number}");
        }
    }
    sources
}

/// Deadlines as typed.
pub fn live_settings(args: &CaptureArgs) -> LiveSettings {
    LiveSettings {
        open_timeout: args.open_timeout,
        first_frame_timeout: args.first_frame_timeout,
        progress_timeout: args.progress_timeout,
        max_age: args.max_age,
        frozen_after: args.frozen_after,
        rtsp_transport: match args.rtsp_transport {
            RtspTransportArg::Tcp => RtspTransport::Tcp,
            RtspTransportArg::Udp => RtspTransport::Udp,
        },
        retries: match args.retries {
            RetriesArg::Forever => None,
            RetriesArg::Times(times) => Some(times),
        },
        ..LiveSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn names_are_unique() {
        let specs = ["a/x.mp4", "b/x.mp4", "x-2.mp4", "c/x.mp4"].map(|path| SourceSpec::VideoFile(path.into()));
        let names: Vec<String> = with_unique_names(specs.to_vec()).into_iter().map(|source| source.name).collect();
        assert_eq!(names, ["x", "x-2", "x-2-2", "x-3"]);
    }

    #[test]
    fn sources_are_called_as_the_user_says() {
        let sources = ["door=rtsp://cam/1", "door=rtsp://cam/2", "rtsp://cam/3", "0"].map(str::to_owned);
        let names: Vec<String> = named_sources(&sources).unwrap().into_iter().map(|source| source.name).collect();
        assert_eq!(names, ["door", "door-2", "cam", "camera0"]);
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_library() {
        let live = |options: &[&str]| {
            let Command::Run(args) = Cli::parse_from([&["maskwatch", "run", "0"], options].concat()).command else {
                panic!("not run")
            };
            live_settings(&args.capture)
        };
        assert_eq!(live(&[]), LiveSettings::default());
        let changed = live(&["--retries", "0", "--rtsp-transport", "udp", "--progress-timeout", "2s"]);
        assert_eq!((changed.retries, changed.rtsp_transport), (Some(0), RtspTransport::Udp));
        assert_eq!(changed.progress_timeout.as_secs(), 2);
    }
}
