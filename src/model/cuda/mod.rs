//! What tch does not know of CUDA: streams and events, which let frames be copied to a GPU while it computes, and answers be read
//! when they are there, not when all is done that the GPU was told since; [`graph`]s; and [`kernels`] of our own.
//!
//! libtorch_cpu.so brings CUDA's runtime library with it, whose functions are found by their names.

pub(super) mod convolution;
pub(super) mod graph;
pub(super) mod kernels;
mod nvrtc;
mod stream_guard;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use libloading::os::unix::Library;
use tch::{Device, TchError};

use super::first_line;
use kernels::Kernels;
use stream_guard::{StreamApi, StreamGuard};

/// What CUDA calls a stream or an event.
type Handle = *mut c_void;
/// `cudaMemcpyHostToDevice`.
const HOST_TO_DEVICE: c_int = 1;
/// `cudaStreamNonBlocking`: the stream does not wait for the default one.
const NON_BLOCKING: c_uint = 1;
/// `cudaEventDisableTiming`: an event that only tells whether it has come to pass.
const WITHOUT_TIMING: c_uint = 2;
/// The default stream, which is the one that libtorch uses.
const DEFAULT_STREAM: Handle = ptr::null_mut();

/// A GPU's streams: that of libtorch, one for copies beside it, one for what must not wait for what libtorch was told before, and one
/// in which nothing is done, only recorded.
#[derive(Debug)]
pub(super) struct Cuda {
    api: Api,
    streams: StreamApi,
    device: c_int,
    copies: Handle,
    aside: Handle,
    recording: Handle,
    /// None where they cannot be compiled.
    kernels: Option<Arc<Kernels>>,
}

/// A point in the work of a stream.
#[derive(Debug)]
pub(super) struct Mark {
    cuda: Arc<Cuda>,
    event: Handle,
}

/// One of the streams in which something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Where libtorch computes.
    Compute,
    /// Where frames are copied.
    Copies,
}

// SAFETY: CUDA's runtime library may be called from any thread, and so may what it gives be used.
unsafe impl Send for Cuda {}
// SAFETY: as above; nothing here changes without a call of the library.
unsafe impl Sync for Cuda {}
// SAFETY: as above.
unsafe impl Send for Mark {}

#[derive(Debug, Clone, Copy)]
struct Api {
    set_device: unsafe extern "C" fn(c_int) -> c_int,
    create_stream: unsafe extern "C" fn(*mut Handle, c_uint) -> c_int,
    destroy_stream: unsafe extern "C" fn(Handle) -> c_int,
    wait_for_event: unsafe extern "C" fn(Handle, Handle, c_uint) -> c_int,
    create_event: unsafe extern "C" fn(*mut Handle, c_uint) -> c_int,
    destroy_event: unsafe extern "C" fn(Handle) -> c_int,
    record_event: unsafe extern "C" fn(Handle, Handle) -> c_int,
    synchronise_event: unsafe extern "C" fn(Handle) -> c_int,
    copy: unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int, Handle) -> c_int,
    error_text: unsafe extern "C" fn(c_int) -> *const c_char,
    last_error: unsafe extern "C" fn() -> c_int,
}

impl Api {
    fn find() -> Result<Self, libloading::Error> {
        let library = Library::this();
        // SAFETY: these are the declarations of CUDA's runtime library (cuda_runtime_api.h), whose handles are pointers and whose
        // enumerations are C's int. libtorch_cpu.so, which this program is linked to, keeps it loaded.
        unsafe {
            Ok(Self {
                set_device: *library.get(b"cudaSetDevice\0")?,
                create_stream: *library.get(b"cudaStreamCreateWithFlags\0")?,
                destroy_stream: *library.get(b"cudaStreamDestroy\0")?,
                wait_for_event: *library.get(b"cudaStreamWaitEvent\0")?,
                create_event: *library.get(b"cudaEventCreateWithFlags\0")?,
                destroy_event: *library.get(b"cudaEventDestroy\0")?,
                record_event: *library.get(b"cudaEventRecord\0")?,
                synchronise_event: *library.get(b"cudaEventSynchronize\0")?,
                copy: *library.get(b"cudaMemcpyAsync\0")?,
                error_text: *library.get(b"cudaGetErrorString\0")?,
                last_error: *library.get(b"cudaGetLastError\0")?,
            })
        }
    }

    fn check(&self, code: c_int) -> Result<(), TchError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the library gives a text of its own for every number. It also keeps the number until somebody asks for it, and
        // libtorch would take it for a failure of its own.
        let text = unsafe {
            (self.last_error)();
            CStr::from_ptr((self.error_text)(code))
        };
        Err(TchError::Torch(format!("CUDA error: {}", text.to_string_lossy())))
    }
}

impl Cuda {
    /// The streams of a device, if it is a GPU that gives some.
    pub(super) fn of(device: Device) -> Option<Arc<Self>> {
        let Device::Cuda(number) = device else { return None };
        let opened = Self::open(number);
        opened.inspect_err(|error| tracing::warn!("the GPU is slower than it could be ({})", first_line(error))).ok()
    }

    /// The streams of the GPU of a number.
    ///
    /// # Errors
    ///
    /// When CUDA's library is not there, or refuses.
    fn open(device: usize) -> Result<Arc<Self>, TchError> {
        let api = Api::find().map_err(|error| TchError::Torch(format!("CUDA's runtime library: {error}")))?;
        let number = device;
        let device = c_int::try_from(number).map_err(|_| TchError::Torch(format!("there is no GPU {number}")))?;
        // SAFETY: it takes a number.
        api.check(unsafe { (api.set_device)(device) })?;
        let streams = StreamApi::find().map_err(|error| TchError::Torch(format!("libtorch's streams: {error}")))?;
        let stream = || {
            let mut stream = ptr::null_mut();
            // SAFETY: `stream` outlives the call.
            api.check(unsafe { (api.create_stream)(&mut stream, NON_BLOCKING) })?;
            Ok::<_, TchError>(stream)
        };
        let (copies, aside, recording) = (stream()?, stream()?, stream()?);
        let kernels = Kernels::of(number);
        let kernels = kernels.inspect_err(|error| {
            let reason = first_line(error);
            tracing::warn!(
                "the GPU is slower than it could be ({reason}); scripts/setup --cuda installs all that it needs"
            );
        });
        Ok(Arc::new(Self { api, streams, device, copies, aside, recording, kernels: kernels.ok() }))
    }

    /// Kernels of our own, where they could be compiled.
    pub(super) fn kernels(&self) -> Option<&Kernels> {
        self.kernels.as_deref()
    }

    /// Copies bytes to the GPU, in the stream for copies: returns before that is done.
    ///
    /// # Safety
    ///
    /// Until it is done, both places must stay where they are and nobody may write to either, and the host's must be pinned.
    ///
    /// # Errors
    ///
    /// When CUDA refuses.
    pub(super) unsafe fn upload(&self, to: *mut c_void, from: *const c_void, bytes: usize) -> Result<(), TchError> {
        // SAFETY: the caller's.
        self.api.check(unsafe { (self.api.copy)(to, from, bytes, HOST_TO_DEVICE, self.copies) })
    }

    /// Has libtorch do something on this thread that does not wait for what it was told before. `work` must wait for the end of it, as
    /// for a copy that it takes to the host, and read only what is there already.
    ///
    /// # Errors
    ///
    /// Those of `work`, and when libtorch refuses.
    pub(super) fn aside<A>(&self, work: impl FnOnce() -> Result<A, TchError>) -> Result<A, TchError> {
        let _guard = self.use_stream(self.aside)?;
        work()
    }

    /// Lets libtorch use another of the streams on this thread.
    fn use_stream(&self, stream: Handle) -> Result<StreamGuard, TchError> {
        // SAFETY: it is one of this GPU, and a guard is dropped before this.
        unsafe { self.streams.set(stream, self.device) }
    }

    fn handle(&self, stream: Stream) -> Handle {
        match stream {
            Stream::Compute => DEFAULT_STREAM,
            Stream::Copies => self.copies,
        }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        for stream in [self.copies, self.aside, self.recording] {
            // SAFETY: it is this stream's only owner; CUDA lets work in it end first.
            let code = unsafe { (self.api.destroy_stream)(stream) };
            if let Err(error) = self.api.check(code) {
                tracing::debug!("a stream was not destroyed: {error}");
            }
        }
    }
}

impl Mark {
    /// A mark that is set nowhere yet, so that nobody waits for it.
    ///
    /// # Errors
    ///
    /// When CUDA refuses.
    pub(super) fn new(cuda: &Arc<Cuda>) -> Result<Self, TchError> {
        let mut event = ptr::null_mut();
        // SAFETY: `event` outlives the call.
        unsafe {
            cuda.api.check((cuda.api.set_device)(cuda.device))?;
            cuda.api.check((cuda.api.create_event)(&mut event, WITHOUT_TIMING))?;
        }
        Ok(Self { cuda: Arc::clone(cuda), event })
    }

    /// Sets it behind all that a stream was told so far.
    ///
    /// # Errors
    ///
    /// When CUDA refuses.
    pub(super) fn set(&self, behind: Stream) -> Result<(), TchError> {
        let Cuda { api, device, .. } = &*self.cuda;
        // SAFETY: both are CUDA's, of the device that is current: the default stream is that of the current one.
        unsafe {
            api.check((api.set_device)(*device))?;
            api.check((api.record_event)(self.event, self.cuda.handle(behind)))
        }
    }

    /// Lets a stream wait for it before what it is told from now on.
    ///
    /// # Errors
    ///
    /// When CUDA refuses.
    pub(super) fn holds_up(&self, stream: Stream) -> Result<(), TchError> {
        let Cuda { api, device, .. } = &*self.cuda;
        // SAFETY: as in `set`.
        unsafe {
            api.check((api.set_device)(*device))?;
            api.check((api.wait_for_event)(self.cuda.handle(stream), self.event, 0))
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    ///
    /// When something that came before it has failed.
    pub(super) fn wait(&self) -> Result<(), TchError> {
        // SAFETY: the event is CUDA's.
        self.cuda.api.check(unsafe { (self.cuda.api.synchronise_event)(self.event) })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: it is this event's only owner; CUDA frees it once nobody waits for it.
        let code = unsafe { (self.cuda.api.destroy_event)(self.event) };
        if let Err(error) = self.cuda.api.check(code) {
            tracing::debug!("an event was not destroyed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::gpu_or_stand_in;

    #[test]
    fn the_library_is_there_and_its_errors_have_texts() {
        let api = Api::find().unwrap();
        assert!(api.check(0).is_ok());
        // cudaErrorMemoryAllocation.
        let error = api.check(2).unwrap_err().to_string();
        assert!(error.contains("CUDA error: out of memory"), "{error}");
    }

    #[test]
    fn without_a_gpu_there_are_no_streams() {
        let gpu = gpu_or_stand_in();
        if !gpu.is_cuda() {
            let error = Cuda::open(0).unwrap_err().to_string();
            assert!(error.contains("CUDA error: "), "{error}");
        }
        assert_eq!(Cuda::of(gpu).is_some(), gpu.is_cuda());
        assert!(Cuda::of(Device::Cpu).is_none());
    }

    #[test]
    fn marks_on_a_gpu_are_waited_for() {
        let Some(cuda) = Cuda::of(gpu_or_stand_in()) else { return };
        let mark = Mark::new(&cuda).unwrap();
        mark.wait().unwrap();
        for stream in [Stream::Compute, Stream::Copies] {
            mark.set(stream).unwrap();
            mark.holds_up(Stream::Compute).unwrap();
            mark.wait().unwrap();
        }
    }
}
