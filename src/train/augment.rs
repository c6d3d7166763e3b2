//! Variations of a training picture.

use image::RgbImage;
use image::imageops::flip_horizontal_in_place;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::model::preprocess::{Crop, squeeze};

/// Which variations are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Mirror every second picture.
    pub flip: bool,
    /// Smallest share of the picture's area that a random crop keeps, in (0, 1]; at 1 the whole picture is used.
    pub crop_scale: f64,
}

/// Widest and tallest aspect of a random crop, relative to the picture's own; torchvision's default.
const MAX_ASPECT: f64 = 4.0 / 3.0;

impl Augmentation {
    /// Makes one training picture of `side` x `side` pixels.
    pub fn apply(&self, image: &RgbImage, side: u32, rng: &mut ChaCha8Rng) -> RgbImage {
        let mut picture = squeeze(image, self.random_crop(image, rng), side);
        if self.flip && rng.random_bool(0.5) {
            flip_horizontal_in_place(&mut picture);
        }
        picture
    }

    /// A part of random area, aspect and place ("random resized crop", Szegedy et al. 2015).
    fn random_crop(&self, image: &RgbImage, rng: &mut ChaCha8Rng) -> Option<Crop> {
        if self.crop_scale >= 1.0 {
            return None;
        }
        let (full_width, full_height) = (f64::from(image.width()), f64::from(image.height()));
        let area = rng.random_range(self.crop_scale..=1.0);
        let aspect = rng.random_range(-MAX_ASPECT.ln()..=MAX_ASPECT.ln()).exp();
        let width = full_width * (area * aspect).sqrt().min(1.0);
        let height = full_height * (area / aspect).sqrt().min(1.0);
        let left = (full_width - width) * rng.random::<f64>();
        let top = (full_height - height) * rng.random::<f64>();
        // Rounding must not carry the far edges outside.
        Some(Crop { left, top, width: width.min(full_width - left), height: height.min(full_height - top) })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn crops_stay_inside_and_keep_the_asked_share() {
        let augmentation = Augmentation { flip: true, crop_scale: 0.4 };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (width, height) in [(1, 1), (300, 20), (64, 480)] {
            let image = RgbImage::new(width, height);
            for _ in 0..200 {
                let crop = augmentation.random_crop(&image, &mut rng).unwrap();
                assert!(crop.left >= 0.0 && crop.left + crop.width <= f64::from(width));
                assert!(crop.top >= 0.0 && crop.top + crop.height <= f64::from(height));
                let share = crop.width * crop.height / f64::from(width * height);
                // A crop cut off at the picture's edge keeps less than was drawn, by the aspect at most.
                assert!(share >= 0.4 / MAX_ASPECT - 1e-9, "{share}");
                assert_eq!(augmentation.apply(&image, 8, &mut rng).dimensions(), (8, 8));
            }
        }
    }

    #[test]
    fn a_seed_decides_the_variation() {
        let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let augmentation = Augmentation { flip: true, crop_scale: 0.5 };
        let vary = |seed| augmentation.apply(&image, 16, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(vary(5), vary(5));
        assert_ne!(vary(5), vary(6));
    }
}
