//! 3x3 convolutions with fewer products (Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", section 4):
//! tiles of activations d and kernels g are transformed, multiplied value by value and summed over the channels, and the sums are
//! transformed back, Y = A' [(G g G') (B' d B)] A. The 4x4 outputs of a tile take 36 products a channel where the definition
//! takes 144.

use std::ops::Range;

use super::kernel::{self, Activation, Rows};
use super::plane::{PlaneView, Shape};
use super::vector::{Instructions, Vector, Work};

/// Side of the outputs of a tile.
const OUT: usize = 4;
/// Side of what they are computed from.
const SIDE: usize = OUT + 2;
/// Places of a tile.
const PLACES: usize = SIDE * SIDE;

/// A 3x3 convolution without stride.
#[derive(Debug)]
pub(super) struct Winograd {
    instructions: Instructions,
    /// Transformed: (places of a tile, panels, channels, filters of a panel).
    weights: Box<[f32]>,
    bias: Box<[f32]>,
    channels: usize,
}

/// How the work is divided into tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Tiles of a task; the last has what is left.
    tiles: usize,
    /// Tasks that share tiles, each with a part of the filters.
    filter_groups: usize,
}

/// A part of a convolution.
struct Task<'a> {
    convolution: &'a Winograd,
    input: PlaneView,
    output: PlaneView,
    activation: Activation,
    first_tile: usize,
    tiles: usize,
    filters: Range<usize>,
    scratch: &'a mut [f32],
}

/// Tiles at a place, a row each.
struct Tiles {
    channels: usize,
    values: *const f32,
    filters: usize,
    /// At the panel's first filter.
    sums: *mut f32,
}

impl Winograd {
    /// From weights (filters, channels, 3, 3) and a bias (filters).
    ///
    /// # Panics
    ///
    /// When the filters are no multiple of a panel's, or the channels none of a vector's.
    pub(super) fn new(instructions: Instructions, weights: &[f32], bias: &[f32], channels: usize) -> Self {
        let (filters, panel_size) = (bias.len(), instructions.panel());
        assert!(filters.is_multiple_of(panel_size) && channels.is_multiple_of(instructions.lanes()));
        let mut transformed = vec![0.0; PLACES * filters * channels];
        for (index, kernel) in weights.chunks_exact(9).enumerate() {
            let (filter, channel) = (index / channels, index % channels);
            for place in 0..PLACES {
                let (rows, columns) = (KERNEL_TRANSFORM[place / SIDE], KERNEL_TRANSFORM[place % SIDE]);
                let products =
                    kernel.iter().enumerate().map(|(at, &weight)| rows[at / 3] * f64::from(weight) * columns[at % 3]);
                let panel = place * (filters / panel_size) + filter / panel_size;
                transformed[(panel * channels + channel) * panel_size + filter % panel_size] =
                    products.sum::<f64>() as f32;
            }
        }
        Self { instructions, weights: transformed.into(), bias: bias.into(), channels }
    }

    pub(super) fn filters(&self) -> usize {
        self.bias.len()
    }

    fn panels(&self) -> usize {
        self.filters() / self.instructions.panel()
    }

    /// How to divide the work between threads: tiles that fit into a core's cache or, where the weights are what is large and the
    /// tiles are few, all tiles and a part of the filters each, so that weights are read once.
    pub(super) fn split(&self, output: &Shape, threads: usize) -> Split {
        let tiles = Self::tiles(output);
        // Measured with 64 to 512 channels on 512 KiB a core.
        let (most, few) = match self.channels {
            ..=128 => (36, 0),
            129..=256 => (24, 24),
            _ => (96, 128),
        };
        if tiles <= few {
            return Split { tiles, filter_groups: threads.min(self.panels()) };
        }
        let tasks = tiles.div_ceil(most).next_multiple_of(threads);
        Split { tiles: tiles.div_ceil(tasks), filter_groups: 1 }
    }

    /// How many tasks that makes.
    pub(super) fn tasks(output: &Shape, split: Split) -> usize {
        Self::tiles(output).div_ceil(split.tiles) * split.filter_groups
    }

    /// Numbers that a thread needs beside the planes.
    pub(super) fn scratch(&self, split: Split) -> usize {
        PLACES * split.tiles * (self.channels + self.filters())
    }

    /// Of all pictures.
    pub(super) fn tiles(output: &Shape) -> usize {
        output.pictures * output.height.div_ceil(OUT) * output.width.div_ceil(OUT)
    }

    /// Does a task.
    ///
    /// # Safety
    ///
    /// As for [`super::direct::Direct::work`], with padding 1 and stride 1.
    ///
    /// # Panics
    ///
    /// When there is less [`Self::scratch`].
    pub(super) unsafe fn work(
        &self,
        task: usize,
        split: Split,
        input: PlaneView,
        activation: Activation,
        output: PlaneView,
        scratch: &mut [f32],
    ) {
        let (block, group) = (task / split.filter_groups, task % split.filter_groups);
        let first_filter = |group: usize| group * self.panels() / split.filter_groups * self.instructions.panel();
        let first_tile = block * split.tiles;
        let tiles = split.tiles.min(Self::tiles(&output.shape) - first_tile);
        let filters = first_filter(group)..first_filter(group + 1);
        let task = Task { convolution: self, input, output, activation, first_tile, tiles, filters, scratch };
        // SAFETY: as the caller promises.
        unsafe { self.instructions.run(task) }
    }
}

impl Work for Task<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { convolution, input, output, activation, first_tile, tiles, filters, scratch } = self;
        let (channels, all_filters) = (convolution.channels, convolution.filters());
        let shape = output.shape;
        let (rows, columns) = (shape.height.div_ceil(OUT), shape.width.div_ceil(OUT));
        let place_of = |tile: usize| {
            let (picture, tile) = (tile / (rows * columns), tile % (rows * columns));
            (picture, tile / columns * OUT, tile % columns * OUT)
        };
        let (transformed, products) = scratch.split_at_mut(PLACES * tiles * channels);
        assert!(products.len() >= PLACES * tiles * all_filters);
        for tile in 0..tiles {
            let (picture, row, column) = place_of(first_tile + tile);
            // The kernel reaches one position beyond its output.
            let shift = input.shape.border - 1;
            let start = input.shape.offset_with_border(picture, row + shift, column + shift);
            let target = &mut transformed[tile * channels..];
            // SAFETY: planes end at a multiple of a tile with their border, so that the whole tile lies within.
            unsafe {
                let tile = input.values.add(start).cast_const();
                transform_input::<V>(tile, &input.shape, target.as_mut_ptr(), tiles * channels);
            }
        }
        for place in 0..PLACES {
            let values = transformed[place * tiles * channels..(place + 1) * tiles * channels].as_ptr();
            for filter in filters.clone().step_by(V::PANEL) {
                let weights = (place * all_filters + filter) * channels;
                let weights = &convolution.weights[weights..weights + V::PANEL * channels];
                let sums = products[place * tiles * all_filters + filter..].as_mut_ptr();
                let rows = Tiles { channels, values, filters: all_filters, sums };
                // SAFETY: `tiles` rows of `channels` values each, and as many rows of the filters' sums.
                unsafe { kernel::multiply::<V>(&rows, tiles, &[0], channels, weights.as_ptr()) };
            }
        }
        for tile in 0..tiles {
            let (picture, row, column) = place_of(first_tile + tile);
            let corner = shape.offset(picture, row, column);
            let inside = (OUT.min(shape.height - row), OUT.min(shape.width - column));
            let products = &products[tile * all_filters..];
            for filter in filters.clone().step_by(V::LANES) {
                // SAFETY: the outputs are this task's, and lie inside the picture.
                unsafe {
                    let products = products.as_ptr().add(filter);
                    let bias = V::load(convolution.bias.as_ptr().add(filter));
                    let target = output.values.add(corner + filter);
                    let stride = tiles * all_filters;
                    transform_output::<V>(products, stride, bias, activation, target, &shape, inside);
                }
            }
        }
    }
}

impl Rows for Tiles {
    #[inline(always)]
    unsafe fn row(&self, index: usize) -> *const f32 {
        // SAFETY: as the caller promises.
        unsafe { self.values.add(index * self.channels) }
    }

    #[inline(always)]
    unsafe fn put<V: Vector>(&self, index: usize, products: [V; 2]) {
        // SAFETY: as the caller promises.
        unsafe {
            let sums = self.sums.add(index * self.filters);
            products[0].store(sums);
            products[1].store(sums.add(V::LANES));
        }
    }
}

/// G: (places in a row of the tile, 3).
const KERNEL_TRANSFORM: [[f64; 3]; SIDE] = [
    [0.25, 0.0, 0.0],
    [-SIXTH, -SIXTH, -SIXTH],
    [-SIXTH, SIXTH, -SIXTH],
    [SIXTH / 4.0, SIXTH / 2.0, SIXTH],
    [SIXTH / 4.0, -SIXTH / 2.0, SIXTH],
    [0.0, 0.0, 1.0],
];
const SIXTH: f64 = 1.0 / 6.0;

/// B' d of a column.
///
/// # Safety
///
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn input_column<V: Vector>(d: [V; SIDE]) -> [V; SIDE] {
    // SAFETY: as the caller promises.
    unsafe {
        let (two, four, five) = (V::splat(2.0), V::splat(4.0), V::splat(5.0));
        let (even, odd) = (d[4].less_product(four, d[2]), d[3].less_product(four, d[1]));
        let (far_even, far_odd) = (d[4].sub(d[2]), two.mul(d[3].sub(d[1])));
        [
            d[4].less_product(five, d[2]).plus_product(four, d[0]),
            even.add(odd),
            even.sub(odd),
            far_even.add(far_odd),
            far_even.sub(far_odd),
            d[5].less_product(five, d[3]).plus_product(four, d[1]),
        ]
    }
}

/// A' m of a column.
///
/// # Safety
///
/// The processor has the vector's instructions.
#[inline(always)]
unsafe fn output_column<V: Vector>(m: [V; SIDE]) -> [V; OUT] {
    // SAFETY: as the caller promises.
    unsafe {
        let (two, four, eight) = (V::splat(2.0), V::splat(4.0), V::splat(8.0));
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (far_sum, far_difference) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(sum.add(far_sum)),
            difference.plus_product(two, far_difference),
            sum.plus_product(four, far_sum),
            m[5].add(difference.plus_product(eight, far_difference)),
        ]
    }
}

/// B' d B of all channels of a tile: place by place, `stride` values apart.
///
/// # Safety
///
/// The processor has the vector's instructions, the tile lies within its plane, and the target has room.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a column is a place in memory and in the result")]
unsafe fn transform_input<V: Vector>(tile: *const f32, shape: &Shape, target: *mut f32, stride: usize) {
    let row_len = shape.row();
    for channel in (0..shape.channels).step_by(V::LANES) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut half = [[V::zero(); SIDE]; SIDE];
            for column in 0..SIDE {
                let mut values = [V::zero(); SIDE];
                for (row, value) in values.iter_mut().enumerate() {
                    *value = V::load(tile.add(row * row_len + column * shape.channels + channel));
                }
                for (row, value) in input_column(values).into_iter().enumerate() {
                    half[row][column] = value;
                }
            }
            for (row, half) in half.into_iter().enumerate() {
                for (column, value) in input_column(half).into_iter().enumerate() {
                    value.store(target.add((row * SIDE + column) * stride + channel));
                }
            }
        }
    }
}

/// A' m A of a vector of filters of a tile, finished: those `inside` the picture, of so many rows and columns, are written.
///
/// # Safety
///
/// The processor has the vector's instructions. The products lie place by place, `stride` values apart; the target lies within a
/// plane of the shape.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a column is a place in memory and in the result")]
unsafe fn transform_output<V: Vector>(
    products: *const f32,
    stride: usize,
    bias: V,
    activation: Activation,
    target: *mut f32,
    shape: &Shape,
    inside: (usize, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut half = [[V::zero(); SIDE]; OUT];
        for column in 0..SIDE {
            let mut values = [V::zero(); SIDE];
            for (row, value) in values.iter_mut().enumerate() {
                *value = V::load(products.add((row * SIDE + column) * stride));
            }
            for (row, value) in output_column(values).into_iter().enumerate() {
                half[row][column] = value;
            }
        }
        for (row, half) in half.into_iter().enumerate().take(inside.0) {
            for (column, value) in output_column(half).into_iter().enumerate().take(inside.1) {
                let target = target.add(row * shape.row() + column * shape.channels);
                activation.finish(value, bias, target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tile_belongs_to_a_task_and_no_task_is_empty() {
        let Some(instructions) = Instructions::detect() else { return };
        for channels in [64, 512] {
            let winograd = Winograd::new(instructions, &vec![0.0; 9 * channels * 32], &[0.0; 32], channels);
            for height in (1..700).step_by(3) {
                for threads in 1..5 {
                    let shape = Shape { pictures: 2, height, width: 9, channels: 32, border: 1 };
                    let split = winograd.split(&shape, threads);
                    let blocks = Winograd::tasks(&shape, split) / split.filter_groups;
                    let tiles = 2 * height.div_ceil(4) * 3;
                    assert!((blocks - 1) * split.tiles < tiles && tiles <= blocks * split.tiles);
                }
            }
        }
    }
}
