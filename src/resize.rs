//! Resizing of 8-bit RGB pictures: a triangle filter as wide as the reduction asks (antialiased bilinear), since point sampling of a
//! large frame turns texture into noise that the network was not trained on.
//!
//! Each line of the result is summed from rows, then along itself, with weights of 16 bits and levels rounded in between, as
//! Pillow-SIMD does it (<https://github.com/uploadcare/pillow-simd>). The fast_image_resize crate gives the same to the last bit, and
//! makes its tables anew with every picture; here they are kept for the next one, and a line stays in the nearest cache.

mod across;
mod coefficients;
mod down;

use std::cell::RefCell;

use image::RgbImage;

use self::across::Across;
use self::coefficients::Coefficients;
use self::down::Down;

/// Sizes and crops whose tables a thread keeps: those of both views of a few cameras.
const KEPT: usize = 16;

thread_local! {
    /// What was used last comes last.
    static PLANS: RefCell<Vec<Plan>> = const { RefCell::new(Vec::new()) };
}

/// A part of a picture, in its pixels; fractions are meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Width, more than 0.
    pub width: f64,
    /// Height, more than 0.
    pub height: f64,
}

/// Brings a part of a picture (all of it without `crop`) to `size` (width, height), whatever its aspect. The result is written to
/// `pixels`, width x height x 3 bytes row by row; of a picture without pixels it is black.
///
/// # Panics
///
/// When `pixels` has another length, or the crop is empty or reaches beyond the picture.
pub fn resize_into(image: &RgbImage, crop: Option<Crop>, size: (u32, u32), pixels: &mut [u8]) {
    assert_eq!(pixels.len(), size.0 as usize * size.1 as usize * 3, "three bytes for each pixel of {size:?}");
    let (width, height) = image.dimensions();
    if width == 0 || height == 0 || pixels.is_empty() {
        return pixels.fill(0);
    }
    let whole = Crop { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) };
    let task = Task { from: (width, height), crop: crop.unwrap_or(whole), to: size };
    PLANS.with_borrow_mut(|plans| {
        match plans.iter().position(|plan| plan.task == task) {
            Some(known) => plans[known..].rotate_left(1),
            None => {
                if plans.len() == KEPT {
                    plans.remove(0);
                }
                plans.push(Plan::new(task));
            }
        }
        plans.last_mut().expect("one was found or made").run(image, pixels);
    });
}

/// What is to be done, whatever the picture shows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Task {
    /// Width and height.
    from: (u32, u32),
    crop: Crop,
    /// Width and height, each at least 1.
    to: (u32, u32),
}

/// The tables of a task, and room for a line.
#[derive(Debug)]
struct Plan {
    task: Task,
    down: Down,
    across: Across,
    line: Vec<u8>,
}

impl Plan {
    fn new(task: Task) -> Self {
        let Task { from, crop, to } = task;
        let down = Down::new(Coefficients::new(from.1, (crop.top, crop.height), to.1));
        let across = Across::new(Coefficients::new(from.0, (crop.left, crop.width), to.0));
        let line = vec![0; across.line_bytes()];
        Self { task, down, across, line }
    }

    fn run(&mut self, image: &RgbImage, pixels: &mut [u8]) {
        let row_bytes = 3 * self.task.from.0 as usize;
        let columns = self.across.columns();
        let (from, bytes) = (3 * columns.start, 3 * columns.len());
        for (output, result) in pixels.chunks_exact_mut(3 * self.task.to.0 as usize).enumerate() {
            let row = |row: usize| &image.as_raw()[row * row_bytes + from..][..bytes];
            self.down.line(output, row, &mut self.line[..bytes]);
            self.across.line(&self.line, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use fast_image_resize::images::{Image, ImageRef};
    use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Noise, black and white among it.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(width * height));
        RgbImage::from_fn(width, height, |_, _| {
            image::Rgb(std::array::from_fn(|_| match random.random_range(0..4) {
                0 => 0,
                1 => 255,
                _ => random.random(),
            }))
        })
    }

    fn resized(image: &RgbImage, crop: Option<Crop>, size: (u32, u32)) -> Vec<u8> {
        let mut pixels = vec![7; size.0 as usize * size.1 as usize * 3];
        resize_into(image, crop, size, &mut pixels);
        pixels
    }

    /// By the library, whose rounding is that of Pillow-SIMD.
    fn reference(image: &RgbImage, crop: Option<Crop>, size: (u32, u32)) -> Vec<u8> {
        let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        if let Some(Crop { left, top, width, height }) = crop {
            options = options.crop(left, top, width, height);
        }
        let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3).unwrap();
        let mut target = Image::new(size.0, size.1, PixelType::U8x3);
        Resizer::new().resize(&source, &mut target, &options).unwrap();
        target.into_vec()
    }

    #[test]
    fn every_level_is_that_of_fast_image_resize() {
        for (from, to) in [
            ((1280, 720), (896, 512)),
            ((1280, 720), (384, 224)),
            ((1280, 720), (224, 224)),
            ((1920, 1080), (896, 512)),
            ((333, 77), (64, 256)),
            ((64, 48), (65, 47)),
            ((640, 360), (640, 200)),
            ((100, 90), (33, 90)),
            ((50, 40), (50, 40)),
            ((1, 1), (7, 5)),
            ((2, 300), (3, 4)),
            ((3000, 7), (9, 64)),
            ((5000, 3), (1, 1)),
        ] {
            let image = noise(from.0, from.1);
            assert!(resized(&image, None, to) == reference(&image, None, to), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn so_is_every_level_of_any_crop() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..300 {
            let (width, height): (u32, u32) = (random.random_range(1..200), random.random_range(1..200));
            let (right, lower) = (f64::from(width), f64::from(height));
            let (left, top) = (random.random_range(0.0..right), random.random_range(0.0..lower));
            let crop = Crop {
                left,
                top,
                width: (right - left) * random.random_range(0.01..1.0),
                height: (lower - top) * random.random_range(0.01..1.0),
            };
            let size = (random.random_range(1..90), random.random_range(1..90));
            let image = noise(width, height);
            let (ours, theirs) = (resized(&image, Some(crop), size), reference(&image, Some(crop), size));
            assert!(ours == theirs, "{width}x{height}, {crop:?} to {size:?}");
        }
    }

    #[test]
    fn tables_are_kept_for_as_many_tasks_as_a_few_cameras_have() {
        let image = noise(20, 10);
        let kept = || PLANS.with_borrow(|plans| plans.iter().map(|plan| plan.task.to.0).collect::<Vec<_>>());
        let first: Vec<u32> = (1..=KEPT as u32).collect();
        for width in &first {
            resized(&image, None, (*width, 4));
        }
        assert_eq!(kept(), first);
        let again = resized(&image, None, (1, 4));
        assert_eq!(again, reference(&image, None, (1, 4)));
        resized(&image, None, (99, 4));
        let expected: Vec<u32> = (3..=KEPT as u32).chain([1, 99]).collect();
        assert_eq!(kept(), expected, "what was used last stays");
    }

    #[test]
    fn nothing_is_black() {
        assert_eq!(resized(&RgbImage::new(0, 5), None, (2, 2)), [0; 12]);
        assert!(resized(&RgbImage::new(3, 5), None, (0, 2)).is_empty());
    }

    #[test]
    #[should_panic(expected = "beyond")]
    fn a_crop_lies_within_its_picture() {
        resized(&noise(10, 10), Some(Crop { left: 5.0, top: 0.0, width: 6.0, height: 2.0 }), (4, 4));
    }
}
