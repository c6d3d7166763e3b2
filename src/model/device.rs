//! Where the network runs: the CPU, or a GPU when libtorch's CUDA part is installed and works.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device, Kind, TchError, Tensor};

use super::{ModelError, first_line};

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

/// Whether a GPU can be used, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaState {
    /// It computes; there are this many.
    Ready(usize),
    /// libtorch's CUDA part is not installed.
    NotInstalled,
    /// It is installed but cannot be opened: what the loader said.
    Unloadable(String),
    /// It is open, but computes nothing on this GPU, for want of one or of a driver that is new enough: what libtorch said.
    Unusable(String),
}

/// Opens libtorch's CUDA part if it is installed, and has the GPU of this number compute something.
pub fn cuda_state(number: usize) -> CudaState {
    match open_cuda() {
        Some(state) => state.clone(),
        // Before anything is counted: of a driver that is too old, libtorch prints a warning of its own when it counts.
        None => match try_out(Device::Cuda(number)) {
            Ok(()) => CudaState::Ready(Cuda::device_count().max(0).unsigned_abs() as usize),
            Err(error) => CudaState::Unusable(first_line(&error)),
        },
    }
}

/// Why libtorch's CUDA part is not open, if it is not; it is opened once a process.
fn open_cuda() -> Option<&'static CudaState> {
    static STATE: OnceLock<Option<CudaState>> = OnceLock::new();
    let open = || {
        // libtorch caches the answer of its first CUDA query, so the library has to be there before it.
        // SAFETY: the library is libtorch's own and meant to be loaded beside libtorch_cpu; its initialisers register
        // operators and nothing else. It is never unloaded.
        match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                None
            }
            Err(error) if error.to_string().contains("libtorch_cuda.so: cannot open shared object file") => {
                Some(CudaState::NotInstalled)
            }
            Err(error) => Some(CudaState::Unloadable(error.to_string())),
        }
    };
    STATE.get_or_init(open).as_ref()
}

/// Computes something on a device and waits for it. A driver that is too old shows at the first tensor, a GPU that libtorch has
/// no kernels for at the first sum, and cuDNN that is missing at the first convolution.
fn try_out(device: Device) -> Result<(), TchError> {
    let ones = Tensor::f_ones([1, 8, 8, 8], (Kind::Float, device))?;
    let sum = ones.f_conv2d(&ones, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1)?.f_sum(Kind::Float)?;
    sum.f_double_value(&[]).map(drop)
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
            Self::Unusable(reason) => write!(f, "libtorch cannot use the GPU ({reason}); nvidia-smi tells more"),
        }
    }
}

/// Turns the wish into a device that has been tried out.
///
/// # Errors
///
/// When a GPU was asked for and cannot be used; the message says why.
pub fn resolve(choice: DeviceChoice) -> Result<Device, ModelError> {
    resolve_by(choice, cuda_state)
}

/// As [`resolve`], where `state` looks at the GPU of a number.
fn resolve_by(choice: DeviceChoice, state: impl FnOnce(usize) -> CudaState) -> Result<Device, ModelError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => match state(0) {
            CudaState::Ready(_) => Ok(Device::Cuda(0)),
            CudaState::NotInstalled => Ok(Device::Cpu),
            // Somebody who installed it expects a GPU.
            state => {
                tracing::warn!("computing on the CPU: {state}");
                Ok(Device::Cpu)
            }
        },
        DeviceChoice::Cuda(number) => match state(number) {
            CudaState::Ready(_) => Ok(Device::Cuda(number)),
            state => Err(ModelError::Device(format!("--device {choice}: {state}; or use --device cpu"))),
        },
    }
}

/// Waits until a device has done all that this thread told it to do.
///
/// # Errors
///
/// When libtorch refuses, or something that it was told before has failed.
pub(super) fn synchronise(device: Device) -> Result<(), TchError> {
    if device.is_cuda() {
        // Not `Cuda::synchronize`, which panics on an error. Work is done in its order, so that this number comes last.
        Tensor::f_zeros([1], (Kind::Float, device))?.f_double_value(&[0])?;
    }
    Ok(())
}

/// The device in words.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::memory::tests::warnings_of;

    /// What libtorch says where the driver is older than CUDA 13 needs.
    const TOO_OLD: &str = "The NVIDIA driver on your system is too old (found version 12040).";

    #[test]
    fn a_gpu_that_does_not_compute_gives_way_to_the_cpu_unless_it_was_asked_for() {
        let unusable = |_| CudaState::Unusable(TOO_OLD.to_owned());
        let (device, warnings) = warnings_of(|| resolve_by(DeviceChoice::Auto, unusable));
        assert_eq!(device.unwrap(), Device::Cpu);
        let [warning] = &warnings[..] else { panic!("one line: {warnings:?}") };
        assert!(warning.contains("computing on the CPU: libtorch cannot use the GPU (The NVIDIA driver"), "{warning}");

        let (device, warnings) = warnings_of(|| resolve_by(DeviceChoice::Cuda(1), unusable));
        let error = device.unwrap_err().to_string();
        assert!(error.starts_with("--device cuda:1: ") && error.contains(TOO_OLD) && !error.contains('\n'), "{error}");
        assert!(warnings.is_empty());

        let absent = |_| CudaState::NotInstalled;
        let (device, warnings) = warnings_of(|| resolve_by(DeviceChoice::Auto, absent));
        assert!(device.unwrap() == Device::Cpu && warnings.is_empty(), "nobody expects a GPU");
        assert!(resolve_by(DeviceChoice::Cuda(0), absent).is_err());
    }

    #[test]
    fn the_gpu_that_is_tried_out_is_the_one_that_is_used() {
        let only = |wanted| move |number| if number == wanted { CudaState::Ready(4) } else { CudaState::NotInstalled };
        assert_eq!(resolve_by(DeviceChoice::Auto, only(0)).unwrap(), Device::Cuda(0));
        assert_eq!(resolve_by(DeviceChoice::Cuda(3), only(3)).unwrap(), Device::Cuda(3));
        let nobody_looks = |_| -> CudaState { unreachable!("the CPU is always there") };
        assert_eq!(resolve_by(DeviceChoice::Cpu, nobody_looks).unwrap(), Device::Cpu);
    }

    #[test]
    fn a_device_that_is_not_there_is_told_on_one_line() {
        try_out(Device::Cpu).unwrap();
        synchronise(Device::Cpu).unwrap();
        // libtorch has no such device here.
        let error = first_line(&try_out(Device::Vulkan).unwrap_err());
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}
