//! From 8-bit pixels to the network's input: resize, scale, normalise.

use image::RgbImage;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use crate::recycled::{Memory, anything};
use crate::resize::{Crop, resize_into};

/// Per-channel normalisation of RGB values in [0, 1]: (value - mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Mean of red, green, blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green, blue.
    pub std: [f32; 3],
}

impl Normalisation {
    /// The values that torchvision's ImageNet models are trained with.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
}

/// Resizes a part of a picture to `side` x `side` pixels: [`resize`] without keeping its aspect.
pub fn squeeze(image: &RgbImage, crop: Option<Crop>, side: u32) -> RgbImage {
    resize(image, crop, (side, side))
}

/// Resizes a part of a picture (all of it without `crop`) to (width, height), as [`resize_into`] does it.
///
/// # Panics
///
/// When the crop is empty or reaches beyond the picture.
pub fn resize(image: &RgbImage, crop: Option<Crop>, size: (u32, u32)) -> RgbImage {
    if crop.is_none() && image.dimensions() == size {
        return image.copied();
    }
    let mut pixels = anything::<RgbImage>(size.0 as usize * size.1 as usize * 3);
    resize_into(image, crop, size, &mut pixels);
    RgbImage::from_raw(size.0, size.1, pixels).expect("width x height x 3 bytes")
}

/// The last step from pixels to the network's input. Its constants lie on a device, so that they are not uploaded with each
/// frame.
#[derive(Debug)]
pub struct Normaliser {
    /// (1, 3, 1, 1).
    mean: Tensor,
    /// (1, 3, 1, 1).
    std: Tensor,
}

impl Normaliser {
    /// Puts the constants on a device.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn new(normalisation: &Normalisation, device: Device) -> Result<Self, TchError> {
        let channels = |values: [f32; 3]| Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1])?.f_to_device(device);
        let Normalisation { mean, std } = *normalisation;
        Ok(Self { mean: channels(mean)?, std: channels(std)? })
    }

    /// The network's input (N, 3, H, W) from bytes (N, H, W, 3) on the same device.
    ///
    /// In memory a pixel's channels stay side by side ("channels last"), and so they do through the whole network: on two
    /// cores a training step takes 16 ms a picture, against 24 ms with a plane for each channel.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub fn apply(&self, pixels: &Tensor) -> Result<Tensor, TchError> {
        // As a tensor: of a number, tch would not return that there is no memory, but panic.
        let levels = Tensor::from(255.0f32);
        pixels.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_div(&levels)?.f_sub(&self.mean)?.f_div(&self.std)
    }
}

/// Stacks pictures of equal size into the network's input (N, 3, H, W) on `device`, as [`Normaliser::apply`] lays it out.
///
/// # Errors
///
/// When libtorch refuses, for want of memory for example.
pub fn to_input(images: &[RgbImage], normalisation: &Normalisation, device: Device) -> Result<Tensor, TchError> {
    let mut planes = Vec::with_capacity(images.len());
    for image in images {
        let (width, height) = image.dimensions();
        let shape = [i64::from(height), i64::from(width), 3];
        planes.push(Tensor::f_from_data_size(image.as_raw(), &shape, Kind::Uint8)?);
    }
    // Uploaded as bytes: a quarter of the traffic of floats.
    let pixels = Tensor::f_stack(&planes, 0)?.f_to_device(device)?;
    Normaliser::new(normalisation, device)?.apply(&pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recycled::Recycled;

    #[test]
    fn input_is_normalised_rgb_planes() {
        let image = RgbImage::from_fn(4, 2, |x, y| image::Rgb([x as u8 * 10, y as u8 * 20, 255]));
        let input = to_input(&[image], &Normalisation::IMAGENET, Device::Cpu).unwrap();
        assert_eq!(input.size(), [1, 3, 2, 4]);
        let expected = |value: f64, channel: usize| {
            (value / 255.0 - f64::from(Normalisation::IMAGENET.mean[channel]))
                / f64::from(Normalisation::IMAGENET.std[channel])
        };
        assert!((input.double_value(&[0, 0, 1, 3]) - expected(30.0, 0)).abs() < 1e-5);
        assert!((input.double_value(&[0, 1, 1, 3]) - expected(20.0, 1)).abs() < 1e-5);
        assert!((input.double_value(&[0, 2, 0, 0]) - expected(255.0, 2)).abs() < 1e-5);
    }

    #[test]
    fn squeezing_keeps_the_mean_and_the_place() {
        // Left half dark, right half bright; a reduction by 8 must neither shift the edge nor change the levels.
        let image = RgbImage::from_fn(512, 256, |x, _| image::Rgb([if x < 256 { 40 } else { 200 }; 3]));
        let small = squeeze(&image, None, 32);
        assert_eq!(small.dimensions(), (32, 32));
        assert_eq!(small.get_pixel(4, 16).0, [40; 3]);
        assert_eq!(small.get_pixel(28, 16).0, [200; 3]);
        let crop = Crop { left: 256.0, top: 0.0, width: 256.0, height: 256.0 };
        // The filter reaches one target pixel beyond the crop.
        let cropped = squeeze(&image, Some(crop), 32);
        assert!(cropped.enumerate_pixels().filter(|(x, _, _)| *x > 0).all(|(_, _, pixel)| pixel.0 == [200; 3]));
    }

    #[test]
    fn what_memory_held_before_does_not_show() {
        let image = RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let sizes = [(20, 10), (10, 20), (33, 31), (64, 48)];
        let expected = sizes.map(|size| resize(&image, None, size));
        for (size, expected) in sizes.into_iter().zip(&expected) {
            drop(Recycled::from(RgbImage::from_pixel(size.0, size.1, image::Rgb([99; 3]))));
            assert!(resize(&image, None, size) == *expected, "{size:?}");
        }
        drop(Recycled::from(RgbImage::from_pixel(2, 2, image::Rgb([99; 3]))));
        assert!(resize(&RgbImage::new(0, 5), None, (2, 2)).iter().all(|&level| level == 0), "nothing is black");
    }

    #[test]
    fn a_single_pixel_fills_the_input() {
        let image = RgbImage::from_pixel(1, 1, image::Rgb([1, 2, 3]));
        assert!(squeeze(&image, None, 7).pixels().all(|pixel| pixel.0 == [1, 2, 3]));
    }
}
