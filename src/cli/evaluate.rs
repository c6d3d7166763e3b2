//! `maskwatch evaluate`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::{ExplanationArgs, ModelArgs, ProgressArg, ResolutionArg, at_least_one};
use crate::explain::{GradientSource, Method};

/// The long description.
pub const HELP: &str = "\
Measure a model on labelled pictures

DIR holds a folder a class, or images/ and annotations/ (Pascal VOC XML of the same names).

Class folders: prints accuracy over all classes and over mask and no mask, by class and by source (the prefix of the file \
names), with 95 % intervals, the confusion matrix, and how far the probabilities can be trusted.

Annotated boxes: prints, for each method of explanation, how well its boxes and maps agree with them (IoU, Dice, \
MaxBoxAccV2, pointing game, insertion and deletion), what it costs, and what boxes reach that do not look at the picture. \
What is wrong with pictures and annotations is counted.";

/// Examples of use.
pub const EXAMPLES: &str = "\
Examples:
  maskwatch evaluate data/test
  maskwatch evaluate data/test --model mine.safetensors --report report
  maskwatch evaluate faces/test --tune-on faces/val --report report
  maskwatch evaluate faces/test --methods gradcam,haycam --curve-steps 0

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

    /// Options for annotated boxes.
    #[command(flatten)]
    pub boxes: BoxesArgs,

    /// When to show progress; auto: if standard error is a terminal
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressArg,
}

/// Options of `evaluate` for annotated boxes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Annotated boxes")]
pub struct BoxesArgs {
    /// Methods to compare, separated by commas, or all [default: all but scorecam and occlusion, which take 512 and 49 more
    /// forward passes a map]
    #[arg(long, value_name = "NAME,...|all")]
    pub methods: Option<MethodList>,

    /// How densely layer4 looks, for all methods alike [default: atrous]
    #[arg(long, value_enum)]
    pub resolution: Option<ResolutionArg>,

    /// Where gradients at layer4 come from; both give the same [default: closed-form]
    #[arg(long, value_enum)]
    pub gradients: Option<GradientsArg>,

    /// Steps of the insertion and deletion curves, each of which takes two forward passes a map; 0: they are not measured
    /// [default: 16]
    #[arg(long, value_name = "N")]
    pub curve_steps: Option<usize>,

    /// Choose the threshold of each method, and nothing else, for the best mean IoU on this other folder with images/ and
    /// annotations/
    #[arg(long, value_name = "DIR", conflicts_with = "threshold")]
    pub tune_on: Option<PathBuf>,

    /// How maps are made.
    #[command(flatten)]
    pub explanation: ExplanationArgs,
}

/// Where gradients at `layer4` come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GradientsArg {
    /// Worked out from the class weights
    ClosedForm,
    /// Back-propagated by libtorch
    Autograd,
}

impl From<GradientsArg> for GradientSource {
    fn from(gradients: GradientsArg) -> Self {
        match gradients {
            GradientsArg::ClosedForm => Self::ClosedForm,
            GradientsArg::Autograd => Self::Autograd,
        }
    }
}

/// Methods in the order they were named, each once; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodList(pub Vec<Method>);

impl FromStr for MethodList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Method::ALL.to_vec()));
        }
        let mut methods = Vec::new();
        for name in text.split(',') {
            let method = name.trim().parse()?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Ok(Self(methods))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_once_each_or_all_together() {
        let list = |text: &str| text.parse().map(|MethodList(methods)| methods);
        assert_eq!(list("haycam,cam,haycam"), Ok(vec![Method::HayCam, Method::Cam]));
        assert_eq!(list("all"), Ok(Method::ALL.to_vec()));
        for text in ["", "cam,", "camm", "all,cam"] {
            assert!(list(text).is_err(), "{text}");
        }
    }
}
