//! The steps of a forward pass for pictures of one size, and the memory that they work in.

use image::RgbImage;

use super::kernel::Activation;
use super::plane::{Plane, PlaneView, Shape};
use super::team::OfSteps;
use super::winograd::{Split, Winograd};
use super::{Activations, Block, Convolution, CpuNetwork, Layer, Wanted, pool};

/// Channels of a picture.
const COLOURS: usize = 3;

const RECTIFY: Activation = Activation { add: false, rectify: true };
const AS_IT_IS: Activation = Activation { add: false, rectify: false };

/// What distinguishes passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassSize {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) wanted: Wanted,
}

/// A pass through the network.
#[derive(Debug)]
pub(super) struct Pass {
    size: PassSize,
    planes: Vec<Plane>,
    steps: Vec<Step>,
    /// Indices of the planes that are asked for.
    layer3: usize,
    native: Option<usize>,
    atrous: Option<usize>,
}

/// What is done, from which plane to which.
#[derive(Debug, Clone, Copy)]
struct Step {
    operation: Operation,
    input: usize,
    output: usize,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    /// From pixels to normalised colours; the input means nothing.
    Normalise,
    Convolve {
        /// Index of the convolution.
        convolution: usize,
        activation: Activation,
    },
    Pool,
}

/// How a step is divided for a number of pictures and threads.
#[derive(Debug, Clone, Copy)]
struct Division {
    tasks: usize,
    /// Of a convolution by Winograd's algorithm.
    split: Option<Split>,
}

impl Pass {
    /// For up to `pictures` pictures at once.
    pub(super) fn new(network: &CpuNetwork, size: PassSize, pictures: usize) -> Self {
        let mut layout = Layout { network, pictures, planes: Vec::new(), steps: Vec::new() };
        let PassSize { height, width, wanted } = size;
        let Convolution::Direct(stem) = &network.convolutions[network.stem] else {
            unreachable!("a 7x7 convolution is done directly");
        };
        let colours = layout.plane(height, width, COLOURS, stem.padding());
        layout.steps.push(Step { operation: Operation::Normalise, input: colours, output: colours });
        let stem = layout.convolve(network.stem, colours, RECTIFY, 1);
        let Shape { height, width, channels, .. } = layout.planes[stem].shape;
        let pooled = layout.plane(height.div_ceil(2), width.div_ceil(2), channels, 1);
        layout.steps.push(Step { operation: Operation::Pool, input: stem, output: pooled });
        let [layer1, layer2, layer3, layer4] = &network.layers;
        let layer3 = [layer1, layer2, layer3].into_iter().fold(pooled, |x, blocks| layout.layer(blocks, x, 1));
        let native = wanted.native.then(|| layout.layer(layer4, layer3, 1));
        let atrous = wanted.atrous.then(|| {
            let blocks = network.atrous.as_ref().expect("a network that was made for atrous activations");
            // Dilated convolutions reach two positions far.
            layout.layer(blocks, layer3, 2)
        });
        Self { size, planes: layout.planes, steps: layout.steps, layer3, native, atrous }
    }

    pub(super) fn size(&self) -> PassSize {
        self.size
    }

    /// At once.
    pub(super) fn most_pictures(&self) -> usize {
        self.planes[0].shape.pictures
    }

    /// Sends pictures through, at most [`Self::most_pictures`] and all of this pass's size.
    pub(super) fn run(&mut self, network: &CpuNetwork, pictures: &[&RgbImage]) {
        let fitting = |picture: &RgbImage| {
            (picture.height() as usize, picture.width() as usize) == (self.size.height, self.size.width)
        };
        assert!(pictures.len() <= self.most_pictures() && pictures.iter().copied().all(fitting));
        let views: OfSteps<PlaneView> = self.planes.iter_mut().map(|plane| plane.view(pictures.len())).collect();
        let divisions: OfSteps<Division> =
            self.steps.iter().map(|step| divide(step, network, &views[step.output].shape)).collect();
        let tasks: OfSteps<usize> = divisions.iter().map(|division| division.tasks).collect();
        let scratch = self.steps.iter().zip(&divisions).map(|(step, division)| scratch(step, network, *division)).max();
        for own in &network.scratch {
            let mut own = own.lock().expect("no thread panics while it works");
            let len = own.len().max(scratch.unwrap_or(0));
            own.resize(len, 0.0);
        }
        network.team.walk(&tasks, |step, task, thread| {
            let Step { operation, input, output } = self.steps[step];
            let (input, output) = (views[input], views[output]);
            match operation {
                // SAFETY: no two tasks have the same row.
                Operation::Normalise => unsafe { normalise(task, &network.normalised, pictures, output) },
                // SAFETY: the stem's output is rectified and twice as large.
                Operation::Pool => unsafe { network.instructions.run(pool::Task { row: task, input, output }) },
                Operation::Convolve { convolution, activation } => {
                    let mut scratch = network.scratch[thread].lock().expect("no thread panics while it works");
                    let convolution = &network.convolutions[convolution];
                    // SAFETY: `Layout` gave the planes the shapes that the convolution asks for, no step writes to what it
                    // reads, and tasks of one step share no outputs.
                    unsafe {
                        match (convolution, divisions[step].split) {
                            (Convolution::Direct(direct), _) => direct.work(task, input, activation, output),
                            (Convolution::Plain(plain), None) => plain.direct().work(task, input, activation, output),
                            (Convolution::Plain(plain), Some(split)) => {
                                plain.winograd().work(task, split, input, activation, output, &mut scratch);
                            }
                        }
                    }
                }
            }
        });
    }

    /// What the last run gave for one of its pictures.
    pub(super) fn activations(&self, picture: usize) -> Activations {
        let layer = |plane: usize| {
            let plane = &self.planes[plane];
            Layer { activations: plane.rows(picture), grid: (plane.shape.height, plane.shape.width) }
        };
        Activations {
            layer3: self.size.wanted.layer3.then(|| layer(self.layer3)),
            native: self.native.map(layer),
            atrous: self.atrous.map(layer),
        }
    }
}

fn divide(step: &Step, network: &CpuNetwork, output: &Shape) -> Division {
    let without_tiles = |tasks| Division { tasks, split: None };
    let Operation::Convolve { convolution, .. } = step.operation else { return without_tiles(pool::tasks(output)) };
    match &network.convolutions[convolution] {
        Convolution::Direct(direct) => without_tiles(direct.tasks(output)),
        Convolution::Plain(plain) if plain.suits_winograd(output) => {
            let split = plain.winograd().split(output, network.team.threads());
            Division { tasks: Winograd::tasks(output, split), split: Some(split) }
        }
        Convolution::Plain(plain) => without_tiles(plain.direct().tasks(output)),
    }
}

/// Numbers that a thread needs for a step.
fn scratch(step: &Step, network: &CpuNetwork, division: Division) -> usize {
    let Operation::Convolve { convolution, .. } = step.operation else { return 0 };
    match (&network.convolutions[convolution], division.split) {
        (Convolution::Plain(plain), Some(split)) => plain.winograd().scratch(split),
        _ => 0,
    }
}

/// Writes a row of a picture.
///
/// # Safety
///
/// The output has the pictures' size and three channels, and nobody uses this row of it meanwhile.
unsafe fn normalise(task: usize, normalised: &[[f32; 256]; 3], pictures: &[&RgbImage], output: PlaneView) {
    let Shape { height, width, .. } = output.shape;
    let (picture, row) = (task / height, task % height);
    let pixels = &pictures[picture].as_raw()[row * width * COLOURS..(row + 1) * width * COLOURS];
    let start = output.shape.offset(picture, row, 0);
    // SAFETY: a row of the plane, which is this task's.
    let target = unsafe { std::slice::from_raw_parts_mut(output.values.add(start), width * COLOURS) };
    for (target, pixel) in target.chunks_exact_mut(COLOURS).zip(pixels.chunks_exact(COLOURS)) {
        for channel in 0..COLOURS {
            target[channel] = normalised[channel][usize::from(pixel[channel])];
        }
    }
}

/// Lays out planes and steps.
struct Layout<'a> {
    network: &'a CpuNetwork,
    pictures: usize,
    planes: Vec<Plane>,
    steps: Vec<Step>,
}

impl Layout<'_> {
    fn plane(&mut self, height: usize, width: usize, channels: usize, border: usize) -> usize {
        let pictures = self.pictures;
        self.planes.push(Plane::new(Shape { pictures, height, width, channels, border }));
        self.planes.len() - 1
    }

    /// To a new plane with a border for those that read it.
    fn convolve(&mut self, convolution: usize, input: usize, activation: Activation, border: usize) -> usize {
        let (filters, stride) = self.network.convolutions[convolution].filters_and_stride();
        let Shape { height, width, .. } = self.planes[input].shape;
        let output = self.plane(height.div_ceil(stride), width.div_ceil(stride), filters, border);
        self.convolve_to(convolution, input, activation, output);
        output
    }

    fn convolve_to(&mut self, convolution: usize, input: usize, activation: Activation, output: usize) {
        let operation = Operation::Convolve { convolution, activation };
        self.steps.push(Step { operation, input, output });
    }

    /// In as little memory as it can be done in, which a cache may hold: what a block adds to its input it writes there, unless a
    /// shortcut changed it.
    fn layer(&mut self, blocks: &[Block; 2], input: usize, border: usize) -> usize {
        let mut inner = None;
        blocks.iter().fold(input, |x, block| {
            let y = match inner {
                None => self.convolve(block.first, x, RECTIFY, border),
                Some(y) => {
                    self.convolve_to(block.first, x, RECTIFY, y);
                    y
                }
            };
            inner = Some(y);
            let sum = block.shortcut.map_or(x, |shortcut| self.convolve(shortcut, x, AS_IT_IS, border));
            self.convolve_to(block.second, y, Activation { add: true, rectify: true }, sum);
            sum
        })
    }
}

impl Convolution {
    fn filters_and_stride(&self) -> (usize, usize) {
        match self {
            Self::Direct(direct) => (direct.filters(), direct.stride()),
            Self::Plain(plain) => (plain.bias.len(), 1),
        }
    }
}
