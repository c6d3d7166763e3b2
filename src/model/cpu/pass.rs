//! The steps of a forward pass for pictures of one size, and the memory that they work in.

use image::RgbImage;

use super::direct::Direct;
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
    most_pictures: usize,
    planes: Vec<Plane>,
    steps: Vec<Step>,
    /// How many of the steps, the first, are done with one picture after another. Theirs are the largest activations: of a picture
    /// by itself, a cache holds them, and there need be room for no more.
    alone: usize,
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

/// A step, with one of the pictures or with all.
#[derive(Debug, Clone, Copy)]
struct Turn {
    step: usize,
    picture: Option<usize>,
}

/// How a step is done with a number of pictures and threads.
#[derive(Debug, Clone, Copy)]
struct Division<'a> {
    tasks: usize,
    /// Of a convolution.
    algorithm: Option<Algorithm<'a>>,
}

#[derive(Debug, Clone, Copy)]
enum Algorithm<'a> {
    Direct(&'a Direct),
    Winograd(&'a Winograd, Split),
}

impl Pass {
    /// For up to `pictures` pictures at once.
    pub(super) fn new(network: &CpuNetwork, size: PassSize, pictures: usize) -> Self {
        let mut layout = Layout { network, pictures: 1, planes: Vec::new(), steps: Vec::new() };
        let PassSize { height, width, wanted } = size;
        let Convolution::Direct(stem) = &network.convolutions[network.stem] else {
            unreachable!("a 7x7 convolution is done directly");
        };
        let colours = layout.plane(height, width, COLOURS, stem.padding());
        layout.steps.push(Step { operation: Operation::Normalise, input: colours, output: colours });
        let stem = layout.convolve(network.stem, colours, RECTIFY, 1);
        let Shape { height, width, channels, .. } = layout.planes[stem].shape;
        let [layer1, layer2, layer3, layer4] = &network.layers;
        // Where `layer1` leaves its sums, too.
        layout.pictures = pictures;
        let pooled = layout.plane(height.div_ceil(2), width.div_ceil(2), channels, 1);
        layout.steps.push(Step { operation: Operation::Pool, input: stem, output: pooled });
        layout.pictures = 1;
        let layer1 = layout.layer(layer1, pooled, 1);
        let alone = layout.steps.len();
        layout.pictures = pictures;
        let layer3 = [layer2, layer3].into_iter().fold(layer1, |x, blocks| layout.layer(blocks, x, 1));
        let native = wanted.native.then(|| layout.layer(layer4, layer3, 1));
        let atrous = wanted.atrous.then(|| {
            let blocks = network.atrous.as_ref().expect("a network that was made for atrous activations");
            // Dilated convolutions reach two positions far.
            layout.layer(blocks, layer3, 2)
        });
        let Layout { planes, steps, .. } = layout;
        Self { size, most_pictures: pictures, planes, steps, alone, layer3, native, atrous }
    }

    pub(super) fn size(&self) -> PassSize {
        self.size
    }

    /// At once.
    pub(super) fn most_pictures(&self) -> usize {
        self.most_pictures
    }

    /// The steps in their order, the first ones again for each picture.
    fn turns(&self, pictures: usize) -> impl Iterator<Item = Turn> {
        let alone =
            (0..pictures * self.alone).map(|turn| Turn { step: turn % self.alone, picture: Some(turn / self.alone) });
        alone.chain((self.alone..self.steps.len()).map(|step| Turn { step, picture: None }))
    }

    /// Sends pictures through, at most [`Self::most_pictures`] and all of this pass's size.
    pub(super) fn run(&mut self, network: &CpuNetwork, pictures: &[&RgbImage]) {
        let fitting = |picture: &RgbImage| {
            (picture.height() as usize, picture.width() as usize) == (self.size.height, self.size.width)
        };
        assert!(pictures.len() <= self.most_pictures() && pictures.iter().copied().all(fitting));
        let views: OfSteps<PlaneView> = self.planes.iter_mut().map(|plane| plane.view(pictures.len())).collect();
        let of = |plane: usize, Turn { picture, .. }: Turn| {
            let all: PlaneView = views[plane];
            match picture {
                Some(picture) => all.of(picture),
                None => {
                    assert_eq!(all.shape.pictures, pictures.len(), "what all pictures share has room for all");
                    all
                }
            }
        };
        let turns: OfSteps<Turn> = self.turns(pictures.len()).collect();
        // Of the first turn of each step: other pictures are divided alike.
        let divisions: OfSteps<Division> = (self.turns(1))
            .map(|turn| divide(&self.steps[turn.step], network, &of(self.steps[turn.step].output, turn).shape))
            .collect();
        let tasks: OfSteps<usize> = turns.iter().map(|turn| divisions[turn.step].tasks).collect();
        let scratch = divisions.iter().map(Division::scratch).max();
        for own in &network.scratch {
            let mut own = own.lock().expect("no thread panics while it works");
            let len = own.len().max(scratch.unwrap_or(0));
            own.resize(len, 0.0);
        }
        network.team.walk(&tasks, |turn, task, thread| {
            let turn = turns[turn];
            let Step { operation, input, output } = self.steps[turn.step];
            let (input, output) = (of(input, turn), of(output, turn));
            match operation {
                // SAFETY: no two tasks have the same row.
                Operation::Normalise => unsafe {
                    let picture = turn.picture.expect("the first steps have a picture each");
                    normalise(task, &network.normalised, pictures[picture], output);
                },
                // SAFETY: the stem's output is rectified and twice as large.
                Operation::Pool => unsafe { network.instructions.run(pool::Task { row: task, input, output }) },
                Operation::Convolve { activation, .. } => {
                    let algorithm = divisions[turn.step].algorithm.expect("a convolution has one");
                    // SAFETY: `Layout` gave the planes the shapes that the convolution asks for, no step writes to what it
                    // reads, and tasks of one step share no outputs.
                    unsafe {
                        match algorithm {
                            Algorithm::Direct(direct) => direct.work(task, input, activation, output),
                            Algorithm::Winograd(winograd, split) => {
                                let mut scratch =
                                    network.scratch[thread].lock().expect("no thread panics while it works");
                                winograd.work(task, split, input, activation, output, &mut scratch);
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

fn divide<'a>(step: &Step, network: &'a CpuNetwork, output: &Shape) -> Division<'a> {
    let Operation::Convolve { convolution, .. } = step.operation else {
        return Division { tasks: pool::tasks(output), algorithm: None };
    };
    let direct =
        |direct: &'a Direct| Division { tasks: direct.tasks(output), algorithm: Some(Algorithm::Direct(direct)) };
    let winograd = |winograd: &'a Winograd| {
        let split = winograd.split(output, network.team.threads());
        Division { tasks: Winograd::tasks(output, split), algorithm: Some(Algorithm::Winograd(winograd, split)) }
    };
    match &network.convolutions[convolution] {
        Convolution::Direct(only) => direct(only),
        Convolution::Winograd(only) => winograd(only),
        Convolution::Either(either) if either.suits_winograd(output) => winograd(either.winograd()),
        Convolution::Either(either) => direct(either.direct()),
    }
}

impl Division<'_> {
    /// Numbers that a thread needs.
    fn scratch(&self) -> usize {
        match self.algorithm {
            Some(Algorithm::Winograd(winograd, split)) => winograd.scratch(split),
            Some(Algorithm::Direct(_)) | None => 0,
        }
    }
}

/// Writes a row of a picture.
///
/// # Safety
///
/// The output has the picture's size and three channels, and nobody uses this row of it meanwhile.
unsafe fn normalise(row: usize, normalised: &[[f32; 256]; 3], picture: &RgbImage, output: PlaneView) {
    let Shape { width, .. } = output.shape;
    let pixels = &picture.as_raw()[row * width * COLOURS..(row + 1) * width * COLOURS];
    let start = output.shape.offset(0, row, 0);
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
    /// Of the planes to come.
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
            Self::Winograd(winograd) => (winograd.filters(), 1),
            Self::Either(either) => (either.bias.len(), 1),
        }
    }
}
