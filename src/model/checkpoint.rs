//! The three kinds of file that a network can come from, and the model file that it goes to.
//!
//! * **Model file**: ours; all parameters, with classes, input and training summary in the metadata.
//! * **State dict**: torchvision's `resnet18` converted to safetensors; all parameters, no metadata.
//! * **Partial**: batch normalisation folded into convolutions that therefore have a bias, some of them missing.
//!
//! Only a model file can run; all three can be the start of a training.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::ModelError;
use super::preprocess::Normalisation;
use super::resnet::{BATCH_NORM_EPS, ResNet18};
use super::weights::{Storage, Weights};

/// Key of the metadata under which a model file describes itself.
const METADATA_KEY: &str = "maskwatch";
const ARCHITECTURE: &str = "resnet18";
const TAP: &str = "layer4";
/// Side of the training pictures in pixels, as in the paper.
pub const INPUT_SIZE: u32 = 224;
/// Beyond any use of a ResNet18; keeps a damaged description from asking for all memory.
const MAX_INPUT_SIZE: u32 = 2048;

/// What a model file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Always `resnet18` so far.
    pub architecture: String,
    /// Name of each output, in order.
    pub classes: Vec<String>,
    /// Side of the square picture that the network was trained on, in pixels.
    pub input_size: u32,
    /// How pixels become its input.
    pub normalisation: Normalisation,
    /// Layer whose activations are explained.
    pub tap: String,
    /// What logits are divided by before they become probabilities ("temperature scaling", Guo et al. 2017), so that a
    /// confidence is the share of right answers; above 0, and 1 where nothing was calibrated.
    #[serde(default = "uncalibrated")]
    pub temperature: f64,
    /// How it was made: free-form, for people.
    pub training: serde_json::Value,
}

fn uncalibrated() -> f64 {
    1.0
}

impl ModelDescription {
    /// Describes a ResNet18 tapped at `layer4`, its temperature 1.
    pub fn new(
        classes: Vec<String>,
        input_size: u32,
        normalisation: Normalisation,
        training: serde_json::Value,
    ) -> Self {
        Self {
            architecture: ARCHITECTURE.to_owned(),
            classes,
            input_size,
            normalisation,
            tap: TAP.to_owned(),
            temperature: uncalibrated(),
            training,
        }
    }
}

/// A network that can run.
#[derive(Debug)]
pub struct Model {
    /// The file it came from.
    pub path: PathBuf,
    /// What that file says of it.
    pub description: ModelDescription,
    /// The network.
    pub network: ResNet18,
}

impl Model {
    /// Loads a model file onto a device.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not one of ours; a parameter that is missing, unknown or of the wrong shape
    /// is named.
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        let Weights { mut tensors, metadata } = Weights::read(path)?;
        let description = match describe(path, &metadata)? {
            Some(description) => description,
            None => {
                let reason = "it has no description of its classes; it can be the start of a training (train --init)";
                return Err(ModelError::invalid(path, reason));
            }
        };
        let network = ResNet18::assemble(description.classes.len() as i64, &mut |name, shape| {
            let tensor = tensors.remove(name).ok_or_else(|| missing(path, name))?;
            fitting(path, name, tensor, shape)?.f_to_device(device).map_err(ModelError::from)
        })?;
        refuse_unknown(path, tensors.keys())?;
        Ok(Self { path: path.to_owned(), description, network })
    }

    /// Writes a model file in half precision, replacing `path` in one step.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(path: &Path, description: &ModelDescription, network: &ResNet18) -> Result<(), ModelError> {
        let text = serde_json::to_string(description).map_err(|error| ModelError::invalid(path, error.to_string()))?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), text)]);
        Weights::write(path, &network.named_tensors(), Storage::Half, metadata)
    }
}

/// A network about to be trained.
#[derive(Debug)]
pub struct Initial {
    /// The network; its last layer is new.
    pub network: ResNet18,
    /// Which kind of file it came from, for people.
    pub kind: &'static str,
    /// Parameters that begin at random, in the order of the data flow.
    pub random: Vec<String>,
}

/// Loads the start of a training: any of the three kinds of file, the last layer replaced by `classes` new neurons
/// (HayCAM paper, Algorithm 1). What is random is drawn from libtorch's generator.
///
/// # Errors
///
/// When the file cannot be read or fits no kind; a missing, unknown or mis-shaped parameter is named.
pub fn load_initial(path: &Path, classes: i64, device: Device) -> Result<Initial, ModelError> {
    let Weights { mut tensors, metadata } = Weights::read(path)?;
    let description = describe(path, &metadata)?;
    if let Some(description) = description.as_ref().filter(|description| {
        description.input_size != INPUT_SIZE || description.normalisation != Normalisation::IMAGENET
    }) {
        let reason = format!(
            "it takes pictures of {0}x{0} pixels or another normalisation; trainings use {INPUT_SIZE}x{INPUT_SIZE} and ImageNet's",
            description.input_size
        );
        return Err(ModelError::invalid(path, reason));
    }
    let described = description.is_some();
    let partial = !described && !tensors.contains_key("bn1.weight") && tensors.contains_key("conv1.bias");
    for replaced in ["fc.weight", "fc.bias"] {
        tensors.remove(replaced);
    }
    if partial {
        refuse_half_layers(path, &tensors)?;
    }
    let mut random = Vec::new();
    let mut folded = BTreeSet::new();
    let network = ResNet18::assemble(classes, &mut |name, shape| {
        let tensor = match tensors.remove(name) {
            Some(tensor) => fitting(path, name, tensor, shape)?,
            None if name.starts_with("fc.") => {
                random.push(name.to_owned());
                new_linear(shape)?
            }
            None if partial => match unfolded(path, name, &tensors, &mut folded)? {
                Some(tensor) => fitting(path, name, tensor, shape)?,
                // Statistics of batch norm and the like start at their neutral values; nothing random about them.
                None => new_layer(name, shape, &mut random)?,
            },
            None => return Err(missing(path, name)),
        };
        tensor.f_to_device(device).map_err(ModelError::from)
    })?;
    refuse_unknown(path, tensors.keys().filter(|name| !folded.contains(*name)))?;
    let kind = match (described, partial) {
        (true, _) => "model file",
        (_, true) => "partial state dict, batch normalisation folded",
        _ => "torchvision state dict",
    };
    Ok(Initial { network, kind, random })
}

fn describe(path: &Path, metadata: &HashMap<String, String>) -> Result<Option<ModelDescription>, ModelError> {
    let Some(text) = metadata.get(METADATA_KEY) else { return Ok(None) };
    let description: ModelDescription = serde_json::from_str(text)
        .map_err(|error| ModelError::invalid(path, format!("its description cannot be read ({error})")))?;
    if description.architecture != ARCHITECTURE || description.tap != TAP {
        let reason = format!(
            "it describes a {} tapped at {}, not a resnet18 tapped at layer4",
            description.architecture, description.tap
        );
        return Err(ModelError::invalid(path, reason));
    }
    let classes: BTreeSet<&String> = description.classes.iter().collect();
    if classes.len() < 2 || classes.len() < description.classes.len() {
        return Err(ModelError::invalid(path, "its description needs at least two classes, each named once"));
    }
    if !(32..=MAX_INPUT_SIZE).contains(&description.input_size) {
        let reason = format!("its input of {} pixels is not between 32 and {MAX_INPUT_SIZE}", description.input_size);
        return Err(ModelError::invalid(path, reason));
    }
    let Normalisation { mean, std } = description.normalisation;
    if mean.iter().chain(&std).any(|value| !value.is_finite()) || std.iter().any(|&value| value <= 0.0) {
        return Err(ModelError::invalid(path, "its normalisation needs finite means and positive standard deviations"));
    }
    if !(description.temperature.is_finite() && description.temperature > 0.0) {
        return Err(ModelError::invalid(path, format!("its temperature {} is not above 0", description.temperature)));
    }
    Ok(Some(description))
}

fn fitting(path: &Path, name: &str, tensor: Tensor, shape: &[i64]) -> Result<Tensor, ModelError> {
    if tensor.size() == shape {
        return Ok(tensor);
    }
    Err(ModelError::invalid(path, format!("parameter {name} has shape {:?} where {shape:?} is needed", tensor.size())))
}

fn missing(path: &Path, name: &str) -> ModelError {
    ModelError::invalid(path, format!("parameter {name} is missing; a ResNet18 in torchvision's naming is needed"))
}

fn refuse_unknown<'a>(path: &Path, mut left: impl Iterator<Item = &'a String>) -> Result<(), ModelError> {
    match left.next() {
        None => Ok(()),
        Some(name) => Err(ModelError::invalid(path, format!("parameter {name} belongs to no ResNet18"))),
    }
}

/// The batch-norm tensor that makes "normalise" mean "add the folded bias": weight sqrt(1 + eps), mean 0, variance 1
/// cancel each other. `None` where the layer is not in the file at all. Notes the bias as `folded`.
fn unfolded(
    path: &Path,
    name: &str,
    tensors: &BTreeMap<String, Tensor>,
    folded: &mut BTreeSet<String>,
) -> Result<Option<Tensor>, ModelError> {
    let Some((layer, field)) = name.rsplit_once('.') else { return Ok(None) };
    let (block, bn) = match layer.rsplit_once('.') {
        Some((block, bn)) => (format!("{block}."), bn),
        None => (String::new(), layer),
    };
    let convolution = match bn {
        "bn1" => "conv1",
        "bn2" => "conv2",
        "1" => "0", // downsample.1 normalises downsample.0
        _ => return Ok(None),
    };
    let bias_name = format!("{block}{convolution}.bias");
    let Some(bias) = tensors.get(&bias_name) else { return Ok(None) };
    folded.insert(bias_name);
    Ok(Some(match field {
        "weight" => bias.f_full_like((1.0 + BATCH_NORM_EPS).sqrt())?,
        "running_mean" => bias.f_zeros_like()?,
        "running_var" => bias.f_ones_like()?,
        "bias" => bias.shallow_clone(),
        _ => return Err(missing(path, name)),
    }))
}

/// In a partial file, a convolution has both its weight and its folded bias, or neither.
fn refuse_half_layers(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), ModelError> {
    for name in tensors.keys() {
        let counterpart = match name.rsplit_once('.') {
            Some((layer, "weight")) => format!("{layer}.bias"),
            Some((layer, "bias")) => format!("{layer}.weight"),
            _ => continue,
        };
        if !tensors.contains_key(&counterpart) {
            return Err(missing(path, &counterpart));
        }
    }
    Ok(())
}

/// He initialisation as torchvision's ResNet uses it (normal, by the number of outputs); batch norm neutral.
fn new_layer(name: &str, shape: &[i64], random: &mut Vec<String>) -> Result<Tensor, ModelError> {
    let cpu = (Kind::Float, Device::Cpu);
    if let [outputs, _, height, width] = *shape {
        random.push(name.to_owned());
        let deviation = (2.0 / (outputs * height * width) as f64).sqrt();
        return Ok(Tensor::f_randn(shape, cpu)?.f_mul_scalar(deviation)?);
    }
    let one = name.ends_with(".weight") || name.ends_with(".running_var");
    Ok(if one { Tensor::f_ones(shape, cpu)? } else { Tensor::f_zeros(shape, cpu)? })
}

/// PyTorch's default for a fully connected layer: uniform within 1 / sqrt(inputs).
fn new_linear(shape: &[i64]) -> Result<Tensor, ModelError> {
    let bound = 1.0 / (super::resnet::FEATURES as f64).sqrt();
    Ok(Tensor::f_rand(shape, (Kind::Float, Device::Cpu))?.f_mul_scalar(2.0 * bound)?.f_sub_scalar(bound)?)
}
