//! LayerCAM (Jiang et al. 2021, "LayerCAM: Exploring hierarchical class activation maps for localization", equations 5
//! to 7): each activation is weighted with the positive gradient at its own place.

use ndarray::Axis;

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};
use crate::model::engine::Tap;

/// The method.
#[derive(Debug, Clone, Copy)]
pub struct LayerCam {
    /// The stage whose activations are weighted.
    pub tap: Tap,
}

impl Explainer for LayerCam {
    fn needs(&self) -> Needs {
        match self.tap {
            Tap::Layer3 => Needs::Layer3,
            Tap::Layer4 => Needs::Gradients,
        }
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let (layer, gradients) = match self.tap {
            Tap::Layer3 => evidence.layer3(evidence.class_weights())?,
            Tap::Layer4 => (&evidence.inference.layer4, evidence.gradients()?),
        };
        let weighted = gradients.mapv(|gradient| gradient.max(0.0)) * &layer.activations;
        Ok(ClassActivationMap::on_grid(weighted.sum_axis(Axis(1)), layer.grid))
    }
}
