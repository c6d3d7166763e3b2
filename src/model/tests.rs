//! The network against an independent implementation, and weights files against each way of being wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Model, ModelDescription, load_initial};
use super::device::{self, DeviceChoice};
use super::engine::{Engine, Tap};
use super::folded::FoldedResNet18;
use super::layer::Layer;
use super::picture::Picture;
use super::preprocess::{Normalisation, to_input};
use super::resnet::{ResNet18, Resolution, Stage};
use super::tensors::to_rows;
use super::weights::Weights;

type Named = Vec<(String, Tensor)>;

/// torchvision's architecture as `tch` implements it, with random weights and statistics.
fn reference(classes: i64, seed: i64) -> (nn::VarStore, impl ModuleT) {
    tch::manual_seed(seed);
    let store = nn::VarStore::new(Device::Cpu);
    let network = tch::vision::resnet::resnet18(&store.root(), classes);
    tch::no_grad(|| {
        for (name, mut tensor) in store.variables() {
            if name.ends_with("running_var") || name.contains("bn") && name.ends_with("weight") {
                let _ = tensor.uniform_(0.5, 1.5);
            } else if name.ends_with("running_mean") || name.ends_with("bias") {
                let _ = tensor.uniform_(-0.3, 0.3);
            }
        }
    });
    (store, network)
}

fn state_dict(store: &nn::VarStore) -> Named {
    let mut named: Named = store.variables().into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named
}

/// Writes tensors in single precision, as a conversion of a torchvision checkpoint would.
fn write(path: &Path, named: &Named, metadata: Option<HashMap<String, String>>) {
    let data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = named
        .iter()
        .map(|(name, tensor)| {
            let dtype = if tensor.kind() == Kind::Int64 { Dtype::I64 } else { Dtype::F32 };
            let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
            (name.clone(), dtype, tensor.size().iter().map(|&size| size as usize).collect(), bytes)
        })
        .collect();
    let views =
        data.iter().map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("weights.safetensors")
    }
}

/// Other tests draw from the same generator meanwhile: two calls give different images.
fn random_images(size: i64) -> Tensor {
    Tensor::randn([2, 3, size, size], (Kind::Float, Device::Cpu))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn assemble(named: &Named, classes: i64) -> ResNet18 {
    ResNet18::assemble(classes, &mut |name, shape| {
        let (_, tensor) = named.iter().find(|(other, _)| other == name).ok_or(format!("{name} is unknown"))?;
        assert_eq!(tensor.size(), shape, "{name}");
        Ok::<_, String>(tensor.shallow_clone())
    })
    .unwrap()
}

/// A GPU where there is one that works, and the CPU in its place elsewhere.
pub fn gpu_or_stand_in() -> Device {
    device::resolve(DeviceChoice::Auto).unwrap()
}

#[test]
fn logits_equal_those_of_another_implementation() {
    for (classes, size) in [(2, 64), (5, 97)] {
        let (store, network) = reference(classes, 1);
        let ours = assemble(&state_dict(&store), classes);
        let images = random_images(size);
        let expected = tch::no_grad(|| network.forward_t(&images, false));
        let logits = tch::no_grad(|| ours.logits(&ours.activations(&images).unwrap()).unwrap());
        assert!(largest_difference(&logits, &expected) < 1e-4 * expected.abs().max().double_value(&[]));
    }
}

#[test]
fn parameter_names_are_exactly_the_checkpoint_keys() {
    let (store, _) = reference(3, 2);
    let mut names: Vec<String> =
        assemble(&state_dict(&store), 3).named_tensors().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, state_dict(&store).into_iter().map(|(name, _)| name).collect::<Vec<_>>());
}

#[test]
fn a_model_file_comes_back_as_it_went() {
    let folder = Folder::new();
    let (store, _) = reference(4, 3);
    let network = assemble(&state_dict(&store), 4);
    let classes = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let description = ModelDescription::new(classes, 224, Normalisation::IMAGENET, serde_json::json!({ "epochs": 3 }));
    Model::save(&folder.file(), &description, &network).unwrap();
    let loaded = Model::load(&folder.file(), Device::Cpu).unwrap();
    assert_eq!(loaded.description, description);
    for ((name, before), (_, after)) in network.named_tensors().into_iter().zip(loaded.network.named_tensors()) {
        let (before, after) = (before.detach(), after.detach());
        // Half precision keeps 11 bits.
        assert!(largest_difference(&before, &after) <= before.abs().max().double_value(&[]) / 2048.0, "{name}");
    }
    assert!(std::fs::metadata(folder.file()).unwrap().len() < 25_000_000);
}

#[test]
fn a_failed_save_leaves_the_earlier_model() {
    let (store, _) = reference(2, 4);
    let network = assemble(&state_dict(&store), 2);
    let description =
        ModelDescription::new(vec!["a".into(), "b".into()], 224, Normalisation::IMAGENET, serde_json::Value::Null);
    let folder = Folder::new();
    Model::save(&folder.file(), &description, &network).unwrap();
    let before = std::fs::read(folder.file()).unwrap();
    // Beyond half precision, so that nothing can be written.
    let _huge = tch::no_grad(|| network.class_weights().shallow_clone().fill_(1e6));
    let error = Model::save(&folder.file(), &description, &network).unwrap_err();
    assert!(error.to_string().contains("fc.weight has values beyond what can be stored"), "{error}");
    assert_eq!(std::fs::read(folder.file()).unwrap(), before);
    let _small = tch::no_grad(|| network.class_weights().shallow_clone().fill_(1.0));
    let error = Model::save(Path::new("/nonexistent/model.safetensors"), &description, &network).unwrap_err();
    assert!(error.to_string().contains("cannot write /nonexistent/model.safetensors"), "{error}");
}

#[test]
fn a_state_dict_starts_a_training_with_a_new_last_layer() {
    let folder = Folder::new();
    let (store, network) = reference(1000, 5);
    let mut named = state_dict(&store);
    named.push(("bn1.num_batches_tracked".to_owned(), Tensor::from(7i64)));
    write(&folder.file(), &named, None);
    let initial = load_initial(&folder.file(), 3, Device::Cpu).unwrap();
    assert_eq!(
        (initial.kind, initial.random),
        ("torchvision state dict", vec!["fc.weight".to_owned(), "fc.bias".to_owned()])
    );
    // All but the last layer is the checkpoint's: the network's logits through the old last layer are unchanged.
    let images = random_images(64);
    let fc = |name: &str| store.variables()[name].shallow_clone();
    let expected = tch::no_grad(|| network.forward_t(&images, false));
    let logits = tch::no_grad(|| {
        let pooled = initial.network.activations(&images).unwrap().mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        pooled.linear(&fc("fc.weight"), Some(&fc("fc.bias")))
    });
    assert!(largest_difference(&logits, &expected) < 1e-3 * expected.abs().max().double_value(&[]));
    assert_eq!(initial.network.class_weights().size(), [3, 512]);
    let error = Model::load(&folder.file(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("no description of its classes"), "{error}");
}

#[test]
fn a_folded_checkpoint_computes_what_the_unfolded_one_does() {
    let folder = Folder::new();
    let (store, _) = reference(10, 6);
    let variables = store.variables();
    let mut folded: Named = Vec::new();
    for (name, tensor) in &variables {
        let in_layer4 = name.starts_with("layer4") && !name.contains("downsample");
        let bn = match name.strip_suffix(".weight") {
            Some(convolution) if tensor.dim() == 4 && !in_layer4 => {
                convolution.replace("downsample.0", "downsample.1").replace("conv", "bn")
            }
            _ => continue,
        };
        let of = |field: &str| variables[&format!("{bn}.{field}")].detach();
        let scale = of("weight") / (of("running_var") + 1e-5).sqrt();
        folded.push((name.clone(), tensor.detach() * scale.view([-1, 1, 1, 1])));
        let bias = of("bias") - of("running_mean") * scale;
        folded.push((name.replace(".weight", ".bias"), bias));
    }
    folded.push(("fc.weight".to_owned(), Tensor::zeros([10, 512], (Kind::Float, Device::Cpu))));
    folded.push(("fc.bias".to_owned(), Tensor::zeros([10], (Kind::Float, Device::Cpu))));
    write(&folder.file(), &folded, None);

    let initial = load_initial(&folder.file(), 2, Device::Cpu).unwrap();
    let expected_random = ["layer4.0.conv1", "layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2", "fc"]
        .map(|layer| format!("{layer}.weight"));
    assert_eq!(initial.random[..5], expected_random);
    assert_eq!(initial.random[5..], ["fc.bias"]);
    let unfolded = assemble(&state_dict(&store), 10);
    let images = random_images(64);
    let up_to_layer3 = |network: &ResNet18| {
        tch::no_grad(|| {
            Stage::ALL[..4].iter().fold(images.shallow_clone(), |x, &stage| network.stage(stage, &x, false).unwrap())
        })
    };
    let expected = up_to_layer3(&unfolded);
    assert!(largest_difference(&up_to_layer3(&initial.network), &expected) < 1e-4 * expected.max().double_value(&[]));
    assert!(Model::load(&folder.file(), Device::Cpu).is_err(), "a partial file cannot run");

    for dropped in ["layer2.1.conv1.bias", "layer2.1.conv1.weight"] {
        let half: Named = folded
            .iter()
            .filter(|(name, _)| name != dropped)
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        write(&folder.file(), &half, None);
        let error = load_initial(&folder.file(), 2, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(&format!("{dropped} is missing")), "{error}");
    }
}

/// Makes a checkpoint wrong in one way.
type Spoil<'a> = &'a dyn Fn(&mut Named);

#[test]
fn a_wrong_parameter_is_named() {
    let (store, _) = reference(3, 7);
    let description = serde_json::to_string(&ModelDescription::new(
        ["mask", "no_mask", "background"].map(str::to_owned).to_vec(),
        224,
        Normalisation::IMAGENET,
        serde_json::Value::Null,
    ))
    .unwrap();
    let metadata = || Some(HashMap::from([("maskwatch".to_owned(), description.clone())]));
    let key = "layer3.1.bn2.running_var";
    let position = state_dict(&store).iter().position(|(name, _)| name == key).unwrap();
    let cases: [(&str, Spoil); 5] = [
        ("layer3.1.bn2.running_var is missing", &|named| drop(named.remove(position))),
        ("layer3.1.bn2.running_var has shape [1] where [256] is needed", &|named| {
            named[position].1 = Tensor::ones([1], (Kind::Float, Device::Cpu));
        }),
        ("layer9.weight belongs to no ResNet18", &|named| {
            named.push(("layer9.weight".to_owned(), Tensor::ones([1], (Kind::Float, Device::Cpu))));
        }),
        ("layer3.1.bn2.running_var holds NaN", &|named| {
            named[position].1 = Tensor::full([256], f64::NAN, (Kind::Float, Device::Cpu));
        }),
        ("fc.weight has shape [2, 512] where [3, 512]", &|named| {
            let index = named.iter().position(|(name, _)| name == "fc.weight").unwrap();
            named[index].1 = named[index].1.narrow(0, 0, 2).contiguous();
        }),
    ];
    for (expected, spoil) in cases {
        let folder = Folder::new();
        let mut named = state_dict(&store);
        spoil(&mut named);
        write(&folder.file(), &named, metadata());
        let error = Model::load(&folder.file(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        if !expected.contains("fc.weight") {
            let error = load_initial(&folder.file(), 2, Device::Cpu).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn what_is_no_weights_file_is_refused() {
    let folder = Folder::new();
    for content in [&b"not a model"[..], b"", &[0xff; 64]] {
        std::fs::write(folder.file(), content).unwrap();
        let error = Weights::read(&folder.file()).unwrap_err().to_string();
        assert!(error.contains("damaged or not in the safetensors format"), "{error}");
    }
    assert!(Weights::read(Path::new("/nonexistent")).unwrap_err().to_string().starts_with("cannot read the model"));
}

#[test]
fn the_temperature_divides_logits_before_they_become_probabilities() {
    let folder = Folder::new();
    let (store, _) = reference(3, 8);
    let network = assemble(&state_dict(&store), 3);
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let mut description = ModelDescription::new(classes, 64, Normalisation::IMAGENET, serde_json::Value::Null);
    let picture = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * 4) as u8, (y * 4) as u8, 90]));
    let mut answer = |temperature: f64| {
        description.temperature = temperature;
        Model::save(&folder.file(), &description, &network).unwrap();
        let engine = Engine::load(&folder.file(), Device::Cpu).unwrap();
        engine.infer(&[(&picture).into()], Tap::Layer4).unwrap().pop().unwrap()
    };
    let (plain, calibrated) = (answer(1.0), answer(2.5));
    assert_eq!(plain.logits, calibrated.logits);
    let exponentials = plain.logits.mapv(|logit| (f64::from(logit) / 2.5).exp());
    let expected = &exponentials / exponentials.sum();
    for (probability, expected) in calibrated.probabilities.iter().zip(&expected) {
        assert!((f64::from(*probability) - expected).abs() < 1e-5);
    }
    description.temperature = 0.0;
    Model::save(&folder.file(), &description, &network).unwrap();
    let error = Model::load(&folder.file(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("temperature 0 is not above 0"), "{error}");
}

#[test]
fn it_computes_in_the_precision_of_its_input() {
    let (store, _) = reference(3, 9);
    let network = assemble(&state_dict(&store), 3);
    let images = random_images(64);
    let exact = tch::no_grad(|| network.logits(&network.activations(&images).unwrap()).unwrap());
    let activations = tch::no_grad(|| network.activations(&images.to_kind(Kind::BFloat16)).unwrap());
    assert_eq!(activations.kind(), Kind::BFloat16);
    let rough = tch::no_grad(|| network.logits(&activations).unwrap());
    assert_eq!(rough.kind(), Kind::Float, "a loss needs single precision");
    // bfloat16 keeps 8 bits.
    let difference = largest_difference(&exact, &rough);
    assert!(difference > 0.0 && difference < 0.1 * exact.abs().max().double_value(&[]), "{difference}");
}

#[test]
fn atrous_positions_are_those_of_the_native_resolution_and_more_between() {
    let (store, _) = reference(3, 10);
    let network = assemble(&state_dict(&store), 3);
    let layer3 = tch::no_grad(|| network.layer3(&random_images(160)).unwrap());
    let native = tch::no_grad(|| network.layer4(&layer3, Resolution::Native).unwrap());
    let atrous = tch::no_grad(|| network.layer4(&layer3, Resolution::Atrous).unwrap());
    assert_eq!((native.size()[2..].to_vec(), atrous.size()[2..].to_vec()), (vec![5, 5], vec![10, 10]));
    let every_second = atrous.slice(2, 0, None, 2).slice(3, 0, None, 2);
    assert!(largest_difference(&every_second, &native) < 1e-4 * native.abs().max().double_value(&[]));
}

#[test]
fn gradients_at_layer3_tell_how_the_score_changes() {
    let folder = Folder::new();
    let (store, _) = reference(3, 11);
    let network = assemble(&state_dict(&store), 3);
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let description = ModelDescription::new(classes, 64, Normalisation::IMAGENET, serde_json::Value::Null);
    Model::save(&folder.file(), &description, &network).unwrap();
    let engine = Engine::load(&folder.file(), Device::Cpu).unwrap();
    let picture = RgbImage::from_fn(96, 64, |x, y| image::Rgb([(x * 2) as u8, (y * 3) as u8, 90]));
    let inference = engine.infer(&[(&picture).into()], Tap::Layer3).unwrap().remove(0);
    let layer3 = inference.layer3.unwrap();
    assert_eq!((layer3.grid, layer3.activations.dim()), ((4, 6), (24, 256)));
    let weights = engine.class_weights().row(1).to_owned();
    let gradients = engine.gradients(Tap::Layer3, &layer3, weights.view()).unwrap();

    // The score along the gradient, by differences.
    let score = |scale: f32| {
        let moved = Layer { activations: &layer3.activations + &(&gradients * scale), grid: layer3.grid };
        let values: Vec<f32> = moved.activations.iter().copied().collect();
        let tensor = Tensor::from_slice(&values).view([1, 4, 6, 256]).permute([0, 3, 1, 2]);
        let layer4 = tch::no_grad(|| network.layer4(&tensor, Resolution::Native).unwrap());
        tch::no_grad(|| network.logits(&layer4).unwrap()).double_value(&[0, 1])
    };
    let slope = f64::from(gradients.mapv(|gradient| gradient * gradient).sum());
    let step = 1e-2 / slope.sqrt();
    let by_differences = (score(step as f32) - score(-step as f32)) / (2.0 * step);
    assert!((by_differences - slope).abs() < 0.02 * slope, "{by_differences} for {slope}");
}

#[test]
fn a_blend_is_its_picture_where_the_mask_is_one_and_its_base_where_it_is_zero() {
    let folder = Folder::new();
    let (store, _) = reference(3, 12);
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let description = ModelDescription::new(classes, 64, Normalisation::IMAGENET, serde_json::Value::Null);
    Model::save(&folder.file(), &description, &assemble(&state_dict(&store), 3)).unwrap();
    let engine = Engine::load(&folder.file(), Device::Cpu).unwrap();
    let picture = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * 4) as u8, (y * 4) as u8, 90]));
    let base = RgbImage::from_fn(64, 64, |x, y| image::Rgb([30, (x * 2 + y) as u8, (y * 4) as u8]));
    // Left half from the picture, right half from the base.
    let half = RgbImage::from_fn(64, 64, |x, y| *if x < 32 { &picture } else { &base }.get_pixel(x, y));
    let mut masks = Array3::<f32>::zeros((3, 64, 64));
    masks.slice_mut(s![1, .., ..]).fill(1.0);
    masks.slice_mut(s![2, .., ..32]).fill(1.0);
    let blends = engine.logits_of_blends(&(&picture).into(), Some(&(&base).into()), masks.view()).unwrap();
    for (blend, expected) in blends.outer_iter().zip([&base, &picture, &half]) {
        let answer = engine.infer(&[expected.into()], Tap::Layer4).unwrap().remove(0);
        for (logit, expected) in blend.iter().zip(&answer.logits) {
            assert!((logit - expected).abs() < 1e-3 * expected.abs().max(1.0), "{logit} for {expected}");
        }
    }
    let mean_colour = engine.logits_of_blends(&(&picture).into(), None, masks.slice(s![..2, .., ..])).unwrap();
    assert_ne!(mean_colour.row(0), blends.row(0));
    assert!((&mean_colour.row(1) - &blends.row(1)).iter().all(|difference| difference.abs() < 1e-3));
}

/// A picture of noise over a slope.
pub(super) fn noisy(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb(std::array::from_fn(|channel| {
            ((x as usize * 2 + y as usize * channel + generator.random_range(0..120usize)) % 256) as u8
        }))
    })
}

/// The largest differences of what an engine gives from the network as it was trained, as shares of the largest value, at
/// `layer3`, `layer4` and the logits.
fn differences_from_the_plain_path(
    engine: &Engine,
    network: &ResNet18,
    pictures: &[RgbImage],
    resolution: Resolution,
) -> [f64; 3] {
    let description = engine.description();
    let _no_gradients = tch::no_grad_guard();
    let input = to_input(pictures, &description.normalisation, Device::Cpu).unwrap();
    let layer3 = network.layer3(&input).unwrap();
    let layer4 = network.layer4(&layer3, resolution).unwrap();
    let logits = network.logits(&network.layer4(&layer3, Resolution::Native).unwrap()).unwrap();
    let mut largest = [0.0f64; 3];
    let pictures: Vec<Picture> = pictures.iter().map(Picture::from).collect();
    for (index, inference) in engine.infer(&pictures, Tap::Layer3).unwrap().iter().enumerate() {
        let by_position = |batch: &Tensor| to_rows(&batch.get(index as i64).flatten(1, 2).transpose(0, 1)).unwrap();
        let share = |ours: ArrayView2<f32>, expected: Array2<f32>| {
            let scale = expected.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
            let difference = (&ours - &expected).iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            f64::from(difference / scale)
        };
        let logits = to_rows(&logits.get(index as i64).unsqueeze(0)).unwrap();
        let differences = [
            share(inference.layer3.as_ref().unwrap().activations.view(), by_position(&layer3)),
            share(inference.layer4.activations.view(), by_position(&layer4)),
            share(inference.logits.view().insert_axis(Axis(0)), logits),
        ];
        largest = std::array::from_fn(|of| largest[of].max(differences[of]));
    }
    largest
}

#[test]
fn the_engine_computes_what_the_network_does_as_it_was_trained() {
    let folder = Folder::new();
    let (store, _) = reference(3, 13);
    let network = assemble(&state_dict(&store), 3);
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let description = ModelDescription::new(classes, 224, Normalisation::IMAGENET, serde_json::Value::Null);
    Model::save(&folder.file(), &description, &network).unwrap();
    let shipped = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    for path in [folder.file(), shipped("resnet18-mask.safetensors"), shipped("resnet18-scenes.safetensors")] {
        let network = Model::load(&path, Device::Cpu).unwrap().network;
        for resolution in [Resolution::Native, Resolution::Atrous] {
            let engine = Engine::load(&path, Device::Cpu).unwrap().with_resolution(resolution).unwrap();
            // One size after another, so that memory is used again; more pictures at once than before, and fewer.
            for (count, width, height) in [
                (1, 224, 224),
                (1, 97, 65),
                (3, 97, 65),
                (9, 224, 224),
                (1, 33, 300),
                (1, 1, 1),
                (1, 640, 384),
                (2, 97, 65),
            ] {
                let pictures: Vec<_> = (0..count).map(|seed| noisy(width, height, seed)).collect();
                let differences = differences_from_the_plain_path(&engine, &network, &pictures, resolution);
                println!("{} {resolution:?} {count} of {width}x{height}: {differences:?}", path.display());
                assert!(differences.iter().all(|&difference| difference < 1e-4), "{differences:?}");
            }
        }
    }
}

#[test]
fn the_folded_network_of_libtorch_is_the_same() {
    let (store, _) = reference(3, 14);
    let network = assemble(&state_dict(&store), 3);
    let _no_gradients = tch::no_grad_guard();
    let folded = FoldedResNet18::new(&network).unwrap();
    let images = random_images(97);
    let (layer3, ours) = (network.layer3(&images).unwrap(), folded.layer3(&images).unwrap());
    assert!(largest_difference(&ours, &layer3) < 1e-4 * layer3.max().double_value(&[]));
    for resolution in [Resolution::Native, Resolution::Atrous] {
        let (plain, ours) = (network.layer4(&layer3, resolution).unwrap(), folded.layer4(&layer3, resolution).unwrap());
        assert!(largest_difference(&ours, &plain) < 1e-4 * plain.max().double_value(&[]));
    }
}
