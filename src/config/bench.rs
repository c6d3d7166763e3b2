//! What `bench` measures: one variant or two, checked.

use std::path::PathBuf;

use super::scan::{refuse_with_scan, scan_settings};
use super::{ConfigError, UsageError, refuse_source, scenes_model, shipped_model};
use crate::analyse::{AnalysisSettings, View};
use crate::boxes::default_threshold;
use crate::capture::SourceSpec;
use crate::cli::{BenchArgs, BenchOptions, ExplanationArgs, FrameSize, LayerArg, PresetArg, ScanArg, ScanArgs};
use crate::explain::{Method, MethodSettings};
use crate::model::device::DeviceChoice;
use crate::model::precision::PrecisionChoice;
use crate::model::resnet::Resolution;
use crate::pca::CacheSettings;

/// Made-up frames are as large as those of common cameras.
const FRAME_SIZE: FrameSize = FrameSize { width: 1280, height: 720 };
/// Frames through the whole pipeline that count in a round: some seconds on a common processor.
const FRAMES: u64 = 32;

/// Everything that `bench` needs.
#[derive(Debug)]
pub struct BenchConfig {
    /// Rounds that count.
    pub rounds: usize,
    /// What is measured, and what it is compared with if it is.
    pub variants: Vec<VariantSettings>,
}

/// What a variant is measured with.
#[derive(Debug, Clone)]
pub struct VariantSettings {
    /// Where frames come from.
    pub source: SourceSpec,
    /// Frames through the whole pipeline that count in a round.
    pub frames: u64,
    /// The model file.
    pub model: PathBuf,
    /// Where it runs.
    pub device: DeviceChoice,
    /// What a forward pass computes with.
    pub precision: PrecisionChoice,
    /// Threads of a forward pass on the CPU; all cores if `None`.
    pub threads: Option<usize>,
    /// Most frames in one forward pass; what suits device and view if `None`.
    pub batch: Option<usize>,
    /// How densely the network looks.
    pub resolution: Resolution,
    /// How frames are seen, as typed.
    pub scan: ScanArg,
    /// What that means.
    pub view: View,
    /// Methods that are timed; none if frames are scanned.
    pub methods: Vec<Method>,
    /// What is set on them.
    pub method_settings: MethodSettings,
    /// Effort of the encoder; the usual one if `None`.
    pub save_preset: Option<PresetArg>,
}

impl BenchConfig {
    /// Checks a command line.
    ///
    /// # Errors
    ///
    /// When the video does not exist or options contradict each other.
    pub fn new(args: &BenchArgs) -> Result<Self, ConfigError> {
        let video = args.video.as_deref().map(video).transpose()?;
        if let (Some(json), Some(video)) = (&args.json, &video) {
            refuse_source(json, std::slice::from_ref(video))?;
        }
        let mut variants = vec![VariantSettings::new(&args.options, video.as_ref())?];
        if let Some(text) = &args.vs {
            let of_second = |error| UsageError(format!("--vs '{text}': {error}"));
            let options = args.options.replaced_by(text).map_err(of_second)?;
            let second = VariantSettings::new(&options, video.as_ref());
            variants.push(second.map_err(|UsageError(error)| of_second(error))?);
        }
        Ok(Self { rounds: args.rounds as usize, variants })
    }
}

impl VariantSettings {
    fn new(options: &BenchOptions, video: Option<&SourceSpec>) -> Result<Self, UsageError> {
        let source = match (video, options.frame_size) {
            (Some(_), Some(_)) => {
                return Err(UsageError(
                    "--frame-size is for made-up frames, but there is a video; leave one out".to_owned(),
                ));
            }
            (Some(video), None) => video.clone(),
            (None, size) => {
                let FrameSize { width, height } = size.unwrap_or(FRAME_SIZE);
                SourceSpec::Synthetic { width, height }
            }
        };
        if options.save_preset.is_some() && !cfg!(feature = "gstreamer") {
            return Err(UsageError("--save-preset needs the feature \"gstreamer\", which this build lacks".to_owned()));
        }
        let resolution = options.resolution.map_or(Resolution::Native, Into::into);
        let explanation = ExplanationArgs { components: options.components, ..ExplanationArgs::default() };
        let method_settings = explanation.method_settings(LayerArg::Layer4);
        let scan = options.scan.unwrap_or(ScanArg::Auto);
        let (view, methods) =
            match scan_settings(&ScanArgs { scan: Some(scan), min_face: None, scan_map: None }, &explanation)? {
                Some(settings) => {
                    refuse_with_scan(&[("--methods", options.methods.is_some())])?;
                    (View::Scan(settings), Vec::new())
                }
                None => {
                    // What run takes.
                    let method = Method::HayCamRefined;
                    let threshold = default_threshold(method, &method_settings, resolution);
                    let basis = Some(CacheSettings::default()).filter(|_| resolution == Resolution::Native);
                    let settings = AnalysisSettings { method, method_settings, threshold, all_boxes: false, basis };
                    (View::Whole(settings), options.methods.clone().unwrap_or_default().0)
                }
            };
        Ok(Self {
            source,
            frames: options.frames.unwrap_or(FRAMES),
            model: options.model.model.clone().unwrap_or_else(|| match view {
                View::Whole(_) => shipped_model(),
                View::Scan(_) => scenes_model(),
            }),
            device: options.model.device,
            precision: options.model.precision.into(),
            threads: options.model.threads,
            batch: options.batch.map(usize::from),
            resolution,
            scan,
            view,
            methods,
            method_settings,
            save_preset: options.save_preset,
        })
    }
}

/// The one video that an argument means.
fn video(argument: &str) -> Result<SourceSpec, ConfigError> {
    if !cfg!(feature = "opencv") {
        return Err(UsageError(format!(
            "{argument}: a video needs the feature \"opencv\", which this build lacks; leave it out to measure on made-up \
             frames"
        ))
        .into());
    }
    match &SourceSpec::parse(argument)?[..] {
        [video @ SourceSpec::VideoFile(_)] => Ok(video.clone()),
        _ => Err(UsageError(format!("{argument} is no video: bench takes one, or none")).into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::exit_code::ExitCode;

    fn config(words: &[&str]) -> Result<BenchConfig, ConfigError> {
        match Cli::parse_from([&["maskwatch", "bench"], words].concat()).command {
            Command::Bench(args) => BenchConfig::new(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unless_something_is_asked_for_it_is_what_run_does() {
        let config = config(&[]).unwrap();
        let [variant] = &config.variants[..] else { panic!("one variant") };
        assert_eq!(variant.source, SourceSpec::Synthetic { width: 1280, height: 720 });
        assert!(matches!(variant.view, View::Scan(_)) && variant.methods.is_empty());
        assert_eq!((variant.model.clone(), variant.resolution), (scenes_model(), Resolution::Native));
    }

    #[test]
    fn a_second_variant_differs_by_what_is_typed() {
        let config = config(&["--threads", "2", "--vs", "--scan whole --frame-size 64x48"]).unwrap();
        let [first, second] = &config.variants[..] else { panic!("two variants") };
        assert!(matches!((first.view, second.view), (View::Scan(_), View::Whole(_))));
        assert_eq!((first.threads, second.threads), (Some(2), Some(2)));
        assert_eq!(second.source, SourceSpec::Synthetic { width: 64, height: 48 });
        assert_eq!(second.model, shipped_model(), "the model suits the view");
        assert!(second.methods.contains(&Method::HayCam) && !second.methods.contains(&Method::ScoreCam));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/");
        let picture = format!("{here}hopper_ffp2.jpg");
        for (words, expected) in [
            (vec!["--methods", "cam"], "--methods is for pictures seen as a whole"),
            (vec!["--vs", "--methods cam"], "--vs '--methods cam': --methods is for pictures"),
            (vec!["--vs", "--speed 3"], "--vs '--speed 3': unexpected argument '--speed'"),
        ] {
            let error = config(&words).unwrap_err();
            assert!(error.to_string().contains(expected), "{words:?}: {error}");
            assert_eq!(error.exit_code(), ExitCode::Usage);
        }
        if cfg!(feature = "opencv") {
            let video = format!("{here}mask_on_off.mp4");
            let is_refused = |words: &[&str], expected| config(words).unwrap_err().to_string().contains(expected);
            assert!(is_refused(&[&video, "--frame-size", "64x48"], "--frame-size is for made-up frames"));
            assert!(is_refused(&[&video, "--json", &video], "would overwrite a source"));
            assert!(is_refused(&[&picture], "is no video") && is_refused(&[here], "is no video"));
            assert_eq!(config(&["/nonexistent.mp4"]).unwrap_err().exit_code(), ExitCode::Input);
        } else {
            let error = config(&[&picture]).unwrap_err();
            assert!(error.to_string().contains("needs the feature \"opencv\""), "{error}");
        }
    }
}
