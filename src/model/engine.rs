//! What the pipeline calls: pictures in, logits and activations out, as plain data.

use std::cell::RefCell;
use std::path::Path;

use image::RgbImage;
use ndarray::{Array1, Array2, ArrayView1, ArrayView3, Axis, concatenate};
use tch::{Device, Kind, Tensor};

use super::ModelError;
use super::checkpoint::{Model, ModelDescription};
use super::cpu::{Activations, CpuNetwork, Wanted};
use super::device_layer::DeviceLayer;
use super::folded::FoldedResNet18;
use super::layer::Layer;
use super::preprocess::to_input;
use super::resnet::Resolution;
use super::tensors::to_rows;

/// Pictures a forward pass where many variants of one are asked for: enough to keep the cores busy, few enough for the
/// caches.
const BLENDS_AT_ONCE: usize = 16;

/// A loaded model on its device. One thread owns it: libtorch's tensors can be sent, but not shared.
#[derive(Debug)]
pub struct Engine {
    /// As it was trained, for gradients.
    model: Model,
    forward: Forward,
    device: Device,
    resolution: Resolution,
    class_weights: Array2<f32>,
    class_biases: Array1<f32>,
}

/// Who computes activations.
#[derive(Debug)]
enum Forward {
    /// We do, on processors that can.
    Cpu(Box<RefCell<CpuNetwork>>),
    /// libtorch.
    Torch(Box<FoldedResNet18>),
}

/// The network's answer for one picture.
#[derive(Debug, Clone)]
pub struct Inference {
    /// One number a class, unbounded.
    pub logits: Array1<f32>,
    /// Softmax of the logits over the model's temperature.
    pub probabilities: Array1<f32>,
    /// What `layer4` gives, at the engine's resolution.
    pub layer4: Layer,
    /// What `layer3` gives, if it was asked for.
    pub layer3: Option<Layer>,
}

/// A stage whose activations can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tap {
    /// 1/16 of the input size, 256 filters.
    Layer3,
    /// 1/32 of the input size (1/16 if atrous), 512 filters.
    Layer4,
}

impl Engine {
    /// Loads a model file onto a device.
    ///
    /// # Errors
    ///
    /// See [`Model::load`].
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        let model = Model::load(path, device)?;
        let forward = Forward::new(&model, device, Resolution::Native)?;
        let class_weights = to_rows(model.network.class_weights())?;
        let class_biases = to_rows(&model.network.class_biases().f_unsqueeze(0)?)?.row(0).to_owned();
        Ok(Self { model, forward, device, resolution: Resolution::Native, class_weights, class_biases })
    }

    /// The same engine with `layer4` read at another resolution. Logits and probabilities stay those of the native one,
    /// which the network was trained at.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn with_resolution(self, resolution: Resolution) -> Result<Self, ModelError> {
        if resolution == self.resolution {
            return Ok(self);
        }
        let forward = Forward::new(&self.model, self.device, resolution)?;
        Ok(Self { forward, resolution, ..self })
    }

    /// What the model file says of itself.
    pub fn description(&self) -> &ModelDescription {
        &self.model.description
    }

    /// Weights of the fully connected layer, (classes, filters).
    pub fn class_weights(&self) -> &Array2<f32> {
        &self.class_weights
    }

    /// Biases of the fully connected layer, (classes).
    pub fn class_biases(&self) -> &Array1<f32> {
        &self.class_biases
    }

    /// Where the network runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs the network on prepared pictures, all of one size, and gives the activations of all stages from `first` on.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example, or a logit is not finite, which a damaged model causes.
    pub fn infer(&self, prepared: &[RgbImage], first: Tap) -> Result<Vec<Inference>, ModelError> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let atrous = self.resolution == Resolution::Atrous;
        let wanted = Wanted { layer3: first == Tap::Layer3, native: true, atrous };
        let temperature = self.model.description.temperature as f32;
        let activations = self.activations(prepared, wanted)?.into_iter();
        let answer = |Activations { layer3, native, atrous }| {
            let native: Layer = native.expect("what was asked for");
            let pooled = native.activations.mean_axis(Axis(0)).expect("at least one position");
            let logits = self.class_weights.dot(&pooled) + &self.class_biases;
            if logits.iter().any(|logit| !logit.is_finite()) {
                return Err(ModelError::NotFinite);
            }
            let probabilities = softmax(&logits / temperature);
            Ok(Inference { logits, probabilities, layer4: atrous.unwrap_or(native), layer3 })
        };
        activations.map(answer).collect()
    }

    fn activations(&self, prepared: &[RgbImage], wanted: Wanted) -> Result<Vec<Activations>, ModelError> {
        let network = match &self.forward {
            Forward::Cpu(network) => return Ok(network.borrow_mut().forward(prepared, wanted)),
            Forward::Torch(network) => network,
        };
        let _no_gradients = tch::no_grad_guard();
        let input = to_input(prepared, &self.model.description.normalisation, self.device)?;
        let layer3 = network.layer3(&input)?;
        let layer4 = |wanted: bool, resolution| {
            let layer4 = wanted.then(|| network.layer4(&layer3, resolution)).transpose()?;
            layer4.as_ref().map(to_host).transpose()
        };
        let mut native = layer4(wanted.native, Resolution::Native)?.map(Vec::into_iter);
        let mut atrous = layer4(wanted.atrous, Resolution::Atrous)?.map(Vec::into_iter);
        let mut layer3 = wanted.layer3.then(|| to_host(&layer3)).transpose()?.map(Vec::into_iter);
        let next = |layers: &mut Option<std::vec::IntoIter<Layer>>| layers.as_mut().and_then(Iterator::next);
        let of_picture =
            |_| Activations { layer3: next(&mut layer3), native: next(&mut native), atrous: next(&mut atrous) };
        Ok(prepared.iter().map(of_picture).collect())
    }

    /// What `layer4` gives for prepared pictures, all of one size, at the engine's resolution; it stays on the device.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example, or an activation is not finite, which a damaged model causes.
    pub fn layer4(&self, prepared: &[RgbImage]) -> Result<Vec<DeviceLayer>, ModelError> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let network = match &self.forward {
            Forward::Torch(network) => network,
            Forward::Cpu(network) => {
                let native = self.resolution == Resolution::Native;
                let wanted = Wanted { layer3: false, native, atrous: !native };
                let activations = network.borrow_mut().forward(prepared, wanted).into_iter();
                let layers = activations.map(|activations| activations.native.or(activations.atrous));
                return layers.map(|layer| DeviceLayer::from_host(&layer.expect("what was asked for"))).collect();
            }
        };
        let _no_gradients = tch::no_grad_guard();
        let input = to_input(prepared, &self.model.description.normalisation, self.device)?;
        DeviceLayer::from_batch(&network.layer4(&network.layer3(&input)?, self.resolution)?)
    }

    /// Back-propagates the score w' GAP(A), where A are `layer4`'s activations and GAP their mean over all positions, to what
    /// a stage gave: (positions, filters). With `class_weights` (filters) a row of the fully connected layer, that score is
    /// the class's logit without its bias. From `layer3` the way leads through `layer4` as it was trained, whatever the
    /// engine's resolution.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn gradients(
        &self,
        tap: Tap,
        layer: &Layer,
        class_weights: ArrayView1<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let (rows, columns) = layer.grid;
        let values: Vec<f32> = layer.activations.iter().copied().collect();
        let shape = [1, rows as i64, columns as i64, layer.activations.ncols() as i64];
        let tapped = Tensor::f_from_slice(&values)?.f_view(shape)?.f_permute([0, 3, 1, 2])?.f_to_device(self.device)?;
        let tapped = tapped.f_set_requires_grad(true)?;
        let weights: Vec<f32> = class_weights.iter().copied().collect();
        let weights = Tensor::f_from_slice(&weights)?.f_to_device(self.device)?;
        let layer4 = match tap {
            Tap::Layer3 => self.model.network.layer4(&tapped, Resolution::Native)?,
            Tap::Layer4 => tapped.shallow_clone(),
        };
        let pooled = layer4.f_mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float)?;
        let gradients = Tensor::f_run_backward(&[pooled.f_dot(&weights)?], &[&tapped], false, false)?;
        Ok(to_host(&gradients[0])?.remove(0).activations)
    }

    /// Logits (masks, classes) of blends of two prepared pictures, base + mask (picture - base), computed on normalised
    /// values, as a mask of (masks, rows, columns) in [0, 1] says for every pixel. Without a base it is the mean colour of
    /// the normalisation.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn logits_of_blends(
        &self,
        picture: &RgbImage,
        base: Option<&RgbImage>,
        masks: ArrayView3<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let _no_gradients = tch::no_grad_guard();
        let normalisation = &self.model.description.normalisation;
        let prepare = |picture: &RgbImage| to_input(std::slice::from_ref(picture), normalisation, self.device);
        let picture = prepare(picture)?;
        let base = match base {
            Some(base) => prepare(base)?,
            None => picture.f_zeros_like()?,
        };
        let difference = picture.f_sub(&base)?;
        let mut logits = Vec::new();
        for masks in masks.axis_chunks_iter(Axis(0), BLENDS_AT_ONCE) {
            let (count, rows, columns) = masks.dim();
            let values: Vec<f32> = masks.iter().copied().collect();
            let shape = [count as i64, 1, rows as i64, columns as i64];
            let masks = Tensor::f_from_slice(&values)?.f_view(shape)?.f_to_device(self.device)?;
            let blends = masks.f_mul(&difference)?.f_add(&base)?;
            logits.push(to_rows(&self.model.network.logits(&self.model.network.activations(&blends)?)?)?);
        }
        let views: Vec<_> = logits.iter().map(|logits: &Array2<f32>| logits.view()).collect();
        let classes = self.class_weights.nrows();
        Ok(concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, classes))))
    }
}

impl Forward {
    fn new(model: &Model, device: Device, resolution: Resolution) -> Result<Self, ModelError> {
        let _no_gradients = tch::no_grad_guard();
        let folded = FoldedResNet18::new(&model.network)?;
        if device == Device::Cpu {
            let threads = tch::get_num_threads().unsigned_abs() as usize;
            let network = CpuNetwork::new(&folded, &model.description.normalisation, resolution, threads)?;
            if let Some(network) = network {
                return Ok(Self::Cpu(Box::new(RefCell::new(network))));
            }
        }
        Ok(Self::Torch(Box::new(folded)))
    }
}

/// One a picture, from a batch (N, C, H, W).
fn to_host(batch: &Tensor) -> Result<Vec<Layer>, ModelError> {
    DeviceLayer::from_batch(batch)?.iter().map(DeviceLayer::to_host).collect()
}

fn softmax(logits: Array1<f32>) -> Array1<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.mapv(|logit| (logit - largest).exp());
    let sum = powers.sum();
    powers / sum
}
