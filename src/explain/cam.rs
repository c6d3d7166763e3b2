//! CAM (Zhou et al. 2016, "Learning deep features for discriminative localization", equation 2): m = A w_c.

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct Cam;

impl Explainer for Cam {
    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        Ok(ClassActivationMap::on_grid(evidence.activations().dot(&evidence.class_weights()), evidence.grid()))
    }
}
