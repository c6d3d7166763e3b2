//! NVRTC, which compiles kernels for the GPU that is there; libtorch brings it along for its own.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use libloading::os::unix::{Library, RTLD_NOW};
use tch::TchError;

use super::Handle;

/// `cudaDevAttrComputeCapabilityMajor` and `Minor`.
const COMPUTE_CAPABILITY: [c_int; 2] = [75, 76];

/// Opens it, and CUDA's driver with it.
///
/// # Errors
///
/// When one of them is missing.
pub(super) fn open() -> Result<Library, TchError> {
    // SAFETY: the library is libtorch's own, and brings NVRTC and CUDA's driver with it; all that its initialisers do is theirs.
    unsafe { Library::new("libcaffe2_nvrtc.so") }.map_err(missing)
}

fn missing(error: libloading::Error) -> TchError {
    TchError::Torch(format!("NVRTC: {error}"))
}

/// A function of a library.
///
/// # Errors
///
/// When the library has none of that name.
///
/// # Safety
///
/// It must have that type, and the library must stay loaded as long as it is called.
pub(super) unsafe fn function<F: Copy>(library: &Library, name: &CStr) -> Result<F, TchError> {
    // SAFETY: the caller's.
    unsafe { Ok(*library.get(name.to_bytes_with_nul()).map_err(missing)?) }
}

/// What NVRTC calls the GPU of a number.
///
/// # Errors
///
/// When there is no such GPU.
pub(super) fn architecture(device: c_int) -> Result<String, TchError> {
    // SAFETY: this is the declaration of CUDA's runtime library, which libtorch_cpu.so keeps loaded.
    let attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int =
        unsafe { function(&Library::this(), c"cudaDeviceGetAttribute") }?;
    let version = COMPUTE_CAPABILITY.map(|asked| {
        let mut value = 0;
        // SAFETY: `value` outlives the call.
        let code = unsafe { attribute(&mut value, asked, device) };
        if code == 0 { Ok(value) } else { Err(TchError::Torch(format!("CUDA error: number {code}"))) }
    });
    let [major, minor] = version;
    Ok(format!("sm_{}{}", major?, minor?))
}

/// The module of a source for an architecture, in which names stand for numbers.
///
/// # Errors
///
/// When NVRTC refuses the source; it says why.
pub(super) fn compile(
    library: &Library,
    source: &str,
    names: &[(&str, usize)],
    architecture: &str,
) -> Result<Vec<u8>, TchError> {
    type Create = unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int;
    type Read = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
    type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
    // SAFETY: these are NVRTC's declarations (nvrtc.h), whose handles are pointers and whose enumerations are C's int. All it is given
    // outlives its calls, and texts have the sizes that it tells.
    unsafe {
        let create: Create = function(library, c"nvrtcCreateProgram")?;
        let build: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int =
            function(library, c"nvrtcCompileProgram")?;
        let destroy: unsafe extern "C" fn(*mut Handle) -> c_int = function(library, c"nvrtcDestroyProgram")?;
        let (image_size, image): (Size, Read) =
            (function(library, c"nvrtcGetCUBINSize")?, function(library, c"nvrtcGetCUBIN")?);
        let (log_size, log): (Size, Read) =
            (function(library, c"nvrtcGetProgramLogSize")?, function(library, c"nvrtcGetProgramLog")?);
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int = function(library, c"nvrtcVersion")?;
        let (mut major, mut minor) = (0, 0);
        if version(&mut major, &mut minor) == 0 {
            // NVRTC opens this by its name, but does not know the folders of this program. It says itself if it is missing.
            let builtins = Library::open(Some(format!("libnvrtc-builtins.so.{major}.{minor}")), RTLD_NOW);
            if let Ok(builtins) = builtins {
                std::mem::forget(builtins);
            }
        }
        let read = |program: Handle, size: Size, read: Read| {
            let mut bytes = 0;
            if size(program, &mut bytes) != 0 {
                return None;
            }
            let mut text = vec![0; bytes];
            (read(program, text.as_mut_ptr().cast()) == 0).then_some(text)
        };
        let text = |text: String| CString::new(text).expect("sources and names have no zeros");
        let source = text(source.to_owned());
        let mut program = ptr::null_mut();
        let created = create(&mut program, source.as_ptr(), c"kernels.cu".as_ptr(), 0, ptr::null(), ptr::null());
        if created != 0 {
            return Err(TchError::Torch(format!("NVRTC error: number {created}")));
        }
        let names = names.iter().map(|(name, number)| format!("--define-macro={name}={number}"));
        let options = names.chain([format!("--gpu-architecture={architecture}")]).map(text).collect::<Vec<_>>();
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let built = build(program, pointers.len() as c_int, pointers.as_ptr());
        let image = if built == 0 { read(program, image_size, image) } else { None };
        let log = read(program, log_size, log).unwrap_or_default();
        destroy(&mut program);
        image.ok_or_else(|| {
            let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).replace('\n', " ");
            TchError::Torch(format!("NVRTC error: number {built} for {architecture}: {log}"))
        })
    }
}
