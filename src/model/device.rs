//! Where the network runs: the CPU, or a GPU when libtorch's CUDA part is installed and works.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

use super::ModelError;

/// The user's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if one works, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, or nothing.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Whether GPUs can be used, and if not, why.
#[derive(Debug)]
pub enum CudaState {
    /// This many GPUs can be used.
    Ready(usize),
    /// libtorch's CUDA part is not installed.
    NotInstalled,
    /// It is installed but cannot be opened: what the loader said.
    Unloadable(String),
    /// It is open, but finds no GPU or no driver.
    NoGpu,
}

/// Opens libtorch's CUDA part if it is installed and counts GPUs; asked once a process.
pub fn cuda_state() -> &'static CudaState {
    static STATE: OnceLock<CudaState> = OnceLock::new();
    STATE.get_or_init(|| {
        // libtorch caches the answer of its first CUDA query, so the library has to be there before it.
        // SAFETY: the library is libtorch's own and meant to be loaded beside libtorch_cpu; its initialisers register
        // operators and nothing else. It is never unloaded.
        match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => std::mem::forget(library),
            Err(error) if error.to_string().contains("libtorch_cuda.so: cannot open shared object file") => {
                return CudaState::NotInstalled;
            }
            Err(error) => return CudaState::Unloadable(error.to_string()),
        }
        if !Cuda::is_available() {
            return CudaState::NoGpu;
        }
        CudaState::Ready(Cuda::device_count().max(0).unsigned_abs() as usize)
    })
}

impl fmt::Display for CudaState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Ready(1) => f.write_str("1 GPU"),
            Self::Ready(count) => write!(f, "{count} GPUs"),
            Self::NotInstalled => {
                f.write_str("libtorch's CUDA part is not installed; scripts/setup --cuda installs it")
            }
            Self::Unloadable(error) => {
                write!(f, "libtorch's CUDA part cannot be opened ({error}); run scripts/setup --cuda")
            }
            Self::NoGpu => f.write_str("libtorch finds no NVIDIA GPU or no driver for it; nvidia-smi tells more"),
        }
    }
}

/// Turns the wish into a device.
///
/// # Errors
///
/// When a GPU was asked for and cannot be used; the message says why.
pub fn resolve(choice: DeviceChoice) -> Result<Device, ModelError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => match cuda_state() {
            CudaState::Ready(_) => Ok(Device::Cuda(0)),
            CudaState::NotInstalled => Ok(Device::Cpu),
            // Somebody who installed it expects a GPU.
            state => {
                tracing::warn!("computing on the CPU: {state}");
                Ok(Device::Cpu)
            }
        },
        DeviceChoice::Cuda(number) => match cuda_state() {
            CudaState::Ready(count) if number < *count => Ok(Device::Cuda(number)),
            CudaState::Ready(count) => {
                Err(ModelError::Device(format!("there is no GPU {number}: {count} found, counted from 0")))
            }
            state => Err(ModelError::Device(format!("--device {choice}: {state}; or use --device cpu"))),
        },
    }
}

/// How many frames to compute at once, if there are as many: a CPU takes twice as long for two, which would only add latency.
pub fn suitable_batch(device: Device) -> usize {
    if device.is_cuda() { 8 } else { 1 }
}

/// The device in words.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".to_owned(),
    }
}
