//! The stream that libtorch uses on a thread, which its C interface can set.

use std::ffi::c_int;
use std::ptr;

use libloading::os::unix::Library;
use tch::TchError;

use super::Handle;

/// libtorch's functions. It is never unloaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamApi {
    guard: unsafe extern "C" fn(Handle, c_int, *mut Handle) -> c_int,
    unguard: unsafe extern "C" fn(Handle) -> c_int,
}

/// Lets libtorch use another stream on this thread until it is dropped.
pub(super) struct StreamGuard {
    guard: Handle,
    unguard: unsafe extern "C" fn(Handle) -> c_int,
}

impl StreamApi {
    /// Looks for them.
    ///
    /// # Errors
    ///
    /// When libtorch's CUDA part is not loaded.
    pub(super) fn find() -> Result<Self, libloading::Error> {
        let library = Library::this();
        // SAFETY: these are the declarations of libtorch's shim.h. device.rs has loaded libtorch_cuda.so for good.
        unsafe {
            Ok(Self {
                guard: *library.get(b"aoti_torch_create_cuda_stream_guard\0")?,
                unguard: *library.get(b"aoti_torch_delete_cuda_stream_guard\0")?,
            })
        }
    }

    /// Lets libtorch use a stream of a GPU.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    ///
    /// # Safety
    ///
    /// The stream must be one of that GPU, and outlive the guard.
    pub(super) unsafe fn set(self, stream: Handle, device: c_int) -> Result<StreamGuard, TchError> {
        let mut guard = ptr::null_mut();
        // SAFETY: the caller's; `guard` outlives the call.
        match unsafe { (self.guard)(stream, device, &mut guard) } {
            0 => Ok(StreamGuard { guard, unguard: self.unguard }),
            _ => Err(TchError::Torch("CUDA error: libtorch does not take another stream".to_owned())),
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        // SAFETY: the guard is libtorch's, and this its only owner.
        if unsafe { (self.unguard)(self.guard) } != 0 {
            tracing::error!("libtorch keeps to another stream; this is a defect of maskwatch, please report it");
        }
    }
}
