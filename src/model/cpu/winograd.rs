//! 3x3 convolutions with fewer products (Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", section 4):
//! tiles of activations d and kernels g are transformed, multiplied value by value and summed over the channels, and the sums are
//! transformed back, Y = A' [(G g G') (B' d B)] A. The 4x4 outputs of a tile take 36 products a channel where the definition
//! takes 144, those of a 2x2 tile 16 where it takes 36.

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_mul_ps,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::kernel::{self, Activation, LANES, PANEL};
use super::plane::{PlaneView, Shape};

/// A 3x3 convolution without stride. `OUT` is the side of the outputs of a tile, and `SIDE` that of what they are computed from,
/// two more; outputs of 2 and 4 are implemented.
#[derive(Debug)]
pub(super) struct Winograd<const SIDE: usize, const OUT: usize> {
    /// Transformed: (places of a tile, panels, channels, [`PANEL`]).
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

type Vector = __m256;

impl<const SIDE: usize, const OUT: usize> Winograd<SIDE, OUT> {
    const PLACES: usize = SIDE * SIDE;

    /// From weights (filters, channels, 3, 3) and a bias (filters).
    ///
    /// # Panics
    ///
    /// When the filters are no multiple of 16, or the channels none of 8.
    pub(super) fn new(weights: &[f32], bias: &[f32], channels: usize) -> Self {
        let filters = bias.len();
        assert!(filters.is_multiple_of(PANEL) && channels.is_multiple_of(LANES));
        let kernel_transform = kernel_transform(SIDE);
        let mut transformed = vec![0.0; Self::PLACES * filters * channels];
        for (index, kernel) in weights.chunks_exact(9).enumerate() {
            let (filter, channel) = (index / channels, index % channels);
            for place in 0..Self::PLACES {
                let (rows, columns) = (kernel_transform[place / SIDE], kernel_transform[place % SIDE]);
                let products =
                    kernel.iter().enumerate().map(|(at, &weight)| rows[at / 3] * f64::from(weight) * columns[at % 3]);
                let panel = place * (filters / PANEL) + filter / PANEL;
                transformed[(panel * channels + channel) * PANEL + filter % PANEL] = products.sum::<f64>() as f32;
            }
        }
        Self { weights: transformed.into(), bias: bias.into(), channels }
    }

    pub(super) fn filters(&self) -> usize {
        self.bias.len()
    }

    fn panels(&self) -> usize {
        self.filters() / PANEL
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
        Self::PLACES * split.tiles * (self.channels + self.filters())
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
        let panels = group * self.panels() / split.filter_groups..(group + 1) * self.panels() / split.filter_groups;
        let shape = output.shape;
        let (rows, columns) = (shape.height.div_ceil(OUT), shape.width.div_ceil(OUT));
        let first = block * split.tiles;
        let count = split.tiles.min(Self::tiles(&shape) - first);
        let place_of = |tile: usize| {
            let (picture, tile) = (tile / (rows * columns), tile % (rows * columns));
            (picture, tile / columns * OUT, tile % columns * OUT)
        };
        let (transformed, products) = scratch.split_at_mut(Self::PLACES * split.tiles * self.channels);
        assert!(products.len() >= Self::PLACES * split.tiles * self.filters());
        for tile in 0..count {
            let (picture, row, column) = place_of(first + tile);
            // The kernel reaches one position beyond its output.
            let shift = input.shape.border - 1;
            let start = input.shape.offset_with_border(picture, row + shift, column + shift);
            let target = &mut transformed[tile * self.channels..];
            // SAFETY: planes end at a multiple of a tile with their border, so that the whole tile lies within.
            unsafe {
                let tile = input.values.add(start).cast_const();
                transform_input::<SIDE>(tile, &input.shape, target.as_mut_ptr(), count * self.channels);
            }
        }
        let panel_len = self.channels * PANEL;
        for place in 0..Self::PLACES {
            let tiles = &transformed[place * count * self.channels..(place + 1) * count * self.channels];
            for panel in panels.clone() {
                let weights = (place * self.panels() + panel) * panel_len;
                let weights = &self.weights[weights..weights + panel_len];
                let sums = &mut products[place * count * self.filters() + panel * PANEL..];
                // SAFETY: `count` rows of `channels` values each, and as many rows of the filters' sums.
                unsafe {
                    let (tiles, weights, sums) = (tiles.as_ptr(), weights.as_ptr(), sums.as_mut_ptr());
                    kernel::multiply(count, tiles, self.channels, weights, sums, self.filters());
                }
            }
        }
        for tile in 0..count {
            let (picture, row, column) = place_of(first + tile);
            let corner = shape.offset(picture, row, column);
            let inside = (OUT.min(shape.height - row), OUT.min(shape.width - column));
            let products = &products[tile * self.filters()..];
            for filter in (panels.start * PANEL..panels.end * PANEL).step_by(LANES) {
                // SAFETY: the outputs are this task's, and lie inside the picture.
                unsafe {
                    let products = products.as_ptr().add(filter);
                    let bias = _mm256_loadu_ps(self.bias.as_ptr().add(filter));
                    let target = output.values.add(corner + filter);
                    let stride = count * self.filters();
                    transform_output::<SIDE, OUT>(products, stride, bias, activation, target, &shape, inside);
                }
            }
        }
    }
}

/// G: (places in a row of the tile, 3).
fn kernel_transform(side: usize) -> &'static [[f64; 3]] {
    const TWO: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    const SIXTH: f64 = 1.0 / 6.0;
    const FOUR: [[f64; 3]; 6] = [
        [0.25, 0.0, 0.0],
        [-SIXTH, -SIXTH, -SIXTH],
        [-SIXTH, SIXTH, -SIXTH],
        [SIXTH / 4.0, SIXTH / 2.0, SIXTH],
        [SIXTH / 4.0, -SIXTH / 2.0, SIXTH],
        [0.0, 0.0, 1.0],
    ];
    if side == 4 { &TWO } else { &FOUR }
}

/// B' d of a column.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn input_column<const SIDE: usize>(d: [Vector; SIDE]) -> [Vector; SIDE] {
    let mut transformed = d;
    if SIDE == 4 {
        transformed[0] = _mm256_sub_ps(d[0], d[2]);
        transformed[1] = _mm256_add_ps(d[1], d[2]);
        transformed[2] = _mm256_sub_ps(d[2], d[1]);
        transformed[3] = _mm256_sub_ps(d[1], d[3]);
    } else {
        let (two, four, five) = (_mm256_set1_ps(2.0), _mm256_set1_ps(4.0), _mm256_set1_ps(5.0));
        let even = _mm256_fnmadd_ps(four, d[2], d[4]);
        let odd = _mm256_fnmadd_ps(four, d[1], d[3]);
        transformed[1] = _mm256_add_ps(even, odd);
        transformed[2] = _mm256_sub_ps(even, odd);
        let even = _mm256_sub_ps(d[4], d[2]);
        let odd = _mm256_mul_ps(two, _mm256_sub_ps(d[3], d[1]));
        transformed[3] = _mm256_add_ps(even, odd);
        transformed[4] = _mm256_sub_ps(even, odd);
        transformed[0] = _mm256_fmadd_ps(four, d[0], _mm256_fnmadd_ps(five, d[2], d[4]));
        transformed[5] = _mm256_fmadd_ps(four, d[1], _mm256_fnmadd_ps(five, d[3], d[5]));
    }
    transformed
}

/// A' m of a column.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn output_column<const SIDE: usize, const OUT: usize>(m: [Vector; SIDE]) -> [Vector; OUT] {
    let mut transformed = [_mm256_setzero_ps(); OUT];
    let (sum, difference) = (_mm256_add_ps(m[1], m[2]), _mm256_sub_ps(m[1], m[2]));
    if SIDE == 4 {
        transformed[0] = _mm256_add_ps(m[0], sum);
        transformed[1] = _mm256_sub_ps(difference, m[3]);
    } else {
        let (two, four, eight) = (_mm256_set1_ps(2.0), _mm256_set1_ps(4.0), _mm256_set1_ps(8.0));
        let (far_sum, far_difference) = (_mm256_add_ps(m[3], m[4]), _mm256_sub_ps(m[3], m[4]));
        transformed[0] = _mm256_add_ps(m[0], _mm256_add_ps(sum, far_sum));
        transformed[1] = _mm256_fmadd_ps(two, far_difference, difference);
        transformed[2] = _mm256_fmadd_ps(four, far_sum, sum);
        transformed[3] = _mm256_add_ps(m[5], _mm256_fmadd_ps(eight, far_difference, difference));
    }
    transformed
}

/// B' d B of all channels of a tile: place by place, `stride` values apart.
///
/// # Safety
///
/// The tile lies within its plane, and the target has room.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::needless_range_loop, reason = "a column is a place in memory and in the result")]
unsafe fn transform_input<const SIDE: usize>(tile: *const f32, shape: &Shape, target: *mut f32, stride: usize) {
    let row_len = shape.row();
    for channel in (0..shape.channels).step_by(LANES) {
        let mut half = [[_mm256_setzero_ps(); SIDE]; SIDE];
        for column in 0..SIDE {
            let mut values = [_mm256_setzero_ps(); SIDE];
            for (row, value) in values.iter_mut().enumerate() {
                // SAFETY: as the caller promises.
                *value = unsafe { _mm256_loadu_ps(tile.add(row * row_len + column * shape.channels + channel)) };
            }
            for (row, value) in input_column(values).into_iter().enumerate() {
                half[row][column] = value;
            }
        }
        for (row, half) in half.into_iter().enumerate() {
            for (column, value) in input_column(half).into_iter().enumerate() {
                // SAFETY: as the caller promises.
                unsafe { _mm256_storeu_ps(target.add((row * SIDE + column) * stride + channel), value) };
            }
        }
    }
}

/// A' m A of eight filters of a tile, finished: those `inside` the picture, of so many rows and columns, are written.
///
/// # Safety
///
/// The products lie place by place, `stride` values apart; the target lies within a plane of the shape.
#[inline]
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::needless_range_loop, reason = "a column is a place in memory and in the result")]
unsafe fn transform_output<const SIDE: usize, const OUT: usize>(
    products: *const f32,
    stride: usize,
    bias: Vector,
    activation: Activation,
    target: *mut f32,
    shape: &Shape,
    inside: (usize, usize),
) {
    let mut half = [[_mm256_setzero_ps(); SIDE]; OUT];
    for column in 0..SIDE {
        let mut values = [_mm256_setzero_ps(); SIDE];
        for (row, value) in values.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            *value = unsafe { _mm256_loadu_ps(products.add((row * SIDE + column) * stride)) };
        }
        for (row, value) in output_column::<SIDE, OUT>(values).into_iter().enumerate() {
            half[row][column] = value;
        }
    }
    for (row, half) in half.into_iter().enumerate().take(inside.0) {
        for (column, value) in output_column::<SIDE, OUT>(half).into_iter().enumerate().take(inside.1) {
            let mut value = _mm256_add_ps(value, bias);
            // SAFETY: as the caller promises.
            unsafe {
                let target = target.add(row * shape.row() + column * shape.channels);
                if activation.add {
                    value = _mm256_add_ps(value, _mm256_loadu_ps(target));
                }
                if activation.rectify {
                    value = _mm256_max_ps(value, _mm256_setzero_ps());
                }
                _mm256_storeu_ps(target, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tile_belongs_to_a_task_and_no_task_is_empty() {
        for channels in [64, 512] {
            let winograd = Winograd::<6, 4>::new(&vec![0.0; 9 * channels * 32], &[0.0; 32], channels);
            for height in (1..700).step_by(3) {
                for threads in 1..5 {
                    let shape = Shape { pictures: 2, height, width: 9, channels: 32, border: 1 };
                    let split = winograd.split(&shape, threads);
                    let blocks = Winograd::<6, 4>::tasks(&shape, split) / split.filter_groups;
                    let tiles = 2 * height.div_ceil(4) * 3;
                    assert!((blocks - 1) * split.tiles < tiles && tiles <= blocks * split.tiles);
                }
            }
        }
    }
}
