//! GradCAM++ (Chattopadhyay et al. 2018, "Grad-CAM++: Generalized gradient-based visual explanations", equations 5 and
//! 19): positive gradients, each weighted so that several places of the class count alike.

use ndarray::{Array1, Axis, Zip};

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// Keeps the quotient defined. As large as in the reference implementation (pytorch-grad-cam): gradients behind global
/// average pooling are so small that their squares compare with it, and without it maps differ by up to 0.18.
const EPSILON: f32 = 1e-6;

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct GradCamPlusPlus;

impl Explainer for GradCamPlusPlus {
    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let gradients = evidence.gradients()?;
        let activations = evidence.activations();
        let sums = activations.sum_axis(Axis(0));
        let mut weights = Array1::<f32>::zeros(activations.ncols());
        for position in gradients.rows() {
            Zip::from(&mut weights).and(position).and(&sums).for_each(|weight, &gradient, &sum| {
                // Only positive gradients count (equation 5); the coefficient is equation 19.
                if gradient > 0.0 {
                    let squared = gradient * gradient;
                    *weight += gradient * squared / (2.0 * squared + sum * squared * gradient + EPSILON);
                }
            });
        }
        Ok(ClassActivationMap::on_grid(activations.dot(&weights), evidence.grid()))
    }
}
