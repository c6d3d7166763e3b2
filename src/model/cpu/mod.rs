//! The forward pass on a CPU.
//!
//! ```text
//! pixels ─► stem (direct) ─► pool ─► 8 blocks of two convolutions ─► layer4
//!                                    3x3: winograd    with stride, dilated, 1x1, few positions: direct
//! ```
//!
//! libtorch's convolutions compute what their definition says, as ONNX Runtime's do. Most of ResNet18's are 3x3 without stride,
//! which [`winograd`] does with a quarter of the products; all of them leave a position's channels side by side, so that
//! nothing is ever reordered, and finish (bias, shortcut, rectification) what they have in registers. Memory is laid out once a
//! size of picture ([`pass`]), and the threads ([`team`]) go through a pass without sleeping.

mod direct;
mod kernel;
mod pass;
mod plane;
mod pool;
mod team;
mod vector;
mod winograd;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, OnceLock};

use image::RgbImage;
use tch::{Kind, TchError};

use super::ModelError;
use super::folded::{self, FoldedResNet18};
use super::layer::Layer;
use super::preprocess::Normalisation;
use super::resnet::Resolution;
use crate::frame::Batch;

use direct::Direct;
use pass::{Pass, PassSize};
use plane::Shape;
use team::Team;
use vector::Instructions;
use winograd::Winograd;

/// Pixels of the pictures that go through a pass together, those of eight of 224x224: enough that weights are not read anew for
/// every few positions. More would only take memory.
const PIXELS_AT_ONCE: usize = 8 * 224 * 224;
/// Rows and columns of the kernels of all but the stem and the shortcuts.
const KERNEL_SIDE: usize = 3;
/// Sizes of pictures whose memory is kept.
const KEPT_SIZES: usize = 4;
/// Channels from which the transformed weights of a convolution, 38 MB, fit into no cache.
const MANY_CHANNELS: usize = 512;
/// Tiles from which it is worth while to read them.
const MANY_TILES: usize = 6;

/// The network, its weights packed for this processor.
#[derive(Debug)]
pub(super) struct CpuNetwork {
    instructions: Instructions,
    team: Team,
    convolutions: Vec<Convolution>,
    stem: usize,
    /// `layer1` to `layer4`.
    layers: [[Block; 2]; 4],
    /// `layer4` with its atrous weights, if it was asked for.
    atrous: Option<[Block; 2]>,
    /// What becomes of each value of red, green and blue.
    normalised: Box<[[f32; 256]; 3]>,
    /// Those that were used last, the latest at the end.
    passes: Vec<Pass>,
    /// One a thread.
    scratch: Vec<Mutex<Vec<f32>>>,
}

/// What a convolution is done by.
#[derive(Debug)]
enum Convolution {
    /// As it is defined.
    Direct(Direct),
    /// By Winograd's algorithm.
    Winograd(Winograd),
    /// As it suits the number of positions.
    Either(Either),
}

/// A 3x3 convolution without stride, packed for each algorithm when that is first asked for.
#[derive(Debug)]
struct Either {
    instructions: Instructions,
    /// (filters, channels, 3, 3).
    weights: Vec<f32>,
    /// (filters).
    bias: Vec<f32>,
    channels: usize,
    direct: OnceLock<Direct>,
    winograd: OnceLock<Winograd>,
}

/// Indices of the convolutions of a block.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    second: usize,
    shortcut: Option<usize>,
}

/// Which activations are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) layer3: bool,
    pub(super) native: bool,
    pub(super) atrous: bool,
}

/// The activations that were asked for, of one picture.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) layer3: Option<Layer>,
    pub(super) native: Option<Layer>,
    pub(super) atrous: Option<Layer>,
}

impl CpuNetwork {
    /// Packs a network that is on the CPU, for as many threads; nothing where the processor lacks the instructions.
    ///
    /// # Errors
    ///
    /// When libtorch refuses to give the weights, or the system has no threads left.
    pub(super) fn new(
        network: &FoldedResNet18,
        normalisation: &Normalisation,
        resolution: Resolution,
        threads: usize,
    ) -> Result<Option<Self>, ModelError> {
        let Some(instructions) = Instructions::detect() else { return Ok(None) };
        let mut convolutions = Convolutions { instructions, packed: Vec::new() };
        let stem = convolutions.direct(&network.stem, network.stem.stride, 1)?;
        let [layer1, layer2, layer3, layer4] = &network.layers;
        let atrous = match resolution {
            Resolution::Native => None,
            Resolution::Atrous => Some(convolutions.atrous_layer(layer4)?),
        };
        let layers = [
            convolutions.layer(layer1)?,
            convolutions.layer(layer2)?,
            convolutions.layer(layer3)?,
            convolutions.layer(layer4)?,
        ];
        let normalised = std::array::from_fn(|channel| {
            let (mean, deviation) = (normalisation.mean[channel], normalisation.std[channel]);
            std::array::from_fn(|value| (value as f32 / 255.0 - mean) / deviation)
        });
        let team = Team::new(threads)?;
        let scratch = (0..team.threads()).map(|_| Mutex::default()).collect();
        let convolutions = convolutions.packed;
        let normalised = Box::new(normalised);
        let passes = Vec::new();
        Ok(Some(Self { instructions, team, convolutions, stem, layers, atrous, normalised, passes, scratch }))
    }

    /// Activations of pictures, all of one size and at least one pixel large, in their order.
    ///
    /// # Panics
    ///
    /// When atrous ones are wanted of a network that was not made for them.
    pub(super) fn forward(&mut self, pictures: &[&RgbImage], wanted: Wanted) -> Batch<Activations> {
        let Some((width, height)) = pictures.first().map(|picture| picture.dimensions()) else { return Batch::new() };
        let (height, width) = (height as usize, width as usize);
        let at_once = (PIXELS_AT_ONCE / (height * width)).clamp(1, pictures.len());
        let mut pass = self.take_pass(PassSize { height, width, wanted }, at_once);
        let mut answers = Batch::new();
        for pictures in pictures.chunks(at_once) {
            pass.run(self, pictures);
            answers.extend((0..pictures.len()).map(|picture| pass.activations(picture)));
        }
        self.passes.push(pass);
        answers
    }

    /// One that was kept if there is one, and a place for one more.
    fn take_pass(&mut self, size: PassSize, pictures: usize) -> Pass {
        let kept = self.passes.iter().position(|pass| pass.size() == size);
        let kept = kept.map(|index| self.passes.remove(index)).filter(|pass| pass.most_pictures() >= pictures);
        if self.passes.len() == KEPT_SIZES {
            self.passes.remove(0);
        }
        kept.unwrap_or_else(|| Pass::new(self, size, pictures))
    }
}

impl Either {
    fn direct(&self) -> &Direct {
        self.direct
            .get_or_init(|| Direct::new(self.instructions, &self.weights, &self.bias, self.channels, KERNEL_SIDE, 1, 1))
    }

    fn winograd(&self) -> &Winograd {
        self.winograd.get_or_init(|| Winograd::new(self.instructions, &self.weights, &self.bias, self.channels))
    }

    /// Whether Winograd's algorithm takes less time. It takes fewer products, but of four times as many weights: too many to read
    /// for a handful of tiles.
    fn suits_winograd(&self, output: &Shape) -> bool {
        Winograd::tiles(output) >= MANY_TILES
    }
}

/// Packs convolutions and numbers them.
struct Convolutions {
    instructions: Instructions,
    packed: Vec<Convolution>,
}

impl Convolutions {
    fn layer(&mut self, blocks: &[folded::Block; 2]) -> Result<[Block; 2], TchError> {
        let mut block = |block: &folded::Block| {
            let first = &block.first;
            Ok::<_, TchError>(Block {
                first: if first.stride == 1 {
                    self.without_stride(first)?
                } else {
                    self.direct(first, first.stride, 1)?
                },
                second: self.without_stride(&block.second)?,
                shortcut: block
                    .shortcut
                    .as_ref()
                    .map(|shortcut| self.direct(shortcut, shortcut.stride, 1))
                    .transpose()?,
            })
        };
        Ok([block(&blocks[0])?, block(&blocks[1])?])
    }

    /// `layer4` without its stride, dilated instead.
    fn atrous_layer(&mut self, blocks: &[folded::Block; 2]) -> Result<[Block; 2], TchError> {
        let mut block = |block: &folded::Block, first_dilation: usize| {
            Ok::<_, TchError>(Block {
                first: self.direct(&block.first, 1, first_dilation)?,
                second: self.direct(&block.second, 1, 2)?,
                shortcut: block.shortcut.as_ref().map(|shortcut| self.direct(shortcut, 1, 1)).transpose()?,
            })
        };
        Ok([block(&blocks[0], 1)?, block(&blocks[1], 2)?])
    }

    fn direct(&mut self, convolution: &folded::Convolution, stride: i64, dilation: usize) -> Result<usize, TchError> {
        let (weights, bias) = to_host(convolution)?;
        let (_, channels, side, _) = convolution.weight.size4()?;
        let (channels, side, stride) = (channels as usize, side as usize, stride as usize);
        let direct = Direct::new(self.instructions, &weights, &bias, channels, side, stride, dilation);
        Ok(self.push(Convolution::Direct(direct)))
    }

    /// A 3x3 one.
    fn without_stride(&mut self, convolution: &folded::Convolution) -> Result<usize, TchError> {
        let (weights, bias) = to_host(convolution)?;
        let channels = convolution.weight.size4()?.1 as usize;
        let instructions = self.instructions;
        Ok(self.push(if channels < MANY_CHANNELS {
            Convolution::Winograd(Winograd::new(instructions, &weights, &bias, channels))
        } else {
            let (direct, winograd) = (OnceLock::new(), OnceLock::new());
            Convolution::Either(Either { instructions, weights, bias, channels, direct, winograd })
        }))
    }

    fn push(&mut self, convolution: Convolution) -> usize {
        self.packed.push(convolution);
        self.packed.len() - 1
    }
}

/// Weights and bias, row by row.
fn to_host(convolution: &folded::Convolution) -> Result<(Vec<f32>, Vec<f32>), TchError> {
    let values = |tensor: &tch::Tensor| {
        let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut values = vec![0.0; tensor.numel()];
        tensor.f_copy_data(&mut values, tensor.numel())?;
        Ok::<_, TchError>(values)
    };
    Ok((values(&convolution.weight)?, values(&convolution.bias)?))
}
