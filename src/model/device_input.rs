//! From frames on a device to the network's input there: resized as [`resize`](super::preprocess::resize) does it on the host, and
//! normalised. By a kernel of our own on a GPU that has it, elsewhere by operations of libtorch.

use std::sync::Arc;

use tch::{Device, Kind, TchError, Tensor};

use super::cuda::Cuda;
use super::cuda::kernels::{CHANNELS, Colours, Kernels};
use super::preprocess::Normalisation;

/// Levels as they are.
const LEVELS: Colours = Colours { scale: [1.0; 3], shift: [0.0; 3] };

/// Makes the network's input.
#[derive(Debug)]
pub(super) struct DeviceInput {
    normalised: Colours,
    /// Scale and shift for libtorch, (1, 3, 1, 1), so that they are not uploaded with each frame.
    on_device: [Tensor; 2],
    kind: Kind,
    cuda: Option<Arc<Cuda>>,
}

impl DeviceInput {
    /// Of a normalisation, and of half or single precision; on a device, whose kernels are those of `cuda`, if it has some.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn new(
        normalisation: &Normalisation,
        kind: Kind,
        (device, cuda): (Device, Option<Arc<Cuda>>),
    ) -> Result<Self, TchError> {
        let Normalisation { mean, std } = *normalisation;
        let normalised = Colours {
            scale: std.map(|std| 1.0 / (255.0 * std)),
            shift: std::array::from_fn(|channel| -mean[channel] / std[channel]),
        };
        let channels = |values: [f32; 3]| Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1])?.f_to_device(device);
        let on_device = [channels(normalised.scale)?, channels(normalised.shift)?];
        Ok(Self { normalised, on_device, kind, cuda })
    }

    /// Where the network's input can be put, (N, [`CHANNELS`], height, width), a pixel's channels side by side; not filled.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn place(&self, count: i64, size: (u32, u32), device: Device) -> Result<Tensor, TchError> {
        empty(count, size, (self.kind, device))
    }

    /// Puts the network's input of frames (N, rows, columns, 3) of bytes on its device in a [place](Self::place), whose size they are
    /// brought to.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn put(&self, frames: &Tensor, place: &Tensor) -> Result<(), TchError> {
        if let Some(kernels) = self.kernels() {
            return kernels.resize(frames, place, self.normalised);
        }
        let [scale, shift] = &self.on_device;
        let (_, _, height, width) = place.size4()?;
        let normalised = shift.f_addcmul(&levels(frames, (width as u32, height as u32))?, scale)?;
        place.f_narrow(1, 0, 3)?.f_copy_(&normalised)?;
        let _ = place.f_narrow(1, 3, CHANNELS - 3)?.f_zero_()?;
        Ok(())
    }

    /// The same before it is normalised, in single precision: levels from 0 to 255, (N, 3, height, width).
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn levels(&self, frames: &Tensor, size: (u32, u32)) -> Result<Tensor, TchError> {
        let Some(kernels) = self.kernels() else { return levels(frames, size) };
        let place = empty(frames.size4()?.0, size, (Kind::Float, frames.device()))?;
        kernels.resize(frames, &place, LEVELS)?;
        place.f_narrow(1, 0, 3)
    }

    fn kernels(&self) -> Option<&Kernels> {
        self.cuda.as_ref().and_then(|cuda| cuda.kernels())
    }
}

fn empty(count: i64, (width, height): (u32, u32), options: (Kind, Device)) -> Result<Tensor, TchError> {
    Tensor::f_empty([count, i64::from(height), i64::from(width), CHANNELS], options)?.f_permute([0, 3, 1, 2])
}

/// Levels from 0 to 255, (N, 3, height, width) in single precision, of frames (N, rows, columns, 3) of bytes, by libtorch.
///
/// # Errors
///
/// When libtorch refuses, for want of memory for example.
pub(super) fn levels(frames: &Tensor, (width, height): (u32, u32)) -> Result<Tensor, TchError> {
    let (_, rows, columns, _) = frames.size4()?;
    let (width, height) = (i64::from(width), i64::from(height));
    let levels = frames.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?;
    if (columns, rows) == (width, height) {
        return Ok(levels);
    }
    levels.f_internal_upsample_bilinear2d_aa([height, width], false, None, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::preprocess::{Normaliser, resize};
    use crate::model::tests::{gpu_or_stand_in, noisy};

    #[test]
    fn it_is_what_the_host_makes_of_the_same_frames() {
        let device = gpu_or_stand_in();
        let normalisation = Normalisation::IMAGENET;
        for (from, to) in [((640, 360), (224, 128)), ((97, 65), (97, 65)), ((30, 20), (65, 47)), ((1, 1), (33, 9))] {
            let frames = [noisy(from.0, from.1, 1), noisy(from.0, from.1, 2)];
            let bytes = frames.each_ref().map(|frame| {
                Tensor::from_data_size(frame.as_raw(), &[i64::from(from.1), i64::from(from.0), 3], Kind::Uint8)
            });
            let on_device = Tensor::stack(&bytes, 0).to_device(device);
            let resized = frames.each_ref().map(|frame| resize(frame, None, to));
            let expected = resized.each_ref().map(|frame| {
                let pixels =
                    Tensor::from_data_size(frame.as_raw(), &[1, i64::from(to.1), i64::from(to.0), 3], Kind::Uint8);
                Normaliser::new(&normalisation, Device::Cpu).unwrap().apply(&pixels).unwrap()
            });
            let expected = Tensor::cat(&expected, 0);
            for (kind, rounding) in [(Kind::Float, 1e-5), (Kind::Half, 2e-3)] {
                let input = DeviceInput::new(&normalisation, kind, (device, Cuda::of(device))).unwrap();
                let ours = input.place(2, to, device).unwrap();
                input.put(&on_device, &ours).unwrap();
                assert_eq!((ours.size(), ours.kind()), (vec![2, CHANNELS, i64::from(to.1), i64::from(to.0)], kind));
                assert!(ours.permute([0, 2, 3, 1]).is_contiguous());
                let ours = ours.to_device(Device::Cpu).to_kind(Kind::Float);
                assert_eq!(ours.narrow(1, 3, 1).abs().max().double_value(&[]), 0.0);
                let difference = (ours.narrow(1, 0, 3) - &expected).abs().max().double_value(&[]);
                // The host rounds to levels.
                let level = 1.0 / (255.0 * f64::from(normalisation.std[1]));
                assert!(difference < level + rounding, "{from:?} to {to:?}, {kind:?}: {difference} of {level}");

                let levels = input.levels(&on_device, to).unwrap().to_device(Device::Cpu);
                let planes = Tensor::stack(
                    &resized.each_ref().map(|frame| {
                        let shape = [i64::from(to.1), i64::from(to.0), 3];
                        Tensor::from_data_size(frame.as_raw(), &shape, Kind::Uint8)
                            .permute([2, 0, 1])
                            .to_kind(Kind::Float)
                    }),
                    0,
                );
                let difference = (levels - planes).abs().max().double_value(&[]);
                assert!(difference < 1.001, "{from:?} to {to:?}: {difference} levels");
            }
        }
    }
}
