//! The sizes of the thread pools that come with the libraries. Left alone, each takes all cores, and they fight.

use ndarray_linalg as _;

use crate::config::available_threads;

unsafe extern "C" {
    /// Of OpenBLAS. Its environment variable is read when the library is loaded, which is before `main`.
    fn openblas_set_num_threads(threads: std::ffi::c_int);
}

/// Gives libtorch and, once, the pool that frames of a batch share `torch` threads (all cores if `None`), and OpenCV and OpenBLAS one
/// each: their work is small and runs on stages of its own.
pub fn size_pools(torch: Option<usize>) {
    let torch = torch.unwrap_or_else(available_threads);
    tch::set_num_threads(i32::try_from(torch).unwrap_or(i32::MAX));
    // SAFETY: a setter of OpenBLAS that may be called at any time; the build links OpenBLAS through ndarray-linalg.
    unsafe { openblas_set_num_threads(1) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(torch).thread_name(|number| format!("frames-{number}"));
    if let Err(error) = pool.build_global() {
        tracing::trace!("the pool keeps its threads: {error}");
    }
    #[cfg(feature = "opencv")]
    if let Err(error) = opencv::core::set_num_threads(1) {
        tracing::debug!("OpenCV keeps its threads: {error}");
    }
}
