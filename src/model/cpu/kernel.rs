//! The products that all convolutions are made of: a few rows of activations times a panel of weights, whose sums stay in
//! registers (Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication").

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::vector::Vector;

/// Rows of a panel by which its weights are fetched before they are used. Those of one pass fit into no cache near a core, and it
/// computes faster than they come by themselves.
const AHEAD: usize = 32;
/// Numbers in a line of the caches.
const LINE: usize = 16;

/// What becomes of sums beside the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activation {
    /// Whether they are added to what is already there, a shortcut.
    pub(super) add: bool,
    /// Whether what is negative becomes zero.
    pub(super) rectify: bool,
}

impl Activation {
    /// Finishes sums, and writes them.
    ///
    /// # Safety
    ///
    /// The processor has the vector's instructions, and the target can be read and written.
    #[inline(always)]
    pub(super) unsafe fn finish<V: Vector>(self, sums: V, bias: V, target: *mut f32) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut value = sums.add(bias);
            if self.add {
                value = value.add(V::load(target));
            }
            if self.rectify {
                // In this order: what is no number shall not become zero.
                value = V::zero().max(value);
            }
            value.store(target);
        }
    }
}

/// Rows of activations, and what becomes of their products with a panel.
pub(super) trait Rows {
    /// Where a row begins.
    ///
    /// # Safety
    ///
    /// There is this row.
    unsafe fn row(&self, index: usize) -> *const f32;

    /// Writes the products of a row.
    ///
    /// # Safety
    ///
    /// There is this row, and the processor has the vector's instructions.
    unsafe fn put<V: Vector>(&self, index: usize, products: [V; 2]);
}

/// Multiplies rows by a panel: sums over runs of `run` values that begin `offsets` after the start of each row.
///
/// # Safety
///
/// The processor has the vector's instructions. For each row and offset, `run` values can be read, and of the panel `run` times
/// [`Vector::PANEL`] for each offset. What [`Rows`] asks for holds for the first `count` rows.
#[inline(always)]
pub(super) unsafe fn multiply<V: Vector>(
    rows: &impl Rows,
    count: usize,
    offsets: &[usize],
    run: usize,
    panel: *const f32,
) {
    let mut done = 0;
    while done < count {
        // Groups of about equal size.
        let groups_left = (count - done).div_ceil(V::ROWS);
        let size = (count - done).div_ceil(groups_left);
        // SAFETY: as the caller promises.
        unsafe {
            match size {
                12 => group::<V, 12>(rows, done, offsets, run, panel),
                11 => group::<V, 11>(rows, done, offsets, run, panel),
                10 => group::<V, 10>(rows, done, offsets, run, panel),
                9 => group::<V, 9>(rows, done, offsets, run, panel),
                8 => group::<V, 8>(rows, done, offsets, run, panel),
                7 => group::<V, 7>(rows, done, offsets, run, panel),
                6 => group::<V, 6>(rows, done, offsets, run, panel),
                5 => group::<V, 5>(rows, done, offsets, run, panel),
                4 => group::<V, 4>(rows, done, offsets, run, panel),
                3 => group::<V, 3>(rows, done, offsets, run, panel),
                2 => group::<V, 2>(rows, done, offsets, run, panel),
                _ => group::<V, 1>(rows, done, offsets, run, panel),
            }
        }
        done += size;
    }
}

/// [`multiply`] for the `N` rows from `first` on.
#[inline(always)]
unsafe fn group<V: Vector, const N: usize>(
    rows: &impl Rows,
    first: usize,
    offsets: &[usize],
    run: usize,
    mut panel: *const f32,
) {
    if N > V::ROWS {
        return;
    }
    // SAFETY: as the caller of `multiply` promises.
    unsafe {
        let mut starts = [std::ptr::null(); N];
        for (index, start) in starts.iter_mut().enumerate() {
            *start = rows.row(first + index);
        }
        let mut sums = [[V::zero(); 2]; N];
        for &offset in offsets {
            for index in offset..offset + run {
                let weights = [V::load(panel), V::load(panel.add(V::LANES))];
                // Later groups find it in a cache.
                if first == 0 {
                    for line in (0..V::PANEL).step_by(LINE) {
                        // Beyond the last panel nothing is fetched, or something that is of no use; neither is an error.
                        _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(AHEAD * V::PANEL + line).cast());
                    }
                }
                panel = panel.add(V::PANEL);
                for (sums, start) in sums.iter_mut().zip(starts) {
                    let value = V::splat(*start.add(index));
                    sums[0] = sums[0].plus_product(value, weights[0]);
                    sums[1] = sums[1].plus_product(value, weights[1]);
                }
            }
        }
        for (index, sums) in sums.into_iter().enumerate() {
            rows.put(first + index, sums);
        }
    }
}
