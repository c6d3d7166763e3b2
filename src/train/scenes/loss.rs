//! What each position of a scene should have answered, and how far it counts.

use ndarray::{Array3, ArrayView3};
use tch::{Kind, TchError, Tensor};

use super::{Object, Scene, SceneRecipe};
use crate::resize::Crop;

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
                weights.absent[[class, row, column]] += (OTHER_CLASS_WEIGHT * share / somewhere.len() as f64) as f32;
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
    let everywhere = nobody.clone();
    let certainty = |&(row, column): &(usize, usize)| probabilities[[background, row, column]];
    nobody.sort_by(|one, other| certainty(one).total_cmp(&certainty(other)));
    nobody.truncate((nobody.len() as f64 * HARDEST).ceil() as usize);
    add(&nobody, 0.5);
    weights.expected = by_object.into_iter().next().map_or(everywhere, |(faces, _)| faces);
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

#[cfg(test)]
mod tests {
    use ndarray::Axis;
    use tch::Device;

    use super::*;

    const BACKGROUND: usize = 2;
    const SIZE: (usize, usize, usize) = (3, 7, 7);

    fn area(left: f64, top: f64, width: f64, height: f64) -> Crop {
        Crop { left, top, width, height }
    }

    fn scene(objects: Vec<Object>) -> Scene {
        Scene { image: image::RgbImage::new(224, 224), objects, whole: None }
    }

    fn weights(objects: Vec<Object>, probabilities: &Array3<f32>) -> PositionWeights {
        position_weights(&scene(objects), BACKGROUND, &SceneRecipe::default(), probabilities.view())
    }

    fn even() -> Array3<f32> {
        Array3::from_elem(SIZE, 1.0 / 3.0)
    }

    #[test]
    fn a_face_is_expected_at_its_place_and_nobody_far_from_it() {
        let place = area(64.0, 64.0, 64.0, 64.0);
        let object = Object { label: 1, pasted: area(40.0, 40.0, 112.0, 180.0), place: Some(place) };
        let found = weights(vec![object], &even());
        assert_eq!(found.expected, [(2, 2), (2, 3), (3, 2), (3, 3)]);
        let face = found.present.index_axis(Axis(0), 1);
        assert!((face.sum() - 1.0).abs() < 1e-6 && found.present.index_axis(Axis(0), 0).sum() == 0.0);
        assert!(found.expected.iter().all(|&position| (face[position] - 0.25).abs() < 1e-6));
        let nobody = found.present.index_axis(Axis(0), BACKGROUND);
        // One cell beyond the face is close enough to see it; the next belongs to the picture it came from, then to none.
        assert_eq!((nobody[[2, 1]], nobody[[4, 3]]), (0.0, 0.0));
        assert!(nobody[[5, 3]] > 0.0 && nobody[[0, 6]] > 0.0);
        let context = (SceneRecipe::default().context_weight / 8.0) as f32;
        assert!((nobody[[5, 3]] - context).abs() < 1e-6, "the face's own picture reaches eight such positions");
        let context = SceneRecipe::default().context_weight;
        assert!((f64::from(nobody.sum()) - 1.0 - context).abs() < 1e-5);
        assert_eq!(found.absent.sum(), 0.0);
    }

    #[test]
    fn the_smallest_face_has_a_position_wherever_it_lies() {
        for step in 0..200 {
            let place = area(f64::from(step), f64::from(200 - step), 20.0, 20.0);
            let found = weights(vec![Object { label: 0, pasted: place, place: Some(place) }], &even());
            assert_eq!(found.expected.len(), 1, "{step}");
            let (row, column) = found.expected[0];
            let distance = |centre: usize, start: f64| ((centre as f64 + 0.5) * STRIDE - start - 10.0).abs();
            assert!(distance(column, place.left) <= 16.0 && distance(row, place.top) <= 16.0, "{step}");
        }
    }

    #[test]
    fn without_a_place_the_best_quarter_counts_and_the_other_face_is_nowhere() {
        let mut probabilities = even();
        probabilities[[0, 5, 5]] = 0.9;
        let pasted = area(96.0, 96.0, 128.0, 128.0);
        let found = weights(vec![Object { label: 0, pasted, place: None }], &probabilities);
        assert_eq!(found.expected.len(), 4, "16 positions are pasted");
        assert_eq!(found.expected[0], (5, 5));
        assert!((found.present.index_axis(Axis(0), 0).sum() - 1.0).abs() < 1e-6);
        let other = found.absent.index_axis(Axis(0), 1);
        assert!((other.sum() - 0.5).abs() < 1e-6 && other[[6, 6]] > 0.0 && other[[0, 0]] == 0.0);
        assert_eq!(found.present[[BACKGROUND, 6, 6]], 0.0);
    }

    #[test]
    fn an_empty_scene_is_background_everywhere_and_most_where_it_looks_like_a_face() {
        let mut probabilities = even();
        probabilities[[BACKGROUND, 3, 4]] = 0.01;
        let found = weights(Vec::new(), &probabilities);
        let nobody = found.present.index_axis(Axis(0), BACKGROUND);
        assert!((nobody.sum() - 1.0).abs() < 1e-5);
        let largest = nobody.iter().copied().fold(0.0, f32::max);
        assert_eq!(nobody[[3, 4]], largest);
        assert_eq!(nobody.iter().filter(|&&weight| weight == largest).count(), 7, "an eighth of 49");
        assert_eq!(found.expected.len(), 49);
    }

    #[test]
    fn the_loss_is_that_of_the_definition() {
        let logits: Vec<f32> = (0..2 * 3 * 49).map(|index| ((index * 37) % 23) as f32 * 0.3 - 3.0).collect();
        let tensor = Tensor::from_slice(&logits).view([2, 3, 7, 7]);
        let pasted = area(0.0, 0.0, 96.0, 96.0);
        let all = [weights(vec![Object { label: 1, pasted, place: None }], &even()), weights(Vec::new(), &even())];
        let mut expected = 0.0;
        for (index, weights) in all.iter().enumerate() {
            for ((class, row, column), &present) in weights.present.indexed_iter() {
                let logit = |class: usize| f64::from(logits[((index * 3 + class) * 7 + row) * 7 + column]).exp();
                let probability = logit(class) / (0..3).map(logit).sum::<f64>();
                expected -= f64::from(present) * probability.ln();
                expected -= f64::from(weights.absent[[class, row, column]]) * (1.0 - probability.min(0.999)).ln();
            }
        }
        let computed = loss(&tensor.to_device(Device::Cpu), &all).unwrap().double_value(&[]);
        assert!((computed - expected / 2.0).abs() < 1e-4, "{computed} {expected}");
    }
}
