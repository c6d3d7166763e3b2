//! `maskwatch bench`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Command, FromArgMatches, ValueEnum};

use super::explanation::components;
use super::{Methods, ModelArgs, ProgressArg, ResolutionArg, ScanArg};
use crate::pca::Components;
#[cfg(feature = "gstreamer")]
use crate::sinks::video::Preset;

/// The long description.
pub const HELP: &str = "\
Measure how long each stage takes, a frame

Decoding, preparing, the forward pass, explaining (HayCAM with a basis fitted to each frame, and kept; with --scan whole by each \
method), boxes, drawing, encoding, and all of it at once through the pipeline that run uses, with and without drawing \
and saving. Without VIDEO, frames are made up; they show nobody, so that little is drawn on them.

Each round measures every stage once. Printed are the median over the rounds and the middle half of them. With --vs, a second \
variant takes turns with the first, so that whatever else the machine does weighs on both, and the ratio of the two is that \
within a round.";

/// Examples of use.
pub const EXAMPLES: &str = "\
Examples:
  maskwatch bench
  maskwatch bench clip.mp4 --scan 384 --json bench.json
  maskwatch bench --scan whole --methods all --rounds 5
  maskwatch bench --threads 2 --vs '--threads 1'
  maskwatch bench --vs '--model other.safetensors' --json - | jq '.ratios[] | {stage, median}'

Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 an input could not be opened or read, 130 interrupted (after \
printing what was measured).";

/// Frames smaller than that cannot be encoded, larger ones nobody has.
const SIDES_PX: std::ops::RangeInclusive<u32> = 16..=8192;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Video whose frames are measured, again from its beginning where it ends [default: made-up frames]
    #[arg(value_name = "VIDEO")]
    pub video: Option<String>,

    /// What is measured.
    #[command(flatten)]
    pub options: BenchOptions,

    /// Measure a second variant, too, which takes turns with the first and has its options but for those given here, as in
    /// --vs '--threads 1 --scan 384'
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, help_heading = "Rounds")]
    pub vs: Option<String>,

    /// Rounds that count; two more before them warm up
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Rounds")]
    pub rounds: u32,

    /// Write the figures to this file, too; - for standard output, in place of the table
    #[arg(long, value_name = "PATH", help_heading = "Outputs")]
    pub json: Option<PathBuf>,

    /// When to show progress; auto: if standard error is a terminal
    #[arg(long, value_enum, default_value = "auto", help_heading = "Outputs")]
    pub progress: ProgressArg,
}

/// What a variant is measured with.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Variant")]
pub struct BenchOptions {
    /// Size of made-up frames [default: 1280x720]
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub frame_size: Option<FrameSize>,

    /// Frames through the whole pipeline that count in a round, at least 16. Eight batches before them and eight behind do not, so
    /// that stages wait for one another as in a long run; of a video that is too short for all, a third each [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(16..=1_000_000))]
    pub frames: Option<u64>,

    /// How frames are seen, as with run: scanned with this short side, or auto, or as one picture (whole) [default: auto]
    #[arg(long, value_name = "auto|PIXELS|whole")]
    pub scan: Option<ScanArg>,

    /// How densely layer4 looks: native (every 32 pixels) or atrous (every 16) [default: native]
    #[arg(long, value_enum)]
    pub resolution: Option<ResolutionArg>,

    /// With --scan whole: methods to time, or all [default: all that need no further forward passes]. Those that need some
    /// (scorecam, occlusion) are timed on one frame a round
    #[arg(long, value_name = "NAME,...|all")]
    pub methods: Option<Methods>,

    /// Principal components of HayCAM: a number, or auto, as with run [default: as with run]
    #[arg(long, value_name = "N|auto", value_parser = components)]
    pub components: Option<Components>,

    /// Most frames in a forward pass [default: as with run, 8 on a GPU and with --scan whole, fewer if they are large, otherwise 1]
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: Option<u16>,

    /// Effort of the encoder, as x264 calls it [default: superfast, as run has it]
    #[arg(long, value_enum, value_name = "PRESET")]
    pub save_preset: Option<PresetArg>,

    /// Model options.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Width and height of frames in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSize {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// Efforts of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are those of x264")]
pub enum PresetArg {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Medium,
}

#[cfg(feature = "gstreamer")]
impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Ultrafast => Self::Ultrafast,
            PresetArg::Superfast => Self::Superfast,
            PresetArg::Veryfast => Self::Veryfast,
            PresetArg::Faster => Self::Faster,
            PresetArg::Medium => Self::Medium,
        }
    }
}

impl BenchOptions {
    /// The same options but for those that `text` gives, which is typed as behind `bench`.
    ///
    /// # Errors
    ///
    /// When they make no sense, in one line.
    pub fn replaced_by(&self, text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quotation mark is left open")?;
        // Of what is not typed nothing may come, a default least of all.
        let command = Self::augment_args_for_update(Command::new("vs").no_binary_name(true).disable_help_flag(true))
            .args_override_self(true)
            .mut_args(|argument| argument.default_value(None));
        let one_line = |error: clap::Error| {
            let text = error.render().to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        let mut matches = command.try_get_matches_from(words).map_err(one_line)?;
        let mut options = self.clone();
        options.update_from_arg_matches_mut(&mut matches).map_err(one_line)?;
        Ok(options)
    }
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse().ok().filter(|side| SIDES_PX.contains(side));
        let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let (width, height) = sides.ok_or_else(|| {
            format!("expected a size such as 1280x720, with sides of {} to {} pixels", SIDES_PX.start(), SIDES_PX.end())
        })?;
        Ok(Self { width, height })
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::model::device::DeviceChoice;

    fn options(words: &[&str]) -> BenchOptions {
        match Cli::parse_from([&["maskwatch", "bench"], words].concat()).command {
            Command::Bench(args) => args.options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sizes_are_checked() {
        let size = FrameSize { width: 1280, height: 720 };
        assert_eq!((size.to_string().parse(), size.to_string().as_str()), (Ok(size), "1280x720"));
        for text in ["", "x", "1280", "1280x", "15x720", "1280x8193", "1280x720x3", "-1x20"] {
            assert!(text.parse::<FrameSize>().unwrap_err().contains("such as 1280x720"), "{text}");
        }
    }

    #[test]
    fn a_second_variant_has_the_options_of_the_first_but_for_those_typed() {
        let first = options(&["--device", "cpu", "--threads", "2", "--scan", "384", "--model", "a.safetensors"]);
        let second = first.replaced_by("--threads 1 --resolution atrous --model 'my model'").unwrap();
        assert_eq!((first.model.threads, second.model.threads), (Some(2), Some(1)));
        assert_eq!((second.scan, second.model.device), (Some(ScanArg::Pixels(384)), DeviceChoice::Cpu));
        assert_eq!((first.resolution, second.resolution), (None, Some(ResolutionArg::Atrous)));
        assert_eq!(second.model.model, Some(PathBuf::from("my model")));
        let same = first.replaced_by("").unwrap();
        assert_eq!((same.model.threads, same.scan), (first.model.threads, first.scan));
    }

    #[test]
    fn mistakes_in_a_second_variant_are_told_on_one_line() {
        for (text, expected) in [
            ("--speed 3", "unexpected argument '--speed'"),
            ("--threads 0", "invalid value '0' for '--threads"),
            ("--rounds 3", "unexpected argument '--rounds'"),
            ("other.mp4", "unexpected argument 'other.mp4'"),
            ("--help", "unexpected argument '--help'"),
            ("--scan 'whole", "a quotation mark is left open"),
        ] {
            let error = options(&[]).replaced_by(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
