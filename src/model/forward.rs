//! Who computes activations: convolutions of our own on x86-64 CPUs with AVX2, libtorch on others and on GPUs.

use std::cell::RefCell;
use std::sync::Arc;

use image::RgbImage;
use tch::{Tensor, no_grad_guard};

use super::cpu::{Activations, CpuNetwork, Wanted};
use super::cuda::Cuda;
use super::cuda::kernels::CHANNELS;
use super::device_input::DeviceInput;
use super::device_layer::{DeviceLayer, PendingLayer, Questions};
use super::folded::FoldedResNet18;
use super::layer::Layer;
use super::memory::is_out_of_memory;
use super::picture::Picture;
use super::place::Place;
use super::precision::Precision;
use super::preprocess::Normalisation;
use super::recorded::RecordedPasses;
use super::resnet::{ResNet18, Resolution};
use super::{ModelError, first_line};
use crate::frame::Batch;

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
    input: DeviceInput,
    place: Place,
    /// None where libtorch does the waiting.
    cuda: Option<Arc<Cuda>>,
    /// None where each pass is told step by step.
    recorded: RefCell<Option<RecordedPasses>>,
}

/// A picture, and what will be asked about it.
#[derive(Debug)]
pub struct ForwardRequest<'a> {
    /// The picture.
    pub picture: Picture<'a>,
    /// What will be asked about its layer, if that is known.
    pub questions: Option<Arc<Questions>>,
}

impl<'a> From<Picture<'a>> for ForwardRequest<'a> {
    /// Of which nothing is known.
    fn from(picture: Picture<'a>) -> Self {
        Self { picture, questions: None }
    }
}

impl Forward {
    /// Makes a network that lies on the place's device ready to run there; `cuda` are its streams, if it has some.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example, or the system has no threads left.
    pub(super) fn new(
        network: &ResNet18,
        normalisation: &Normalisation,
        (place, cuda): (Place, Option<Arc<Cuda>>),
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
            Place::Gpu(_) => folded = folded.on_gpu(precision.kind(), cuda.clone())?,
        }
        let folded = folded.with_channels(CHANNELS)?;
        let input = DeviceInput::new(normalisation, precision.kind(), (place.device(), cuda.clone()))?;
        let recorded = cuda.as_ref().map(RecordedPasses::new).transpose();
        let recorded = recorded.inspect_err(|error| {
            tracing::warn!("the GPU is slower than it could be ({})", first_line(error));
        });
        let recorded = recorded.ok().flatten().into();
        Ok(Self::Torch(Box::new(TorchNetwork { folded, input, place, cuda, recorded })))
    }

    /// The activations of pictures, all of one size, that are wanted; on the host.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example, or an activation is not finite.
    pub(super) fn activations(&self, pictures: &[Picture], wanted: Wanted) -> Result<Batch<Activations>, ModelError> {
        match self {
            Self::Cpu(network) => run_on_cpu(network, pictures.iter(), wanted),
            Self::Torch(network) => network.with_room(|| network.activations(pictures, wanted)),
        }
    }

    /// What `layer4` gives for pictures, all of one size; it stays where it is. A GPU may still be computing it.
    ///
    /// # Errors
    ///
    /// As for [`Self::activations`].
    pub(super) fn layer4(
        &self,
        requests: &[ForwardRequest],
        resolution: Resolution,
    ) -> Result<Batch<PendingLayer>, ModelError> {
        let pictures = requests.iter().map(|request| &request.picture);
        match self {
            Self::Cpu(network) => {
                let native = resolution == Resolution::Native;
                let activations = run_on_cpu(network, pictures, Wanted { layer3: false, native, atrous: !native })?;
                let layers = activations.into_iter().map(|activations| activations.native.or(activations.atrous));
                layers.map(|layer| Ok(DeviceLayer::from_host(layer.expect("what was asked for"))?.into())).collect()
            }
            Self::Torch(network) => {
                let pictures: Vec<&Picture> = pictures.collect();
                let questions: Vec<_> = requests.iter().map(|request| request.questions.clone()).collect();
                network.with_room(|| {
                    let _no_gradients = no_grad_guard();
                    let batch = network.layer4(&pictures, resolution)?;
                    Ok(PendingLayer::from_batch(&batch, &questions, network.cuda.as_ref())?)
                })
            }
        }
    }
}

impl TorchNetwork {
    /// Does something, once more if there is no memory for it as long as passes are recorded, which have memory of their own.
    fn with_room<A>(&self, work: impl Fn() -> Result<A, ModelError>) -> Result<A, ModelError> {
        match work() {
            Err(error) if is_out_of_memory(&error) && self.recorded.take().is_some() => {
                tracing::debug!("forward passes are no longer recorded: {error}");
                work()
            }
            done => done,
        }
    }

    /// Activations (N, 512, rows, columns) of pictures, all of one size, which a GPU may still be computing.
    fn layer4(&self, pictures: &[&Picture], resolution: Resolution) -> Result<Tensor, ModelError> {
        let device = self.place.device();
        let (frames, size) = Picture::frames(pictures, device)?;
        let count = pictures.len() as i64;
        let place = || self.input.place(count, size, device);
        let put = |place: &Tensor| self.input.put(&frames, place);
        let network = |input: &Tensor| self.folded.layer4(&self.folded.layer3(input)?, resolution);
        let recorded = self.recorded.borrow();
        let Some(recorded) = &*recorded else {
            let input = place()?;
            put(&input)?;
            return Ok(network(&input)?);
        };
        let shape = [count, i64::from(size.1), i64::from(size.0)];
        Ok(recorded.run((shape, resolution), place, put, network)?)
    }

    fn activations(&self, pictures: &[Picture], wanted: Wanted) -> Result<Batch<Activations>, ModelError> {
        let _no_gradients = no_grad_guard();
        let pictures: Vec<&Picture> = pictures.iter().collect();
        let layer3 = self.folded.layer3(&self.input(&pictures)?)?;
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

    /// Pictures, all of one size, as they are after they have been resized for the network.
    pub(super) fn bring_to_size<'a>(&self, pictures: &[Picture<'a>]) -> Result<Vec<Picture<'a>>, ModelError> {
        let pictures: Vec<&Picture> = pictures.iter().collect();
        let (frames, size) = Picture::frames(&pictures, self.place.device())?;
        Ok(Picture::from_levels(&self.input.levels(&frames, size)?)?)
    }

    /// The network's input (N, [`CHANNELS`], H, W) in its precision.
    fn input(&self, pictures: &[&Picture]) -> Result<Tensor, ModelError> {
        let device = self.place.device();
        let (frames, size) = Picture::frames(pictures, device)?;
        let input = self.input.place(pictures.len() as i64, size, device)?;
        self.input.put(&frames, &input)?;
        Ok(input)
    }
}

fn run_on_cpu<'p, 'a: 'p>(
    network: &RefCell<CpuNetwork>,
    pictures: impl Iterator<Item = &'p Picture<'a>>,
    wanted: Wanted,
) -> Result<Batch<Activations>, ModelError> {
    let pictures = pictures.map(Picture::on_host).collect::<Result<Batch<_>, _>>()?;
    let pictures: Batch<&RgbImage> = pictures.iter().map(|picture| &**picture).collect();
    Ok(network.borrow_mut().forward(&pictures, wanted))
}

/// One a picture, from a batch (N, C, H, W).
fn to_host(batch: &Tensor) -> Result<Vec<Layer>, ModelError> {
    let nothing = vec![None; batch.size()[0].unsigned_abs() as usize];
    let layers = PendingLayer::from_batch(batch, &nothing, None)?;
    layers.into_iter().map(|layer| layer.wait()?.into_host()).collect()
}
