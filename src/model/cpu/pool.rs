//! The 3x3 maximum of every second position, after the stem.

use super::plane::{PlaneView, Shape};
use super::vector::{Vector, Work};

/// A row of the output.
pub(super) struct Task {
    /// All rows of all pictures are counted.
    pub(super) row: usize,
    pub(super) input: PlaneView,
    pub(super) output: PlaneView,
}

/// Into how many tasks it can be divided: one a row.
pub(super) fn tasks(output: &Shape) -> usize {
    output.pictures * output.height
}

impl Work for Task {
    /// Does it.
    ///
    /// # Safety
    ///
    /// The processor has the vector's instructions. The input is rectified, so that its border of zeros, at least 1 wide, never is
    /// the maximum; it has the output's channels, a multiple of a vector's, and twice its rows and columns, or one less. Nobody
    /// writes to the input, nor uses this row of the output, meanwhile.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { row, input, output } = self;
        let (picture, row) = (row / output.shape.height, row % output.shape.height);
        let shift = input.shape.border - 1;
        for column in 0..output.shape.width {
            let start = input.shape.offset_with_border(picture, 2 * row + shift, 2 * column + shift);
            let target = output.shape.offset(picture, row, column);
            for channel in (0..output.shape.channels).step_by(V::LANES) {
                // SAFETY: the nine positions lie within the input's border.
                unsafe {
                    let start = input.values.add(start + channel);
                    let mut maximum = V::load(start);
                    for place in 1..9 {
                        let place = place / 3 * input.shape.row() + place % 3 * input.shape.channels;
                        maximum = maximum.max(V::load(start.add(place)));
                    }
                    maximum.store(output.values.add(target + channel));
                }
            }
        }
    }
}
