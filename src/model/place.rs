//! Where the network runs, and so how.

use tch::Device;

/// Two ways to do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On the CPU, in single precision; pictures are resized by the host.
    Cpu,
    /// As suits a GPU: pictures are resized where the network runs, in the precision that was asked for. Tests put the CPU in a
    /// GPU's place.
    Gpu(Device),
}

impl Place {
    /// The way that suits a device.
    pub(super) fn of(device: Device) -> Self {
        if device == Device::Cpu { Self::Cpu } else { Self::Gpu(device) }
    }

    /// Where its tensors lie.
    pub(super) fn device(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
            Self::Gpu(device) => device,
        }
    }
}
