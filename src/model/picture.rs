//! A picture where the network will look at it: 8-bit RGB in the memory of the host, or of a GPU.
//!
//! A GPU gets a frame once, as bytes, a quarter of the traffic of floats, and brings it to every size that is asked for.

use std::borrow::Cow;

use image::RgbImage;
use tch::{Device, Kind, TchError, Tensor};

use super::ModelError;
use super::preprocess::resize;

/// A picture, which may be that of somebody else. It belongs to the thread that owns the engine.
#[derive(Debug)]
pub struct Picture<'a>(Pixels<'a>);

#[derive(Debug)]
enum Pixels<'a> {
    Host(Cow<'a, RgbImage>),
    /// (rows, columns, 3) bytes.
    Device(Tensor),
}

impl<'a> From<&'a RgbImage> for Picture<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self(Pixels::Host(Cow::Borrowed(image)))
    }
}

impl From<RgbImage> for Picture<'_> {
    fn from(image: RgbImage) -> Self {
        Self(Pixels::Host(Cow::Owned(image)))
    }
}

impl<'a> Picture<'a> {
    /// Copies a picture to a device. One for which there is no room stays on the host, until a forward pass needs it.
    pub(super) fn upload(image: &'a RgbImage, device: Device) -> Self {
        match upload(image, device) {
            Ok(pixels) => Self(Pixels::Device(pixels)),
            Err(error) => {
                tracing::debug!("a frame stays on the host: {error}");
                Self::from(image)
            }
        }
    }

    /// The same picture once more. What lies on a device is not copied, nor is what is somebody else's.
    pub fn another(&self) -> Self {
        Self(match &self.0 {
            Pixels::Host(image) => Pixels::Host(image.clone()),
            Pixels::Device(pixels) => Pixels::Device(pixels.shallow_clone()),
        })
    }

    /// Width and height in pixels.
    pub fn dimensions(&self) -> (u32, u32) {
        match &self.0 {
            Pixels::Host(image) => image.dimensions(),
            Pixels::Device(pixels) => {
                let side = |axis: usize| pixels.size()[axis] as u32;
                (side(1), side(0))
            }
        }
    }

    /// The picture with another width and height, whatever its aspect; it stays where it is. One that has them already is not
    /// copied. As [`resize`] does it, on a GPU to within one of 255 levels.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn resized(&self, size: (u32, u32)) -> Result<Picture<'a>, ModelError> {
        let same = self.dimensions() == size;
        Ok(match &self.0 {
            Pixels::Host(Cow::Borrowed(image)) if same => Picture::from(*image),
            Pixels::Host(image) => Picture::from(resize(image, None, size)),
            Pixels::Device(pixels) if same => Picture(Pixels::Device(pixels.shallow_clone())),
            Pixels::Device(pixels) => match resize_on_device(pixels, size) {
                Ok(pixels) => Picture(Pixels::Device(pixels)),
                Err(error) => {
                    tracing::debug!("a frame goes back to the host: {error}");
                    Picture::from(resize(&to_host(pixels)?, None, size))
                }
            },
        })
    }

    /// Its pixels on the host.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn on_host(&self) -> Result<Cow<'_, RgbImage>, ModelError> {
        match &self.0 {
            Pixels::Host(image) => Ok(Cow::Borrowed(image)),
            Pixels::Device(pixels) => Ok(Cow::Owned(to_host(pixels)?)),
        }
    }

    /// Its pixels on a device, (rows, columns, 3) bytes.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn on_device(&self, device: Device) -> Result<Tensor, TchError> {
        match &self.0 {
            Pixels::Host(image) => upload(image, device),
            Pixels::Device(pixels) => pixels.f_to_device(device),
        }
    }
}

/// Copies pixels to a device, (rows, columns, 3).
///
/// A GPU fetches them from pinned memory, by itself: the call returns before it has, so that the next frame is copied into
/// pinned memory while this one is on its way or computed on. libtorch keeps pinned memory for further frames, and gives none
/// away before the GPU has read it. tch has no CUDA streams, so that on the GPU itself a frame's way there and the work on
/// others come one after another.
fn upload(image: &RgbImage, device: Device) -> Result<Tensor, TchError> {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    // SAFETY: the image holds height x width x 3 bytes, row by row, and outlives this view of them: it does not leave this
    // function, and what does is a copy. Nothing writes to either.
    let pixels = unsafe {
        Tensor::f_from_blob(image.as_ptr(), &[height, width, 3], &[3 * width, 3, 1], Kind::Uint8, Device::Cpu)?
    };
    // Not `f_pin_memory`, which warns on standard error that its argument is deprecated.
    match pixels.f_internal_pin_memory(device) {
        Ok(pinned) => pinned.f_to_device_(device, Kind::Uint8, true, true),
        // There is nothing to pin for: the device is a CPU, or the system allows no more.
        Err(_) => pixels.f_to_device_(device, Kind::Uint8, false, true),
    }
}

/// Brings (rows, columns, 3) bytes to a width and a height where they are.
///
/// A triangle filter as wide as the reduction asks, and rounded to bytes, as [`resize`] does it on the host.
fn resize_on_device(pixels: &Tensor, (width, height): (u32, u32)) -> Result<Tensor, TchError> {
    let size = [i64::from(height), i64::from(width)];
    pixels
        .f_permute([2, 0, 1])?
        .f_unsqueeze(0)?
        .f_to_kind(Kind::Float)?
        .f_internal_upsample_bilinear2d_aa(size, false, None, None)?
        // Weights are positive and add up to 1, so that no result lies beyond the bytes.
        .f_round_()?
        .f_to_kind(Kind::Uint8)?
        .f_squeeze_dim(0)?
        .f_permute([1, 2, 0])
}

fn to_host(pixels: &Tensor) -> Result<RgbImage, TchError> {
    let (rows, columns, channels) = pixels.size3()?;
    let mut bytes = vec![0; (rows * columns * channels) as usize];
    let count = bytes.len();
    pixels.f_copy_data_u8(&mut bytes, count)?;
    let image = RgbImage::from_raw(columns as u32, rows as u32, bytes);
    image.ok_or_else(|| TchError::Shape(format!("{rows}x{columns}x{channels} is no picture")))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn noise(width: u32, height: u32) -> RgbImage {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(width * height));
        RgbImage::from_fn(width, height, |_, _| image::Rgb(std::array::from_fn(|_| random.random())))
    }

    /// Edges, slopes and single pixels.
    fn structure(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let checks = if (x / 16 + y / 16) % 2 == 0 { 255 } else { 0 };
            image::Rgb([checks, (x * 255 / width) as u8, if x == y { 255 } else { (y % 256) as u8 }])
        })
    }

    fn is_on_device(picture: &Picture) -> bool {
        matches!(picture.0, Pixels::Device(_))
    }

    #[test]
    fn a_device_resizes_as_the_host_does_to_within_one_level() {
        for (from, to) in [
            ((640, 360), (224, 224)),
            ((1280, 720), (896, 512)),
            ((1280, 720), (384, 224)),
            ((333, 77), (64, 256)),
            ((100, 80), (320, 256)),
            ((64, 48), (65, 47)),
            ((1, 1), (64, 64)),
            ((3000, 7), (96, 64)),
        ] {
            for image in [noise(from.0, from.1), structure(from.0, from.1)] {
                let expected = resize(&image, None, to);
                let uploaded = Picture::upload(&image, Device::Cpu);
                let resized = uploaded.resized(to).unwrap();
                assert!(is_on_device(&uploaded) && is_on_device(&resized));
                assert_eq!((uploaded.dimensions(), resized.dimensions()), (from, to));
                let resized = resized.on_host().unwrap();
                let differences =
                    resized.as_raw().iter().zip(expected.as_raw()).map(|(one, other)| one.abs_diff(*other));
                let (largest, sum) =
                    differences.fold((0, 0), |(most, sum), step| (most.max(step), sum + u64::from(step)));
                let mean = sum as f64 / resized.as_raw().len() as f64;
                println!("{from:?} to {to:?}: at most {largest} levels, {mean:.4} on average");
                assert!(largest <= 1, "{from:?} to {to:?}: {largest}");
            }
        }
    }

    #[test]
    fn pictures_come_off_a_device_as_they_went_there() {
        let image = noise(31, 17);
        let uploaded = Picture::upload(&image, Device::Cpu);
        assert_eq!(*uploaded.on_host().unwrap(), image);
        let pixels = Picture::from(&image).on_device(Device::Cpu).unwrap();
        assert_eq!((pixels.size(), pixels.kind()), (vec![17, 31, 3], Kind::Uint8));
        assert_eq!(pixels.int64_value(&[16, 30, 2]), i64::from(image.get_pixel(30, 16).0[2]));
        assert_ne!(pixels.data_ptr() as *const u8, image.as_ptr(), "it is a copy");
    }

    #[test]
    fn what_has_the_size_already_is_not_copied() {
        let image = noise(32, 16);
        let picture = Picture::from(&image).resized((32, 16)).unwrap();
        assert_eq!(picture.on_host().unwrap().as_ptr(), image.as_ptr());
        let uploaded = Picture::upload(&image, Device::Cpu);
        let same = uploaded.resized((32, 16)).unwrap();
        let address = |picture: &Picture| picture.on_device(Device::Cpu).unwrap().data_ptr();
        assert_eq!(address(&same), address(&uploaded));
        let other = Picture::from(&image).resized((8, 8)).unwrap();
        assert_eq!(*other.on_host().unwrap(), resize(&image, None, (8, 8)));
    }

    #[test]
    fn where_there_is_no_room_pictures_stay_on_the_host() {
        // libtorch has no such device here.
        let nowhere = Device::Vulkan;
        let image = noise(40, 20);
        let picture = Picture::upload(&image, nowhere);
        assert!(!is_on_device(&picture));
        assert_eq!(*picture.resized((20, 10)).unwrap().on_host().unwrap(), resize(&image, None, (20, 10)));
        assert!(picture.on_device(nowhere).is_err());
        // A width that no resizing on a device takes.
        let pixels = Picture::upload(&image, Device::Cpu).on_device(Device::Cpu).unwrap();
        assert!(resize_on_device(&pixels, (0, 10)).is_err());
    }
}
