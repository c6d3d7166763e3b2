//! The sizes of the thread pools that come with the libraries. Left alone, each takes all cores, and they fight.

use ndarray_linalg as _;

use crate::config::available_threads;

unsafe extern "C" {
    /// Of OpenBLAS. Its environment variable is read when the library is loaded, which is before `main`.
    fn openblas_set_num_threads(threads: std::ffi::c_int);
}

/// Threads of the pool that frames of a batch share, of so many processors: two at least, and otherwise no more than leave the stages
/// of the pipeline theirs. Beside an H200, of 16 virtual processors, the pipeline made 5442 frames a second with 16 threads in the pool, and
/// 5695 with 6. (On a CPU, the pool only finds boxes in frames that shared a pass.)
fn pool_size(processors: usize) -> usize {
    (processors * 3 / 8).max(processors.min(2))
}

/// Gives libtorch and, once, the pool that frames of a batch share so many `threads`, and OpenCV and OpenBLAS one each: their work is
/// small and runs on stages of its own. If `None`, libtorch gets all processors and the pool [some](pool_size).
pub fn size_pools(threads: Option<usize>) {
    let torch = threads.unwrap_or_else(available_threads);
    let frames = threads.unwrap_or_else(|| pool_size(torch));
    tch::set_num_threads(i32::try_from(torch).unwrap_or(i32::MAX));
    // SAFETY: a setter of OpenBLAS that may be called at any time; the build links OpenBLAS through ndarray-linalg.
    unsafe { openblas_set_num_threads(1) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(frames).thread_name(|number| format!("frames-{number}"));
    if let Err(error) = pool.build_global() {
        tracing::trace!("the pool keeps its threads: {error}");
    }
    #[cfg(feature = "opencv")]
    if let Err(error) = opencv::core::set_num_threads(1) {
        tracing::debug!("OpenCV keeps its threads: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_leaves_processors_to_the_stages() {
        assert_eq!([1, 2, 4, 8, 16].map(pool_size), [1, 2, 2, 3, 6]);
    }
}
