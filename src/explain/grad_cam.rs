//! GradCAM (Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
//! equations 1 and 2): filters are weighted with the mean of their gradients.

use ndarray::{Array1, Axis};

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct GradCam;

impl Explainer for GradCam {
    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let gradients = evidence.gradients()?;
        let weights = gradients.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(gradients.ncols()));
        Ok(ClassActivationMap::on_grid(evidence.activations().dot(&weights), evidence.grid()))
    }
}
