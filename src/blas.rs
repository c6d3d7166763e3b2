//! Which of its kernels OpenBLAS uses.
//!
//! OpenBLAS goes by the model of the processor, and takes its slowest kernels for models that are newer than it is. Debian 12's
//! (0.3.21) does so on Intel's since 2023: without AVX, a product of 448x512 and 512x31 takes 0.73 ms there, in place of 0.22.

use std::ffi::{CStr, c_char};

use libloading::os::unix::Library;

/// What OpenBLAS is told with, by its users as well.
const VARIABLE: &str = "OPENBLAS_CORETYPE";
/// Its kernels for processors that it does not know.
const UNKNOWN: &str = "Prescott";

/// Has OpenBLAS use what the processor can do, where it does not know the processor.
///
/// # Safety
///
/// No other thread may use the environment or OpenBLAS meanwhile.
pub unsafe fn choose_kernels() {
    let is_chosen = std::env::var_os(VARIABLE).is_some();
    let Some(kernels) = better_kernels(is_chosen, kernels_in_use().as_deref(), best_kernels()) else { return };
    let library = Library::this();
    // SAFETY: these are the declarations of OpenBLAS (driver/others/dynamic.c). A build for a single processor lacks them.
    let found = unsafe {
        let quit = library.get::<unsafe extern "C" fn()>(b"gotoblas_dynamic_quit\0");
        quit.and_then(|quit| Ok((quit, library.get::<unsafe extern "C" fn()>(b"gotoblas_dynamic_init\0")?)))
    };
    if let Ok((quit, init)) = found {
        // SAFETY: the caller's. The second call chooses anew, as it did when the library was loaded.
        unsafe {
            std::env::set_var(VARIABLE, kernels);
            quit();
            init();
            std::env::remove_var(VARIABLE);
        }
    }
}

/// The kernels to change to, if that is any use.
fn better_kernels(is_chosen: bool, in_use: Option<&str>, best: Option<&'static str>) -> Option<&'static str> {
    best.filter(|_| !is_chosen && in_use == Some(UNKNOWN))
}

/// The name of the kernels that OpenBLAS uses, if it has several.
fn kernels_in_use() -> Option<String> {
    let library = Library::this();
    // SAFETY: this is OpenBLAS's declaration (cblas.h); the text is its own and never freed.
    unsafe {
        let name = library.get::<unsafe extern "C" fn() -> *const c_char>(b"openblas_get_corename\0").ok()?;
        Some(CStr::from_ptr(name()).to_string_lossy().into_owned())
    }
}

/// The name of the best kernels for this processor among those that OpenBLAS has had since 2017.
fn best_kernels() -> Option<&'static str> {
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if has_avx512 {
        Some("SkylakeX")
    } else if has_avx2 {
        Some("Haswell")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_names() {
        let name = kernels_in_use().expect("Debian's OpenBLAS has kernels for many processors");
        assert!(!name.is_empty() && name.chars().all(char::is_alphanumeric), "{name}");
    }

    #[test]
    fn kernels_are_changed_only_where_openblas_knows_none_and_nobody_has_chosen() {
        assert_eq!(better_kernels(false, Some("Prescott"), Some("SkylakeX")), Some("SkylakeX"));
        assert_eq!(better_kernels(true, Some("Prescott"), Some("SkylakeX")), None);
        assert_eq!(better_kernels(false, Some("Zen"), Some("Haswell")), None);
        assert_eq!(better_kernels(false, None, Some("Haswell")), None);
        assert_eq!(better_kernels(false, Some("Prescott"), None), None);
    }
}
