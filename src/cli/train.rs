//! The arguments of `train`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ProgressArg, at_least_one};
use crate::model::device::DeviceChoice;
use crate::model::resnet::Stage;
use crate::train::augment::Augmentation;
use crate::train::schedule::Schedule;
use crate::train::settings::Precision;

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Folder with train/ and val/, each with a folder a class
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Weights to start from: a model file, or a torchvision ResNet18 as safetensors [default: the shipped model]
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub init: Option<PathBuf>,

    /// Where the best model goes; log (.csv), curves (.png) and state (.state.safetensors) go beside it
    #[arg(long, value_name = "PATH", default_value = "model.safetensors", help_heading = "Files")]
    pub out: PathBuf,

    /// Go on where this training was interrupted
    #[arg(long, help_heading = "Files")]
    pub resume: bool,

    /// Classes to learn, in this order [default: all folders of DIR/train]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub classes: Vec<String>,

    /// Last stage that is not trained; none trains everything
    #[arg(long, value_name = "STAGE", value_enum, default_value = "layer3", help_heading = "Training")]
    pub freeze_until: FreezeArg,

    /// Passes over the pictures
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Training")]
    pub epochs: u32,

    /// End early after this many epochs without a better model
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Training")]
    pub patience: Option<u32>,

    /// Pictures a pass, drawn so that all classes are equally frequent [default: as many as there are]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Training")]
    pub pictures_per_epoch: Option<usize>,

    /// Pictures a step
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one, help_heading = "Training")]
    pub batch_size: usize,

    /// Learning rate; its highest value where --schedule changes it
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, default_value_t = 0.001, value_parser = positive, help_heading = "Training")]
    pub learning_rate: f64,

    /// How the learning rate changes
    #[arg(long, value_enum, default_value = "constant", help_heading = "Training")]
    pub schedule: ScheduleArg,

    /// Each stage below those that begin at random learns at this share of the rate of the stage above it
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 1.0, value_parser = above_zero_to_one, help_heading = "Training")]
    pub stage_decay: f64,

    /// Momentum of stochastic gradient descent
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.9, value_parser = share, help_heading = "Training")]
    pub momentum: f64,

    /// Weight decay of stochastic gradient descent
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.0, value_parser = share, help_heading = "Training")]
    pub weight_decay: f64,

    /// Share of each label that is spread over all classes
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = 0.0, value_parser = share, help_heading = "Training")]
    pub label_smoothing: f64,

    /// What the network computes with; bfloat16 is about twice as fast where processor or GPU know it
    #[arg(long, value_enum, default_value = "single", help_heading = "Training")]
    pub precision: PrecisionArg,

    /// Learn from scenes that are composed of the pictures: faces of many sizes pasted onto face-free backgrounds, each position
    /// of the picture learning what it shows
    ///
    /// For models that scan camera frames. Needs a class background. Where in each picture the face is, the maps of the
    /// model given by --init tell; what they tell is kept beside the model (.places.json). The best epoch is the one with
    /// the lowest loss on scenes composed of val.
    #[arg(long, conflicts_with = "cached_views", help_heading = "Training")]
    pub scenes: bool,

    /// Make this many variations of each picture once and keep what the frozen stages see in them
    ///
    /// Saves their work in every epoch but the first, and shows fewer different pictures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Feature cache")]
    pub cached_views: Option<u32>,

    /// Where they are kept [default: the model's name with the ending .features]
    #[arg(long, value_name = "PATH", requires = "cached_views", help_heading = "Feature cache")]
    pub cache: Option<PathBuf>,

    /// Gigabytes that they may take
    #[arg(long, value_name = "GB", allow_negative_numbers = true, default_value_t = 8.0, value_parser = positive, help_heading = "Feature cache")]
    pub cache_limit: f64,

    /// Variations of the pictures.
    #[command(flatten)]
    pub augmentation: AugmentationArgs,

    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Training")]
    pub seed: u64,

    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,

    /// Threads of the network on the CPU, and of reading pictures [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,

    /// When to show progress; auto: if standard error is a terminal
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressArg,
}

/// How training pictures are varied.
#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentationArgs {
    /// What the options below are unless given: robust makes source, resolution and light useless as hints
    #[arg(long, value_enum, default_value = "plain")]
    pub augmentation: AugmentationArg,

    /// Do not mirror pictures
    #[arg(long)]
    pub no_flip: bool,

    /// Smallest share of a picture's area that a random crop keeps; 1 for no crops [plain: 0.5, robust: 0.5]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, value_parser = above_zero_to_one)]
    pub crop_scale: Option<f64>,

    /// Smallest share of its side that a picture is reduced to and enlarged from; 1 for none [plain: 1, robust: 0.2]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, value_parser = above_zero_to_one)]
    pub downscale: Option<f64>,

    /// Largest standard deviation of a Gaussian blur in pixels; 0 for none [plain: 0, robust: 2]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, value_parser = up_to_a_hundred)]
    pub blur: Option<f64>,

    /// Lowest JPEG quality; 100 for none [plain: 100, robust: 30]
    #[arg(long, value_name = "QUALITY", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub jpeg_quality: Option<u8>,

    /// Largest relative change of brightness and contrast; 0 for none [plain: 0, robust: 0.3]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, value_parser = share)]
    pub brightness: Option<f64>,

    /// Largest relative change of saturation and white balance; 0 for none [plain: 0, robust: 0.3]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, value_parser = share)]
    pub colour: Option<f64>,

    /// Largest rotation either way; 0 for none [plain: 0, robust: 10]
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true, value_parser = up_to_a_hundred)]
    pub rotation: Option<f64>,
}

impl From<&AugmentationArgs> for Augmentation {
    fn from(args: &AugmentationArgs) -> Self {
        let preset = match args.augmentation {
            AugmentationArg::Plain => Self::PLAIN,
            AugmentationArg::Robust => Self::ROBUST,
        };
        Self {
            flip: !args.no_flip,
            crop_scale: args.crop_scale.unwrap_or(preset.crop_scale),
            downscale: args.downscale.unwrap_or(preset.downscale),
            blur: args.blur.unwrap_or(preset.blur),
            jpeg_quality: args.jpeg_quality.unwrap_or(preset.jpeg_quality),
            brightness: args.brightness.unwrap_or(preset.brightness),
            colour: args.colour.unwrap_or(preset.colour),
            rotation: args.rotation.unwrap_or(preset.rotation),
        }
    }
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// The same from first to last, as in the paper
    Constant,
    /// Rise for 3/10 of the steps to --learning-rate, then fall to almost nothing
    OneCycle,
}

impl From<ScheduleArg> for Schedule {
    fn from(schedule: ScheduleArg) -> Self {
        match schedule {
            ScheduleArg::Constant => Self::Constant,
            ScheduleArg::OneCycle => Self::OneCycle,
        }
    }
}

/// Which variations are made unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AugmentationArg {
    /// Mirroring and crops
    Plain,
    /// Also resolution, blur, JPEG quality, brightness, colour, rotation
    Robust,
}

/// What the network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// 32 bits a number
    Single,
    /// 16 bits a number, with the range of 32
    Bfloat16,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Single => Self::Single,
            PrecisionArg::Bfloat16 => Self::Bfloat16,
        }
    }
}

/// The last frozen stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FreezeArg {
    /// Train everything
    None,
    /// Freeze the first convolution
    Stem,
    /// Freeze up to layer1
    Layer1,
    /// Freeze up to layer2
    Layer2,
    /// Freeze up to layer3
    Layer3,
    /// Freeze everything but the last layer
    Layer4,
}

impl From<FreezeArg> for Option<Stage> {
    fn from(freeze: FreezeArg) -> Self {
        match freeze {
            FreezeArg::None => None,
            FreezeArg::Stem => Some(Stage::Stem),
            FreezeArg::Layer1 => Some(Stage::Layer1),
            FreezeArg::Layer2 => Some(Stage::Layer2),
            FreezeArg::Layer3 => Some(Stage::Layer3),
            FreezeArg::Layer4 => Some(Stage::Layer4),
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| *number > 0.0 && number.is_finite())
        .ok_or_else(|| "expected a number above 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| (0.0..1.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to below 1".to_owned())
}

fn above_zero_to_one(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| *number > 0.0 && *number <= 1.0)
        .ok_or_else(|| "expected a number above 0, at most 1".to_owned())
}

fn up_to_a_hundred(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| (0.0..=100.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to 100".to_owned())
}
