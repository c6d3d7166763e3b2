//! The 3x3 maximum of every second position, after the stem.

use std::arch::x86_64::{_mm256_loadu_ps, _mm256_max_ps, _mm256_storeu_ps};

use super::kernel::LANES;
use super::plane::{PlaneView, Shape};

/// Into how many tasks it can be divided: one a row.
pub(super) fn tasks(output: &Shape) -> usize {
    output.pictures * output.height
}

/// Does a task.
///
/// # Safety
///
/// The processor has AVX2. The input is rectified, so that its border of zeros, at least 1 wide, never is the maximum; it has the
/// output's channels, a multiple of 8, and twice its rows and columns, or one less. Nobody writes to the input, nor uses this row
/// of the output, meanwhile.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn work(task: usize, input: PlaneView, output: PlaneView) {
    let (picture, row) = (task / output.shape.height, task % output.shape.height);
    let shift = input.shape.border - 1;
    for column in 0..output.shape.width {
        let start = input.shape.offset_with_border(picture, 2 * row + shift, 2 * column + shift);
        let target = output.shape.offset(picture, row, column);
        for channel in (0..output.shape.channels).step_by(LANES) {
            // SAFETY: the nine positions lie within the input's border.
            unsafe {
                let start = input.values.add(start + channel);
                let mut maximum = _mm256_loadu_ps(start);
                for place in 1..9 {
                    let place = place / 3 * input.shape.row() + place % 3 * input.shape.channels;
                    maximum = _mm256_max_ps(maximum, _mm256_loadu_ps(start.add(place)));
                }
                _mm256_storeu_ps(output.values.add(target + channel), maximum);
            }
        }
    }
}
