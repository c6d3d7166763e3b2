//! What the network computes with.

use std::fmt;

use tch::Kind;

use super::ModelError;
use super::place::Place;

/// The user's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrecisionChoice {
    /// What suits the device: half on a GPU, single on a CPU.
    #[default]
    Auto,
    /// Half on a GPU, or nothing.
    Half,
    /// Single.
    Single,
}

/// Numbers of a forward pass. What comes of it is in single precision either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// IEEE 754's binary16: 11 bits, up to 65504. By their makers' figures, GPUs that CUDA 13 supports multiply it at least twice
    /// as fast as single precision; not measured here.
    Half,
    /// binary32. cuDNN multiplies with 11 bits (TF32) on GPUs that can, unless `NVIDIA_TF32_OVERRIDE=0` is set.
    Single,
}

impl PrecisionChoice {
    /// Turns the wish into a precision.
    ///
    /// # Errors
    ///
    /// When half precision was asked for where there is none.
    pub(super) fn resolve(self, place: Place) -> Result<Precision, ModelError> {
        match (self, place) {
            (Self::Auto | Self::Half, Place::Gpu(_)) => Ok(Precision::Half),
            (Self::Auto, Place::Cpu) | (Self::Single, _) => Ok(Precision::Single),
            (Self::Half, Place::Cpu) => {
                let reason =
                    "--precision half: the network runs on the CPU, which computes in single precision; leave it out";
                Err(ModelError::Device(reason.to_owned()))
            }
        }
    }
}

impl Precision {
    /// What libtorch calls it.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Half => Kind::Half,
            Self::Single => Kind::Float,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Half => "half",
            Self::Single => "single",
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn half_is_for_gpus() {
        let gpu = Place::Gpu(Device::Cuda(1));
        assert_eq!(PrecisionChoice::Auto.resolve(gpu).unwrap(), Precision::Half);
        assert_eq!(PrecisionChoice::Half.resolve(gpu).unwrap(), Precision::Half);
        assert_eq!(PrecisionChoice::Single.resolve(gpu).unwrap(), Precision::Single);
        assert_eq!(PrecisionChoice::Auto.resolve(Place::Cpu).unwrap(), Precision::Single);
        assert_eq!(PrecisionChoice::Single.resolve(Place::Cpu).unwrap(), Precision::Single);
        let error = PrecisionChoice::Half.resolve(Place::Cpu).unwrap_err().to_string();
        assert!(error.contains("--precision half") && !error.contains('\n'), "{error}");
    }
}
