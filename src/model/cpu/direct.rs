//! Convolutions as they are defined, for those that a Winograd convolution cannot do: with stride, dilated, 1x1 and 7x7.

use super::kernel::{self, Activation, Finish, PANEL, ROWS};
use super::plane::{PlaneView, Shape};

/// Positions of a task: their activations stay in the nearest cache while the panels pass by.
const CHUNK: usize = 8 * ROWS;
/// Panels of a task: their weights stay in the cache of a core from one task to the next.
const GROUP: usize = 4;
/// Most places at which a kernel begins to read: nine of a dilated 3x3 one, and a row each of others.
const MOST_OFFSETS: usize = 9;

/// A convolution, padded so that stride alone decides the output size.
#[derive(Debug)]
pub(super) struct Direct {
    /// (panels, rows, columns and channels of the kernel, [`PANEL`]).
    weights: Box<[f32]>,
    bias: Box<[f32]>,
    channels: usize,
    side: usize,
    stride: usize,
    dilation: usize,
}

impl Direct {
    /// From weights (filters, channels, side, side) and a bias (filters).
    ///
    /// # Panics
    ///
    /// When the filters are no multiple of 16, or the kernel is a dilated one of more than 3x3.
    pub(super) fn new(
        weights: &[f32],
        bias: &[f32],
        channels: usize,
        side: usize,
        stride: usize,
        dilation: usize,
    ) -> Self {
        let filters = bias.len();
        assert!(filters.is_multiple_of(PANEL) && (dilation == 1 || side * side <= MOST_OFFSETS));
        let mut packed = Vec::with_capacity(weights.len());
        for panel in (0..filters).step_by(PANEL) {
            for place in 0..side * side {
                for channel in 0..channels {
                    let of_filter = |filter| weights[(filter * channels + channel) * side * side + place];
                    packed.extend((panel..panel + PANEL).map(of_filter));
                }
            }
        }
        Self { weights: packed.into(), bias: bias.into(), channels, side, stride, dilation }
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

    fn panels(&self) -> usize {
        self.filters() / PANEL
    }

    /// Into how many tasks it can be divided.
    pub(super) fn tasks(&self, output: &Shape) -> usize {
        output.positions().div_ceil(CHUNK) * self.panels().div_ceil(GROUP)
    }

    /// Does a task.
    ///
    /// # Safety
    ///
    /// The processor has what [`kernel::is_supported`] asks for. The input has this convolution's channels and a border at least as
    /// wide as its padding, and the output its filters, and rows and columns as the stride leaves them. Nobody writes to the input,
    /// nor uses the output's positions of this task, meanwhile.
    pub(super) unsafe fn work(&self, task: usize, input: PlaneView, activation: Activation, output: PlaneView) {
        let PlaneView { shape, values } = output;
        let chunks = shape.positions().div_ceil(CHUNK);
        let (group, chunk) = (task / chunks, task % chunks);
        let (first, end) = (chunk * CHUNK, shape.positions().min((chunk + 1) * CHUNK));
        let (offsets, run) = self.offsets(&input.shape);
        let offsets = &offsets[..if self.dilation == 1 { self.side } else { self.side * self.side }];
        let panel_len = self.side * self.side * self.channels * PANEL;
        let shift = input.shape.border - self.padding();
        let (mut starts, mut outputs) = ([0; CHUNK], [0; CHUNK]);
        for (index, (start, place)) in starts.iter_mut().zip(&mut outputs).take(end - first).enumerate() {
            let (picture, row, column) = shape.place(first + index);
            let (top, left) = (row * self.stride + shift, column * self.stride + shift);
            *start = input.shape.offset_with_border(picture, top, left);
            *place = shape.offset(picture, row, column);
        }
        for panel in group * GROUP..self.panels().min((group + 1) * GROUP) {
            let weights = &self.weights[panel * panel_len..(panel + 1) * panel_len];
            let finish = Finish { bias: self.bias[panel * PANEL..].as_ptr(), activation };
            let mut done = 0;
            while done < end - first {
                let rows = done..done + kernel::rows_of_group(end - first, done);
                done = rows.end;
                // SAFETY: the kernel's rows lie within the input's border, the panel holds what `offsets` times `run` read, and
                // the outputs are this task's.
                unsafe {
                    let (starts, outputs) = (&starts[rows.clone()], &outputs[rows]);
                    let target = values.add(panel * PANEL);
                    kernel::convolve(input.values, starts, offsets, run, weights.as_ptr(), finish, target, outputs);
                }
            }
        }
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
