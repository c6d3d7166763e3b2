//! What each position of a scene should have answered, and how far it counts.

use ndarray::{Array3, ArrayView3};
use tch::{Kind, TchError, Tensor};

use super::{Object, Scene, SceneRecipe};
use crate::model::preprocess::Crop;

/// Pixels of the network's input from one position of `layer4` to the next.
const STRIDE: f64 = 32.0;
/// Share of a face's width and height, around its middle, within which positions must show it.
const CORE: f64 = 0.8;
/// Distance from a face, in shares of its shorter side, up to which positions may answer as they like...
const RING: f64 = 0.25;
/// ... and in pixels, since a position sees more than its own cell.
const RING_PIXELS: f64 = 12.0;
/// Share of the positions of a picture without a known place that must show its label.
const SURE_QUARTER: f64 = 0.25;
/// Weight of the demand that a picture without a known place nowhere shows the other kind of face.
const OTHER_CLASS_WEIGHT: f64 = 0.5;
/// Share of the background positions that count as much as all of them: those that look most like a face.
const HARDEST: f64 = 0.125;

/// How far each answer of each position counts; all arrays are (classes, rows, columns).
#[derive(Debug, Clone, PartialEq)]
pub struct PositionWeights {
    /// Weights of -ln p, where the class is there.
    pub present: Array3<f32>,
    /// Weights of -ln (1 - p), where the class is not there.
    pub absent: Array3<f32>,
    /// Positions at which the first face of the scene, or the background where there is none, is expected.
    pub expected: Vec<(usize, usize)>,
}

/// What is expected at a position.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expectation {
    /// Nobody.
    Background,
    /// Most probably nobody: the surroundings of a face in the picture it comes from.
    Surroundings,
    /// Nothing in particular.
    Anything,
    /// The face of the object with this index.
    Face(usize),
}

/// What each position of a scene should have answered, given what it does answer: probabilities (classes, rows, columns).
///
/// Where the place of a face is known, the positions in it must show the label (at least the one nearest to its middle), and
/// those around it the background. Where only the pasted picture is known, the best quarter of its positions must show the
/// label and none the other kind of face (multiple-instance learning). Everything else is background, the eighth that looks
/// most like a face counting as much as all together (Shrivastava et al. 2016, "Training region-based object detectors
/// with online hard example mining"). In each scene all faces together weigh 1, and so does the background.
pub fn position_weights(
    scene: &Scene,
    background: usize,
    recipe: &SceneRecipe,
    probabilities: ArrayView3<f32>,
) -> PositionWeights {
    let (classes, rows, columns) = probabilities.dim();
    let mut weights = PositionWeights {
        present: Array3::zeros((classes, rows, columns)),
        absent: Array3::zeros((classes, rows, columns)),
        expected: Vec::new(),
    };
    let mut expectations = vec![Expectation::Background; rows * columns];
    let share = 1.0 / scene.objects.len().max(1) as f64;
    let mut by_object = Vec::with_capacity(scene.objects.len());
    for (index, object) in scene.objects.iter().enumerate() {
        let positions = match object.place {
            Some(place) => expect_at_place(index, object, &place, &mut expectations, (rows, columns)),
            None => expect_somewhere(index, object, &mut expectations, probabilities),
        };
        by_object.push(positions);
    }
    for (object, (faces, somewhere)) in scene.objects.iter().zip(&by_object) {
        for &(row, column) in faces {
            weights.present[[object.label, row, column]] += (share / faces.len() as f64) as f32;
        }
        let others: Vec<usize> = (0..classes).filter(|&class| class != object.label && class != background).collect();
        for &(row, column) in somewhere {
            for &class in &others {
                weights.absent[[class, row, column]] +=
                    (OTHER_CLASS_WEIGHT * share / somewhere.len() as f64) as f32;
            }
        }
    }
    let of = |wanted: Expectation| -> Vec<(usize, usize)> {
        (0..rows * columns)
            .filter(|&position| expectations[position] == wanted)
            .map(|position| (position / columns, position % columns))
            .collect()
    };
    let mut nobody = of(Expectation::Background);
    let surroundings = of(Expectation::Surroundings);
    let mut add = |positions: &[(usize, usize)], weight: f64| {
        for &(row, column) in positions {
            weights.present[[background, row, column]] += (weight / positions.len() as f64) as f32;
        }
    };
    add(&nobody, 0.5);
    add(&surroundings, recipe.context_weight);
    weights.expected = match by_object.first() {
        Some((faces, _)) => faces.clone(),
        None => nobody.clone(),
    };
    let certainty = |&(row, column): &(usize, usize)| probabilities[[background, row, column]];
    nobody.sort_by(|one, other| certainty(one).total_cmp(&certainty(other)));
    nobody.truncate((nobody.len() as f64 * HARDEST).ceil() as usize);
    let mut add = |positions: &[(usize, usize)], weight: f64| {
        for &(row, column) in positions {
            weights.present[[background, row, column]] += (weight / positions.len() as f64) as f32;
        }
    };
    add(&nobody, 0.5);
    weights
}

/// Positions of a face, and those of which only the class is known.
type Positions = (Vec<(usize, usize)>, Vec<(usize, usize)>);

fn expect_at_place(
    index: usize,
    object: &Object,
    place: &Crop,
    expectations: &mut [Expectation],
    (rows, columns): (usize, usize),
) -> Positions {
    let ring = RING * place.width.min(place.height) + RING_PIXELS;
    let (middle_x, middle_y) = (place.left + place.width / 2.0, place.top + place.height / 2.0);
    let core = Crop {
        left: middle_x - CORE / 2.0 * place.width,
        top: middle_y - CORE / 2.0 * place.height,
        width: CORE * place.width,
        height: CORE * place.height,
    };
    let nearest = |middle: f64, count: usize| ((middle / STRIDE) as usize).min(count - 1);
    let nearest = (nearest(middle_y, rows), nearest(middle_x, columns));
    let mut faces = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let expectation = &mut expectations[row * columns + column];
            let is_face = holds(&core, row, column, 0.0) || (row, column) == nearest;
            if matches!(expectation, Expectation::Face(_)) {
                continue;
            }
            if is_face {
                *expectation = Expectation::Face(index);
                faces.push((row, column));
            } else if holds(place, row, column, ring) {
                *expectation = Expectation::Anything;
            } else if *expectation == Expectation::Background && holds(&object.pasted, row, column, 0.0) {
                *expectation = Expectation::Surroundings;
            }
        }
    }
    (faces, Vec::new())
}

fn expect_somewhere(
    index: usize,
    object: &Object,
    expectations: &mut [Expectation],
    probabilities: ArrayView3<f32>,
) -> Positions {
    let (_, rows, columns) = probabilities.dim();
    let mut inside: Vec<(usize, usize)> = (0..rows * columns)
        .map(|position| (position / columns, position % columns))
        .filter(|&(row, column)| holds(&object.pasted, row, column, STRIDE / 4.0))
        .collect();
    let probability = |&(row, column): &(usize, usize)| probabilities[[object.label, row, column]];
    inside.sort_by(|one, other| probability(other).total_cmp(&probability(one)));
    let sure = ((inside.len() as f64 * SURE_QUARTER) as usize).max(1).min(inside.len());
    for (rank, &(row, column)) in inside.iter().enumerate() {
        let expectation = &mut expectations[row * columns + column];
        if !matches!(expectation, Expectation::Face(_)) {
            *expectation = if rank < sure { Expectation::Face(index) } else { Expectation::Anything };
        }
    }
    (inside[..sure].to_vec(), inside)
}

/// Whether the centre of a position lies in an area, or within `margin` of it.
fn holds(area: &Crop, row: usize, column: usize, margin: f64) -> bool {
    let (x, y) = ((column as f64 + 0.5) * STRIDE, (row as f64 + 0.5) * STRIDE);
    (area.left - margin..=area.left + area.width + margin).contains(&x)
        && (area.top - margin..=area.top + area.height + margin).contains(&y)
}

/// Mean loss of scenes from the logits of their positions (scenes, classes, rows, columns), in nats.
///
/// # Errors
///
/// When libtorch refuses.
pub fn loss(logits: &Tensor, weights: &[PositionWeights]) -> Result<Tensor, TchError> {
    let stack = |pick: fn(&PositionWeights) -> &Array3<f32>| -> Result<Tensor, TchError> {
        let values: Vec<f32> = weights.iter().flat_map(|weights| pick(weights).iter().copied()).collect();
        Tensor::f_from_slice(&values)?.f_view(logits.size().as_slice())?.f_to_device(logits.device())
    };
    let log_probabilities = logits.f_log_softmax(1, Kind::Float)?;
    // A certain answer must not make the loss infinite.
    let absence = log_probabilities.f_exp()?.f_clamp(0.0, 0.999)?.f_neg()?.f_log1p()?;
    let present = log_probabilities.f_mul(&stack(|weights| &weights.present)?)?.f_sum(Kind::Float)?;
    let absent = absence.f_mul(&stack(|weights| &weights.absent)?)?.f_sum(Kind::Float)?;
    present.f_add(&absent)?.f_mul_scalar(-1.0 / weights.len() as f64)
}
