//! `maskwatch evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::{ExplanationArgs, GradientsArg, Methods, ModelArgs, ProgressArg, ResolutionArg, ScanArgs, at_least_one};

/// The long description.
pub const HELP: &str = "\
Measure a model on labelled pictures

DIR holds a folder a class, or images/ and annotations/ (Pascal VOC XML of the same names).

Class folders: prints accuracy over all classes and over mask and no mask, by class and by source (the prefix of the file \
names), with 95 % intervals, the confusion matrix, and how far the probabilities can be trusted.

Annotated boxes: prints, for each method of explanation, how well its boxes and maps agree with them (IoU, Dice, \
MaxBoxAccV2, pointing game, insertion and deletion), what it costs, and what boxes reach that do not look at the picture. \
What is wrong with pictures and annotations is counted.

Scenes (--scenes), annotated in the same way with any number of faces on a picture: prints how well the detector's boxes \
agree with all of them, by class and by size of the face (average precision, precision and recall, label accuracy, \
differences of numbers, false alarms). Faces of classes that the model does not have are ignored.";

/// Examples of use.
pub const EXAMPLES: &str = "\
Examples:
  maskwatch evaluate data/test
  maskwatch evaluate data/test --model mine.safetensors --report report
  maskwatch evaluate faces/test --tune-on faces/val --report report
  maskwatch evaluate faces/test --methods gradcam,haycam --curve-steps 0
  maskwatch evaluate crowds --scenes --folds 2 --face-free landscapes/ --report report
  maskwatch evaluate crowds --scenes --threshold 0.5 --min-size 16

Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 an input could not be opened or read, 130 interrupted.";

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Folder with a folder a class, or with images/ and annotations/
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Write a report to this folder: figures (report.json), tables (CSV), text (report.md) and pictures; for class folders
    /// among them the worst mistakes (mistakes.png). Files of an earlier report are replaced
    #[arg(long, value_name = "OUT")]
    pub report: Option<PathBuf>,

    /// Model options.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Pictures a forward pass [default: 32]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Class folders")]
    pub batch_size: Option<usize>,

    /// How scenes are scanned.
    #[command(flatten)]
    pub scan: ScanArgs,

    /// Options for annotated boxes.
    #[command(flatten)]
    pub boxes: BoxesArgs,

    /// Options for scenes.
    #[command(flatten)]
    pub scenes: ScenesArgs,

    /// When to show progress; auto: if standard error is a terminal
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressArg,
}

/// Options of `evaluate` for scenes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scenes")]
pub struct ScenesArgs {
    /// Compare detections with all annotated faces of a picture. --threshold X is then the least score of a detection, the same
    /// for each class [default: that of the detector]
    #[arg(long)]
    pub scenes: bool,

    /// Ignore faces whose shorter side has fewer pixels than this [default: 32]
    #[arg(long, value_name = "PX")]
    pub min_size: Option<u32>,

    /// Folder of pictures without faces, on which every detection is a false alarm
    #[arg(long, value_name = "FOLDER")]
    pub face_free: Option<PathBuf>,

    /// Choose the threshold of each class for the best F1 on the first N pictures by name, and measure the rest
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with_all = ["folds", "threshold"])]
    pub tune_first: Option<usize>,

    /// Measure every picture: they take turns in N folds, and thresholds of each fold are chosen for the best F1 on the others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=10), conflicts_with = "threshold")]
    pub folds: Option<u8>,
}

/// Options of `evaluate` for annotated boxes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Annotated boxes")]
pub struct BoxesArgs {
    /// Methods to compare, in this order, or all [default: all that need no further forward passes]. A map costs scorecam
    /// 512 passes and occlusion 196 (49 if native), each some 10 ms on a common processor. Names: cam, gradcam, gradcam++,
    /// xgradcam, layercam, layercam-layer3, eigencam, scorecam, ablationcam, occlusion, haycam, haycam-refined; and, not
    /// among all, haycam-filters and haycam-loadings, other readings of the HayCAM paper
    #[arg(long, value_name = "NAME,...|all")]
    pub methods: Option<Methods>,

    /// How densely layer4 looks, for all methods alike [default: atrous]
    #[arg(long, value_enum)]
    pub resolution: Option<ResolutionArg>,

    /// Where gradients at layer4 come from; both give the same [default: closed-form]
    #[arg(long, value_enum)]
    pub gradients: Option<GradientsArg>,

    /// Steps of the insertion and deletion curves, each of which takes two forward passes a map; 0: they are not measured
    /// [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1000))]
    pub curve_steps: Option<u16>,

    /// Choose the threshold of each method, and nothing else, for the best mean IoU on this other folder with images/ and
    /// annotations/
    #[arg(long, value_name = "DIR", conflicts_with = "threshold")]
    pub tune_on: Option<PathBuf>,

    /// How maps are made.
    #[command(flatten)]
    pub explanation: ExplanationArgs,
}
