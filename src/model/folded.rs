//! The network as it runs: batch normalisation folded into the convolutions before it, which is exact where its statistics no
//! longer change (Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
//! inference", section 3.2).

use std::collections::HashMap;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::cuda::{Cuda, convolution};
use super::resnet::{BATCH_NORM_EPS, ResNet18, Resolution};

/// A convolution with a bias.
#[derive(Debug)]
pub struct Convolution {
    /// (filters, channels, side, side).
    pub weight: Tensor,
    /// (filters).
    pub bias: Tensor,
    /// Positions from one output to the next.
    pub stride: i64,
}

/// What happens to the sums of a convolution.
#[derive(Debug, Clone, Copy)]
enum Then<'a> {
    /// Nothing.
    Keep,
    /// They are rectified.
    Rectify,
    /// A shortcut is added, then they are rectified.
    AddAndRectify(&'a Tensor),
}

/// Two 3x3 convolutions beside a shortcut; each is rectified, the second after the shortcut was added.
#[derive(Debug)]
pub struct Block {
    /// The first convolution; its stride is the block's.
    pub first: Convolution,
    /// The second.
    pub second: Convolution,
    /// 1x1 on the shortcut, where the shape changes.
    pub shortcut: Option<Convolution>,
}

/// ResNet18 up to `layer4`.
#[derive(Debug)]
pub struct FoldedResNet18 {
    /// 7x7, before the 3x3 maximum pooling.
    pub stem: Convolution,
    /// `layer1` to `layer4`.
    pub layers: [[Block; 2]; 4],
    /// Of a GPU, whose kernels are used.
    cuda: Option<Arc<Cuda>>,
}

impl FoldedResNet18 {
    /// Folds a network, on its device.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn new(network: &ResNet18) -> Result<Self, TchError> {
        let parameters = Parameters(network.named_tensors().into_iter().collect());
        let layer = |number: usize| {
            let block = |index: usize| parameters.block(&format!("layer{number}.{index}"));
            Ok::<_, TchError>([block(0)?, block(1)?])
        };
        Ok(Self {
            stem: parameters.convolution("conv1", "bn1", 2)?,
            layers: [layer(1)?, layer(2)?, layer(3)?, layer(4)?],
            cuda: None,
        })
    }

    /// The same network for pictures of more channels than three; it does not look at those.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn with_channels(self, channels: i64) -> Result<Self, TchError> {
        let Convolution { weight, bias, stride } = self.stem;
        let more = channels - weight.size()[1];
        let weight = channels_last(&weight.f_constant_pad_nd([0, 0, 0, 0, 0, more])?)?;
        Ok(Self { stem: Convolution { weight, bias, stride }, ..self })
    }

    /// The same network as suits a GPU: in a precision, and a position's weights side by side. With pictures that have a pixel's
    /// channels side by side, cuDNN reorders nothing, and multiplies half precision on its tensor cores. Pictures must come in that
    /// precision, and so do activations. `cuda` is the GPU's, where it has kernels of our own.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn on_gpu(self, kind: Kind, cuda: Option<Arc<Cuda>>) -> Result<Self, TchError> {
        let layer =
            |[first, second]: [Block; 2]| Ok::<_, TchError>([first.channels_last(kind)?, second.channels_last(kind)?]);
        let [layer1, layer2, layer3, layer4] = self.layers;
        Ok(Self {
            stem: self.stem.channels_last(kind)?,
            layers: [layer(layer1)?, layer(layer2)?, layer(layer3)?, layer(layer4)?],
            cuda,
        })
    }

    /// Activations of `layer3`: from normalised RGB, and what more channels there are (N, 3 or more, H, W), to (N, 256, H/16, W/16),
    /// rounded up.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn layer3(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let x = self.stem.forward_with(images, self.stem.stride, 1, Then::Rectify)?;
        let x = self.pool(&x)?;
        self.layers[..3].iter().flatten().try_fold(x, |x, block| block.forward(&x, block.first.stride, [1, 1]))
    }

    /// Of what the stem rectified.
    fn pool(&self, x: &Tensor) -> Result<Tensor, TchError> {
        if let Some(kernels) = self.cuda.as_ref().and_then(|cuda| cuda.kernels())
            && let Some(pooled) = kernels.pool_rectified(x)?
        {
            return Ok(pooled);
        }
        x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
    }

    /// Activations of `layer4` from those of `layer3`, at a resolution.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn layer4(&self, layer3: &Tensor, resolution: Resolution) -> Result<Tensor, TchError> {
        let [first, second] = &self.layers[3];
        match resolution {
            Resolution::Native => second.forward(&first.forward(layer3, first.first.stride, [1, 1])?, 1, [1, 1]),
            Resolution::Atrous => second.forward(&first.forward(layer3, 1, [1, 2])?, 1, [2, 2]),
        }
    }
}

impl Block {
    fn channels_last(self, kind: Kind) -> Result<Self, TchError> {
        Ok(Self {
            first: self.first.channels_last(kind)?,
            second: self.second.channels_last(kind)?,
            shortcut: self.shortcut.map(|shortcut| shortcut.channels_last(kind)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, stride: i64, dilations: [i64; 2]) -> Result<Tensor, TchError> {
        let y = self.first.forward_with(x, stride, dilations[0], Then::Rectify)?;
        let shortcut = match &self.shortcut {
            None => x.shallow_clone(),
            Some(shortcut) => shortcut.forward_with(x, stride, 1, Then::Keep)?,
        };
        self.second.forward_with(&y, 1, dilations[1], Then::AddAndRectify(&shortcut))
    }
}

impl Convolution {
    fn channels_last(self, kind: Kind) -> Result<Self, TchError> {
        let weight = channels_last(&self.weight.f_to_kind(kind)?)?;
        Ok(Self { weight, bias: self.bias.f_to_kind(kind)?, stride: self.stride })
    }

    /// Padded so that stride alone decides the output size.
    fn forward_with(&self, x: &Tensor, stride: i64, dilation: i64, then: Then) -> Result<Tensor, TchError> {
        let padding = dilation * (self.weight.size()[2] - 1) / 2;
        let (strides, paddings, dilations) = ([stride; 2], [padding; 2], [dilation; 2]);
        let bias = Some(&self.bias);
        // cuDNN rectifies sums that are still in registers: half the time of a pass on an H200.
        if x.device().is_cuda() {
            match then {
                Then::Keep => {}
                Then::Rectify => {
                    return x.f_cudnn_convolution_relu(&self.weight, bias, strides, paddings, dilations, 1);
                }
                Then::AddAndRectify(shortcut) => {
                    let layer = (&self.weight, &self.bias);
                    return convolution::add_and_rectify(x, layer, shortcut, strides, paddings, dilations);
                }
            }
        }
        let mut y = x.f_conv2d(&self.weight, bias, strides, paddings, dilations, 1)?;
        match then {
            Then::Keep => Ok(y),
            Then::Rectify => y.f_relu_(),
            Then::AddAndRectify(shortcut) => y.f_add_(shortcut)?.f_relu_(),
        }
    }
}

/// (filters, channels, rows, columns) with a position's channels side by side.
fn channels_last(weight: &Tensor) -> Result<Tensor, TchError> {
    weight.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// By their names in torchvision's checkpoints.
struct Parameters<'a>(HashMap<String, &'a Tensor>);

impl Parameters<'_> {
    fn block(&self, name: &str) -> Result<Block, TchError> {
        let convolution = |number: usize, stride: i64| {
            self.convolution(&format!("{name}.conv{number}"), &format!("{name}.bn{number}"), stride)
        };
        let shortcut = format!("{name}.downsample");
        let changes = self.0.contains_key(&format!("{shortcut}.0.weight"));
        let stride = if changes { 2 } else { 1 };
        Ok(Block {
            first: convolution(1, stride)?,
            second: convolution(2, 1)?,
            shortcut: changes
                .then(|| self.convolution(&format!("{shortcut}.0"), &format!("{shortcut}.1"), stride))
                .transpose()?,
        })
    }

    fn convolution(&self, convolution: &str, batch_norm: &str, stride: i64) -> Result<Convolution, TchError> {
        let of_batch_norm = |name: &str| self.0[&format!("{batch_norm}.{name}")];
        // As a tensor: of a number, tch would not return that there is no memory, but panic.
        let epsilon = Tensor::from(BATCH_NORM_EPS);
        let deviation = of_batch_norm("running_var").f_add(&epsilon)?.f_sqrt()?;
        let scale = of_batch_norm("weight").f_div(&deviation)?;
        let weight = self.0[&format!("{convolution}.weight")].f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
        let bias = of_batch_norm("bias").f_sub(&of_batch_norm("running_mean").f_mul(&scale)?)?;
        Ok(Convolution { weight: weight.f_detach()?, bias: bias.f_detach()?, stride })
    }
}
