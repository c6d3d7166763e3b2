//! HayCAM as this program refines it. Each difference from [`HayCam`](super::HayCam) is a switch of its own:
//!
//! * **non-negative class weights**: what speaks against the class is set to zero before anything else, as LayerCAM does
//!   with gradients. Where labels were smoothed in training, negative weights otherwise eat holes into the map;
//! * **read at `layer3`**, which has four times as many positions as `layer4`: the score that the class weights make of
//!   `layer4` is back-propagated, and each activation counts with the gradient at its own place, the positive part of it
//!   if weights are non-negative (LayerCAM; Jiang et al. 2021, equation 6);
//! * **read at both layers**: the geometric mean of the two maps, each normalised. `layer3` is finer, `layer4` surer; a place
//!   is hot only where both say so;
//! * **components by explained variance** rather than by number;
//! * **not centred**: the mean of each filter is added again after the reduction, so that a face that fills the picture is
//!   not taken for its background.
//!
//! With X = A - 1 mu', the basis V, and the gradients G (all positions, filters), the map of a layer is
//!
//! m_p = sum over c of relu(G_pc) (X V V' + 1 mu')_pc.
//!
//! What each switch is worth and costs is in `docs/explainers.md`.

use std::fmt;

use ndarray::{Array2, Axis};

use super::normalise::normalise;
use super::{ClassActivationMap, Evidence, ExplainError, Explainer, Needs};
use crate::model::engine::Tap;
use crate::model::layer::Layer;
use crate::pca::{self, Basis, Components};

/// Share of the variance that `--components auto` keeps: the best of 0.5 to 0.95 on the validation set, read at `layer3`. Read
/// at both layers, mean IoU is flat from 5 components on.
pub const AUTO_COMPONENTS: Components = Components::Variance(0.7);

/// The stages whose activations are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    /// `layer3`.
    Layer3,
    /// `layer4`.
    Layer4,
    /// Both; the map has the grid of `layer3`.
    Both,
}

impl fmt::Display for ReadAt {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Layer3 => "layer3",
            Self::Layer4 => "layer4",
            Self::Both => "both",
        })
    }
}

/// The method with its switches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HayCamRefined {
    /// The stages whose activations are reduced.
    pub read_at: ReadAt,
    /// Whether negative class weights, and negative gradients, are set to zero.
    pub non_negative: bool,
    /// Principal components to keep.
    pub components: Components,
    /// Whether the mean of each filter is left out of the map.
    pub centred: bool,
}

impl fmt::Display for HayCamRefined {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { read_at, components, .. } = self;
        let weights = if self.non_negative { "non-negative" } else { "signed" };
        let centred = if self.centred { "centred" } else { "not centred" };
        write!(f, "layer {read_at}, class weights {weights}, {centred}, components {components}")
    }
}

impl Default for HayCamRefined {
    fn default() -> Self {
        Self { read_at: ReadAt::Both, non_negative: true, components: AUTO_COMPONENTS, centred: false }
    }
}

impl Explainer for HayCamRefined {
    fn needs(&self) -> Needs {
        match self.read_at {
            ReadAt::Layer3 | ReadAt::Both => Needs::Layer3,
            ReadAt::Layer4 => Needs::Gradients,
        }
    }

    fn explain(&self, evidence: &Evidence) -> Result<ClassActivationMap, ExplainError> {
        let mut maps = self.maps(evidence, self.components, |basis| vec![basis])?;
        Ok(maps.pop().expect("one map for one basis"))
    }

    fn explain_with(&self, evidence: &Evidence, counts: &[usize]) -> Result<Vec<ClassActivationMap>, ExplainError> {
        let most = Components::Count(counts.iter().copied().max().unwrap_or(1));
        self.maps(evidence, most, |basis| counts.iter().map(|&count| basis.leading(count)).collect())
    }
}

/// The geometric mean of two normalised maps, on the grid of the first, with the components of the first.
fn geometric_mean(fine: &ClassActivationMap, coarse: &ClassActivationMap) -> ClassActivationMap {
    let (rows, columns) = fine.values.dim();
    let coarse = coarse.heat(rows, columns);
    if coarse.iter().all(|&value| value == 0.0) {
        // A single position, for instance, has nothing to say of where.
        return fine.clone();
    }
    ClassActivationMap { values: (normalise(&fine.values) * &*coarse).mapv(f32::sqrt), reduction: fine.reduction }
}

impl HayCamRefined {
    /// A map for each of the bases that `bases` makes of the one that is fitted to a layer.
    fn maps(
        &self,
        evidence: &Evidence,
        components: Components,
        bases: impl Fn(Basis) -> Vec<Basis>,
    ) -> Result<Vec<ClassActivationMap>, ExplainError> {
        let at = |tap| -> Result<Vec<_>, ExplainError> {
            let (layer, gradients) = self.weighted_layer(evidence, tap)?;
            let basis = pca::fit(layer.activations.view(), components)?;
            Ok(bases(basis).iter().map(|basis| self.map(layer, &gradients, basis)).collect())
        };
        match self.read_at {
            ReadAt::Layer3 => at(Tap::Layer3),
            ReadAt::Layer4 => at(Tap::Layer4),
            ReadAt::Both => {
                let maps = at(Tap::Layer3)?.into_iter().zip(at(Tap::Layer4)?);
                Ok(maps.map(|(layer3, layer4)| geometric_mean(&layer3, &layer4)).collect())
            }
        }
    }

    /// The activations that are reduced, and what each counts, both (positions, filters).
    fn weighted_layer<'a>(&self, evidence: &Evidence<'a>, tap: Tap) -> Result<(&'a Layer, Array2<f32>), ExplainError> {
        let mut class_weights = evidence.class_weights().to_owned();
        if self.non_negative {
            class_weights.mapv_inplace(|weight| weight.max(0.0));
        }
        let (layer, mut gradients) = match tap {
            Tap::Layer3 => evidence.layer3(class_weights.view())?,
            Tap::Layer4 => (&evidence.inference.layer4, evidence.gradients_of(class_weights.view())?),
        };
        if self.non_negative {
            gradients.mapv_inplace(|gradient| gradient.max(0.0));
        }
        Ok((layer, gradients))
    }

    fn map(&self, layer: &Layer, gradients: &Array2<f32>, basis: &Basis) -> ClassActivationMap {
        let centred = layer.activations.mapv(f64::from) - &basis.mean;
        let mut reduced = centred.dot(&basis.directions).dot(&basis.directions.t());
        if !self.centred {
            reduced += &basis.mean;
        }
        let values = (reduced * gradients.mapv(f64::from)).sum_axis(Axis(1)).mapv(|value| value as f32);
        ClassActivationMap { reduction: Some(basis.into()), ..ClassActivationMap::on_grid(values, layer.grid) }
    }
}
