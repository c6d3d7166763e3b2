//! EigenCAM (Muhammad & Yeasin 2020, "Eigen-CAM: Class activation map using principal components"): the projection of
//! the activations on their first principal direction, whatever the class.
//!
//! The sign of a principal direction is arbitrary, and published implementations get inverted maps. Here it is chosen so
//! that the map rises with the sum of the activations over the filters: rectified filters fire on objects.

use ndarray::Axis;

use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};
use crate::pca::{self, Components};

/// The method; it has no parameters.
#[derive(Debug, Clone, Copy)]
pub struct EigenCam;

impl Explainer for EigenCam {
    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let activations = evidence.activations();
        let basis = pca::fit(activations, Components::Count(1))?;
        let centred = activations.mapv(f64::from) - &basis.mean;
        // Without variance there is no direction, and the map is zero.
        let projection = centred.dot(&basis.directions).sum_axis(Axis(1));
        let strength = centred.sum_axis(Axis(1));
        let sign = if projection.dot(&strength) < 0.0 { -1.0 } else { 1.0 };
        let map = ClassActivationMap::on_grid(projection.mapv(|value| (sign * value) as f32), evidence.grid());
        Ok(ClassActivationMap { reduction: Some((&basis).into()), ..map })
    }
}
