//! The arguments of `explain`.

use std::path::PathBuf;

use clap::Args;

use super::{ExplanationArgs, GradientsArg, Methods, ModelArgs, ProgressArg, ResolutionArg, ScanArg};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Picture, folder of pictures, or glob pattern; figures of an earlier run in a folder are left out
    #[arg(required = true, value_name = "IMAGE")]
    pub pictures: Vec<String>,

    /// Where figures go: a folder, which is created if missing, or a .png for one picture [default: this folder]
    #[arg(long, value_name = "PATH", help_heading = "Outputs")]
    pub out: Option<PathBuf>,

    /// Print a JSON line a picture with all numbers: probabilities, maps, boxes
    #[arg(long, help_heading = "Outputs")]
    pub json: bool,

    /// When to show progress of several pictures; auto: if standard error is a terminal
    #[arg(long, value_enum, default_value = "auto", help_heading = "Outputs")]
    pub progress: ProgressArg,

    /// Scan the picture for faces as run does, and show the map behind each in place of a comparison: at the short side that
    /// suits most (auto), or at one of 64 to 2048 pixels [default: whole]
    #[arg(long, value_name = "auto|PIXELS|whole", num_args = 0..=1, default_missing_value = "auto", help_heading = "Scan")]
    pub scan: Option<ScanArg>,

    /// Methods to compare, in this order, or all [default: all that need no further forward passes]. A picture costs
    /// scorecam
    /// 512 passes and occlusion 196 (49 if native), each some 10 ms on a common processor. Names: cam, gradcam, gradcam++,
    /// xgradcam, layercam, layercam-layer3, eigencam, scorecam, ablationcam, occlusion, haycam, haycam-refined; and, not
    /// among all, haycam-filters and haycam-loadings, other readings of the HayCAM paper
    #[arg(long, value_name = "NAME,...|all", help_heading = "Explanation")]
    pub methods: Option<Methods>,

    /// Class to explain [default: the most probable one of each picture]
    #[arg(long, value_name = "NAME", help_heading = "Explanation")]
    pub class: Option<String>,

    /// Explanation.
    #[command(flatten)]
    pub explanation: ExplanationArgs,

    /// How densely layer4 looks: native (every 32 pixels) or atrous (every 16, so that all methods have equal grids)
    /// [default: atrous; with --scan native]
    #[arg(long, value_enum, help_heading = "Explanation")]
    pub resolution: Option<ResolutionArg>,

    /// Where gradients at layer4 come from: worked out, or back-propagated by libtorch; both give the same maps
    /// [default: closed-form]
    #[arg(long, value_enum, help_heading = "Explanation")]
    pub gradients: Option<GradientsArg>,

    /// Model options.
    #[command(flatten)]
    pub model: ModelArgs,
}
