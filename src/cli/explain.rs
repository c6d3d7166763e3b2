//! The arguments of `explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ExplanationArgs, ModelArgs, ProgressArg, ResolutionArg};
use crate::explain::{GradientSource, Method, Needs};

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

    /// Methods to compare, in this order, or all [default: all that need no further forward passes]. A picture costs
    /// scorecam 512 passes and occlusion 49, each some 10 ms on a common processor
    #[arg(long, value_name = "NAME,...|all", value_parser = methods, help_heading = "Explanation")]
    pub methods: Option<Methods>,

    /// Class to explain [default: the most probable one of each picture]
    #[arg(long, value_name = "NAME", help_heading = "Explanation")]
    pub class: Option<String>,

    /// Explanation.
    #[command(flatten)]
    pub explanation: ExplanationArgs,

    /// How densely layer4 looks: native (7x7) or atrous (14x14, so that all methods have equal grids)
    #[arg(long, value_enum, default_value = "atrous", help_heading = "Explanation")]
    pub resolution: ResolutionArg,

    /// Where gradients come from: worked out, or back-propagated by libtorch; both give the same maps
    #[arg(long, value_enum, default_value = "closed-form", help_heading = "Explanation")]
    pub gradients: GradientsArg,

    /// Model options.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Methods in the order in which they are wanted; clap would take a bare list for an argument that repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(pub Vec<Method>);

impl Default for Methods {
    /// All that need no further forward passes.
    fn default() -> Self {
        let is_cheap = |method: &Method| method.explainer(Default::default()).needs() != Needs::Network;
        Self(Method::ALL.into_iter().filter(is_cheap).collect())
    }
}

/// Where gradients come from.
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

fn methods(text: &str) -> Result<Methods, String> {
    if text == "all" {
        return Ok(Methods(Method::ALL.to_vec()));
    }
    let mut methods: Vec<Method> = Vec::new();
    for name in text.split(',') {
        let method = name.trim().parse()?;
        if methods.contains(&method) {
            return Err(format!("{method} is named twice"));
        }
        methods.push(method);
    }
    Ok(Methods(methods))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_keep_their_order_and_are_named_once() {
        assert_eq!(methods("haycam, cam"), Ok(Methods(vec![Method::HayCam, Method::Cam])));
        assert_eq!(methods("all").unwrap().0.len(), Method::ALL.len());
        assert!(methods("cam,haycam,cam").unwrap_err().contains("cam is named twice"));
        for text in ["", "cam,", "grad"] {
            assert!(methods(text).unwrap_err().contains("gradcam++"), "{text:?}");
        }
    }

    #[test]
    fn expensive_methods_are_asked_for_by_name() {
        let Methods(cheap) = Methods::default();
        assert!(!cheap.contains(&Method::ScoreCam) && !cheap.contains(&Method::Occlusion));
        assert_eq!(cheap.len(), Method::ALL.len() - 2);
    }
}
