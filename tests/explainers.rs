//! Laws that hold between the methods on a network that ends in global average pooling and one fully connected layer.

use std::path::Path;

use image::RgbImage;
use maskwatch::capture::stills::read_image;
use maskwatch::config::shipped_model;
use maskwatch::explain::normalise::{enlarge, normalise};
use maskwatch::explain::{Evidence, GradientSource, HayCamRefined, Method, MethodSettings, Needs, Network, ReadAt};
use maskwatch::model::ModelError;
use maskwatch::model::engine::{Engine, Inference, Tap};
use maskwatch::model::layer::Layer;
use maskwatch::model::picture::Picture;
use maskwatch::model::preprocess::squeeze;
use maskwatch::model::resnet::Resolution;
use maskwatch::pca::Components;
use ndarray::{Array1, Array2, ArrayView1, ArrayView3, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Device;

const GRID: (usize, usize) = (5, 6);
const POSITIONS: usize = 30;
const FILTERS: usize = 64;
const CLASSES: usize = 3;

/// A head without a body: activations are given, and the network may only be asked for what is `allowed`. Under a mask, the
/// logits are what `logits` makes of it.
struct Head {
    class_weights: Array2<f32>,
    allowed: Needs,
    logits: fn(ArrayView3<f32>) -> Array2<f32>,
}

impl Network for Head {
    fn class_weights(&self) -> &Array2<f32> {
        &self.class_weights
    }

    /// At `layer3` random, but proportional to the class weights; at `layer4` those of global average pooling.
    fn gradients(&self, tap: Tap, layer: &Layer, class_weights: ArrayView1<f32>) -> Result<Array2<f32>, ModelError> {
        let (positions, filters) = layer.activations.dim();
        match tap {
            Tap::Layer3 => {
                assert_eq!(self.allowed, Needs::Layer3, "asked for gradients at layer3");
                Ok(random(positions, filters, 77) * class_weights.sum())
            }
            Tap::Layer4 => {
                assert!(matches!(self.allowed, Needs::Gradients | Needs::Layer3), "asked for gradients at layer4");
                let gradient = class_weights.mapv(|weight| weight / positions as f32);
                Ok(gradient.broadcast((positions, filters)).unwrap().to_owned())
            }
        }
    }

    fn logits_under_masks(&self, _: &Picture, masks: ArrayView3<f32>) -> Result<Array2<f32>, ModelError> {
        assert_eq!(self.allowed, Needs::Network, "asked for forward passes");
        Ok((self.logits)(masks))
    }
}

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0f32..1.0))
}

fn layer(grid: (usize, usize), filters: usize, seed: u64) -> Layer {
    let activations = random(grid.0 * grid.1, filters, seed).mapv(|value| value.max(0.0));
    Layer { activations, grid }
}

fn inference(seed: u64) -> Inference {
    Inference {
        logits: Array1::from(vec![2.0, 1.0, -1.0]),
        probabilities: Array1::from(vec![0.7, 0.25, 0.05]),
        layer4: layer(GRID, FILTERS, seed),
        layer3: Some(layer((10, 12), 32, seed + 1)),
    }
}

fn head(allowed: Needs) -> Head {
    Head {
        class_weights: random(CLASSES, FILTERS, 5),
        allowed,
        logits: |masks| Array2::zeros((masks.len_of(Axis(0)), CLASSES)),
    }
}

fn settings(refined: HayCamRefined) -> MethodSettings {
    MethodSettings { components: None, refined }
}

fn map_by(
    network: &dyn Network,
    inference: &Inference,
    picture: &Picture,
    (method, settings): (Method, MethodSettings),
    class: usize,
    gradient_source: GradientSource,
) -> Array2<f32> {
    let evidence = Evidence { network, picture, inference, class, gradient_source };
    method.explainer(settings).explain(&evidence).unwrap().values
}

fn map(network: &Head, inference: &Inference, method: Method, settings: MethodSettings, class: usize) -> Array2<f32> {
    let picture = Picture::from(RgbImage::new(60, 50));
    map_by(network, inference, &picture, (method, settings), class, GradientSource::ClosedForm)
}

fn difference(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    assert_eq!(a.dim(), b.dim());
    (a - b).iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn grad_cam_x_grad_cam_and_rectified_cam_are_one_map() {
    for class in 0..CLASSES {
        let inference = inference(1);
        let of =
            |method| normalise(&map(&head(Needs::Gradients), &inference, method, MethodSettings::default(), class));
        let cam = of(Method::Cam);
        assert!(difference(&cam, &of(Method::GradCam)) < 1e-5);
        assert!(difference(&cam, &of(Method::XGradCam)) < 1e-5);
        for other in [Method::GradCamPlusPlus, Method::LayerCam, Method::HayCam, Method::AblationCam] {
            assert!(difference(&cam, &of(other)) > 1e-2, "{other} must differ");
        }
    }
}

#[test]
fn layer_cam_is_the_activations_times_the_positive_weights() {
    let (inference, head) = (inference(2), head(Needs::Gradients));
    let weights = head.class_weights.row(0).mapv(|weight| weight.max(0.0));
    let expected = inference.layer4.activations.dot(&weights).into_shape_with_order(GRID).unwrap();
    let layer_cam = map(&head, &inference, Method::LayerCam, MethodSettings::default(), 0);
    assert!(difference(&normalise(&layer_cam), &normalise(&expected)) < 1e-5);
}

#[test]
fn the_refined_method_with_all_components_is_layer_cam() {
    let (inference, head) = (inference(3), head(Needs::Layer3));
    let all = |read_at, centred| HayCamRefined {
        read_at,
        non_negative: true,
        components: Components::Count(POSITIONS * 9),
        centred,
    };
    let layer_cam = map(&head, &inference, Method::LayerCam, MethodSettings::default(), 1);
    let refined = |read_at, centred| map(&head, &inference, Method::HayCamRefined, settings(all(read_at, centred)), 1);
    assert!(difference(&normalise(&refined(ReadAt::Layer4, false)), &normalise(&layer_cam)) < 1e-4);
    // Centring takes a constant away, which is the map's own mean where the gradient is the same at every position.
    let centred = &layer_cam - layer_cam.mean().unwrap();
    assert!(difference(&normalise(&refined(ReadAt::Layer4, true)), &normalise(&centred)) < 1e-4);

    let layer3 = inference.layer3.as_ref().unwrap();
    let layer_cam_at_layer3 = |class_weights: Array1<f32>| {
        let gradients = head.gradients(Tap::Layer3, layer3, class_weights.view()).unwrap();
        let sums = (gradients.mapv(|gradient| gradient.max(0.0)) * &layer3.activations).sum_axis(Axis(1));
        normalise(&sums.into_shape_with_order(layer3.grid).unwrap())
    };
    let class_weights = head.class_weights.row(1).to_owned();
    let expected = layer_cam_at_layer3(class_weights.mapv(|weight| weight.max(0.0)));
    assert!(difference(&normalise(&refined(ReadAt::Layer3, false)), &expected) < 1e-4);
    let both = refined(ReadAt::Both, false);
    let layer4 = enlarge(&normalise(&layer_cam), layer3.grid.0, layer3.grid.1);
    assert!(difference(&both.mapv(|value| value * value), &(expected * &*layer4)) < 1e-4);
    let plain = map(&head, &inference, Method::LayerCamLayer3, MethodSettings::default(), 1);
    assert!(difference(&normalise(&plain), &layer_cam_at_layer3(class_weights)) < 1e-5);
}

#[test]
fn without_its_switches_the_refined_method_is_haycam() {
    let (inference, head) = (inference(4), head(Needs::Gradients));
    for components in [1, 5, 19] {
        let components = Components::Count(components);
        let plain = HayCamRefined { read_at: ReadAt::Layer4, non_negative: false, components, centred: true };
        let haycam = MethodSettings { components: Some(components), ..MethodSettings::default() };
        let refined = map(&head, &inference, Method::HayCamRefined, settings(plain), 2);
        let haycam = map(&head, &inference, Method::HayCam, haycam, 2);
        assert!(difference(&normalise(&refined), &normalise(&haycam)) < 1e-4);
    }
}

#[test]
fn each_switch_of_the_refined_method_changes_the_map() {
    let (inference, head) = (inference(5), head(Needs::Layer3));
    let of = |refined| normalise(&map(&head, &inference, Method::HayCamRefined, settings(refined), 0));
    let refined = HayCamRefined { components: Components::Count(5), ..HayCamRefined::default() };
    for changed in [
        HayCamRefined { non_negative: false, ..refined },
        HayCamRefined { components: Components::Count(6), ..refined },
        HayCamRefined { centred: true, ..refined },
        HayCamRefined { read_at: ReadAt::Layer3, ..refined },
    ] {
        assert!(difference(&of(refined), &of(changed)) > 1e-3, "{changed:?}");
    }
    let layer4 = map(
        &head,
        &inference,
        Method::HayCamRefined,
        settings(HayCamRefined { read_at: ReadAt::Layer4, ..refined }),
        0,
    );
    assert_eq!(layer4.dim(), GRID);
}

#[test]
fn ablation_weighs_filters_with_the_logit_they_carry() {
    let (inference, head) = (inference(6), head(Needs::Activations));
    let activations = &inference.layer4.activations;
    for class in 0..CLASSES {
        let logit =
            |activations: &Array2<f32>| activations.mean_axis(Axis(0)).unwrap().dot(&head.class_weights.row(class));
        let mut expected = Array1::<f32>::zeros(POSITIONS);
        for filter in 0..FILTERS {
            let mut silenced = activations.clone();
            silenced.column_mut(filter).fill(0.0);
            expected = expected + &activations.column(filter) * (logit(activations) - logit(&silenced));
        }
        let ablation = map(&head, &inference, Method::AblationCam, MethodSettings::default(), class);
        let expected = expected.into_shape_with_order(GRID).unwrap();
        assert!(difference(&normalise(&ablation), &normalise(&expected)) < 1e-3);
    }
}

#[test]
fn eigen_cam_is_bright_on_the_object_whatever_the_sign_of_the_direction() {
    // An object fires twelve filters on a few positions; the rest is noise. Without a rule for the sign, about half of the
    // maps would be inverted.
    for seed in 0..20 {
        let mut inference = inference(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let activations = &mut inference.layer4.activations;
        *activations *= 0.3;
        for filter in (0..12).map(|filter| (filter * 5 + seed as usize) % FILTERS) {
            for position in 8..12 {
                activations[[position, filter]] += rng.random_range(1.0..2.0);
            }
        }
        let eigen = map(&head(Needs::Activations), &inference, Method::EigenCam, MethodSettings::default(), 0);
        let values: Vec<f32> = eigen.iter().copied().collect();
        let brightest_elsewhere = (0..POSITIONS)
            .filter(|position| !(8..12).contains(position))
            .map(|position| values[position])
            .fold(f32::MIN, f32::max);
        assert!((8..12).all(|position| values[position] > brightest_elsewhere), "seed {seed}");
    }
}

#[test]
fn score_cam_is_the_filter_under_whose_mask_the_score_is_high() {
    let inference = inference(7);
    let indifferent = map(&head(Needs::Network), &inference, Method::ScoreCam, MethodSettings::default(), 0);
    let mean = inference.layer4.activations.mean_axis(Axis(1)).unwrap().into_shape_with_order(GRID).unwrap();
    assert!(difference(&indifferent, &mean) < 1e-5, "equal scores weigh all filters alike");

    // The score is high where the mask lets the upper left corner through and nothing else.
    let mut inference = inference;
    inference
        .layer4
        .activations
        .column_mut(40)
        .assign(&Array1::from_shape_fn(POSITIONS, |position| if position == 0 { 9.0 } else { 0.0 }));
    let corner = |masks: ArrayView3<f32>| {
        let mut logits = Array2::zeros((masks.len_of(Axis(0)), CLASSES));
        for (mask, mut logits) in masks.outer_iter().zip(logits.outer_iter_mut()) {
            logits[0] = 1e4 * (mask[[0, 0]] - mask.mean().unwrap());
        }
        logits
    };
    let chosen = map(
        &Head { logits: corner, ..head(Needs::Network) },
        &inference,
        Method::ScoreCam,
        MethodSettings::default(),
        0,
    );
    let expected = inference.layer4.activations.column(40).to_owned().into_shape_with_order(GRID).unwrap();
    assert!(difference(&chosen, &expected) < 1e-3);
}

#[test]
fn occlusion_tells_where_the_covered_patch_costs_most() {
    // The logit is the light in one pixel, so that only patches over it cost anything.
    let one_pixel = |masks: ArrayView3<f32>| {
        let mut logits = Array2::zeros((masks.len_of(Axis(0)), CLASSES));
        for (mask, mut logits) in masks.outer_iter().zip(logits.outer_iter_mut()) {
            logits[0] = 2.0 * mask[[35, 5]];
        }
        logits
    };
    let drops = map(
        &Head { logits: one_pixel, ..head(Needs::Network) },
        &inference(8),
        Method::Occlusion,
        MethodSettings::default(),
        0,
    );
    // Row 35 of 50 lies in patches of 14 around 25, 35 and none at 45; column 5 of 60 in those of 17 around 5.
    for ((row, column), &drop) in drops.indexed_iter() {
        let covers = row == 3 && column == 0;
        assert_eq!(drop, if covers { 2.0 } else { 0.0 }, "{row} {column}");
    }
}

#[test]
fn no_method_asks_for_more_than_it_says() {
    let inference = inference(9);
    for method in Method::ALL.into_iter().chain(Method::READINGS) {
        let needs = method.explainer(MethodSettings::default()).needs();
        let (head, picture) = (head(needs), Picture::from(RgbImage::new(60, 50)));
        let method = (method, MethodSettings::default());
        let map = map_by(&head, &inference, &picture, method, 0, GradientSource::Autograd);
        assert!(map.iter().all(|value| value.is_finite()), "{method:?}");
    }
}

#[test]
fn back_propagation_gives_the_maps_of_the_closed_form() {
    let picture = read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/hopper_ffp2.jpg")).unwrap();
    let picture = Picture::from(squeeze(&picture, None, 224));
    for resolution in [Resolution::Native, Resolution::Atrous] {
        let engine = Engine::load(&shipped_model(), Device::Cpu).unwrap().with_resolution(resolution).unwrap();
        let inference = engine.infer(std::slice::from_ref(&picture), Tap::Layer4).unwrap().remove(0);
        let layer4 = settings(HayCamRefined { read_at: ReadAt::Layer4, ..HayCamRefined::default() });
        for class in 0..3 {
            for method in
                [Method::GradCam, Method::GradCamPlusPlus, Method::XGradCam, Method::LayerCam, Method::HayCamRefined]
            {
                let by = |source| normalise(&map_by(&engine, &inference, &picture, (method, layer4), class, source));
                let difference = difference(&by(GradientSource::ClosedForm), &by(GradientSource::Autograd));
                assert!(difference < 1e-4, "{method}, class {class}: {difference}");
            }
        }
    }
}
