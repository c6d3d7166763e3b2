//! LayerCAM (Jiang et al. 2021, "LayerCAM: Exploring hierarchical class activation maps for localization", equations 5
//! and 6): each activation is weighted with the positive gradient at its own place.

use ndarray::{ArrayView2, Axis};

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// The method, read at `layer4`; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct LayerCam;

impl Explainer for LayerCam {
    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let values = layer_cam(evidence.activations(), evidence.gradients()?.view());
        Ok(ClassActivationMap::on_grid(values, evidence.grid()))
    }
}

/// The sum over the filters of positive gradients times activations, both (positions, filters).
pub(super) fn layer_cam(activations: ArrayView2<f32>, gradients: ArrayView2<f32>) -> ndarray::Array1<f32> {
    (gradients.mapv(|gradient| gradient.max(0.0)) * activations).sum_axis(Axis(1))
}
