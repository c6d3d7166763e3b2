//! From what was typed to what is run: checked once, here.

pub mod bench;
pub mod capture;
pub mod evaluate;
pub mod explain;
pub mod scan;
pub mod serve;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::analyse::{AnalysisSettings, BasisSettings, BatchLimit, View};
use crate::boxes::default_threshold;
use crate::capture::{CaptureError, Policy, SourceSpec};
use crate::cli::{BasisArg, ExplanationArgs, GateArg, LayerArg, OutputArgs, PolicyArg, PresetArg, RunArgs};
use crate::display;
use crate::exit_code::ExitCode;
use crate::explain::Method;
use crate::gate::GateSettings;
use crate::model::device::DeviceChoice;
use crate::model::precision::PrecisionChoice;
use crate::model::resnet::Resolution;
use crate::pca::CacheSettings;
use crate::pipeline::RunSettings;
use crate::scan::ScanMap;
use crate::sinks::SaveTarget;
use crate::sinks::rotation::RotationLimits;
use crate::sinks::snapshots::SnapshotLimits;

/// File name of the shipped model for pictures seen as a whole.
pub const SHIPPED_MODEL: &str = "resnet18-mask.safetensors";
/// File name of the shipped model for scans.
pub const SCENES_MODEL: &str = "resnet18-scenes.safetensors";

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
    /// Most frames in one forward pass; what suits device, view and sources if `None`.
    pub batch: Option<usize>,
    /// Where it runs.
    pub device: DeviceChoice,
    /// What a forward pass computes with.
    pub precision: PrecisionChoice,
    /// Threads of a forward pass on the CPU, and of the pool that frames of a batch share; all cores and some if `None`.
    pub threads: Option<usize>,
    /// How densely the network looks.
    pub resolution: Resolution,
    /// Explanation and boxes.
    pub view: View,
    /// Where annotated copies go.
    pub save: Option<SaveTarget>,
    /// Longest file that is saved of a live source.
    pub segment_length: Duration,
    /// Effort of the encoder of what is saved; the usual one if `None`.
    pub save_preset: Option<PresetArg>,
    /// Where events go; `-` is standard output.
    pub events: Option<PathBuf>,
    /// When a file of events is set aside.
    pub rotation: RotationLimits,
    /// Where the figures of the run go.
    pub stats: Option<PathBuf>,
    /// The folder of snapshots.
    pub snapshots: Option<PathBuf>,
    /// How much of them is kept.
    pub snapshot_limits: SnapshotLimits,
    /// Pages and streams that others look at.
    pub live: serve::LiveOutputs,
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
        let named = capture::named_sources(&args.sources)?;
        if named.is_empty() {
            return Err(UsageError(
                "there is no source; add one, such as door = \"rtsp://...\" under [sources]".to_owned(),
            )
            .into());
        }
        let sources: Vec<SourceSpec> = named.iter().map(|source| source.spec.clone()).collect();
        if args.output.save.is_some() && !cfg!(feature = "gstreamer") {
            return Err(UsageError("--save needs the feature \"gstreamer\", which this build lacks".to_owned()).into());
        }
        let save = args.output.save.as_deref().map(|path| save_target(path, &sources)).transpose()?;
        refuse_replacing(args, &sources)?;
        let token = std::env::var(serve::TOKEN_VARIABLE).ok();
        let live = serve::LiveOutputs::new(&args.live, token.as_deref())?;
        let show = wants_window(&args.output, live.is_some())?;
        let view = view(args)?;
        Ok(Self {
            run: RunSettings {
                sources: named,
                policy: match args.policy {
                    PolicyArg::Auto => None,
                    PolicyArg::Live => Some(Policy::Live),
                    PolicyArg::Recorded => Some(Policy::Recorded),
                },
                limit: args.limit,
                batch: BatchLimit::of_frames(1),
                gate: match args.gate {
                    GateArg::Auto => GateSettings { live: true, recorded: false },
                    GateArg::On => GateSettings { live: true, recorded: true },
                    GateArg::Off => GateSettings { live: false, recorded: false },
                },
                alarm_after: args.output.alarm_after,
                model: String::new(),
                live: capture::live_settings(&args.capture),
            },
            model: args.model.model.clone().unwrap_or_else(|| match view {
                View::Whole(_) => shipped_model(),
                View::Scan(_) => scenes_model(),
            }),
            batch: args.batch,
            device: args.model.device,
            precision: args.model.precision.into(),
            threads: args.model.threads,
            resolution: args.resolution.into(),
            view,
            save,
            segment_length: args.output.segment,
            save_preset: args.output.save_preset,
            events: args.output.events.clone(),
            rotation: RotationLimits { bytes: args.output.events_rotate * 1_000_000, kept: args.output.events_keep },
            stats: args.output.stats.clone(),
            snapshots: args.output.snapshots.clone(),
            snapshot_limits: SnapshotLimits {
                count: args.output.snapshots_keep,
                age: args.output.snapshots_age,
                bytes: args.output.snapshots_size * 1_000_000,
            },
            live,
            show,
        })
    }
}

/// How frames are looked at.
fn view(args: &RunArgs) -> Result<View, UsageError> {
    if let Some(mut settings) = scan::scan_settings(&args.scan, &args.explanation)? {
        if let Some(method) = args.method.filter(|&method| method != Method::HayCam) {
            scan::refuse_with_scan(&[(&format!("--method {method}"), true)])?;
        }
        scan::refuse_with_scan(&[("--all-boxes", args.all_boxes)])?;
        if let Some(basis) = args.basis {
            if settings.scan.map == ScanMap::Posterior {
                return Err(UsageError("--basis changes nothing with --scan-map posterior; leave one out".to_owned()));
            }
            settings.basis = basis_settings(basis);
        }
        return Ok(View::Scan(settings));
    }
    let method = args.method.unwrap_or(Method::HayCamRefined);
    refuse_unheeded(&args.explanation, &[method])?;
    // A further pass through layer4 and back would halve the frame rate.
    let method_settings = args.explanation.method_settings(LayerArg::Layer4);
    let suiting = || default_threshold(method, &method_settings, args.resolution.into());
    let threshold = args.explanation.threshold.unwrap_or_else(suiting);
    let has_basis = method.keeps_basis(&method_settings) && Resolution::from(args.resolution) == Resolution::Native;
    if args.basis.is_some() && !has_basis {
        let text =
            "--basis is for --method haycam, and haycam-refined at layer4, at the native resolution; leave it out";
        return Err(UsageError(text.to_owned()));
    }
    let basis = basis_settings(args.basis.unwrap_or(BasisArg::Cached)).recorded.filter(|_| has_basis);
    Ok(View::Whole(AnalysisSettings { method, method_settings, threshold, all_boxes: args.all_boxes, basis }))
}

fn basis_settings(basis: BasisArg) -> BasisSettings {
    match basis {
        BasisArg::Cached => {
            BasisSettings { live: Some(CacheSettings::default()), recorded: Some(CacheSettings::default()) }
        }
        BasisArg::PerFrame => BasisSettings::PER_FRAME,
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

/// The model that came with the program for pictures seen as a whole.
pub fn shipped_model() -> PathBuf {
    shipped(SHIPPED_MODEL)
}

/// The model that came with the program for scans.
pub fn scenes_model() -> PathBuf {
    shipped(SCENES_MODEL)
}

/// Looked for beside the program and where it was built.
fn shipped(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(|folder| {
        ["models", "../../models", "../share/maskwatch/models"].map(|place| folder.join(place).join(name))
    });
    beside.into_iter().flatten().find_map(|path| path.canonicalize().ok()).unwrap_or(built)
}

/// Threads that the process may use at once.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn wants_window(output: &OutputArgs, is_live: bool) -> Result<bool, UsageError> {
    let possible = cfg!(feature = "opencv");
    if !output.show {
        let no_other_output =
            output.save.is_none() && output.events.is_none() && output.snapshots.is_none() && !is_live;
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

/// No output may replace what is read, or another output.
fn refuse_replacing(args: &RunArgs, sources: &[SourceSpec]) -> Result<(), UsageError> {
    let output = &args.output;
    let outputs = [("--save", &output.save), ("--events", &output.events), ("--stats", &output.stats)];
    let given: Vec<(&str, &PathBuf)> =
        outputs.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?))).collect();
    for (index, &(option, path)) in given.iter().enumerate() {
        if option != "--save" {
            refuse_source(path, sources)?;
        }
        if args.config.as_ref().is_some_and(|config| is_same_file(config, path)) {
            return Err(UsageError(format!("{option} {} would overwrite the configuration file", path.display())));
        }
        for &(other, other_path) in &given[index + 1..] {
            if path == other_path || is_same_file(path, other_path) {
                return Err(UsageError(format!("{option} and {other} name the same file; give each its own")));
            }
        }
    }
    Ok(())
}

/// By device and inode, so that links are seen through.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().filter(Metadata::is_file).map(|file| (file.dev(), file.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
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
        SourceSpec::Camera(_) | SourceSpec::Stream(_) | SourceSpec::Synthetic { .. } => false,
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
    use crate::analyse::ScanAnalysisSettings;
    use crate::boxes::Threshold;
    use crate::cli::{Cli, Command};
    use crate::explain::Needs;
    use crate::pca::Components;
    use crate::scan::ScanSettings;

    fn video(path: &str) -> SourceSpec {
        SourceSpec::VideoFile(path.into())
    }

    fn image(path: &str) -> SourceSpec {
        SourceSpec::Image(path.into())
    }

    fn config(options: &[&str]) -> Result<RunConfig, ConfigError> {
        let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/hopper_ffp2.jpg");
        let line = [&["maskwatch", "run", picture, "--headless"], options].concat();
        let Command::Run(args) = Cli::parse_from(line).command else { panic!("not run") };
        RunConfig::new(&args)
    }

    fn error(options: &[&str]) -> String {
        config(options).unwrap_err().to_string()
    }

    fn whole(options: &[&str]) -> AnalysisSettings {
        let view = config(&[&["--scan", "whole"], options].concat()).unwrap().view;
        let View::Whole(settings) = view else { panic!("not seen as a whole") };
        settings
    }

    fn scanned(options: &[&str]) -> ScanAnalysisSettings {
        let View::Scan(settings) = config(options).unwrap().view else { panic!("not scanned") };
        settings
    }

    #[test]
    fn whole_pictures_are_explained_without_a_further_pass() {
        let analysis = whole(&[]);
        let explainer = analysis.method.explainer(analysis.method_settings);
        assert_eq!((analysis.method, explainer.needs()), (Method::HayCamRefined, Needs::Gradients));
        assert_eq!(analysis.threshold, Threshold::Share(0.45));
        assert_eq!(config(&[]).unwrap().resolution, Resolution::Native);
        assert_eq!(whole(&["--layer", "both"]).threshold, Threshold::Share(0.3), "each reading has its own");

        let error = |options: &[&str]| error(&[&["--scan", "whole"], options].concat());
        assert!(error(&["--method", "cam", "--components", "5"]).contains("--components changes nothing for cam"));
        assert!(error(&["--method", "haycam", "--layer", "layer3"]).contains("--layer changes nothing for haycam"));
        assert_eq!(whole(&["--method", "haycam", "--components", "auto"]).method, Method::HayCam);
        let kept = Some(CacheSettings::default());
        assert_eq!((whole(&[]).basis, whole(&["--method", "haycam", "--basis", "cached"]).basis), (kept, kept));
        for (options, expected) in [
            (&[][..], false),
            (&["--method", "gradcam"], false),
            (&["--layer", "both"], true),
            (&["--method", "scorecam"], true),
        ] {
            assert_eq!(View::Whole(whole(options)).needs_gradients(), expected, "{options:?}");
        }
        assert!(!View::Scan(scanned(&[])).needs_gradients());
        for without in [&["--basis", "per-frame"][..], &["--method", "eigencam"], &["--resolution", "atrous"]] {
            assert_eq!(whole(without).basis, None, "{without:?}");
        }
    }

    #[test]
    fn frames_are_scanned_unless_they_are_seen_as_a_whole() {
        assert_eq!(
            scanned(&[]),
            ScanAnalysisSettings { scan: ScanSettings::default(), threshold: None, basis: BasisSettings::default() }
        );
        assert_eq!(scanned(&["--scan", "auto"]), scanned(&[]));
        assert_eq!(scanned(&["--scan", "512"]).scan.short_side, 512);
        assert_eq!(scanned(&["--min-face", "30"]).scan.min_face, Some(30));
        assert_eq!(scanned(&["--method", "haycam", "--components", "5"]).scan.components, Components::Count(5));
        let kept = Some(CacheSettings::default());
        assert_eq!(scanned(&["--basis", "cached"]).basis, BasisSettings { live: kept, recorded: kept });
        assert_eq!(scanned(&["--basis", "per-frame"]).basis, BasisSettings::PER_FRAME);
        let low = scanned(&["--threshold", "0.01"]);
        assert_eq!((low.threshold, low.scan.floor), (Some(0.01), 0.01), "what is asked for is reported");
        let model = |options| config(options).unwrap().model.file_name().unwrap().to_owned();
        assert_eq!(model(&[]), SCENES_MODEL);
        assert_eq!(model(&["--scan", "whole"]), SHIPPED_MODEL);
    }

    #[test]
    fn options_that_a_scan_does_not_heed_are_refused() {
        for (options, expected) in [
            (&["--method", "cam"][..], "--method cam is for pictures seen as a whole"),
            (&["--method", "haycam-refined"], "--method haycam-refined is for pictures seen as a whole"),
            (&["--layer", "both"], "--layer is for"),
            (&["--class-weights", "signed"], "--class-weights is for"),
            (&["--all-boxes"], "--all-boxes is for"),
            (&["--threshold", "otsu"], "--threshold otsu is for"),
            (&["--scan", "384", "--min-face", "30"], "and so does --scan 384"),
            (&["--scan", "whole", "--min-face", "30"], "and so does --scan whole"),
            (&["--scan", "whole", "--method", "cam", "--basis", "cached"], "--basis is for --method haycam"),
            (&["--scan", "whole", "--layer", "both", "--basis", "per-frame"], "--basis is for --method haycam"),
            (&["--scan", "whole", "--resolution", "atrous", "--basis", "cached"], "at the native resolution"),
            (&["--scan-map", "posterior", "--basis", "per-frame"], "--basis changes nothing with --scan-map posterior"),
        ] {
            assert!(error(options).contains(expected), "{options:?}: {}", error(options));
        }
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
