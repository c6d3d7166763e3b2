//! XGradCAM (Fu et al. 2020, "Axiom-based Grad-CAM", equation 8): each gradient counts as much as the activation at its
//! place.

use ndarray::{Array1, Axis, Zip};

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// Keeps the quotient defined where a filter is silent.
const EPSILON: f32 = 1e-7;

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct XGradCam;

impl Explainer for XGradCam {
    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let gradients = evidence.gradients()?;
        let activations = evidence.activations();
        let sums = activations.sum_axis(Axis(0));
        let mut weights = Array1::<f32>::zeros(activations.ncols());
        for (gradients, activations) in gradients.rows().into_iter().zip(activations.rows()) {
            Zip::from(&mut weights)
                .and(gradients)
                .and(activations)
                .and(&sums)
                .for_each(|weight, &gradient, &activation, &sum| *weight += gradient * activation / (sum + EPSILON));
        }
        Ok(ClassActivationMap::on_grid(activations.dot(&weights), evidence.grid()))
    }
}
