//! What the pipeline calls: pictures in, logits and activations out, as plain data.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use ndarray::linalg::general_mat_vec_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView3, Axis, concatenate};
use tch::{Device, Kind, Tensor};

use super::ModelError;
use super::checkpoint::{Model, ModelDescription};
use super::cpu::{Activations, Wanted};
use super::cuda::Cuda;
use super::device::{self, synchronise};
use super::device_layer::{DeviceLayer, PendingLayer};
use super::forward::{Forward, ForwardRequest};
use super::layer::Layer;
use super::memory::{PassLimit, Retreat, is_out_of_memory};
use super::picture::Picture;
use super::place::Place;
use super::precision::{Precision, PrecisionChoice};
use super::preprocess::Normaliser;
use super::resnet::{ResNet18, Resolution};
use super::tensors::to_rows;
use super::upload::{Uploader, Uploads};
use crate::frame::{Batch, SharedImage};
use crate::recycled::Recycled;

/// Pictures a forward pass where many variants of one are asked for: enough to keep the cores busy, few enough for the
/// caches.
const BLENDS_AT_ONCE: usize = 16;

/// Why the trained weights are there.
const KEPT: &str = "only an engine that does nothing but forward passes on a CPU gives its trained weights up";

/// A loaded model on its device. One thread owns it: libtorch's tensors can be sent, but not shared.
///
/// Where a GPU has no room for the forward pass of a batch, it gets smaller ones, and in the end gives way to the CPU; both are told
/// on one line.
#[derive(Debug)]
pub struct Engine {
    description: ModelDescription,
    resolution: Resolution,
    precision: PrecisionChoice,
    classifier: Classifier,
    limit: PassLimit,
    running: RefCell<Running>,
}

/// The network's last layer.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// (classes, filters).
    weights: Array2<f32>,
    /// (classes).
    biases: Array1<f32>,
    temperature: f32,
}

/// The network where it runs now.
#[derive(Debug)]
struct Running {
    place: Place,
    /// As it was trained, for gradients and for another device; none where neither is wanted.
    network: Option<ResNet18>,
    forward: Forward,
    precision: Precision,
    /// None where frames stay on the host.
    uploader: Option<Arc<Uploader>>,
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

/// What the network takes a picture for.
#[derive(Debug, Clone)]
pub struct Answer {
    /// One number a class, unbounded.
    pub logits: Recycled<Array1<f32>>,
    /// Softmax of the logits over the model's temperature.
    pub probabilities: Recycled<Array1<f32>>,
}

impl From<Inference> for Answer {
    fn from(Inference { logits, probabilities, .. }: Inference) -> Self {
        Self { logits: logits.into(), probabilities: probabilities.into() }
    }
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
    /// Loads a model file onto a device, or onto the CPU if the device has no room for it.
    ///
    /// # Errors
    ///
    /// See [`Model::load`].
    pub fn load(path: &Path, device: Device) -> Result<Self, ModelError> {
        match Self::load_at(path, Place::of(device)) {
            Err(error) if device != Device::Cpu && is_out_of_memory(&error) => {
                tracing::warn!("computing on the CPU: {} has no memory for the model", device::name(device));
                Self::load_at(path, Place::Cpu)
            }
            loaded => loaded,
        }
    }

    /// On a GPU, or as on one, with tensors on the CPU.
    ///
    /// # Errors
    ///
    /// As for [`Self::load`].
    #[cfg(test)]
    pub(crate) fn load_as_on_gpu(path: &Path) -> Result<Self, ModelError> {
        Self::load_at(path, Place::Gpu(super::tests::gpu_or_stand_in()))
    }

    fn load_at(path: &Path, place: Place) -> Result<Self, ModelError> {
        let Model { description, network, .. } = Model::load(path, place.device())?;
        let classifier = Classifier {
            weights: to_rows(network.class_weights())?,
            biases: to_rows(&network.class_biases().f_unsqueeze(0)?)?.row(0).to_owned(),
            temperature: description.temperature as f32,
        };
        let (resolution, precision) = (Resolution::Native, PrecisionChoice::Auto);
        let running = Running::new(network, &description, place, precision, resolution)?;
        let limit = PassLimit::default();
        Ok(Self { description, resolution, precision, classifier, limit, running: running.into() })
    }

    /// The same engine with `layer4` read at another resolution. Logits and probabilities stay those of the native one,
    /// which the network was trained at.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    ///
    /// # Panics
    ///
    /// After [`Self::for_forward_passes`].
    pub fn with_resolution(self, resolution: Resolution) -> Result<Self, ModelError> {
        if resolution == self.resolution {
            return Ok(self);
        }
        Self { resolution, ..self }.made_ready()
    }

    /// The same engine with forward passes in another precision. Gradients, and passes through blends of pictures, are always in
    /// single precision.
    ///
    /// # Errors
    ///
    /// When there is no such precision on its device, or libtorch refuses, for want of memory for example.
    ///
    /// # Panics
    ///
    /// After [`Self::for_forward_passes`].
    pub fn with_precision(self, precision: PrecisionChoice) -> Result<Self, ModelError> {
        let resolved = precision.resolve(self.running.borrow().place)?;
        let engine = Self { precision, ..self };
        if resolved == engine.precision() { Ok(engine) } else { engine.made_ready() }
    }

    /// The same engine without what forward passes do without: the weights as they were trained, 45 MB. Settings, gradients and
    /// blends need them, and so does a GPU, which may have to give way to the CPU: it keeps them.
    pub fn for_forward_passes(self) -> Self {
        let mut running = self.running.into_inner();
        if running.place == Place::Cpu {
            running.network = None;
        }
        Self { running: running.into(), ..self }
    }

    /// As its settings say.
    fn made_ready(self) -> Result<Self, ModelError> {
        let Self { running, description, precision, resolution, .. } = self;
        let Running { place, network, .. } = running.into_inner();
        let running = Running::new(network.expect(KEPT), &description, place, precision, resolution)?;
        Ok(Self { running: running.into(), description, precision, resolution, ..self })
    }

    /// What the model file says of itself.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// How densely `layer4` is read.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Weights of the fully connected layer, (classes, filters).
    pub fn class_weights(&self) -> &Array2<f32> {
        &self.classifier.weights
    }

    /// Biases of the fully connected layer, (classes).
    pub fn class_biases(&self) -> &Array1<f32> {
        &self.classifier.biases
    }

    /// Where the network runs: not necessarily where it was loaded, if there was no room.
    pub fn device(&self) -> Device {
        self.running.borrow().place.device()
    }

    /// What forward passes compute with.
    pub fn precision(&self) -> Precision {
        self.running.borrow().precision
    }

    /// Waits until the device has done all that it was told to do. A GPU works on while its host goes on, which those who measure
    /// must not mistake for speed.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn wait(&self) -> Result<(), ModelError> {
        Ok(synchronise(self.device())?)
    }

    /// Hands a picture to the device where the network runs; on a CPU that costs nothing.
    pub fn take<'a>(&self, picture: &'a RgbImage) -> Picture<'a> {
        self.take_all(&[picture]).remove(0)
    }

    /// As [`Self::take`], of several, those of one size at once.
    pub fn take_all<'a>(&self, pictures: &[&'a RgbImage]) -> Batch<Picture<'a>> {
        match &self.running.borrow().uploader {
            Some(uploader) => Picture::all_uploaded(pictures, uploader.upload_all(pictures)),
            None => on_host(pictures),
        }
    }

    /// Begins to hand pictures to the device; on a CPU there is nothing to do.
    pub fn take_ahead(&self, pictures: &[SharedImage]) -> Uploads {
        let uploader = self.running.borrow().uploader.clone();
        Uploads::begin(uploader, pictures)
    }

    /// As [`Self::take_all`], of pictures for which that was begun.
    ///
    /// # Panics
    ///
    /// When it was begun for another number of pictures.
    pub fn take_begun<'a>(&self, pictures: &[&'a RgbImage], begun: Uploads) -> Batch<Picture<'a>> {
        assert_eq!(begun.count(), pictures.len(), "what was begun is of these pictures");
        match begun.wait() {
            Some(begun) => Picture::all_uploaded(pictures, begun),
            None => on_host(pictures),
        }
    }

    /// Brings pictures, all of one size, to that size now, where a GPU would do so with the forward pass: for those who measure one
    /// without the other.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn bring_to_size<'a>(&self, pictures: Vec<Picture<'a>>) -> Result<Vec<Picture<'a>>, ModelError> {
        match &self.running.borrow().forward {
            Forward::Torch(network) if !pictures.is_empty() => network.bring_to_size(&pictures),
            _ => Ok(pictures),
        }
    }

    /// Runs the network on prepared pictures, all of one size, and gives the activations of all stages from `first` on.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, or a logit is not finite, which a damaged model causes.
    pub fn infer(&self, prepared: &[Picture], first: Tap) -> Result<Batch<Inference>, ModelError> {
        let atrous = self.resolution == Resolution::Atrous;
        let wanted = Wanted { layer3: first == Tap::Layer3, native: true, atrous };
        let Some(size) = prepared.first().map(Picture::dimensions) else { return Ok(Batch::new()) };
        let activations = self.in_passes(prepared, size, |forward, pictures| forward.activations(pictures, wanted))?;
        let answer = |Activations { layer3, native, atrous }| {
            let native: Layer = native.expect("what was asked for");
            let pooled = native.activations.mean_axis(Axis(0)).expect("at least one position");
            let Answer { logits, probabilities } = self.classifier.answer(&pooled)?;
            let (logits, probabilities) = (logits.take(), probabilities.take());
            Ok(Inference { logits, probabilities, layer4: atrous.unwrap_or(native), layer3 })
        };
        activations.into_iter().map(answer).collect()
    }

    /// The network's last layer, which threads can share.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// What `layer4` gives for prepared pictures, all of one size, at the engine's resolution; it stays on the device. Returns
    /// before a GPU has computed it.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, or a CPU has computed what is not finite, which a damaged model causes.
    pub fn begin_layer4(&self, requests: &[ForwardRequest]) -> Result<Batch<PendingLayer>, ModelError> {
        let Some(size) = requests.first().map(|request| request.picture.dimensions()) else { return Ok(Batch::new()) };
        self.in_passes(requests, size, |forward, requests| forward.layer4(requests, self.resolution))
    }

    /// As [`Self::begin_layer4`], and waits for it.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, or an activation is not finite, which a damaged model causes.
    pub fn layer4(&self, requests: &[ForwardRequest]) -> Result<Batch<DeviceLayer>, ModelError> {
        self.begin_layer4(requests)?.into_iter().map(PendingLayer::wait).collect()
    }

    /// Sends pictures, all of one size (width, height), through the network in as few passes as the device has memory for.
    pub(super) fn in_passes<P, A>(
        &self,
        pictures: &[P],
        size: (u32, u32),
        pass: impl Fn(&Forward, &[P]) -> Result<Batch<A>, ModelError>,
    ) -> Result<Batch<A>, ModelError> {
        let pass = |pictures: &[P]| pass(&self.running.borrow().forward, pictures);
        self.limit.in_passes(pictures, size, self.device(), pass, || self.retreat())
    }

    /// Moves the network, with the weights that it has, from a GPU to the CPU.
    fn retreat(&self) -> Result<Retreat, ModelError> {
        if self.running.borrow().place == Place::Cpu {
            return Ok(Retreat::Nowhere);
        }
        let network = self.running.borrow().network.as_ref().expect(KEPT).to_device(Device::Cpu)?;
        // Where there is no half precision, single is as good.
        let precision = PrecisionChoice::Auto;
        let running = Running::new(network, &self.description, Place::Cpu, precision, self.resolution)?;
        self.running.replace(running);
        Ok(Retreat::ToCpu)
    }

    /// Back-propagates the score w' GAP(A), where A are `layer4`'s activations and GAP their mean over all positions, to what
    /// a stage gave: (positions, filters). With `class_weights` (filters) a row of the fully connected layer, that score is
    /// the class's logit without its bias. From `layer3` the way leads through `layer4` as it was trained, whatever the
    /// engine's resolution.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    ///
    /// # Panics
    ///
    /// After [`Self::for_forward_passes`].
    pub fn gradients(
        &self,
        tap: Tap,
        layer: &Layer,
        class_weights: ArrayView1<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let running = self.running.borrow();
        let (rows, columns) = layer.grid;
        let values: Vec<f32> = layer.activations.iter().copied().collect();
        let shape = [1, rows as i64, columns as i64, layer.activations.ncols() as i64];
        let device = running.place.device();
        let tapped = Tensor::f_from_slice(&values)?.f_view(shape)?.f_permute([0, 3, 1, 2])?.f_to_device(device)?;
        let tapped = tapped.f_set_requires_grad(true)?;
        let weights: Vec<f32> = class_weights.iter().copied().collect();
        let weights = Tensor::f_from_slice(&weights)?.f_to_device(device)?;
        let layer4 = match tap {
            Tap::Layer3 => running.network.as_ref().expect(KEPT).layer4(&tapped, Resolution::Native)?,
            Tap::Layer4 => tapped.shallow_clone(),
        };
        let pooled = layer4.f_mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float)?;
        let gradients = Tensor::f_run_backward(&[pooled.f_dot(&weights)?], &[&tapped], false, false)?;
        let gradients = PendingLayer::from_batch(&gradients[0], &[None], None)?.remove(0);
        Ok(gradients.wait()?.into_host()?.activations)
    }

    /// Logits (masks, classes) of blends of two prepared pictures, base + mask (picture - base), computed on normalised
    /// values, as a mask of (masks, rows, columns) in [0, 1] says for every pixel. Without a base it is the mean colour of
    /// the normalisation.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    ///
    /// # Panics
    ///
    /// After [`Self::for_forward_passes`].
    pub fn logits_of_blends(
        &self,
        picture: &Picture,
        base: Option<&Picture>,
        masks: ArrayView3<f32>,
    ) -> Result<Array2<f32>, ModelError> {
        let _no_gradients = tch::no_grad_guard();
        let Running { place, network, .. } = &*self.running.borrow();
        let network = network.as_ref().expect(KEPT);
        let device = place.device();
        let normaliser = Normaliser::new(&self.description.normalisation, device)?;
        let prepare = |picture: &Picture| normaliser.apply(&picture.on_device(device)?.f_unsqueeze(0)?);
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
            let masks = Tensor::f_from_slice(&values)?.f_view(shape)?.f_to_device(device)?;
            let blends = masks.f_mul(&difference)?.f_add(&base)?;
            logits.push(to_rows(&network.logits(&network.activations(&blends)?)?)?);
        }
        let views: Vec<_> = logits.iter().map(|logits: &Array2<f32>| logits.view()).collect();
        let classes = self.class_weights().nrows();
        Ok(concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, classes))))
    }
}

impl Classifier {
    /// What the network takes a picture for, given the mean of each filter of `layer4` at its native resolution.
    ///
    /// # Errors
    ///
    /// When a logit is not finite, which a damaged model causes.
    pub fn classify(&self, mean: &Array1<f64>) -> Result<Answer, ModelError> {
        self.answer(&Recycled::of(mean.len(), mean.iter().map(|&value| value as f32)))
    }

    fn answer(&self, pooled: &Array1<f32>) -> Result<Answer, ModelError> {
        let mut logits = Recycled::of(self.biases.raw_dim(), self.biases.iter().copied());
        general_mat_vec_mul(1.0, &self.weights, pooled, 1.0, &mut *logits);
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        let mut probabilities = Recycled::of(logits.raw_dim(), logits.iter().map(|logit| logit / self.temperature));
        softmax(&mut probabilities);
        Ok(Answer { logits, probabilities })
    }
}

impl Running {
    /// Makes a network that lies on the place's device ready to run there.
    fn new(
        network: ResNet18,
        description: &ModelDescription,
        place: Place,
        precision: PrecisionChoice,
        resolution: Resolution,
    ) -> Result<Self, ModelError> {
        let precision = precision.resolve(place)?;
        let cuda = Cuda::of(place.device());
        let uploader = match place {
            Place::Cpu => None,
            Place::Gpu(device) => Some(Arc::new(Uploader::new(device, cuda.clone()))),
        };
        let forward = Forward::new(&network, &description.normalisation, (place, cuda), precision, resolution)?;
        Ok(Self { place, network: Some(network), forward, precision, uploader })
    }
}

fn on_host<'a>(pictures: &[&'a RgbImage]) -> Batch<Picture<'a>> {
    pictures.iter().map(|&picture| Picture::from(picture)).collect()
}

/// Of logits, in their place.
fn softmax(logits: &mut Array1<f32>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.mapv_inplace(|logit| (logit - largest).exp());
    *logits /= logits.sum();
}
