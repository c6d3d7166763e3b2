//! What libtorch tells a GPU, recorded once and told again by a single call (a CUDA graph): to tell it one by one takes a thread
//! longer than it takes an H200 to do it.
//!
//! libtorch has graphs, and an allocator that keeps their memory for them, but neither tch nor its C interface do. Its functions
//! are found by the names that its compiler gave them.

use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};
use std::fmt;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;

use libloading::os::unix::Library;
use tch::TchError;

use super::Cuda;

/// Bytes for an `at::cuda::CUDAGraph`, which takes less than 300 in libtorch 2.11.
const GRAPH_BYTES: usize = 4096;
/// Bytes of a message of libtorch, which may go on with a backtrace.
const MESSAGE_BYTES: usize = 1024;
/// `cudaStreamCaptureModeThreadLocal`: what other threads do is not looked at.
const OF_THIS_THREAD: c_int = 1;

/// A method without parameters.
type Method = unsafe extern "C" fn(*mut c_void);
/// Where libtorch's allocator keeps memory of graphs that are never played at once.
type Pool = [c_ulonglong; 2];

unsafe extern "C" {
    fn maskwatch_call(method: Method, object: *mut c_void, message: *mut c_char, size: usize) -> c_int;
    fn maskwatch_construct_graph(
        constructor: *const c_void,
        object: *mut c_void,
        message: *mut c_char,
        size: usize,
    ) -> c_int;
    fn maskwatch_make_pool(make: *const c_void, pool: *mut c_ulonglong, message: *mut c_char, size: usize) -> c_int;
    fn maskwatch_begin_capture(
        begin: *const c_void,
        object: *mut c_void,
        pool: *const c_ulonglong,
        mode: c_int,
        message: *mut c_char,
        size: usize,
    ) -> c_int;
}

/// Records graphs.
#[derive(Debug)]
pub(in crate::model) struct Recorder {
    api: Api,
    cuda: Arc<Cuda>,
    pool: Pool,
}

/// What was recorded. The memory that it works in is its own, or that of others by the same recorder, so that they are played one
/// after another.
pub(in crate::model) struct Graph {
    api: Api,
    graph: Pin<Box<Memory>>,
}

// SAFETY: libtorch's graphs may be used by any thread, one at a time.
unsafe impl Send for Graph {}
// SAFETY: as above; the pointers are those of functions.
unsafe impl Send for Recorder {}

#[repr(C, align(64))]
struct Memory {
    bytes: [u8; GRAPH_BYTES],
    /// libtorch does not expect it to move.
    _pinned: PhantomPinned,
}

/// libtorch's functions. It is never unloaded.
#[derive(Debug, Clone, Copy)]
struct Api {
    construct: *const c_void,
    destroy: Method,
    begin: *const c_void,
    end: Method,
    replay: Method,
    make_pool: *const c_void,
}

impl Recorder {
    /// Of a GPU.
    ///
    /// # Errors
    ///
    /// When libtorch does not have what it takes.
    pub(in crate::model) fn new(cuda: &Arc<Cuda>) -> Result<Self, TchError> {
        let api = Api::find().map_err(|error| TchError::Torch(format!("graphs: {error}")))?;
        let mut pool = Pool::default();
        // SAFETY: `make_pool` is libtorch's, and `pool` outlives the call.
        caught(|message, size| unsafe { maskwatch_make_pool(api.make_pool, pool.as_mut_ptr(), message, size) })?;
        Ok(Self { api, cuda: Arc::clone(cuda), pool })
    }

    /// Records what `work` has libtorch and kernels of our own do on the GPU, which is not done yet. It must have been done before
    /// without a recorder, so that all is loaded.
    ///
    /// # Errors
    ///
    /// Those of `work`, and when libtorch refuses, for want of memory for example.
    pub(in crate::model) fn record<A>(
        &self,
        work: impl FnOnce() -> Result<A, TchError>,
    ) -> Result<(Graph, A), TchError> {
        let Self { api, cuda, pool } = self;
        let _guard = cuda.use_stream(cuda.recording)?;
        let mut graph = Graph::new(*api)?;
        let object = graph.object();
        // SAFETY: the graph is constructed.
        let begun = caught(|message, size| unsafe {
            maskwatch_begin_capture(api.begin, object, pool.as_ptr(), OF_THIS_THREAD, message, size)
        });
        let done = begun.and_then(|()| {
            let done = work();
            // SAFETY: it is capturing.
            caught(|message, size| unsafe { maskwatch_call(api.end, object, message, size) }).map(|()| done)
        });
        match done {
            Ok(done) => Ok((graph, done?)),
            Err(error) => {
                // libtorch's allocator goes on asking it what belongs to it.
                std::mem::forget(graph);
                Err(error)
            }
        }
    }
}

impl Graph {
    fn new(api: Api) -> Result<Self, TchError> {
        let mut memory = Box::pin(Memory { bytes: [0; GRAPH_BYTES], _pinned: PhantomPinned });
        let object = address(&mut memory);
        // SAFETY: the memory is large enough, and stays where it is until the graph is destroyed.
        caught(|message, size| unsafe { maskwatch_construct_graph(api.construct, object, message, size) })?;
        Ok(Self { api, graph: memory })
    }

    fn object(&mut self) -> *mut c_void {
        address(&mut self.graph)
    }

    /// Has it done once more, after all that libtorch was told before.
    ///
    /// # Errors
    ///
    /// When CUDA refuses.
    pub(in crate::model) fn play(&mut self) -> Result<(), TchError> {
        let (replay, object) = (self.api.replay, self.object());
        // SAFETY: the graph was recorded.
        caught(|message, size| unsafe { maskwatch_call(replay, object, message, size) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: it was constructed, and nobody uses it any more. CUDA frees what is being played once it has ended.
        unsafe { (self.api.destroy)(self.object()) }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

impl Api {
    fn find() -> Result<Self, libloading::Error> {
        let library = Library::this();
        // SAFETY: these are libtorch's functions (ATen/cuda/CUDAGraph.h) under the names of the Itanium C++ ABI, in which
        // a method takes its object first. device.rs has loaded libtorch_cuda.so for good.
        unsafe {
            Ok(Self {
                construct: *library.get(b"_ZN2at4cuda9CUDAGraphC1Eb\0")?,
                destroy: *library.get(b"_ZN2at4cuda9CUDAGraphD1Ev\0")?,
                begin: *library.get(b"_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode\0")?,
                end: *library.get(b"_ZN2at4cuda9CUDAGraph11capture_endEv\0")?,
                replay: *library.get(b"_ZN2at4cuda9CUDAGraph6replayEv\0")?,
                make_pool: *library.get(b"_ZN2at4cuda17graph_pool_handleEv\0")?,
            })
        }
    }
}

fn address(memory: &mut Pin<Box<Memory>>) -> *mut c_void {
    // SAFETY: nothing is moved.
    unsafe { ptr::from_mut(&mut memory.as_mut().get_unchecked_mut().bytes).cast() }
}

/// What a call that may throw says.
fn caught(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), TchError> {
    let mut message = [0 as c_char; MESSAGE_BYTES];
    match call(message.as_mut_ptr(), message.len()) {
        0 => Ok(()),
        _ => {
            // SAFETY: whoever writes a message ends it within its size.
            let text = unsafe { CStr::from_ptr(message.as_ptr()) };
            Err(TchError::Torch(text.to_string_lossy().into_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::model::tests::gpu_or_stand_in;

    #[test]
    fn what_is_thrown_is_an_error() {
        extern "C" fn nothing(_: *mut c_void) {}
        // SAFETY: the first function does nothing, the second is of the C++ library, takes nothing, and throws.
        let [nothing, throwing] =
            unsafe { [nothing as Method, *Library::this().get(b"_ZSt25__throw_bad_function_callv\0").unwrap()] };
        // SAFETY: as above.
        let call = |method| caught(|message, size| unsafe { maskwatch_call(method, ptr::null_mut(), message, size) });
        call(nothing).unwrap();
        assert!(call(throwing).unwrap_err().to_string().contains("bad_function_call"));
    }

    #[test]
    fn what_was_recorded_is_done_again_with_what_is_there_then() {
        let device = gpu_or_stand_in();
        let Some(cuda) = Cuda::of(device) else { return };
        let recorder = Recorder::new(&cuda).unwrap();
        let input = Tensor::f_ones([3], (Kind::Float, Device::Cuda(0))).unwrap();
        let double = || input.f_mul_scalar(2.0);
        let _ = double().unwrap();
        let (mut graph, output) = recorder.record(double).unwrap();
        for value in [1.0, 5.0] {
            let _ = input.shallow_clone().fill_(value);
            graph.play().unwrap();
            assert_eq!(Vec::<f32>::try_from(&output).unwrap(), [2.0 * value as f32; 3]);
        }
        // What fails is no graph, and libtorch is as it was before.
        assert!(recorder.record(|| double()?.f_view([7])).is_err());
        let (mut graph, output) = recorder.record(double).unwrap();
        graph.play().unwrap();
        assert_eq!(Vec::<f32>::try_from(&output).unwrap(), [10.0; 3]);
    }
}
