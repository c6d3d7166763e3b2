//! Who computes activations: convolutions of our own on x86-64 CPUs with AVX2, libtorch on others and on GPUs.

use std::cell::RefCell;

use image::RgbImage;
use tch::{Tensor, no_grad_guard};

use super::ModelError;
use super::cpu::{Activations, CpuNetwork, Wanted};
use super::device_layer::DeviceLayer;
use super::folded::FoldedResNet18;
use super::layer::Layer;
use super::picture::Picture;
use super::place::Place;
use super::precision::Precision;
use super::preprocess::{Normalisation, Normaliser};
use super::resnet::{ResNet18, Resolution};

/// The network up to `layer4`, ready to run.
#[derive(Debug)]
pub(super) enum Forward {
    /// By convolutions of our own.
    Cpu(Box<RefCell<CpuNetwork>>),
    /// By libtorch.
    Torch(Box<TorchNetwork>),
}

/// The network as libtorch runs it.
#[derive(Debug)]
pub(super) struct TorchNetwork {
    folded: FoldedResNet18,
    normaliser: Normaliser,
    place: Place,
    precision: Precision,
}

impl Forward {
    /// Makes a network that lies on the place's device ready to run there.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example, or the system has no threads left.
    pub(super) fn new(
        network: &ResNet18,
        normalisation: &Normalisation,
        place: Place,
        precision: Precision,
        resolution: Resolution,
    ) -> Result<Self, ModelError> {
        let _no_gradients = no_grad_guard();
        let mut folded = FoldedResNet18::new(network)?;
        match place {
            Place::Cpu => {
                let threads = tch::get_num_threads().unsigned_abs() as usize;
                if let Some(network) = CpuNetwork::new(&folded, normalisation, resolution, threads)? {
                    return Ok(Self::Cpu(Box::new(RefCell::new(network))));
                }
            }
            Place::Gpu(_) => folded = folded.channels_last(precision.kind())?,
        }
        let normaliser = Normaliser::new(normalisation, place.device())?;
        Ok(Self::Torch(Box::new(TorchNetwork { folded, normaliser, place, precision })))
    }

    /// The activations of pictures, all of one size, that are wanted; on the host.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example, or an activation is not finite.
    pub(super) fn activations(&self, pictures: &[Picture], wanted: Wanted) -> Result<Vec<Activations>, ModelError> {
        match self {
            Self::Cpu(network) => run_on_cpu(network, pictures, wanted),
            Self::Torch(network) => network.activations(pictures, wanted),
        }
    }

    /// What `layer4` gives for pictures, all of one size; it stays where it is.
    ///
    /// # Errors
    ///
    /// As for [`Self::activations`].
    pub(super) fn layer4(&self, pictures: &[Picture], resolution: Resolution) -> Result<Vec<DeviceLayer>, ModelError> {
        match self {
            Self::Cpu(network) => {
                let native = resolution == Resolution::Native;
                let activations = run_on_cpu(network, pictures, Wanted { layer3: false, native, atrous: !native })?;
                let layers = activations.into_iter().map(|activations| activations.native.or(activations.atrous));
                layers.map(|layer| DeviceLayer::from_host(&layer.expect("what was asked for"))).collect()
            }
            Self::Torch(network) => {
                let _no_gradients = no_grad_guard();
                let layer3 = network.folded.layer3(&network.input(pictures)?)?;
                DeviceLayer::from_batch(&network.folded.layer4(&layer3, resolution)?)
            }
        }
    }
}

impl TorchNetwork {
    fn activations(&self, pictures: &[Picture], wanted: Wanted) -> Result<Vec<Activations>, ModelError> {
        let _no_gradients = no_grad_guard();
        let layer3 = self.folded.layer3(&self.input(pictures)?)?;
        let layer4 = |wanted: bool, resolution| {
            let layer4 = wanted.then(|| self.folded.layer4(&layer3, resolution)).transpose()?;
            layer4.as_ref().map(to_host).transpose()
        };
        let mut native = layer4(wanted.native, Resolution::Native)?.map(Vec::into_iter);
        let mut atrous = layer4(wanted.atrous, Resolution::Atrous)?.map(Vec::into_iter);
        let mut layer3 = wanted.layer3.then(|| to_host(&layer3)).transpose()?.map(Vec::into_iter);
        let next = |layers: &mut Option<std::vec::IntoIter<Layer>>| layers.as_mut().and_then(Iterator::next);
        let of_picture =
            |_| Activations { layer3: next(&mut layer3), native: next(&mut native), atrous: next(&mut atrous) };
        Ok(pictures.iter().map(of_picture).collect())
    }

    /// Normalised RGB (N, 3, H, W) in the network's precision.
    fn input(&self, pictures: &[Picture]) -> Result<Tensor, ModelError> {
        let device = self.place.device();
        let pixels = pictures.iter().map(|picture| picture.on_device(device)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.normaliser.apply(&Tensor::f_stack(&pixels, 0)?)?.f_to_kind(self.precision.kind())?)
    }
}

fn run_on_cpu(
    network: &RefCell<CpuNetwork>,
    pictures: &[Picture],
    wanted: Wanted,
) -> Result<Vec<Activations>, ModelError> {
    let pictures = pictures.iter().map(Picture::on_host).collect::<Result<Vec<_>, _>>()?;
    let pictures: Vec<&RgbImage> = pictures.iter().map(|picture| &**picture).collect();
    Ok(network.borrow_mut().forward(&pictures, wanted))
}

/// One a picture, from a batch (N, C, H, W).
fn to_host(batch: &Tensor) -> Result<Vec<Layer>, ModelError> {
    DeviceLayer::from_batch(batch)?.iter().map(DeviceLayer::to_host).collect()
}
