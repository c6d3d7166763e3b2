//! ResNet18 (He et al. 2016, "Deep residual learning for image recognition") with a tap at `layer4`.
//!
//! The parameter names equal torchvision's `resnet18`, so that its checkpoints load as they are. The forward pass
//! is written with the fallible calls of `tch` throughout: a libtorch failure is an error, never a panic.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use tch::{Device, Kind, TchError, Tensor};

/// torchvision's default of `BatchNorm2d`.
pub const BATCH_NORM_EPS: f64 = 1e-5;
/// Share of the new batch in the running statistics; torchvision's default of `BatchNorm2d`.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
/// Filters of `layer4`, and so inputs of the fully connected layer.
pub const FEATURES: i64 = 512;

/// The parts of the network in the order in which data flows through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// First convolution and pooling: 1/4 of the input size, 64 filters.
    Stem,
    /// 1/4 of the input size, 64 filters.
    Layer1,
    /// 1/8 of the input size, 128 filters.
    Layer2,
    /// 1/16 of the input size, 256 filters.
    Layer3,
    /// 1/32 of the input size, 512 filters: where class activation maps are read.
    Layer4,
}

impl Stage {
    /// All stages, first to last.
    pub const ALL: [Self; 5] = [Self::Stem, Self::Layer1, Self::Layer2, Self::Layer3, Self::Layer4];

    /// Filters, rows and columns of what the stage gives for pictures of `side` x `side` pixels.
    pub fn output_shape(self, side: u32) -> [i64; 3] {
        let (filters, reduction) = match self {
            Self::Stem | Self::Layer1 => (64, 4),
            Self::Layer2 => (128, 8),
            Self::Layer3 => (256, 16),
            Self::Layer4 => (FEATURES, 32),
        };
        let positions = i64::from(side.div_ceil(reduction));
        [filters, positions, positions]
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Stem => "stem",
            Self::Layer1 => "layer1",
            Self::Layer2 => "layer2",
            Self::Layer3 => "layer3",
            Self::Layer4 => "layer4",
        })
    }
}

/// How densely `layer4` looks, with the same weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// As it was trained: every second position of `layer3`, 7x7 for pictures of 224x224.
    #[default]
    Native,
    /// Atrous (Chen et al. 2018, "DeepLab", section 3.1): every position of `layer3`, the later convolutions dilated by 2
    /// so that each sees what it was trained to see; 14x14 for pictures of 224x224.
    Atrous,
}

/// The network. Shapes are batch, channel, row, column (NCHW).
///
/// It computes in the precision of its input, whatever that of its parameters: pictures in bfloat16 give activations in
/// bfloat16, while gradients reach the parameters in theirs. Batch normalisation keeps its statistics in single precision.
#[derive(Debug)]
pub struct ResNet18 {
    conv1: Tensor,
    bn1: BatchNorm,
    layer1: [BasicBlock; 2],
    layer2: [BasicBlock; 2],
    layer3: [BasicBlock; 2],
    layer4: [BasicBlock; 2],
    fc: Linear,
}

#[derive(Debug)]
struct BasicBlock {
    conv1: Tensor,
    bn1: BatchNorm,
    conv2: Tensor,
    bn2: BatchNorm,
    /// 1x1 convolution on the shortcut where the shape changes.
    downsample: Option<(Tensor, BatchNorm)>,
    stride: i64,
}

#[derive(Debug)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

/// Gives the tensor of a parameter, by name and shape.
pub type Provider<'a, E> = &'a mut dyn FnMut(&str, &[i64]) -> Result<Tensor, E>;

impl ResNet18 {
    /// Assembles a network of `classes` outputs, asking `provide` for each parameter in the order of the data flow.
    ///
    /// # Errors
    ///
    /// Whatever `provide` returns.
    pub fn assemble<E>(classes: i64, provide: Provider<E>) -> Result<Self, E> {
        Ok(Self {
            conv1: provide("conv1.weight", &[64, 3, 7, 7])?,
            bn1: BatchNorm::assemble("bn1", 64, provide)?,
            layer1: layer("layer1", 64, 64, provide)?,
            layer2: layer("layer2", 64, 128, provide)?,
            layer3: layer("layer3", 128, 256, provide)?,
            layer4: layer("layer4", 256, FEATURES, provide)?,
            fc: Linear { weight: provide("fc.weight", &[classes, FEATURES])?, bias: provide("fc.bias", &[classes])? },
        })
    }

    /// The network on a device, without gradients.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn to_device(&self, device: Device) -> Result<Self, TchError> {
        let tensors: HashMap<String, &Tensor> = self.named_tensors().into_iter().collect();
        let classes = self.class_biases().size1()?;
        Self::assemble(classes, &mut |name, _| tensors[name].f_detach()?.f_to_device(device))
    }

    /// Activations of `layer4`: from normalised RGB (N, 3, H, W) to (N, 512, H/32, W/32), rounded up.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn activations(&self, images: &Tensor) -> Result<Tensor, TchError> {
        self.stage(Stage::Layer4, &self.layer3(images)?, false)
    }

    /// Activations of `layer3`: from normalised RGB (N, 3, H, W) to (N, 256, H/16, W/16), rounded up.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn layer3(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let stages = Stage::ALL.into_iter().filter(|&stage| stage < Stage::Layer4);
        stages.into_iter().try_fold(images.shallow_clone(), |x, stage| self.stage(stage, &x, false))
    }

    /// Activations of `layer4` from those of `layer3`, at a resolution.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn layer4(&self, layer3: &Tensor, resolution: Resolution) -> Result<Tensor, TchError> {
        match resolution {
            Resolution::Native => self.stage(Stage::Layer4, layer3, false),
            Resolution::Atrous => {
                let [first, second] = &self.layer4;
                second.forward_dilated(&first.forward_dilated(layer3, [1, 2])?, [2, 2])
            }
        }
    }

    /// Runs one stage. With `training`, batch normalisation uses the statistics of the batch and updates its own.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn stage(&self, stage: Stage, x: &Tensor, training: bool) -> Result<Tensor, TchError> {
        let blocks = match stage {
            Stage::Stem => {
                let x = self.bn1.forward(&convolve(x, &self.conv1, 2, 1)?, training)?.f_relu_()?;
                return x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
            }
            Stage::Layer1 => &self.layer1,
            Stage::Layer2 => &self.layer2,
            Stage::Layer3 => &self.layer3,
            Stage::Layer4 => &self.layer4,
        };
        blocks[1].forward(&blocks[0].forward(x, training)?, training)
    }

    /// Logits (N, classes) of `layer4` activations: global average pooling, then the fully connected layer.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn logits(&self, activations: &Tensor) -> Result<Tensor, TchError> {
        let pooled = activations.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        pooled.f_linear(&self.fc.weight, Some(&self.fc.bias))
    }

    /// Logits (N, classes, rows, columns) of each position of `layer4`: the fully connected layer as a 1x1 convolution.
    /// Their mean over the positions are [`Self::logits`].
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn position_logits(&self, activations: &Tensor) -> Result<Tensor, TchError> {
        let weights = self.fc.weight.f_unsqueeze(2)?.f_unsqueeze(3)?;
        activations.f_to_kind(Kind::Float)?.f_conv2d(&weights, Some(&self.fc.bias), [1, 1], [0, 0], [1, 1], 1)
    }

    /// Weights of the fully connected layer, (classes, 512).
    pub fn class_weights(&self) -> &Tensor {
        &self.fc.weight
    }

    /// Biases of the fully connected layer, (classes).
    pub fn class_biases(&self) -> &Tensor {
        &self.fc.bias
    }

    /// Every parameter and batch-norm statistic under its torchvision name.
    pub fn named_tensors(&self) -> Vec<(String, &Tensor)> {
        let mut named = vec![("conv1.weight".to_owned(), &self.conv1)];
        self.bn1.name_into("bn1", &mut named);
        for (layer, blocks) in
            [("layer1", &self.layer1), ("layer2", &self.layer2), ("layer3", &self.layer3), ("layer4", &self.layer4)]
        {
            for (index, block) in blocks.iter().enumerate() {
                block.name_into(&format!("{layer}.{index}"), &mut named);
            }
        }
        named.push(("fc.weight".to_owned(), &self.fc.weight));
        named.push(("fc.bias".to_owned(), &self.fc.bias));
        named
    }
}

/// The stage that a parameter belongs to; the fully connected layer belongs to none.
pub fn stage_of(parameter: &str) -> Option<Stage> {
    match parameter.split('.').next() {
        Some("conv1" | "bn1") => Some(Stage::Stem),
        Some("layer1") => Some(Stage::Layer1),
        Some("layer2") => Some(Stage::Layer2),
        Some("layer3") => Some(Stage::Layer3),
        Some("layer4") => Some(Stage::Layer4),
        _ => None,
    }
}

/// Whether a named tensor is a statistic that batch normalisation keeps, rather than something a gradient changes.
pub fn is_statistic(parameter: &str) -> bool {
    parameter.ends_with(".running_mean") || parameter.ends_with(".running_var")
}

fn layer<E>(name: &str, from: i64, to: i64, provide: Provider<E>) -> Result<[BasicBlock; 2], E> {
    Ok([
        BasicBlock::assemble(&format!("{name}.0"), from, to, provide)?,
        BasicBlock::assemble(&format!("{name}.1"), to, to, provide)?,
    ])
}

impl BasicBlock {
    fn assemble<E>(name: &str, from: i64, to: i64, provide: Provider<E>) -> Result<Self, E> {
        Ok(Self {
            conv1: provide(&format!("{name}.conv1.weight"), &[to, from, 3, 3])?,
            bn1: BatchNorm::assemble(&format!("{name}.bn1"), to, provide)?,
            conv2: provide(&format!("{name}.conv2.weight"), &[to, to, 3, 3])?,
            bn2: BatchNorm::assemble(&format!("{name}.bn2"), to, provide)?,
            downsample: if from == to {
                None
            } else {
                let convolution = provide(&format!("{name}.downsample.0.weight"), &[to, from, 1, 1])?;
                Some((convolution, BatchNorm::assemble(&format!("{name}.downsample.1"), to, provide)?))
            },
            stride: if from == to { 1 } else { 2 },
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, TchError> {
        self.forward_with(x, training, self.stride, [1, 1])
    }

    /// Without stride, its two convolutions dilated as given.
    fn forward_dilated(&self, x: &Tensor, dilations: [i64; 2]) -> Result<Tensor, TchError> {
        self.forward_with(x, false, 1, dilations)
    }

    fn forward_with(&self, x: &Tensor, training: bool, stride: i64, dilations: [i64; 2]) -> Result<Tensor, TchError> {
        let y = self.bn1.forward(&convolve(x, &self.conv1, stride, dilations[0])?, training)?.f_relu_()?;
        let y = self.bn2.forward(&convolve(&y, &self.conv2, 1, dilations[1])?, training)?;
        match &self.downsample {
            None => y.f_add(x)?.f_relu_(),
            Some((convolution, bn)) => {
                y.f_add(&bn.forward(&convolve(x, convolution, stride, 1)?, training)?)?.f_relu_()
            }
        }
    }

    fn name_into<'a>(&'a self, prefix: &str, named: &mut Vec<(String, &'a Tensor)>) {
        named.push((format!("{prefix}.conv1.weight"), &self.conv1));
        self.bn1.name_into(&format!("{prefix}.bn1"), named);
        named.push((format!("{prefix}.conv2.weight"), &self.conv2));
        self.bn2.name_into(&format!("{prefix}.bn2"), named);
        if let Some((convolution, bn)) = &self.downsample {
            named.push((format!("{prefix}.downsample.0.weight"), convolution));
            bn.name_into(&format!("{prefix}.downsample.1"), named);
        }
    }
}

impl BatchNorm {
    fn assemble<E>(name: &str, channels: i64, provide: Provider<E>) -> Result<Self, E> {
        Ok(Self {
            weight: provide(&format!("{name}.weight"), &[channels])?,
            bias: provide(&format!("{name}.bias"), &[channels])?,
            running_mean: provide(&format!("{name}.running_mean"), &[channels])?,
            running_var: provide(&format!("{name}.running_var"), &[channels])?,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, TchError> {
        x.f_batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.running_mean),
            Some(&self.running_var),
            training,
            BATCH_NORM_MOMENTUM,
            BATCH_NORM_EPS,
            true,
        )
    }

    fn name_into<'a>(&'a self, prefix: &str, named: &mut Vec<(String, &'a Tensor)>) {
        for (name, tensor) in [
            ("weight", &self.weight),
            ("bias", &self.bias),
            ("running_mean", &self.running_mean),
            ("running_var", &self.running_var),
        ] {
            named.push((format!("{prefix}.{name}"), tensor));
        }
    }
}

/// Convolution without bias, padded so that stride alone decides the output size.
fn convolve(x: &Tensor, weight: &Tensor, stride: i64, dilation: i64) -> Result<Tensor, TchError> {
    let padding = dilation * (weight.size()[2] - 1) / 2;
    let weight = weight.f_to_kind(x.f_kind()?)?;
    x.f_conv2d(&weight, None::<&Tensor>, [stride, stride], [padding, padding], [dilation, dilation], 1)
}
