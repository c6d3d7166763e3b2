//! From what was typed to what is run: checked once, here.

pub mod evaluate;
pub mod explain;

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::analyse::AnalysisSettings;
use crate::boxes::default_threshold;
use crate::capture::{CaptureError, OpenOptions, Policy, SourceSpec};
use crate::cli::{ExplanationArgs, LayerArg, OutputArgs, PolicyArg, RunArgs};
use crate::display;
use crate::exit_code::ExitCode;
use crate::explain::Method;
use crate::model::device::DeviceChoice;
use crate::model::resnet::Resolution;
use crate::pipeline::{NamedSource, RunSettings};
use crate::sinks::SaveTarget;

/// File name of the shipped model.
pub const SHIPPED_MODEL: &str = "resnet18-mask.safetensors";

/// A command line that makes no sense, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Why a command line cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The options do not fit together.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A source is not there.
    #[error(transparent)]
    Source(#[from] CaptureError),
}

impl ConfigError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::Usage,
            Self::Source(error) => error.fault().into(),
        }
    }
}

/// Everything that `run` needs.
#[derive(Debug)]
pub struct RunConfig {
    /// Sources and how they are played.
    pub run: RunSettings,
    /// The model file.
    pub model: PathBuf,
    /// Where it runs.
    pub device: DeviceChoice,
    /// Threads of a forward pass on the CPU; all cores if `None`.
    pub threads: Option<usize>,
    /// How densely the network looks.
    pub resolution: Resolution,
    /// Explanation and boxes.
    pub analysis: AnalysisSettings,
    /// Where annotated copies go.
    pub save: Option<SaveTarget>,
    /// Where events go; `-` is standard output.
    pub events: Option<PathBuf>,
    /// Whether a window is opened.
    pub show: bool,
}

impl RunConfig {
    /// Checks a command line.
    ///
    /// # Errors
    ///
    /// When a source does not exist or options contradict each other.
    pub fn new(args: &RunArgs) -> Result<Self, ConfigError> {
        let mut sources = Vec::new();
        for source in &args.sources {
            sources.extend(SourceSpec::parse(source)?);
        }
        if args.output.save.is_some() && !cfg!(feature = "gstreamer") {
            return Err(UsageError("--save needs the feature \"gstreamer\", which this build lacks".to_owned()).into());
        }
        let save = args.output.save.as_deref().map(|path| save_target(path, &sources)).transpose()?;
        if let Some(events) = &args.output.events {
            refuse_source(events, &sources)?;
            if args.output.save.as_ref() == Some(events) {
                return Err(UsageError("--save and --events name the same file; give each its own".to_owned()).into());
            }
        }
        let show = wants_window(&args.output)?;
        refuse_unheeded(&args.explanation, &[args.method])?;
        let resolution = args.resolution.into();
        // A further pass through layer4 and back would halve the frame rate.
        let method_settings = args.explanation.method_settings(LayerArg::Layer4);
        let threshold = args.explanation.threshold;
        Ok(Self {
            run: RunSettings {
                sources: with_unique_names(sources),
                policy: match args.policy {
                    PolicyArg::Auto => None,
                    PolicyArg::Live => Some(Policy::Live),
                    PolicyArg::Recorded => Some(Policy::Recorded),
                },
                limit: args.limit,
                open_options: OpenOptions::default(),
            },
            model: args.model.model.clone().unwrap_or_else(shipped_model),
            device: args.model.device,
            threads: args.model.threads,
            resolution,
            analysis: AnalysisSettings {
                method: args.method,
                method_settings,
                threshold: threshold.unwrap_or_else(|| default_threshold(args.method, &method_settings, resolution)),
                all_boxes: args.all_boxes,
            },
            save,
            events: args.output.events.clone(),
            show,
        })
    }
}

/// Options that no method heeds are mistakes.
fn refuse_unheeded(args: &ExplanationArgs, methods: &[Method]) -> Result<(), UsageError> {
    match args.unheeded(methods) {
        Some(option) => {
            let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
            Err(UsageError(format!("{option} changes nothing for {}; leave it out", names.join(", "))))
        }
        None => Ok(()),
    }
}

/// The model that came with the program: looked for beside the program and where it was built.
pub fn shipped_model() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(SHIPPED_MODEL);
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(|folder| {
        ["models", "../../models", "../share/maskwatch/models"].map(|place| folder.join(place).join(SHIPPED_MODEL))
    });
    beside.into_iter().flatten().find_map(|path| path.canonicalize().ok()).unwrap_or(built)
}

/// Threads that the process may use at once.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn wants_window(output: &OutputArgs) -> Result<bool, UsageError> {
    let possible = cfg!(feature = "opencv");
    if !output.show {
        let no_other_output = output.save.is_none() && output.events.is_none();
        return Ok(possible && no_other_output && !output.headless && display::check().is_ok());
    }
    if !possible {
        return Err(UsageError(
            "--show needs the feature \"opencv\", which this build lacks; use --save PATH".to_owned(),
        ));
    }
    match display::check() {
        Ok(()) => Ok(true),
        Err(reason) => Err(UsageError(format!("--show needs a display: {reason}; use --save PATH or --headless"))),
    }
}

/// Names that repeat (`a/clip.mp4 b/clip.mp4`) get a number.
fn with_unique_names(specs: Vec<SourceSpec>) -> Vec<NamedSource> {
    let mut taken = HashSet::new();
    let mut named = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut name = spec.name();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{}-{number}", spec.name());
        }
        named.push(NamedSource { name, spec });
    }
    named
}

/// A file for a single source, otherwise a folder.
fn save_target(path: &Path, sources: &[SourceSpec]) -> Result<SaveTarget, UsageError> {
    refuse_source(path, sources)?;
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let is_folder = path.is_dir() || extension.is_none() || path.to_string_lossy().ends_with('/');
    match (sources, extension) {
        _ if is_folder => Ok(SaveTarget::Folder(path.to_owned())),
        ([SourceSpec::Image(_)], Some(extension)) if matches!(&*extension, "png" | "jpg" | "jpeg") => {
            Ok(SaveTarget::File(path.to_owned()))
        }
        ([SourceSpec::Image(_)], _) => {
            Err(UsageError(format!("--save {}: a picture is saved as .png or .jpg, or into a folder", path.display())))
        }
        ([_], Some(extension)) if extension == "mp4" => Ok(SaveTarget::File(path.to_owned())),
        ([_], _) => Err(UsageError(format!("--save {}: a video is saved as .mp4, or into a folder", path.display()))),
        _ => Err(UsageError(format!(
            "--save {}: {} sources are saved into a folder; give one, such as --save annotated/",
            path.display(),
            sources.len()
        ))),
    }
}

/// An output must not replace what is being read.
fn refuse_source(output: &Path, sources: &[SourceSpec]) -> Result<(), UsageError> {
    // By device and inode, so that links are seen through.
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    let Some(output_identity) = identity(output) else { return Ok(()) };
    let is_source = |spec: &SourceSpec| match spec {
        SourceSpec::VideoFile(path) | SourceSpec::Image(path) => {
            let folder = path.canonicalize().ok().and_then(|path| identity(path.parent()?));
            identity(path) == Some(output_identity) || folder == Some(output_identity)
        }
        SourceSpec::Camera(_) | SourceSpec::Stream(_) => false,
    };
    if sources.iter().any(is_source) {
        return Err(UsageError(format!("{} would overwrite a source; choose another place", output.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::boxes::Threshold;
    use crate::cli::{Cli, Command};
    use crate::explain::Needs;

    fn video(path: &str) -> SourceSpec {
        SourceSpec::VideoFile(path.into())
    }

    fn image(path: &str) -> SourceSpec {
        SourceSpec::Image(path.into())
    }

    #[test]
    fn run_explains_without_a_further_pass() {
        let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/hopper_ffp2.jpg");
        let config = |options: &[&str]| {
            let line = [&["maskwatch", "run", picture, "--headless"], options].concat();
            let Command::Run(args) = Cli::parse_from(line).command else { panic!("not run") };
            RunConfig::new(&args)
        };
        let analysis = config(&[]).unwrap().analysis;
        let explainer = analysis.method.explainer(analysis.method_settings);
        assert_eq!((analysis.method, explainer.needs()), (Method::HayCamRefined, Needs::Gradients));
        assert_eq!(analysis.threshold, Threshold::Share(0.45));
        assert_eq!(config(&[]).unwrap().resolution, Resolution::Native);
        let both = config(&["--layer", "both"]).unwrap().analysis;
        assert_eq!(both.threshold, Threshold::Share(0.3), "each reading has its own");

        let error = |options| config(options).unwrap_err().to_string();
        assert!(error(&["--method", "cam", "--components", "5"]).contains("--components changes nothing for cam"));
        assert!(error(&["--method", "haycam", "--layer", "layer3"]).contains("--layer changes nothing for haycam"));
        assert!(config(&["--method", "haycam", "--components", "auto"]).is_ok());
    }

    #[test]
    fn one_source_goes_to_a_file_and_many_to_a_folder() {
        let target = |path: &str, sources: &[SourceSpec]| save_target(Path::new(path), sources).ok();
        assert_eq!(target("x.mp4", &[video("a.avi")]), Some(SaveTarget::File("x.mp4".into())));
        assert_eq!(target("x.JPG", &[image("a.png")]), Some(SaveTarget::File("x.JPG".into())));
        assert_eq!(target("x", &[video("a.avi")]), Some(SaveTarget::Folder("x".into())));
        assert_eq!(target("x.d/", &[video("a.avi"), image("b.png")]), Some(SaveTarget::Folder("x.d/".into())));
        for (path, sources) in [
            ("x.avi", vec![video("a.avi")]),
            ("x.mp4", vec![image("a.png")]),
            ("x.mp4", vec![video("a.avi"), video("b.avi")]),
        ] {
            assert_eq!(target(path, &sources), None, "{path}");
        }
    }

    #[test]
    fn names_are_unique() {
        let specs = ["a/x.mp4", "b/x.mp4", "x-2.mp4", "c/x.mp4"].map(video).to_vec();
        let names: Vec<String> = with_unique_names(specs).into_iter().map(|source| source.name).collect();
        assert_eq!(names, ["x", "x-2", "x-2-2", "x-3"]);
    }

    #[test]
    fn a_source_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        std::fs::write(&path, "x").unwrap();
        let sources = [SourceSpec::VideoFile(path.clone())];
        assert!(save_target(&path, &sources).is_err());
        assert!(save_target(folder.path(), &sources).is_err(), "its copy would have its name");
        let link = folder.path().join("link.mp4");
        std::fs::hard_link(&path, &link).unwrap();
        assert!(save_target(&link, &sources).is_err(), "a hard link is the same file");
        assert!(save_target(&folder.path().join("b.mp4"), &sources).is_ok());
    }
}
