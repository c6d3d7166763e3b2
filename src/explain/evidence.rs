//! What a method may consult: the activations at once, gradients and further passes when it asks for them, so that none
//! pays for what it does not use.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3};

use super::ExplainError;
use crate::model::ModelError;
use crate::model::engine::{Engine, Inference, Tap};
use crate::model::layer::Layer;
use crate::model::picture::Picture;

/// Masks of a picture that a method keeps in memory at once: 13 MB at 224x224.
pub(super) const MASKS_AT_ONCE: usize = 64;

/// The network, as far as methods use it.
pub trait Network {
    /// Weights of the fully connected layer, (classes, filters).
    fn class_weights(&self) -> &Array2<f32>;

    /// See [`Engine::gradients`].
    ///
    /// # Errors
    ///
    /// When the network fails.
    fn gradients(&self, tap: Tap, layer: &Layer, class_weights: ArrayView1<f32>) -> Result<Array2<f32>, ModelError>;

    /// See [`Engine::logits_of_blends`]; without a base.
    ///
    /// # Errors
    ///
    /// When the network fails.
    fn logits_under_masks(&self, picture: &Picture, masks: ArrayView3<f32>) -> Result<Array2<f32>, ModelError>;
}

impl Network for Engine {
    fn class_weights(&self) -> &Array2<f32> {
        self.class_weights()
    }

    fn gradients(&self, tap: Tap, layer: &Layer, class_weights: ArrayView1<f32>) -> Result<Array2<f32>, ModelError> {
        self.gradients(tap, layer, class_weights)
    }

    fn logits_under_masks(&self, picture: &Picture, masks: ArrayView3<f32>) -> Result<Array2<f32>, ModelError> {
        self.logits_of_blends(picture, None, masks)
    }
}

/// Where the gradients at `layer4` come from. Both ways give the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GradientSource {
    /// Worked out: w_c / P at each of P positions, because global average pooling and one fully connected layer follow.
    #[default]
    ClosedForm,
    /// Back-propagated by libtorch.
    Autograd,
}

/// A picture, the network's answer, and the class that is to be explained.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The network that answered.
    pub network: &'a dyn Network,
    /// The picture as the network saw it.
    pub picture: &'a Picture<'a>,
    /// The network's answer; with `layer3` if a method needs it.
    pub inference: &'a Inference,
    /// Index of the class.
    pub class: usize,
    /// Where gradients at `layer4` come from.
    pub gradient_source: GradientSource,
}

impl<'a> Evidence<'a> {
    /// Activations of `layer4`, (positions, filters).
    pub fn activations(&self) -> ArrayView2<'a, f32> {
        self.inference.layer4.activations.view()
    }

    /// Rows and columns of the positions of `layer4`.
    pub fn grid(&self) -> (usize, usize) {
        self.inference.layer4.grid
    }

    /// The class's weights, (filters).
    pub fn class_weights(&self) -> ArrayView1<'a, f32> {
        self.network.class_weights().row(self.class)
    }

    /// Gradients of the class's logit at `layer4`, (positions, filters).
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn gradients(&self) -> Result<Array2<f32>, ExplainError> {
        self.gradients_of(self.class_weights())
    }

    /// Gradients at `layer4`, (positions, filters), of the score that `class_weights` (filters) make of it.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn gradients_of(&self, class_weights: ArrayView1<f32>) -> Result<Array2<f32>, ExplainError> {
        let layer4 = &self.inference.layer4;
        match self.gradient_source {
            GradientSource::ClosedForm => {
                let gradient = class_weights.mapv(|weight| weight / layer4.activations.nrows() as f32);
                Ok(gradient.broadcast(layer4.activations.dim()).expect("one gradient a filter").to_owned())
            }
            GradientSource::Autograd => Ok(self.network.gradients(Tap::Layer4, layer4, class_weights)?),
        }
    }

    /// What `layer3` gave, and the gradients there (positions, filters) of the score that `class_weights` (filters) make of
    /// `layer4`.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    ///
    /// # Panics
    ///
    /// When the inference was made without `layer3`: whoever makes it asks the method what it needs.
    pub fn layer3(&self, class_weights: ArrayView1<f32>) -> Result<(&'a Layer, Array2<f32>), ExplainError> {
        let layer3 = self.inference.layer3.as_ref().expect("the inference is made with what the method needs");
        Ok((layer3, self.network.gradients(Tap::Layer3, layer3, class_weights)?))
    }

    /// Logits of the class, one for each mask (masks, rows, columns) in [0, 1] on the picture; what is masked out has the
    /// mean colour.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn logits_under_masks(&self, masks: ArrayView3<f32>) -> Result<Vec<f32>, ExplainError> {
        Ok(self.network.logits_under_masks(self.picture, masks)?.column(self.class).to_vec())
    }
}
