//! A picture where the network will look at it: 8-bit RGB in the memory of the host, or of a GPU.
//!
//! A GPU gets a frame once, as bytes, a quarter of the traffic of floats, and brings it to every size that is asked for.

use std::borrow::Cow;
use std::rc::Rc;

use image::RgbImage;
use tch::{Device, Kind, TchError, Tensor};

use super::ModelError;
use super::device_input::levels;
use super::preprocess::resize;
use super::upload::{Uploaded, UploadedFrames};
use crate::frame::Batch;
use crate::recycled::{Memory, Recycled};

/// A picture, which may be that of somebody else. It belongs to the thread that owns the engine.
#[derive(Debug)]
pub struct Picture<'a>(Pixels<'a>);

#[derive(Debug)]
enum Pixels<'a> {
    Host(Cow<'a, RgbImage>),
    /// To be brought to `size` (width, height) when the network looks at it: pictures that it looks at together are resized
    /// together.
    Device {
        frames: Rc<UploadedFrames>,
        index: usize,
        size: (u32, u32),
    },
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

impl Drop for Picture<'_> {
    fn drop(&mut self) {
        if let Pixels::Host(Cow::Owned(image)) = &mut self.0 {
            drop(Recycled::from(std::mem::take(image)));
        }
    }
}

impl<'a> Picture<'a> {
    /// Pictures that were to be copied to a device. Those for which there is no room stay on the host, until a forward pass needs
    /// them.
    pub(super) fn all_uploaded(images: &[&'a RgbImage], (places, uploaded): Uploaded) -> Batch<Self> {
        let told = uploaded.into_iter().map(|frames| {
            let told = frames.inspect_err(|error| tracing::debug!("frames stay on the host: {error}"));
            told.ok().map(Rc::new)
        });
        let uploaded: Vec<_> = told.collect();
        let picture = |(&image, (group, index)): (&&'a RgbImage, _)| match uploaded.get(group).and_then(Option::as_ref)
        {
            Some(frames) => Self(Pixels::Device { frames: Rc::clone(frames), index, size: image.dimensions() }),
            None => Self::from(image),
        };
        images.iter().zip(places).map(picture).collect()
    }

    /// The same picture once more. What lies on a device is not copied, nor is what is somebody else's.
    pub fn another(&self) -> Self {
        Self(match &self.0 {
            Pixels::Host(Cow::Borrowed(image)) => Pixels::Host(Cow::Borrowed(image)),
            Pixels::Host(Cow::Owned(image)) => Pixels::Host(Cow::Owned(image.copied())),
            Pixels::Device { frames, index, size } => {
                Pixels::Device { frames: Rc::clone(frames), index: *index, size: *size }
            }
        })
    }

    /// Width and height in pixels.
    pub fn dimensions(&self) -> (u32, u32) {
        match &self.0 {
            Pixels::Host(image) => image.dimensions(),
            Pixels::Device { size, .. } => *size,
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
            Pixels::Device { .. } if same => self.another(),
            Pixels::Device { frames, index, size: present } => {
                let (frames, index) = if *present == dimensions(frames) {
                    (Rc::clone(frames), *index)
                } else {
                    let resized = resized_bytes(frames, *index, *present)?.f_unsqueeze(0)?;
                    (Rc::new(UploadedFrames::from(resized)), 0)
                };
                Picture(Pixels::Device { frames, index, size })
            }
        })
    }

    /// Levels (N, 3, rows, columns) of any kind, of pictures on a device.
    pub(super) fn from_levels(levels: &Tensor) -> Result<Vec<Self>, TchError> {
        // Weights are positive and add up to 1, so that no level lies beyond the bytes.
        let bytes = levels.f_round()?.f_to_kind(Kind::Uint8)?.f_permute([0, 2, 3, 1])?.f_contiguous()?;
        let frames = Rc::new(UploadedFrames::from(bytes));
        let size = dimensions(&frames);
        let picture = |index| Self(Pixels::Device { frames: Rc::clone(&frames), index, size });
        Ok((0..frames.pixels().size()[0].unsigned_abs() as usize).map(picture).collect())
    }

    /// Its pixels on the host.
    ///
    /// # Errors
    ///
    /// When libtorch refuses.
    pub fn on_host(&self) -> Result<Cow<'_, RgbImage>, ModelError> {
        match &self.0 {
            Pixels::Host(image) => Ok(Cow::Borrowed(image)),
            Pixels::Device { frames, index, size } => {
                let frame = to_host(&frames.pixels().f_get(*index as i64)?)?;
                // By the host, which has memory where a device has none.
                Ok(Cow::Owned(if frame.dimensions() == *size { frame } else { resize(&frame, None, *size) }))
            }
        }
    }

    /// Its pixels on a device, (rows, columns, 3) bytes.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    pub(super) fn on_device(&self, device: Device) -> Result<Tensor, TchError> {
        match &self.0 {
            Pixels::Host(image) => {
                let shape = [i64::from(image.height()), i64::from(image.width()), 3];
                Tensor::f_from_data_size(image.as_raw(), &shape, Kind::Uint8)?.f_to_device(device)
            }
            Pixels::Device { frames, index, size } => resized_bytes(frames, *index, *size)?.f_to_device(device),
        }
    }

    /// Frames (N, rows, columns, 3) of bytes behind pictures of one size, on a device, and the size (width, height) to which
    /// they are to be brought.
    ///
    /// # Errors
    ///
    /// When libtorch refuses, for want of memory for example.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub(super) fn frames(pictures: &[&Picture], device: Device) -> Result<(Tensor, (u32, u32)), TchError> {
        match frames_of_one_size(pictures) {
            Some((frames, size)) => Ok((frames?.f_to_device(device)?, size)),
            None => {
                let pixels = pictures.iter().map(|picture| picture.on_device(device)).collect::<Result<Vec<_>, _>>()?;
                Ok((Tensor::f_stack(&pixels, 0)?, pictures[0].dimensions()))
            }
        }
    }
}

/// The frames (N, rows, columns, 3) behind pictures, if all lie on a device and have one size, and the size (width, height) to
/// bring them to.
fn frames_of_one_size(pictures: &[&Picture]) -> Option<(Result<Tensor, TchError>, (u32, u32))> {
    let of_picture = |picture: &&Picture| match &picture.0 {
        Pixels::Host(_) => None,
        Pixels::Device { frames, index, size } => Some((Rc::clone(frames), *index, *size)),
    };
    let all = pictures.iter().map(of_picture).collect::<Option<Vec<_>>>()?;
    let (first, first_index, size) = all.first()?;
    let is_alike = |(frames, _, other): &(Rc<UploadedFrames>, usize, (u32, u32))| {
        other == size && dimensions(frames) == dimensions(first)
    };
    if !all.iter().all(is_alike) {
        return None;
    }
    // Frames that came together need not be put together.
    let is_run = (*first_index..).zip(&all).all(|(index, (frames, at, _))| index == *at && Rc::ptr_eq(frames, first));
    let frames = if is_run {
        first.pixels().f_narrow(0, *first_index as i64, all.len() as i64)
    } else {
        let frames = all.iter().map(|(frames, index, _)| frames.pixels().f_get(*index as i64));
        frames.collect::<Result<Vec<_>, _>>().and_then(|frames| Tensor::f_stack(&frames, 0))
    };
    Some((frames, *size))
}

/// Width and height of frames.
fn dimensions(frames: &UploadedFrames) -> (u32, u32) {
    let side = |axis: usize| frames.pixels().size()[axis] as u32;
    (side(2), side(1))
}

/// One of several frames, (rows, columns, 3), brought to a width and a height where it is, as bytes.
///
/// A triangle filter as wide as the reduction asks, as [`resize`] does it on the host.
fn resized_bytes(frames: &UploadedFrames, index: usize, size: (u32, u32)) -> Result<Tensor, TchError> {
    let frame = frames.pixels().f_get(index as i64)?;
    if dimensions(frames) == size {
        return Ok(frame);
    }
    let levels = levels(&frame.f_unsqueeze(0)?, size)?;
    // Weights are positive and add up to 1, so that no result lies beyond the bytes.
    levels.f_round()?.f_to_kind(Kind::Uint8)?.f_squeeze_dim(0)?.f_permute([1, 2, 0])?.f_contiguous()
}

fn to_host(pixels: &Tensor) -> Result<RgbImage, TchError> {
    let (rows, columns, channels) = pixels.size3()?;
    let mut bytes = vec![0; (rows * columns * channels) as usize];
    let count = bytes.len();
    pixels.f_contiguous()?.f_copy_data_u8(&mut bytes, count)?;
    let image = RgbImage::from_raw(columns as u32, rows as u32, bytes);
    image.ok_or_else(|| TchError::Shape(format!("{rows}x{columns}x{channels} is no picture")))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::model::upload::Uploader;

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

    fn uploader() -> Uploader {
        Uploader::to_stand_in()
    }

    fn upload<'a>(image: &'a RgbImage, uploader: &Uploader) -> Picture<'a> {
        Picture::all_uploaded(&[image], uploader.upload_all(&[image])).remove(0)
    }

    fn levels(pictures: &[&Picture], uploader: &Uploader) -> Tensor {
        let (frames, size) = Picture::frames(pictures, uploader.device()).unwrap();
        super::levels(&frames, size).unwrap()
    }

    fn is_on_device(picture: &Picture) -> bool {
        matches!(picture.0, Pixels::Device { .. })
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
            let uploader = uploader();
            for image in [noise(from.0, from.1), structure(from.0, from.1)] {
                let expected = resize(&image, None, to);
                let uploaded = upload(&image, &uploader);
                let resized = uploaded.resized(to).unwrap();
                assert!(is_on_device(&uploaded) && is_on_device(&resized));
                assert_eq!((uploaded.dimensions(), resized.dimensions()), (from, to));
                assert_eq!(*resized.on_host().unwrap(), expected, "the host resizes as ever");
                let bytes = resized.on_device(uploader.device()).unwrap();
                let levels = levels(&[&resized], &uploader).squeeze_dim(0).permute([1, 2, 0]);
                for on_device in [bytes, levels] {
                    let kind = on_device.kind();
                    let values: Vec<f32> =
                        Vec::try_from(&on_device.to_kind(Kind::Float).contiguous().flatten(0, 2)).unwrap();
                    assert_eq!(values.len(), expected.as_raw().len());
                    let differences =
                        values.iter().zip(expected.as_raw()).map(|(ours, host)| (ours - f32::from(*host)).abs());
                    let (largest, sum) =
                        differences.fold((0.0f32, 0.0), |(most, sum), step| (most.max(step), sum + step));
                    let mean = sum / values.len() as f32;
                    println!("{from:?} to {to:?}, {kind:?}: at most {largest} levels, {mean:.4} on average");
                    assert!(largest <= 1.0, "{from:?} to {to:?}, {kind:?}: {largest}");
                }
            }
        }
    }

    #[test]
    fn pictures_come_off_a_device_as_they_went_there() {
        let (image, uploader) = (noise(31, 17), uploader());
        let uploaded = upload(&image, &uploader);
        assert_eq!(*uploaded.on_host().unwrap(), image);
        let pixels = Picture::from(&image).on_device(Device::Cpu).unwrap();
        assert_eq!((pixels.size(), pixels.kind()), (vec![17, 31, 3], Kind::Uint8));
        assert_eq!(pixels.int64_value(&[16, 30, 2]), i64::from(image.get_pixel(30, 16).0[2]));
        assert_ne!(pixels.data_ptr() as *const u8, image.as_ptr(), "it is a copy");
    }

    #[test]
    fn pictures_that_are_looked_at_together_are_resized_together() {
        let uploader = uploader();
        let device = uploader.device();
        let images = [noise(40, 30), structure(40, 30), noise(50, 20)];
        let [one, other, third] = images.each_ref().map(|image| upload(image, &uploader));
        fn at<'a>(picture: &Picture<'a>, size: (u32, u32)) -> Picture<'a> {
            picture.resized(size).unwrap()
        }
        let size = (20, 10);
        let borrowed = [&images[0], &images[1]];
        let together = Picture::all_uploaded(&borrowed, uploader.upload_all(&borrowed));
        let twice = at(&at(&one, (33, 22)), size);
        let on_host = at(&Picture::from(&images[0]), size);
        for pictures in [
            [&at(&one, size), &at(&other, size)],
            [&at(&together[0], size), &at(&together[1], size)],
            [&at(&together[1], size), &at(&together[0], size)],
            // Of another size, already resized, on the host: one by one.
            [&at(&one, size), &at(&third, size)],
            [&at(&one, size), &twice],
            [&on_host, &at(&one, size)],
        ] {
            let together = levels(&pictures, &uploader);
            assert_eq!(together.size(), [2, 3, 10, 20]);
            for (index, picture) in (0..).zip(pictures) {
                let alone = levels(&[picture], &uploader).get(0);
                let difference = (together.get(index) - alone).abs().max().double_value(&[]);
                // Bytes where they went one by one.
                assert!(difference <= 0.75, "{index}: {difference}");
            }
        }
        let (expected, of_one) =
            (resize(&resize(&images[0], None, (33, 22)), None, size), resize(&images[0], None, size));
        let given = to_host(&twice.on_device(device).unwrap()).unwrap();
        let largest = |other: &RgbImage| given.iter().zip(other.iter()).map(|(one, other)| one.abs_diff(*other)).max();
        assert!(largest(&expected) <= Some(2) && largest(&of_one) > Some(2), "each step of the way counts");
    }

    #[test]
    fn levels_become_pictures_again() {
        let (image, uploader) = (noise(40, 30), uploader());
        let uploaded = upload(&image, &uploader).resized((20, 10)).unwrap();
        let expected = to_host(&uploaded.on_device(uploader.device()).unwrap()).unwrap();
        let levels = levels(&[&uploaded, &uploaded], &uploader);
        for picture in Picture::from_levels(&levels).unwrap() {
            assert!(is_on_device(&picture));
            assert_eq!((picture.dimensions(), &*picture.on_host().unwrap()), ((20, 10), &expected));
        }
    }

    #[test]
    fn what_has_the_size_already_is_not_copied() {
        let (image, uploader) = (noise(32, 16), uploader());
        let picture = Picture::from(&image).resized((32, 16)).unwrap();
        assert_eq!(picture.on_host().unwrap().as_ptr(), image.as_ptr());
        let uploaded = upload(&image, &uploader);
        let same = uploaded.resized((32, 16)).unwrap();
        let address = |picture: &Picture| picture.on_device(uploader.device()).unwrap().data_ptr();
        assert_eq!(address(&same), address(&uploaded));
        let other = Picture::from(&image).resized((8, 8)).unwrap();
        assert_eq!(*other.on_host().unwrap(), resize(&image, None, (8, 8)));
    }

    #[test]
    fn where_there_is_no_room_pictures_stay_on_the_host() {
        // libtorch has no such device here.
        let nowhere = Device::Vulkan;
        let image = noise(40, 20);
        let picture = upload(&image, &Uploader::new(nowhere, None));
        assert!(!is_on_device(&picture));
        assert_eq!(*picture.resized((20, 10)).unwrap().on_host().unwrap(), resize(&image, None, (20, 10)));
        assert!(picture.on_device(nowhere).is_err());
        // A width that no resizing on a device takes.
        let uploader = uploader();
        let picture = upload(&image, &uploader).resized((0, 10)).unwrap();
        assert!(picture.on_device(uploader.device()).is_err());
    }
}
