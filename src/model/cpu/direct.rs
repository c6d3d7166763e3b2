//! Convolutions as they are defined, for those that a Winograd convolution cannot do: with stride, dilated, 1x1 and 7x7.

use std::ops::Range;

use super::kernel::{self, Activation, Rows};
use super::plane::{PlaneView, Shape};
use super::vector::{Instructions, Vector, Work};

/// Most positions of a task: their activations stay in the nearest cache while the panels pass by.
const CHUNK: usize = 60;
/// Filters of a task: their weights stay in the cache of a core from one task to the next.
const GROUP: usize = 64;
/// Most places at which a kernel begins to read: nine of a dilated 3x3 one, and a row each of others.
const MOST_OFFSETS: usize = 9;

/// A convolution, padded so that stride alone decides the output size.
#[derive(Debug)]
pub(super) struct Direct {
    instructions: Instructions,
    /// (panels, rows, columns and channels of the kernel, filters of a panel).
    weights: Box<[f32]>,
    bias: Box<[f32]>,
    channels: usize,
    side: usize,
    stride: usize,
    dilation: usize,
}

/// A part of a convolution.
struct Task<'a> {
    convolution: &'a Direct,
    input: PlaneView,
    output: PlaneView,
    activation: Activation,
    /// Of the output, in the order of their memory.
    positions: Range<usize>,
    filters: Range<usize>,
}

/// Positions of a panel.
struct Positions<'a> {
    /// Of the input.
    values: *const f32,
    starts: &'a [usize],
    /// Of the output, at the panel's first filter.
    target: *mut f32,
    places: &'a [usize],
    bias: *const f32,
    activation: Activation,
}

impl Direct {
    /// From weights (filters, channels, side, side) and a bias (filters).
    ///
    /// # Panics
    ///
    /// When the filters are no multiple of a panel's, or the kernel is a dilated one of more than 3x3.
    pub(super) fn new(
        instructions: Instructions,
        weights: &[f32],
        bias: &[f32],
        channels: usize,
        side: usize,
        stride: usize,
        dilation: usize,
    ) -> Self {
        let (filters, panel) = (bias.len(), instructions.panel());
        assert!(filters.is_multiple_of(panel) && (dilation == 1 || side * side <= MOST_OFFSETS));
        let mut packed = Vec::with_capacity(weights.len());
        for first in (0..filters).step_by(panel) {
            for place in 0..side * side {
                for channel in 0..channels {
                    let of_filter = |filter| weights[(filter * channels + channel) * side * side + place];
                    packed.extend((first..first + panel).map(of_filter));
                }
            }
        }
        Self { instructions, weights: packed.into(), bias: bias.into(), channels, side, stride, dilation }
    }

    pub(super) fn padding(&self) -> usize {
        self.dilation * (self.side - 1) / 2
    }

    pub(super) fn filters(&self) -> usize {
        self.bias.len()
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Into how many tasks it can be divided.
    pub(super) fn tasks(&self, output: &Shape) -> usize {
        output.positions().div_ceil(CHUNK) * self.filters().div_ceil(GROUP)
    }

    /// Does a task.
    ///
    /// # Safety
    ///
    /// The processor has the instructions that this was made for. The input has this convolution's channels and a border at least as
    /// wide as its padding, and the output its filters, and rows and columns as the stride leaves them. Nobody writes to the input,
    /// nor uses the output's positions of this task, meanwhile.
    pub(super) unsafe fn work(&self, task: usize, input: PlaneView, activation: Activation, output: PlaneView) {
        let positions = output.shape.positions();
        let chunks = positions.div_ceil(CHUNK);
        let (group, chunk) = (task / chunks, task % chunks);
        let task = Task {
            convolution: self,
            input,
            output,
            activation,
            positions: chunk * positions / chunks..(chunk + 1) * positions / chunks,
            filters: group * GROUP..self.filters().min((group + 1) * GROUP),
        };
        // SAFETY: as the caller promises.
        unsafe { self.instructions.run(task) }
    }

    /// Where the kernel begins to read, from its first value on, and how much without a gap: a row of the kernel is one run
    /// unless it is dilated.
    fn offsets(&self, input: &Shape) -> ([usize; MOST_OFFSETS], usize) {
        let mut offsets = [0; MOST_OFFSETS];
        if self.dilation == 1 {
            offsets.iter_mut().enumerate().for_each(|(row, offset)| *offset = row * input.row());
            return (offsets, self.side * self.channels);
        }
        for (place, offset) in offsets.iter_mut().enumerate() {
            let (row, column) = (place / self.side, place % self.side);
            *offset = self.dilation * (row * input.row() + column * self.channels);
        }
        (offsets, self.channels)
    }
}

impl Work for Task<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { convolution, input, output, activation, positions, filters } = self;
        let Direct { weights, bias, channels, side, stride, dilation, .. } = convolution;
        let (offsets, run) = convolution.offsets(&input.shape);
        let offsets = &offsets[..if *dilation == 1 { *side } else { side * side }];
        let filter_len = side * side * channels;
        let shift = input.shape.border - convolution.padding();
        let count = positions.len();
        let (mut starts, mut places) = ([0; CHUNK], [0; CHUNK]);
        for (index, (start, place)) in starts.iter_mut().zip(&mut places).take(count).enumerate() {
            let (picture, row, column) = output.shape.place(positions.start + index);
            *start = input.shape.offset_with_border(picture, row * stride + shift, column * stride + shift);
            *place = output.shape.offset(picture, row, column);
        }
        for filter in filters.step_by(V::PANEL) {
            let weights = &weights[filter * filter_len..(filter + V::PANEL) * filter_len];
            // SAFETY: the kernel's rows lie within the input's border, the panel holds what `offsets` times `run` read, and the
            // outputs are this task's.
            unsafe {
                let rows = Positions {
                    values: input.values,
                    starts: &starts[..count],
                    target: output.values.add(filter),
                    places: &places[..count],
                    bias: bias[filter..].as_ptr(),
                    activation,
                };
                kernel::multiply::<V>(&rows, count, offsets, run, weights.as_ptr());
            }
        }
    }
}

impl Rows for Positions<'_> {
    #[inline(always)]
    unsafe fn row(&self, index: usize) -> *const f32 {
        // SAFETY: as the caller promises.
        unsafe { self.values.add(self.starts[index]) }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(&self, index: usize, products: [V; 2]) {
        for (half, products) in products.into_iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe {
                let bias = V::load(self.bias.add(half * V::LANES));
                let target = self.target.add(self.places[index] + half * V::LANES);
                self.activation.finish(products, bias, target);
            }
        }
    }
}
