//! The products that all convolutions are made of: a few rows of activations times a panel of weights, which stays in registers
//! (Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication"). For x86 processors with AVX2 and FMA.

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_setzero_ps,
    _mm256_storeu_ps,
};

/// Numbers in a vector.
pub(super) const LANES: usize = 8;
/// Outputs of a panel.
pub(super) const PANEL: usize = 2 * LANES;
/// Most rows of activations at once: twelve of the sixteen registers hold sums, two a row of weights.
pub(super) const ROWS: usize = 6;

/// Whether this processor has the instructions.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Into how many groups of at most [`ROWS`] rows, about equally large, and how many rows the group after `done` rows has.
pub(super) fn rows_of_group(count: usize, done: usize) -> usize {
    let groups_left = (count - done).div_ceil(ROWS);
    (count - done).div_ceil(groups_left)
}

/// What becomes of sums beside the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activation {
    /// Whether they are added to what is already there, a shortcut.
    pub(super) add: bool,
    /// Whether what is negative becomes zero.
    pub(super) rectify: bool,
}

/// What becomes of sums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// Added to the outputs of the panel.
    pub(super) bias: *const f32,
    /// The rest.
    pub(super) activation: Activation,
}

/// Products of `N` rows and a panel, summed over runs of `run` values that begin `offsets` after the start of each row.
///
/// # Safety
///
/// The processor has AVX2 and FMA ([`is_supported`]). For each row and offset, `run` values can be read, and of the panel `run`
/// times [`PANEL`] for each offset.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate<const N: usize>(
    rows: [*const f32; N],
    offsets: &[usize],
    run: usize,
    mut panel: *const f32,
) -> [[__m256; 2]; N] {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for &offset in offsets {
        for index in offset..offset + run {
            // SAFETY: within what the caller promises.
            unsafe {
                let weights = [_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(LANES))];
                panel = panel.add(PANEL);
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let value = _mm256_broadcast_ss(&*row.add(index));
                    sums[0] = _mm256_fmadd_ps(value, weights[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(value, weights[1], sums[1]);
                }
            }
        }
    }
    sums
}

/// Writes the products of rows and a panel to `output`, row by row, `stride` values apart.
///
/// # Safety
///
/// As for [`accumulate`], and [`PANEL`] values can be written at each row of the output, which nobody else uses.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply(
    count: usize,
    rows: *const f32,
    run: usize,
    panel: *const f32,
    output: *mut f32,
    stride: usize,
) {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn group<const N: usize>(rows: *const f32, run: usize, panel: *const f32, output: *mut f32, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            let sums = accumulate::<N>(std::array::from_fn(|row| rows.add(row * run)), &[0], run, panel);
            for (row, sums) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(output.add(row * stride), sums[0]);
                _mm256_storeu_ps(output.add(row * stride + LANES), sums[1]);
            }
        }
    }
    let mut done = 0;
    while done < count {
        let size = rows_of_group(count, done);
        // SAFETY: as the caller promises.
        unsafe {
            let (rows, output) = (rows.add(done * run), output.add(done * stride));
            match size {
                6 => group::<6>(rows, run, panel, output, stride),
                5 => group::<5>(rows, run, panel, output, stride),
                4 => group::<4>(rows, run, panel, output, stride),
                3 => group::<3>(rows, run, panel, output, stride),
                2 => group::<2>(rows, run, panel, output, stride),
                _ => group::<1>(rows, run, panel, output, stride),
            }
        }
        done += size;
    }
}

/// Writes the finished products of rows, at most [`ROWS`], and a panel: of the row that begins at `starts[i]` of the input to
/// `places[i]` of the output.
///
/// # Safety
///
/// As for [`accumulate`]; [`PANEL`] values can be read at the bias, and read and written at each place, which nobody else uses.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::too_many_arguments, reason = "what a kernel needs")]
pub(super) unsafe fn convolve(
    input: *const f32,
    starts: &[usize],
    offsets: &[usize],
    run: usize,
    panel: *const f32,
    finish: Finish,
    output: *mut f32,
    places: &[usize],
) {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn group<const N: usize>(
        rows: [*const f32; N],
        offsets: &[usize],
        run: usize,
        panel: *const f32,
        finish: Finish,
        output: *mut f32,
        places: &[usize],
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let sums = accumulate::<N>(rows, offsets, run, panel);
            for (sums, &place) in sums.into_iter().zip(places) {
                for (half, sum) in sums.into_iter().enumerate() {
                    let mut value = _mm256_add_ps(sum, _mm256_loadu_ps(finish.bias.add(half * LANES)));
                    let target = output.add(place + half * LANES);
                    if finish.activation.add {
                        value = _mm256_add_ps(value, _mm256_loadu_ps(target));
                    }
                    if finish.activation.rectify {
                        value = _mm256_max_ps(value, _mm256_setzero_ps());
                    }
                    _mm256_storeu_ps(target, value);
                }
            }
        }
    }
    // SAFETY: as the caller promises.
    let row = |index: usize| unsafe { input.add(starts[index]) };
    // SAFETY: as the caller promises.
    unsafe {
        match starts.len() {
            6 => group::<6>(std::array::from_fn(row), offsets, run, panel, finish, output, places),
            5 => group::<5>(std::array::from_fn(row), offsets, run, panel, finish, output, places),
            4 => group::<4>(std::array::from_fn(row), offsets, run, panel, finish, output, places),
            3 => group::<3>(std::array::from_fn(row), offsets, run, panel, finish, output, places),
            2 => group::<2>(std::array::from_fn(row), offsets, run, panel, finish, output, places),
            _ => group::<1>(std::array::from_fn(row), offsets, run, panel, finish, output, places),
        }
    }
}
