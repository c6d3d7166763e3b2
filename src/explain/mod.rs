//! Class activation maps: which positions of a picture speak for a class.
//!
//! One method a file, all behind [`Explainer`]. A method turns [`Evidence`] into a [`ClassActivationMap`];
//! [`mod@normalise`] makes maps comparable. [`Method`] lists them by name.
//!
//! # Which maps are equal
//!
//! ResNet18 ends in global average pooling (GAP) and one fully connected layer with weights w, so the gradient of a
//! logit at each of `layer4`'s P positions is w_c / P, the same everywhere. After [`normalise::normalise`] therefore
//!
//! * GradCAM, XGradCAM and ReLU(CAM) are one map, A w_c;
//! * AblationCAM is that of weights w_c times each filter's mean activation;
//! * LayerCAM is A relu(w_c);
//! * [`HayCamRefined`] read at `layer4` with all components is LayerCAM, and centred LayerCAM if centred; read at `layer3`
//!   with all components it is LayerCAM of that layer, for the score with non-negative class weights; and read at both it
//!   is the geometric mean of these two.
//!
//! `tests/explainers.rs` holds them to that.

pub mod ablation_cam;
pub mod cam;
pub mod eigen_cam;
pub mod evidence;
pub mod grad_cam;
pub mod grad_cam_plus_plus;
pub mod haycam;
pub mod haycam_refined;
pub mod layer_cam;
pub mod method;
pub mod normalise;
pub mod occlusion;
pub mod score_cam;
pub mod x_grad_cam;

use std::fmt;

use ndarray::{Array1, Array2};

pub use evidence::{Evidence, GradientSource, Network};
pub use haycam::HayCam;
pub use haycam_refined::{HayCamRefined, ReadAt};
pub use method::{Method, MethodSettings};

use normalise::{enlarge, normalise};

use crate::exit_code::ExitCode;
use crate::model::ModelError;
use crate::model::engine::Tap;
use crate::pca::{Basis, PcaError};
use crate::recycled::Recycled;

/// Evidence for one class by position.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassActivationMap {
    /// (rows, columns) of the network's grid, unbounded: more is more evidence.
    pub values: Array2<f32>,
    /// The principal components behind it, where the method has some.
    pub reduction: Option<Reduction>,
}

/// Principal components behind a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reduction {
    /// How many were used.
    pub components: usize,
    /// Share of the activations' variance that they capture, in [0, 1].
    pub captured_variance: f64,
}

/// What a method needs beyond the one forward pass that classifies the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing: the activations of `layer4` and the class weights.
    Activations,
    /// The gradients of the class's logit at `layer4`.
    Gradients,
    /// The activations of `layer3`, and a pass through `layer4` and back.
    Layer3,
    /// Many forward passes.
    Network,
}

impl Needs {
    /// The first stage whose activations the inference must keep.
    pub fn first_tap(self) -> Tap {
        if self == Self::Layer3 { Tap::Layer3 } else { Tap::Layer4 }
    }

    /// Whether the network is passed through, forward or back, once more.
    pub fn further_passes(self) -> bool {
        self >= Self::Layer3
    }
}

/// A way to explain a class.
pub trait Explainer: fmt::Debug + Send {
    /// What it asks the evidence for.
    fn needs(&self) -> Needs;

    /// The map of the evidence's class.
    ///
    /// # Errors
    ///
    /// When activations are not finite, which a damaged model causes, or the network is needed and fails.
    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError>;

    /// The same map with other numbers of principal components, in their order; nothing from a method that has none. All
    /// come from one fit.
    ///
    /// # Errors
    ///
    /// As for [`Self::explain`].
    fn explain_with(&self, _evidence: &Evidence, _counts: &[usize]) -> Result<Vec<ClassActivationMap>, ExplainError> {
        Ok(Vec::new())
    }
}

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The principal components.
    #[error(transparent)]
    Components(#[from] PcaError),
    /// The principal components that were to serve the frames to come.
    #[error("cannot renew the basis of earlier frames: {0}")]
    Refit(PcaError),
    /// The thread that fits bases beside the frames.
    #[error("{0}; --basis per-frame does without it")]
    Fitter(String),
    /// There is nothing to see.
    #[error("the picture has no pixels")]
    EmptyPicture,
}

impl ExplainError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Model(error) => error.exit_code(),
            Self::Components(_) | Self::Refit(_) | Self::Fitter(_) | Self::EmptyPicture => ExitCode::Failed,
        }
    }
}

impl From<&Basis> for Reduction {
    fn from(basis: &Basis) -> Self {
        Self { components: basis.components(), captured_variance: basis.captured_variance() }
    }
}

/// Heat from 0 to 1 in (rows, columns), as boxes are drawn from it, of a map of any range: normalised, then enlarged.
pub fn heat(map: &Array2<f32>, rows: usize, columns: usize) -> Recycled<Array2<f32>> {
    enlarge(&Recycled::from(normalise(map)), rows, columns)
}

impl ClassActivationMap {
    /// Its [`heat`].
    pub fn heat(&self, rows: usize, columns: usize) -> Recycled<Array2<f32>> {
        heat(&self.values, rows, columns)
    }

    /// A map without principal components, from one value a position, row by row.
    ///
    /// # Panics
    ///
    /// When there are not as many values as positions.
    pub fn on_grid(values: Array1<f32>, grid: (usize, usize)) -> Self {
        let values = values.into_shape_with_order(grid).expect("one value for each position of the grid");
        Self { values, reduction: None }
    }
}
