//! Our class activation maps against those of the Python package grad-cam, which others wrote. `tests/golden/README.md` says
//! where the stored maps come from and what that package computes.
//!
//! Maps are compared at their own resolution, before and after normalisation. CAM, which the package does not have, is
//! GradCAM times the number of positions behind global average pooling. Occlusion and the HayCAMs have no counterpart.
//!
//! Two definitions differ by intent:
//! * AblationCAM divides by the logit's magnitude and not by the logit, so that the map of a class with a negative logit is
//!   not turned upside down; there the stored map is negated.
//! * EigenCAM's sign is chosen and not left to chance; the stored projection is compared up to its sign.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use maskwatch::config::shipped_model;
use maskwatch::explain::normalise::normalise;
use maskwatch::explain::{Evidence, GradientSource, Method, MethodSettings, Network};
use maskwatch::model::ModelError;
use maskwatch::model::engine::{Engine, Inference, Tap};
use maskwatch::model::layer::Layer;
use maskwatch::model::picture::Picture;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView3, Axis};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::Device;

/// Between maps in [0, 1], and between raw ones in which the greatest magnitude counts as 1.
const TOLERANCE: f32 = 1e-4;

type Rows = Vec<Vec<f32>>;

#[derive(Deserialize)]
struct Maps {
    /// One a class, by method.
    maps: BTreeMap<String, Vec<Rows>>,
    /// EigenCAM's, of any sign.
    projection: Rows,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    grid: (usize, usize),
    activations: Rows,
    #[serde(flatten)]
    end: End,
    #[serde(flatten)]
    golden: Maps,
}

/// What follows the activations.
#[derive(Deserialize)]
#[serde(untagged)]
enum End {
    /// Global average pooling and a fully connected layer.
    Pooled { class_weights: Rows, bias: Vec<f32>, logits: Vec<f32> },
    /// A fully connected layer over all positions: gradients a class.
    Flattened { gradients: Vec<Rows> },
}

#[derive(Deserialize)]
struct Sample {
    picture: PathBuf,
    logits: Vec<f32>,
    #[serde(flatten)]
    golden: Maps,
}

/// A network that consists of its end alone: its pictures are activations.
struct Head {
    activations: Array2<f32>,
    class_weights: Array2<f32>,
    bias: Array1<f32>,
    gradients: Array2<f32>,
}

impl Network for Head {
    fn class_weights(&self) -> &Array2<f32> {
        &self.class_weights
    }

    fn gradients(&self, _: Tap, _: &Layer, _: ArrayView1<f32>) -> Result<Array2<f32>, ModelError> {
        Ok(self.gradients.clone())
    }

    fn logits_under_masks(&self, _: &Picture, masks: ArrayView3<f32>) -> Result<Array2<f32>, ModelError> {
        let mut logits = Array2::zeros((masks.len_of(Axis(0)), self.bias.len()));
        for (mask, mut logits) in masks.outer_iter().zip(logits.rows_mut()) {
            let mask: Array1<f32> = mask.iter().copied().collect();
            let pooled = mask.dot(&self.activations) / mask.len() as f32;
            logits.assign(&(self.class_weights.dot(&pooled) + &self.bias));
        }
        Ok(logits)
    }
}

/// The engine, asked once for the same masks: ScoreCAM's are those of every class, and 512 forward passes.
struct AskedOnce {
    engine: Engine,
    answers: RefCell<Vec<(Array3<f32>, Array2<f32>)>>,
}

impl Network for AskedOnce {
    fn class_weights(&self) -> &Array2<f32> {
        self.engine.class_weights()
    }

    fn gradients(&self, tap: Tap, layer: &Layer, class_weights: ArrayView1<f32>) -> Result<Array2<f32>, ModelError> {
        self.engine.gradients(tap, layer, class_weights)
    }

    fn logits_under_masks(&self, picture: &Picture, masks: ArrayView3<f32>) -> Result<Array2<f32>, ModelError> {
        let mut answers = self.answers.borrow_mut();
        if let Some((_, logits)) = answers.iter().find(|(asked, _)| *asked == masks) {
            return Ok(logits.clone());
        }
        let logits = Network::logits_under_masks(&self.engine, picture, masks)?;
        answers.push((masks.to_owned(), logits.clone()));
        Ok(logits)
    }
}

#[test]
fn pooled_heads_have_the_maps_of_grad_cam() {
    for case in random_cases() {
        let End::Pooled { class_weights, bias, logits } = &case.end else { continue };
        let activations = matrix(&case.activations);
        let class_weights = matrix(class_weights);
        for class in 0..bias.len() {
            let gradient = class_weights.row(class).to_owned() / activations.nrows() as f32;
            let head = Head {
                activations: activations.clone(),
                class_weights: class_weights.clone(),
                bias: Array1::from(bias.clone()),
                gradients: gradient.broadcast(activations.dim()).unwrap().to_owned(),
            };
            let inference = inference(&activations, case.grid, logits);
            let picture = Picture::from(RgbImage::new(case.grid.1 as u32, case.grid.0 as u32));
            for gradient_source in [GradientSource::ClosedForm, GradientSource::Autograd] {
                let evidence =
                    Evidence { network: &head, picture: &picture, inference: &inference, class, gradient_source };
                case.golden.assert_agrees(&case.name, &evidence);
                let gradcam = matrix(&case.golden.maps["gradcam"][class]);
                assert_same_map(&case.name, Method::Cam, &evidence, gradcam * activations.nrows() as f32);
            }
        }
    }
}

#[test]
fn gradients_that_differ_by_position_have_the_maps_of_grad_cam() {
    for case in random_cases() {
        let End::Flattened { gradients } = &case.end else { continue };
        let activations = matrix(&case.activations);
        for (class, gradients) in gradients.iter().enumerate() {
            // No class weights lead to such gradients; whoever looked at these would be found out.
            let class_weights = Array2::from_elem((3, activations.ncols()), f32::NAN);
            let bias = Array1::zeros(3);
            let head = Head { activations: activations.clone(), class_weights, bias, gradients: matrix(gradients) };
            let inference = inference(&activations, case.grid, &[0.0; 3]);
            let evidence = Evidence {
                network: &head,
                picture: &RgbImage::new(1, 1).into(),
                inference: &inference,
                class,
                gradient_source: GradientSource::Autograd,
            };
            case.golden.assert_agrees(&case.name, &evidence);
        }
    }
}

#[test]
fn the_shipped_model_has_the_maps_of_grad_cam() {
    let sample: Sample = read("sample.json");
    let picture = Picture::from(image::open(golden_folder().join(&sample.picture)).unwrap().into_rgb8());
    let engine = Engine::load(&shipped_model(), Device::Cpu).unwrap();
    let inference = engine.infer(std::slice::from_ref(&picture), Tap::Layer4).unwrap().remove(0);
    let network = AskedOnce { engine, answers: RefCell::default() };
    assert_eq!(sample.logits.len(), inference.logits.len());
    for (class, &logit) in sample.logits.iter().enumerate() {
        assert!((inference.logits[class] - logit).abs() < TOLERANCE, "class {class}: {} {logit}", inference.logits);
        let evidence = Evidence {
            network: &network,
            picture: &picture,
            inference: &inference,
            class,
            gradient_source: GradientSource::Autograd,
        };
        sample.golden.assert_agrees("sample", &evidence);
    }
}

#[test]
fn every_method_of_the_package_is_compared() {
    let by_gradients = ["gradcam", "gradcam++", "layercam", "xgradcam"];
    let all = ["ablationcam", "gradcam", "gradcam++", "layercam", "scorecam", "xgradcam"];
    let cases = random_cases();
    for case in &cases {
        let expected = if matches!(case.end, End::Pooled { .. }) { &all[..] } else { &by_gradients };
        assert!(case.golden.maps.keys().eq(expected), "{}", case.name);
    }
    assert_eq!(cases.iter().filter(|case| matches!(case.end, End::Pooled { .. })).count(), 2);
    assert_eq!(cases.len(), 3);
    assert!(read::<Sample>("sample.json").golden.maps.keys().eq(&all));
}

impl Maps {
    /// All methods that are stored, for the evidence's class.
    fn assert_agrees(&self, name: &str, evidence: &Evidence) {
        for (method, maps) in &self.maps {
            let method: Method = method.parse().unwrap();
            let mut golden = matrix(&maps[evidence.class]);
            if method == Method::AblationCam {
                golden *= evidence.inference.logits[evidence.class].signum();
            }
            assert_same_map(name, method, evidence, golden);
        }
        let golden = matrix(&self.projection);
        let projection = explain(Method::EigenCam, evidence);
        let sign = (&golden * &projection).sum().signum();
        let difference = relative_difference(&(projection * sign), &golden);
        assert!(difference < TOLERANCE, "{name}, eigencam: {difference}");
    }
}

fn assert_same_map(name: &str, method: Method, evidence: &Evidence, golden: Array2<f32>) {
    let map = explain(method, evidence);
    let raw = relative_difference(&map, &golden);
    let normalised = greatest(&(normalise(&map) - normalise(&golden)));
    assert!(
        raw < TOLERANCE && normalised < TOLERANCE,
        "{name}, {method}, class {}: maps differ by {raw:.1e}, normalised ones by {normalised:.1e}",
        evidence.class
    );
}

fn explain(method: Method, evidence: &Evidence) -> Array2<f32> {
    let map = method.explainer(MethodSettings::default()).explain(evidence).unwrap().values;
    assert!(map.iter().all(|value| value.is_finite()), "{method}: {map}");
    map
}

fn relative_difference(map: &Array2<f32>, golden: &Array2<f32>) -> f32 {
    greatest(&(map - golden)) / greatest(golden)
}

fn greatest(map: &Array2<f32>) -> f32 {
    map.iter().fold(0.0, |greatest, value| value.abs().max(greatest))
}

fn inference(activations: &Array2<f32>, grid: (usize, usize), logits: &[f32]) -> Inference {
    let logits = Array1::from(logits.to_vec());
    let layer4 = Layer { activations: activations.clone(), grid };
    Inference { probabilities: Array1::zeros(logits.len()), logits, layer4, layer3: None }
}

fn matrix(rows: &[Vec<f32>]) -> Array2<f32> {
    let columns = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == columns));
    Array2::from_shape_fn((rows.len(), columns), |(row, column)| rows[row][column])
}

fn random_cases() -> Vec<Case> {
    #[derive(Deserialize)]
    struct Random {
        cases: Vec<Case>,
    }
    read::<Random>("random.json").cases
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden_folder().join(name)).unwrap()).unwrap()
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
