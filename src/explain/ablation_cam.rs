//! AblationCAM (Desai & Ramaswamy 2020, "Ablation-CAM: Visual explanations for deep convolutional network via
//! gradient-free localization", section 3): filters are weighted with the share of the score that is lost when
//! they are silenced.
//!
//! Behind global average pooling and a fully connected layer, silencing filter k lowers the logit y_c by exactly
//! w_ck mean(A_k), so that no forward pass is needed. At atrous resolution that is so for the logit of those activations.

use ndarray::{Array1, Axis};

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct AblationCam;

impl Explainer for AblationCam {
    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let activations = evidence.activations();
        let mean = activations.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(activations.ncols()));
        // The paper divides by the logit itself, which turns the map upside down where that is negative.
        let logit = evidence.inference.logits[evidence.class].abs().max(f32::MIN_POSITIVE);
        let weights = mean * evidence.class_weights() / logit;
        Ok(ClassActivationMap::on_grid(activations.dot(&weights), evidence.grid()))
    }
}
