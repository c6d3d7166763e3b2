//! How maps are made: the arguments that `run`, `explain` and `evaluate` share.

use clap::{Args, ValueEnum};

use super::at_least_one;
use crate::boxes::Threshold;
use crate::explain::haycam_refined::AUTO_COMPONENTS;
use crate::explain::{HayCamRefined, Method, MethodSettings, ReadAt};
use crate::model::resnet::Resolution;
use crate::pca::Components;

/// How maps are made, whichever the method.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Explanation")]
pub struct ExplanationArgs {
    /// Principal components that the haycam methods keep: a number, or auto for as many as explain 70 % of the variance
    /// [default: 19 as in the paper for haycam and for scans, auto for haycam-refined]
    #[arg(long, value_name = "N|auto", value_parser = components)]
    pub components: Option<Components>,

    /// Threshold of the heat map for boxes, as a share of its maximum, or "otsu"; with a scan, lowest score of a box, for all
    /// classes [default: what suits the method; with a scan, the class]
    #[arg(long, value_name = "X|otsu")]
    pub threshold: Option<Threshold>,

    /// Layer that haycam-refined reduces: layer3 sees finer, layer4 costs next to nothing, both are best [default: layer4
    /// for run, both otherwise]
    #[arg(long, value_enum)]
    pub layer: Option<LayerArg>,

    /// Class weights of haycam-refined: what speaks against the class is ignored, or it counts [default:
    /// non-negative]
    #[arg(long, value_enum)]
    pub class_weights: Option<ClassWeightsArg>,

    /// Leave the mean of each filter out of haycam-refined's map, as haycam does, or out of a scan's
    #[arg(long)]
    pub centred: bool,
}

/// A layer whose activations are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayerArg {
    /// 14x14 positions of 256 filters, with a further pass through layer4 and back, by libtorch: about three forward passes more
    Layer3,
    /// 7x7 positions of 512 filters, 14x14 if atrous
    Layer4,
    /// The geometric mean of both maps
    Both,
}

/// What becomes of negative class weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClassWeightsArg {
    /// They are set to zero
    NonNegative,
    /// They are kept
    Signed,
}

/// How densely layer4 looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResolutionArg {
    /// As it was trained
    Native,
    /// Twice as dense in both directions, with the same weights
    Atrous,
}

impl ExplanationArgs {
    /// The first option that none of the methods heeds, if there is one.
    pub fn unheeded(&self, methods: &[Method]) -> Option<&'static str> {
        let refined = methods.contains(&Method::HayCamRefined);
        let haycam = |method: &Method| method.name().starts_with(Method::HayCam.name());
        let given = [
            ("--components", self.components.is_some() && !methods.iter().any(haycam)),
            ("--layer", self.layer.is_some() && !refined),
            ("--class-weights", self.class_weights.is_some() && !refined),
            ("--centred", self.centred && !refined),
        ];
        given.into_iter().find_map(|(option, is_unheeded)| is_unheeded.then_some(option))
    }

    /// What is set on methods, with the layer that suits the command.
    pub fn method_settings(&self, layer: LayerArg) -> MethodSettings {
        let refined = HayCamRefined {
            read_at: match self.layer.unwrap_or(layer) {
                LayerArg::Layer3 => ReadAt::Layer3,
                LayerArg::Layer4 => ReadAt::Layer4,
                LayerArg::Both => ReadAt::Both,
            },
            non_negative: self.class_weights != Some(ClassWeightsArg::Signed),
            centred: self.centred,
            ..HayCamRefined::default()
        };
        MethodSettings { components: self.components, refined }
    }
}

impl From<ResolutionArg> for Resolution {
    fn from(resolution: ResolutionArg) -> Self {
        match resolution {
            ResolutionArg::Native => Self::Native,
            ResolutionArg::Atrous => Self::Atrous,
        }
    }
}

pub(super) fn components(text: &str) -> Result<Components, String> {
    if text == "auto" {
        return Ok(AUTO_COMPONENTS);
    }
    at_least_one(text).map(Components::Count).map_err(|_| "expected a whole number of at least 1, or auto".to_owned())
}
