//! Training on composed scenes: labelled pictures pasted onto face-free backgrounds, so that the network learns what every
//! single position shows, that most show nobody, and all that from labels of whole pictures.
//!
//! [`places`] asks the maps of the model that the training starts from where in each picture the labelled face is (weak
//! supervision in two steps, as Zhang et al. 2020, "Rethinking the route towards weakly supervised object localization").
//! [`compose`] makes [`Scene`]s of pictures, [`paste`] puts one picture into another, and [`loss`] says what each position
//! should have answered. Where a face lies in a scene is known because it was put there: nobody drew a box.

pub mod compose;
pub mod loss;
pub mod paste;
pub mod places;
pub mod sheet;
pub mod validate;

use image::RgbImage;
use serde::Serialize;

use crate::resize::Crop;

/// How scenes are composed and judged. Kept in the model file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SceneRecipe {
    /// Share of the pictures with a face that are shown as they are.
    pub plain: f64,
    /// Shorter side of the smallest face, in pixels of the network's input.
    pub smallest_face: f64,
    /// Shorter side of the largest face.
    pub largest_face: f64,
    /// Most that is cut out with a face, as a multiple of the face's width and height.
    pub context: f64,
    /// Share of the scenes with more than one face.
    pub several: f64,
    /// Probability of each further thing without a face that is pasted into a scene.
    pub distractor: f64,
    /// Weight of the loss of the whole picture's label beside that of the positions.
    pub whole_weight: f64,
    /// Weight of the positions around a face in the picture that it came from, where others may stand.
    pub context_weight: f64,
}

impl Default for SceneRecipe {
    fn default() -> Self {
        Self {
            plain: 0.25,
            smallest_face: 20.0,
            largest_face: 200.0,
            context: 3.0,
            several: 0.35,
            distractor: 0.5,
            whole_weight: 0.3,
            context_weight: 0.3,
        }
    }
}

/// A training picture made of others.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The network's input.
    pub image: RgbImage,
    /// The faces in it, the one that was asked for first.
    pub objects: Vec<Object>,
    /// Class index of the picture as a whole; none where a face covers only a part of it.
    pub whole: Option<usize>,
}

/// A labelled picture, or a part of it, in a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Class index.
    pub label: usize,
    /// Where it was pasted, in pixels of the scene; parts may lie outside.
    pub pasted: Crop,
    /// Where in that the face is, if a model could tell.
    pub place: Option<Crop>,
}
