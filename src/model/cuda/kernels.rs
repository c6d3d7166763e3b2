//! Kernels of our own, for what libtorch has none or a slow one: those of `kernels.cu`, which [`nvrtc`] compiles.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use libloading::os::unix::Library;
use tch::{Device, Kind, TchError, Tensor};

use super::Handle;
use super::nvrtc::{self, function};

/// Of the network's input: red, green, blue, and zeros, with which cuDNN's first convolution takes three quarters of the time on an
/// H200.
pub(in crate::model) const CHANNELS: i64 = 4;
/// Positions whose products a block computes.
const POSITIONS: usize = 8;
/// Filters whose means a block computes: as many as a warp has threads.
const FILTERS: usize = 32;
/// Threads of a block that reads activations.
const READERS: usize = 256;
/// Threads of a block that resizes, across and down.
const PIXELS: (u32, u32) = (32, 8);
/// Numbers that a thread pools.
const NUMBERS: i64 = 8;
/// Threads of a block that pools.
const POOLERS: u32 = 256;

/// The kernels, and what numbers stand in them for.
const SOURCE: &str = include_str!("kernels.cu");
const NAMES: [(&str, usize); 4] =
    [("CHANNELS", CHANNELS as usize), ("POSITIONS", POSITIONS), ("FILTERS", FILTERS), ("READERS", READERS)];

/// A level of red, green or blue becomes `level * scale + shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub(in crate::model) struct Colours {
    pub(in crate::model) scale: [f32; 3],
    pub(in crate::model) shift: [f32; 3],
}

/// The compiled kernels. They run in the stream that libtorch uses at the time, and return before they are done.
#[derive(Debug)]
pub(in crate::model) struct Kernels {
    api: Api,
    device: Device,
    number: c_int,
    resize_to_half: Handle,
    resize_to_single: Handle,
    pool_half: Handle,
    read_half: Handle,
    read_single: Handle,
}

// SAFETY: CUDA's libraries may be called from any thread, and so may what they give be used.
unsafe impl Send for Kernels {}
// SAFETY: as above; nothing here changes.
unsafe impl Sync for Kernels {}

#[derive(Debug)]
struct Api {
    launch: unsafe extern "C" fn(
        Handle,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        Handle,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> c_int,
    error_text: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
    current_stream: unsafe extern "C" fn(c_int, *mut Handle) -> c_int,
    set_device: unsafe extern "C" fn(c_int) -> c_int,
    /// Keeps the functions where they are.
    _library: Library,
}

/// How a kernel is spread over a GPU.
#[derive(Debug, Clone, Copy)]
struct Grid {
    blocks: (u32, u32, u32),
    threads: (u32, u32),
    /// Bytes that the threads of a block share.
    shared: usize,
}

impl Kernels {
    /// Those of the GPU of a number, which is the current one. They are compiled once a process.
    ///
    /// # Errors
    ///
    /// When NVRTC is not there, or CUDA refuses.
    pub(super) fn of(device: usize) -> Result<Arc<Self>, TchError> {
        static COMPILED: Mutex<Vec<(usize, Arc<Kernels>)>> = Mutex::new(Vec::new());
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kernels)) = compiled.iter().find(|(of, _)| *of == device) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = Arc::new(Self::new(device)?);
        compiled.push((device, Arc::clone(&kernels)));
        Ok(kernels)
    }

    fn new(device: usize) -> Result<Self, TchError> {
        let library = nvrtc::open()?;
        let number = c_int::try_from(device).map_err(|_| TchError::Torch(format!("there is no GPU {device}")))?;
        let image = nvrtc::compile(&library, SOURCE, &NAMES, &nvrtc::architecture(number)?)?;
        // SAFETY: these are the declarations of CUDA's driver (cuda.h), whose handles are pointers and whose enumerations are C's int,
        // and of libtorch's C interface (shim.h).
        let (load, find, api) = unsafe {
            let load: unsafe extern "C" fn(*mut Handle, *const c_void) -> c_int =
                function(&library, c"cuModuleLoadData")?;
            let find: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int =
                function(&library, c"cuModuleGetFunction")?;
            let api = Api {
                launch: function(&library, c"cuLaunchKernel")?,
                error_text: function(&library, c"cuGetErrorString")?,
                current_stream: function(&Library::this(), c"aoti_torch_get_current_cuda_stream")?,
                set_device: function(&Library::this(), c"cudaSetDevice")?,
                _library: library,
            };
            (load, find, api)
        };
        let mut module = ptr::null_mut();
        // SAFETY: the image is that of a whole module, and `module` outlives the call. It is never unloaded: a process has a few.
        api.check(unsafe { load(&mut module, image.as_ptr().cast()) })?;
        let kernel = |name: &CStr| {
            let mut kernel = ptr::null_mut();
            // SAFETY: the module is loaded, and `kernel` outlives the call.
            api.check(unsafe { find(&mut kernel, module, name.as_ptr()) })?;
            Ok::<_, TchError>(kernel)
        };
        Ok(Self {
            resize_to_half: kernel(c"resize_to_half")?,
            resize_to_single: kernel(c"resize_to_single")?,
            pool_half: kernel(c"pool_half")?,
            read_half: kernel(c"read_half")?,
            read_single: kernel(c"read_single")?,
            device: Device::Cuda(device),
            number,
            api,
        })
    }

    /// Brings frames (N, rows, columns, 3) of bytes to the width and height of `place` (N, [`CHANNELS`], height, width) of half or
    /// single precision, a pixel's channels side by side, and puts them there; the fourth channel is zero. As
    /// [`resize`](crate::model::preprocess::resize) does it, to within a level.
    ///
    /// # Errors
    ///
    /// When CUDA refuses.
    ///
    /// # Panics
    ///
    /// When the frames are no bytes on this GPU, row by row, or the place is of another kind.
    pub(in crate::model) fn resize(
        &self,
        frames: &Tensor,
        place: &Tensor,
        mut colours: Colours,
    ) -> Result<(), TchError> {
        let (count, rows, columns, channels) = frames.size4()?;
        let is_here = frames.kind() == Kind::Uint8 && frames.device() == self.device;
        assert!(is_here && channels == 3 && frames.is_contiguous(), "frames are bytes on this GPU, row by row");
        let (places, channels, height, width) = place.size4()?;
        let is_here = place.device() == self.device && place.f_permute([0, 2, 3, 1])?.is_contiguous();
        assert!(is_here && channels == CHANNELS && places == count, "a place for each frame on this GPU");
        let kernel = match place.kind() {
            Kind::Half => self.resize_to_half,
            Kind::Float => self.resize_to_single,
            other => {
                return Err(TchError::Kind(format!(
                    "frames are resized to half or single precision, not to {other:?}"
                )));
            }
        };
        let grid = Grid {
            blocks: ((width as u32).div_ceil(PIXELS.0), (height as u32).div_ceil(PIXELS.1), count as u32),
            threads: PIXELS,
            shared: 0,
        };
        let (mut from, mut to) = (frames.data_ptr(), place.data_ptr());
        let [mut rows, mut columns, mut height, mut width] = [rows, columns, height, width].map(|side| side as c_int);
        let parameters = [
            address(&mut from),
            address(&mut rows),
            address(&mut columns),
            address(&mut to),
            address(&mut height),
            address(&mut width),
            address(&mut colours),
        ];
        // SAFETY: parameters are as the kernel declares them; it reads N x rows x columns x 3 bytes and writes as many numbers as
        // the place has. libtorch frees neither before what was told to its stream is done.
        unsafe { self.launch(kernel, grid, parameters) }
    }

    /// The largest of 3x3 places, at every second one, of what was rectified, (N, filters, rows, columns): padded, so that it gives
    /// half as many rows and columns, rounded up. libtorch's takes a quarter of a forward pass on an H200. Nothing where it is not in
    /// half precision, a place's filters side by side, by eights.
    ///
    /// # Errors
    ///
    /// When libtorch or CUDA refuses, for want of memory for example.
    pub(in crate::model) fn pool_rectified(&self, rectified: &Tensor) -> Result<Option<Tensor>, TchError> {
        let (count, filters, rows, columns) = rectified.size4()?;
        let is_here = rectified.device() == self.device && rectified.f_permute([0, 2, 3, 1])?.is_contiguous();
        if !is_here || rectified.kind() != Kind::Half || filters % NUMBERS != 0 {
            return Ok(None);
        }
        let (height, width) = ((rows + 1) / 2, (columns + 1) / 2);
        let pooled = Tensor::f_empty([count, height, width, filters], (Kind::Half, self.device))?;
        let threads = count * height * width * filters / NUMBERS;
        let grid = Grid { blocks: ((threads as u32).div_ceil(POOLERS), 1, 1), threads: (POOLERS, 1), shared: 0 };
        let (mut from, mut to) = (rectified.data_ptr(), pooled.data_ptr());
        let numbers = [rows, columns, filters / NUMBERS, height, width, threads];
        let [mut rows, mut columns, mut groups, mut height, mut width, mut threads] =
            numbers.map(|number| number as c_int);
        let parameters = [
            address(&mut from),
            address(&mut rows),
            address(&mut columns),
            address(&mut groups),
            address(&mut to),
            address(&mut height),
            address(&mut width),
            address(&mut threads),
        ];
        // SAFETY: parameters are as the kernel declares them, which reads as many numbers as there are, by eights, and writes as many
        // as `pooled` has; libtorch's memory is aligned to more than that. It frees none before what was told to its stream is done.
        unsafe { self.launch(self.pool_half, grid, parameters) }?;
        Ok(Some(pooled.f_permute([0, 3, 1, 2])?))
    }

    /// Reads activations (N, positions, filters) of half or single precision: of each picture the mean of each filter, sums of
    /// squares that add up to that of all activations, and the products with `columns` (filters, count), position by position.
    /// Of shape (N, filters + sums + positions x count); how many sums there are, too.
    ///
    /// # Errors
    ///
    /// When libtorch or CUDA refuses, for want of memory for example.
    ///
    /// # Panics
    ///
    /// When the activations, or single-precision columns of as many filters, do not lie on this GPU, row by row.
    pub(in crate::model) fn read(
        &self,
        activations: &Tensor,
        columns: Option<&Tensor>,
    ) -> Result<(Tensor, usize), TchError> {
        let (pictures, positions, filters) = activations.size3()?;
        let is_here = |tensor: &Tensor| tensor.device() == self.device && tensor.is_contiguous();
        assert!(is_here(activations), "activations lie on this GPU, row by row");
        let count = match columns {
            Some(columns) => {
                let (rows, count) = columns.size2()?;
                assert!(is_here(columns) && rows == filters && columns.kind() == Kind::Float, "columns of the filters");
                count
            }
            None => 0,
        };
        let kernel = match activations.kind() {
            Kind::Half => self.read_half,
            Kind::Float => self.read_single,
            other => return Err(TchError::Kind(format!("activations have half or single precision, not {other:?}"))),
        };
        let groups = (filters as usize).div_ceil(FILTERS);
        let values =
            Tensor::f_empty([pictures, filters + groups as i64 + positions * count], (Kind::Float, self.device))?;
        let readers = if count == 0 { 0 } else { (positions as usize).div_ceil(POSITIONS) };
        let grid = Grid {
            blocks: ((groups + readers) as u32, pictures as u32, 1),
            threads: (READERS as u32, 1),
            shared: size_of::<f32>() * (POSITIONS * filters as usize).max(2 * READERS),
        };
        let (mut from, mut to) = (activations.data_ptr(), values.data_ptr());
        let mut weights = columns.map_or(ptr::null_mut(), Tensor::data_ptr);
        let [mut positions, mut filters, mut count] = [positions as c_int, filters as c_int, count as c_int];
        let parameters = [
            address(&mut from),
            address(&mut positions),
            address(&mut filters),
            address(&mut weights),
            address(&mut count),
            address(&mut to),
        ];
        // SAFETY: parameters are as the kernel declares them, which reads the activations and columns and writes the values, as large
        // as these are. libtorch frees none before what was told to its stream is done.
        unsafe { self.launch(kernel, grid, parameters) }?;
        Ok((values, groups))
    }

    /// # Safety
    ///
    /// The kernel must have parameters of the types that these point to, and may access no memory but what is there until it is done.
    unsafe fn launch<const N: usize>(
        &self,
        kernel: Handle,
        Grid { blocks, threads, shared }: Grid,
        mut parameters: [*mut c_void; N],
    ) -> Result<(), TchError> {
        let mut stream = ptr::null_mut();
        // A kernel runs on the GPU that is this thread's current one.
        // SAFETY: `stream` outlives the call.
        let codes =
            unsafe { [(self.api.set_device)(self.number), (self.api.current_stream)(self.number, &mut stream)] };
        if codes != [0; 2] {
            return Err(TchError::Torch(format!("CUDA error: libtorch does not tell its stream ({codes:?})")));
        }
        // SAFETY: the caller's.
        self.api.check(unsafe {
            (self.api.launch)(
                kernel,
                blocks.0,
                blocks.1,
                blocks.2,
                threads.0,
                threads.1,
                1,
                shared as c_uint,
                stream,
                parameters.as_mut_ptr(),
                ptr::null_mut(),
            )
        })
    }
}

impl Api {
    fn check(&self, code: c_int) -> Result<(), TchError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = ptr::null();
        // SAFETY: the driver points to a text of its own, or nowhere where it does not know the number.
        let text = unsafe {
            (self.error_text)(code, &mut text);
            if text.is_null() { format!("number {code}") } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Err(TchError::Torch(format!("CUDA error: {text}")))
    }
}

fn address<T>(parameter: &mut T) -> *mut c_void {
    ptr::from_mut(parameter).cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_compile_where_nvrtc_is_there() {
        // SAFETY: NVRTC is meant to be loaded by programs; its initialisers are its own.
        let Ok(library) = (unsafe { Library::new("libnvrtc.so.13") }) else { return };
        for architecture in ["sm_75", "sm_90", "sm_120"] {
            assert!(
                nvrtc::compile(&library, SOURCE, &NAMES, architecture).unwrap().starts_with(b"\x7fELF"),
                "{architecture}"
            );
        }
        let error = nvrtc::compile(&library, SOURCE, &NAMES, "sm_1").unwrap_err().to_string();
        assert!(error.contains("NVRTC error") && error.contains("for sm_1"), "{error}");
    }

    #[test]
    fn without_nvrtc_that_is_told() {
        if nvrtc::open().is_ok() {
            return;
        }
        let error = Kernels::new(0).unwrap_err().to_string();
        assert!(error.contains("NVRTC: ") && error.contains("libcaffe2_nvrtc.so"), "{error}");
    }
}
