//! The command line.

mod bench;
mod capture;
mod conceal;
mod evaluate;
mod explain;
mod explanation;
mod file;
mod methods;
mod scan;
mod serve;
mod train;

pub use bench::{BenchArgs, BenchOptions, FrameSize, PresetArg};
pub use capture::{CaptureArgs, RetriesArg, RtspTransportArg};
pub use conceal::conceal_credentials;
pub use evaluate::{BoxesArgs, EvaluateArgs, ScenesArgs};
pub use explain::ExplainArgs;
pub use explanation::{ClassWeightsArg, ExplanationArgs, LayerArg, ResolutionArg};
pub use file::{FileError, parse};
pub use methods::{GradientsArg, Methods};
pub use scan::{ScanArg, ScanArgs};
pub use serve::{ListenArg, LiveOutputArgs};
pub use train::TrainArgs;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::explain::Method;
use crate::model::device::DeviceChoice;
use crate::model::precision::PrecisionChoice;

const RUN_HELP: &str = "\
Run a model over sources and annotate what it sees

Each frame is scanned for faces; HayCAM shows where the evidence is, and a box is drawn around each. With --scan whole, a \
frame is classified as one picture, as in the HayCAM paper. Recorded \
sources (files, folders) are processed frame by frame, one after another; live ones (cameras, streams) side by \
side, the newest frame first. Without another output, a window shows the result if there is a display.";

const RUN_EXAMPLES: &str = "\
Examples:
  maskwatch run clip.mp4 --save annotated.mp4
  maskwatch run photos/ --save annotated/ --events findings.jsonl
  maskwatch run 0 --show
  maskwatch run hall.mp4 --min-face 24 --save found.mp4
  maskwatch run rtsp://camera.local/stream --headless --events - | jq .label
  maskwatch run 0 --serve 8080

Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 an input could not be opened or read, 130 interrupted (after \
completing all files, also where a source had failed before).";

const TRAIN_HELP: &str = "\
Train a model on folders of labelled pictures

Transfer learning as in the HayCAM paper, Algorithm 1: the last layer is replaced by one neuron a class, the \
first layers are frozen, the rest is retrained. DIR/train and DIR/val hold a folder a class. The model of the \
epoch that is best on DIR/val is kept, its confidence calibrated there, and a log and its curves are written \
beside it. The defaults are the paper's.

Ctrl-C keeps the best model so far, and the same command with --resume goes on exactly where it stopped.";

const TRAIN_EXAMPLES: &str = "\
Examples:
  maskwatch train data --init resnet18.safetensors
  maskwatch train data --classes mask,no_mask --epochs 5 --learning-rate 0.01 --schedule one-cycle
  maskwatch train data --freeze-until none --stage-decay 0.3 --augmentation robust --label-smoothing 0.1
  maskwatch train data --init resnet18.safetensors --resume";

const EXPLAIN_HELP: &str = "\
Show where several methods see the evidence for a class, picture by picture

For each picture a figure is drawn (STEM.explain.png): the input with what it is taken for, and for each method its \
class activation map, the map over the picture, and the box that follows from it. With --scan, the picture with all \
faces found, and for each of the strongest the map behind it. A picture that cannot be read is told, and the others go \
on.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  maskwatch explain photo.jpg
  maskwatch explain photos/ --out figures/ --methods haycam,haycam-refined,gradcam++
  maskwatch explain photo.jpg --class no_mask --out why_not.png
  maskwatch explain street.jpg --scan
  maskwatch explain photo.jpg --json | jq '.methods[] | {method, boxes}'

Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 a picture could not be read, 130 interrupted.";

/// A real-time mask detector for video streams that shows why: ResNet18 and HayCAM class activation maps.
#[derive(Debug, Parser)]
// What is given again replaces what came before: a configuration file comes first.
#[command(name = "maskwatch", version, arg_required_else_help = true, max_term_width = 120, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Log more (-vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a model over sources and annotate what it sees
    #[command(long_about = RUN_HELP, after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Train a model on folders of labelled pictures
    #[command(long_about = TRAIN_HELP, after_help = TRAIN_EXAMPLES)]
    Train(TrainArgs),
    /// Measure a model on labelled pictures
    #[command(long_about = evaluate::HELP, after_help = evaluate::EXAMPLES)]
    Evaluate(EvaluateArgs),
    /// Show where several methods see the evidence for a class, picture by picture
    #[command(long_about = EXPLAIN_HELP, after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Measure how long each stage takes, a frame
    #[command(long_about = bench::HELP, after_help = bench::EXAMPLES)]
    Bench(BenchArgs),
    /// Check what works on this machine, and say what to do about what does not
    Doctor(ModelArgs),
    /// Print a completion script for a shell
    ///
    /// For bash: maskwatch completions bash > ~/.local/share/bash-completion/completions/maskwatch
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    ///
    /// To read it: maskwatch man | man -l -
    Man,
    /// Decode one live source for the maskwatch that started it
    #[command(hide = true)]
    CaptureSource,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Camera index or /dev/video*, rtsp:// or http(s):// URL, env:VARIABLE that holds a URL with a password, video, image,
    /// folder, or glob pattern; each may be given a name: door=rtsp://...
    #[arg(required_unless_present = "config", value_name = "SOURCE")]
    pub sources: Vec<String>,

    /// Take sources and options from this file, too; an option that is typed replaces the file's
    ///
    /// TOML: a key an option, by its name without dashes, and a table of sources. Unknown keys are errors.
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,

    /// Only check the options and the configuration file
    #[arg(long)]
    pub check: bool,

    /// Outputs.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Live outputs.
    #[command(flatten)]
    pub live: LiveOutputArgs,

    /// Model options.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Scan.
    #[command(flatten)]
    pub scan: ScanArgs,

    /// What HayCAM's principal components are fitted to: each frame (per-frame: the exact map), or an earlier frame of the
    /// source for as long as it captures as much of the picture (cached: nearly the same map, for less). With --scan whole it
    /// concerns haycam, and haycam-refined at layer4 [default: cached]
    #[arg(long, value_enum, help_heading = "Explanation")]
    pub basis: Option<BasisArg>,

    /// How each frame is explained; scorecam (512 forward passes a frame) and occlusion (49) are for recordings. A scan is
    /// always explained by haycam [default: haycam-refined with --scan whole]
    #[arg(long, value_name = "METHOD", help_heading = "Explanation")]
    pub method: Option<Method>,

    /// Explanation.
    #[command(flatten)]
    pub explanation: ExplanationArgs,

    /// How densely layer4 looks: native (every 32 pixels) or atrous (every 16, slower)
    #[arg(long, value_enum, default_value = "native", help_heading = "Explanation")]
    pub resolution: ResolutionArg,

    /// With --scan whole: draw a box around every hot region, not the hottest alone
    #[arg(long, help_heading = "Explanation")]
    pub all_boxes: bool,

    /// Keep every frame (recorded) or only the newest (live); by default what suits each source
    #[arg(long, value_enum, default_value = "auto", help_heading = "Pipeline")]
    pub policy: PolicyArg,

    /// Analyse a picture only when it has changed since it was analysed last: on, off, or auto: on for cameras and streams. What
    /// was found then is kept, and its events say for how long; nobody is missed for more than a second
    #[arg(long, value_enum, default_value = "auto", help_heading = "Pipeline")]
    pub gate: GateArg,

    /// Stop after this many frames of each source
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Pipeline")]
    pub limit: Option<u64>,

    /// Most frames, of all sources together, in one forward pass [default: 8 on a GPU, and on a CPU for videos that are
    /// seen whole, fewer if their frames are large; otherwise 1]
    #[arg(long, value_name = "FRAMES", value_parser = at_least_one, help_heading = "Pipeline")]
    pub batch: Option<usize>,

    /// Live sources.
    #[command(flatten)]
    pub capture: CaptureArgs,

    /// When to show progress; auto: if standard error is a terminal
    #[arg(long, value_enum, default_value = "auto", help_heading = "Outputs")]
    pub progress: ProgressArg,
}

/// Where results go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Outputs")]
pub struct OutputArgs {
    /// Save annotated copies: an .mp4 for one video, a .png or .jpg for one image, otherwise a folder
    #[arg(long, value_name = "PATH")]
    pub save: Option<PathBuf>,

    /// Longest part of what is saved of cameras and streams: NAME-TIME.mp4, each complete when the next begins
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive_duration)]
    pub segment: Duration,

    /// Effort of the encoder of what is saved, as x264 calls it: less of it makes larger files of the same quality, sooner
    /// [default: superfast]
    #[arg(long, value_enum, value_name = "PRESET")]
    pub save_preset: Option<PresetArg>,

    /// Write figures of the run to this file every few seconds: frames, drops, latencies, states
    #[arg(long, value_name = "PATH.json")]
    pub stats: Option<PathBuf>,

    /// Write one JSON line a frame to this file; - for standard output
    #[arg(long, value_name = "PATH")]
    pub events: Option<PathBuf>,

    /// With cameras and streams: size in megabytes from which the file of events is set aside
    #[arg(long, value_name = "MB", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub events_rotate: u64,

    /// How many files of events that were set aside are kept
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub events_keep: usize,

    /// Keep a picture of each alarm and changed label in this folder, with its heat map and the reasons
    #[arg(long, value_name = "DIR")]
    pub snapshots: Option<PathBuf>,

    /// Most snapshots that are kept, the newest ones
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    pub snapshots_keep: usize,

    /// Longest time that snapshots are kept
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = positive_duration)]
    pub snapshots_age: Duration,

    /// Most megabytes of snapshots
    #[arg(long, value_name = "MB", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub snapshots_size: u64,

    /// Raise an alarm when somebody is seen without a mask for this long, once a person
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = positive_duration)]
    pub alarm_after: Duration,

    /// Show the result in a window (q or Escape ends)
    #[arg(long, conflicts_with = "headless")]
    pub show: bool,

    /// Open no window, whatever happens
    #[arg(long)]
    pub headless: bool,
}

/// Which model, and where it runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Model file [default: the shipped one]
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,

    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,

    /// Numbers of the forward pass: half (a GPU alone has it), single, or what suits the device
    #[arg(long, value_enum, default_value = "auto")]
    pub precision: PrecisionArg,

    /// Threads of the network on the CPU, and of the pool that copies frames to a GPU and finds boxes
    /// [default: all cores; of the pool, three in eight]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
}

/// What the forward pass computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Half on a GPU, single on a CPU
    Auto,
    /// 16 bits a number
    Half,
    /// 32 bits a number
    Single,
}

impl From<PrecisionArg> for PrecisionChoice {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Auto => Self::Auto,
            PrecisionArg::Half => Self::Half,
            PrecisionArg::Single => Self::Single,
        }
    }
}

/// What happens to frames that nobody can take in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// Live for cameras and streams, recorded for files
    Auto,
    /// Keep only the newest frame; a file is played at its own speed
    Live,
    /// Process every frame
    Recorded,
}

/// Which sources are analysed only when their picture changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateArg {
    /// Cameras and streams
    Auto,
    /// All
    On,
    /// None
    Off,
}

/// What HayCAM's basis is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BasisArg {
    /// An earlier frame of the source, for as long as it suits
    Cached,
    /// Each frame: the exact map
    PerFrame,
}

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// If standard error is a terminal
    Auto,
    /// A line now and then where there is no terminal
    Always,
    /// Never
    Never,
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a time such as 500ms, 10s or 5m";
    let duration = humantime::parse_duration(text).map_err(|_| expected.to_owned())?;
    Some(duration).filter(|duration| !duration.is_zero()).ok_or_else(|| expected.to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
