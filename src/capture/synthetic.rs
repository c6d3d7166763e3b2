//! Frames that are made up, for measurements: a camera that pans over smooth noise.
//!
//! They need no file and no decoder, and are the same on every machine. Coarse and fine noise (value noise, Perlin 1985) give
//! the encoder something to do. A few pictures, parts of a large one, are shown forth and back, so that a frame costs nothing:
//! not even a copy, which a GPU would wait for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;
use image::imageops::crop_imm;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{CaptureError, Policy, Source, SourceInfo};
use crate::frame::{Frame, SharedImage};
use crate::resize::resize_into;

/// Time between two frames.
const INTERVAL: Duration = Duration::from_millis(40);
/// Pictures from one end of the camera's way to the other, which stay in memory.
const PICTURES: u32 = 8;
/// Pixels from frame to frame, across and down.
const STEP_PX: (u32, u32) = (3, 2);
/// Pixels from one random value to the next, and of how many parts the picture consists of such noise.
const OCTAVES: [(u32, u16); 3] = [(128, 2), (32, 1), (8, 1)];

/// An endless source of made-up frames.
pub(super) struct Synthetic {
    info: SourceInfo,
    name: Arc<str>,
    /// What the camera sees on its way.
    pictures: Vec<SharedImage>,
    delivered: u64,
}

impl Synthetic {
    /// A source of frames of (width, height), each at least 1.
    pub(super) fn new(name: String, (width, height): (u32, u32)) -> Self {
        let info = SourceInfo {
            name,
            width,
            height,
            frame_count: None,
            frame_rate: Some(1.0 / INTERVAL.as_secs_f64()),
            policy: Policy::Recorded,
        };
        let scenery = noise(width + PICTURES * STEP_PX.0, height + PICTURES * STEP_PX.1);
        let part = |place: u32| {
            let part = crop_imm(&scenery, place * STEP_PX.0, place * STEP_PX.1, width, height);
            SharedImage::from(part.to_image())
        };
        let pictures = (0..PICTURES).map(part).collect();
        Self { name: info.name.as_str().into(), info, pictures, delivered: 0 }
    }
}

impl Source for Synthetic {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self) -> Result<Option<Frame>, CaptureError> {
        let read_started = Instant::now();
        let index = self.delivered;
        let image = self.pictures[place(index)].clone();
        self.delivered += 1;
        Ok(Some(Frame {
            source: Arc::clone(&self.name),
            index,
            pts: INTERVAL.mul_f64(index as f64),
            captured_at: SystemTime::now(),
            read_started,
            decode_time: read_started.elapsed(),
            image,
        }))
    }
}

/// Where a camera is that goes forth and back, after so many frames.
fn place(frame: u64) -> usize {
    let last = u64::from(PICTURES - 1);
    (last - (frame % (2 * last)).abs_diff(last)) as usize
}

fn noise(width: u32, height: u32) -> RgbImage {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let parts: u16 = OCTAVES.iter().map(|(_, parts)| parts).sum();
    let mut sums = vec![0u16; width as usize * height as usize * 3];
    let mut smooth = vec![0; sums.len()];
    for (cell, weight) in OCTAVES {
        let (across, down) = (width.div_ceil(cell) + 1, height.div_ceil(cell) + 1);
        let mut coarse = RgbImage::new(across, down);
        random.fill_bytes(&mut coarse);
        resize_into(&coarse, None, (width, height), &mut smooth);
        sums.iter_mut().zip(&smooth).for_each(|(sum, &value)| *sum += weight * u16::from(value));
    }
    let pixels = sums.into_iter().map(|sum| (sum / parts) as u8).collect();
    RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(size: (u32, u32), count: usize) -> Vec<Frame> {
        let mut source = Synthetic::new("synthetic".to_owned(), size);
        (0..count).map(|_| source.read().unwrap().expect("there is no end")).collect()
    }

    #[test]
    fn every_frame_differs_from_the_one_before_and_two_sources_agree() {
        // As many as the camera takes to and fro twice.
        let count = 4 * PICTURES as usize;
        let (one, other) = (frames((64, 48), count), frames((64, 48), count));
        for (index, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!((one.image.dimensions(), &one.image), ((64, 48), &other.image));
            assert_eq!((one.index, one.pts), (index as u64, Duration::from_millis(40 * index as u64)));
        }
        assert!(one.windows(2).all(|pair| pair[0].image != pair[1].image));
    }

    #[test]
    fn neighbouring_pixels_are_alike_and_distant_ones_are_not() {
        let picture = frames((640, 360), 1).remove(0).image;
        let difference = |distance: u32| {
            let pairs = (0..360).flat_map(|y| (0..640 - distance).map(move |x| (x, y)));
            let (mut sum, mut count) = (0u64, 0u64);
            for (x, y) in pairs {
                sum += u64::from(picture.get_pixel(x, y)[0].abs_diff(picture.get_pixel(x + distance, y)[0]));
                count += 1;
            }
            sum as f64 / count as f64
        };
        assert!(difference(1) < 8.0, "{}", difference(1));
        assert!(difference(200) > 2.0 * difference(1), "{}", difference(200));
    }

    #[test]
    fn the_smallest_frame_is_a_pixel() {
        assert_eq!(frames((1, 1), 2)[1].image.dimensions(), (1, 1));
    }
}
