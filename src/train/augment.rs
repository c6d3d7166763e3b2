//! Variations of a training picture.
//!
//! Sources of pictures differ in resolution, sharpness, compression and light; where a source has mostly one class, a
//! network can learn the source in place of the class. Varying all of that at random takes the shortcut away.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{blur, flip_horizontal_in_place};
use image::{ImageFormat, ImageReader, RgbImage};
use imageproc::geometric_transformations::{Border, Interpolation, rotate_about_center};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::model::preprocess::squeeze;
use crate::resize::Crop;

/// Which variations are made, and how strong they are at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Augmentation {
    /// Mirror every second picture.
    pub flip: bool,
    /// Smallest share of the picture's area that a random crop keeps, in (0, 1]; at 1 the whole picture is used.
    pub crop_scale: f64,
    /// Smallest share of the side to which every second picture is reduced before it is enlarged again, in (0, 1]; 1 for
    /// none.
    pub downscale: f64,
    /// Largest standard deviation of the Gaussian that every second picture is blurred with, in pixels; 0 for none.
    pub blur: f64,
    /// Lowest quality of the JPEG that every second picture goes through, 1 to 100; 100 for none.
    pub jpeg_quality: u8,
    /// Largest relative change of brightness and of contrast, in [0, 1); 0 for none.
    pub brightness: f64,
    /// Largest relative change of saturation, and twice that of each channel's gain, in [0, 1); 0 for none.
    pub colour: f64,
    /// Largest rotation either way, in degrees; 0 for none.
    pub rotation: f64,
}

/// Widest and tallest aspect of a random crop, relative to the picture's own; torchvision's default.
const MAX_ASPECT: f64 = 4.0 / 3.0;
/// How often a picture is degraded in each of the ways that destroy detail: half of them must keep it.
const DEGRADED: f64 = 0.5;
/// ITU-R BT.601 weights of red, green and blue in the brightness that is seen.
const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

impl Augmentation {
    /// Mirroring and cropping, and nothing else.
    pub const PLAIN: Self = Self {
        flip: true,
        crop_scale: 0.5,
        downscale: 1.0,
        blur: 0.0,
        jpeg_quality: 100,
        brightness: 0.0,
        colour: 0.0,
        rotation: 0.0,
    };

    /// Every variation at a strength that leaves faces recognisable.
    pub const ROBUST: Self = Self {
        flip: true,
        crop_scale: 0.5,
        downscale: 0.2,
        blur: 2.0,
        jpeg_quality: 30,
        brightness: 0.3,
        colour: 0.3,
        rotation: 10.0,
    };

    /// Makes one training picture of `side` x `side` pixels, in the order in which a camera and a website would spoil it.
    pub fn apply(&self, image: &RgbImage, side: u32, rng: &mut ChaCha8Rng) -> RgbImage {
        let crop = self.random_crop(image, rng);
        let reduced = self.reduced_side(side, self.downscale, rng);
        let mut picture = squeeze(image, crop, reduced);
        if self.rotation > 0.0 {
            let angle = rng.random_range(-self.rotation..=self.rotation).to_radians() as f32;
            picture = rotate_about_center(&picture, angle, Interpolation::Bilinear, Border::Replicate);
        }
        self.vary_tone(&mut picture, rng);
        let mut picture = self.degrade(picture, side, rng);
        if self.flip && rng.random_bool(0.5) {
            flip_horizontal_in_place(&mut picture);
        }
        picture
    }

    /// Spoils a square picture without moving anything in it: tone, resolution (not below `least_share` of the side), blur
    /// and compression.
    pub fn spoil(&self, picture: &mut RgbImage, least_share: f64, rng: &mut ChaCha8Rng) {
        let side = picture.width();
        let reduced = self.reduced_side(side, self.downscale.max(least_share), rng);
        let mut spoilt = squeeze(picture, None, reduced);
        self.vary_tone(&mut spoilt, rng);
        *picture = self.degrade(spoilt, side, rng);
    }

    /// The side to which a picture of `side` pixels is reduced, `least_share` of it or more.
    fn reduced_side(&self, side: u32, least_share: f64, rng: &mut ChaCha8Rng) -> u32 {
        if least_share >= 1.0 || !rng.random_bool(DEGRADED) {
            return side;
        }
        let share = rng.random_range(least_share.ln()..=0.0).exp();
        ((f64::from(side) * share).round() as u32).max(1)
    }

    /// Blurs and compresses a picture that was reduced from `side`, and enlarges it again.
    fn degrade(&self, mut picture: RgbImage, side: u32, rng: &mut ChaCha8Rng) -> RgbImage {
        let reduced = picture.width();
        if self.blur > 0.0 && rng.random_bool(DEGRADED) {
            // Relative to the size that it has by now, or a reduced picture would be blurred beyond recognition.
            let scale = f64::from(reduced) / f64::from(side);
            let deviation = rng.random_range(0.0..=self.blur) * scale;
            // The library asks for more than 0; below a tenth of a pixel nothing can be seen.
            if deviation > 0.1 {
                picture = blur(&picture, deviation as f32);
            }
        }
        if self.jpeg_quality < 100 && rng.random_bool(DEGRADED) {
            picture = through_jpeg(&picture, rng.random_range(self.jpeg_quality..=95.max(self.jpeg_quality)));
        }
        if reduced == side { picture } else { squeeze(&picture, None, side) }
    }

    /// A part of random area, aspect and place ("random resized crop", Szegedy et al. 2015).
    pub fn random_crop(&self, image: &RgbImage, rng: &mut ChaCha8Rng) -> Option<Crop> {
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

    /// Brightness, contrast, saturation and white balance, each by a factor around 1.
    pub fn vary_tone(&self, picture: &mut RgbImage, rng: &mut ChaCha8Rng) {
        if self.brightness == 0.0 && self.colour == 0.0 {
            return;
        }
        let mut factor = |strength: f64| 1.0 + strength * rng.random_range(-1.0..=1.0);
        let brightness = factor(self.brightness);
        let contrast = factor(self.brightness);
        let saturation = factor(self.colour);
        let gains = [(); 3].map(|()| brightness * factor(self.colour / 2.0));
        let luma = |rgb: [f64; 3]| rgb.iter().zip(LUMA).map(|(value, weight)| value * weight).sum::<f64>();
        let total: f64 = picture.pixels().map(|pixel| luma(pixel.0.map(f64::from))).sum();
        let mean = brightness * total / f64::from(picture.width() * picture.height());
        for pixel in picture.pixels_mut() {
            let [red, green, blue] = pixel.0.map(f64::from);
            let rgb = [red * gains[0], green * gains[1], blue * gains[2]];
            let grey = luma(rgb);
            pixel.0 = rgb.map(|value| {
                let saturated = grey + saturation * (value - grey);
                // Casting cuts off what lies outside 0 to 255.
                (mean + contrast * (saturated - mean)).round() as u8
            });
        }
    }
}

fn through_jpeg(picture: &RgbImage, quality: u8) -> RgbImage {
    let mut content = Vec::new();
    JpegEncoder::new_with_quality(&mut content, quality)
        .encode_image(picture)
        .expect("a picture of the network's input size in memory fits into a JPEG");
    ImageReader::with_format(Cursor::new(content), ImageFormat::Jpeg)
        .decode()
        .expect("what the encoder wrote, the decoder of the same library reads")
        .into_rgb8()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const NOTHING: Augmentation = Augmentation { flip: false, crop_scale: 1.0, ..Augmentation::PLAIN };

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    /// Coloured, with an edge, and asymmetric.
    fn picture() -> RgbImage {
        RgbImage::from_fn(64, 64, |x, y| image::Rgb([if x < 20 { 30 } else { 200 }, (y * 2) as u8 + 40, 90]))
    }

    /// Sum of the squared differences of neighbours: what blurring and reducing take away.
    fn detail(image: &RgbImage) -> f64 {
        let difference = |x: u32, y: u32, channel: usize| {
            f64::from(image.get_pixel(x + 1, y)[channel]) - f64::from(image.get_pixel(x, y)[channel])
        };
        let places = (0..image.height()).flat_map(|y| (0..image.width() - 1).map(move |x| (x, y)));
        places.map(|(x, y)| (0..3).map(|channel| difference(x, y, channel).powi(2)).sum::<f64>()).sum()
    }

    /// Many variations by one augmentation.
    fn variations(augmentation: Augmentation) -> Vec<RgbImage> {
        (0..40).map(|seed| augmentation.apply(&picture(), 64, &mut rng(seed))).collect()
    }

    #[test]
    fn crops_stay_inside_and_keep_the_asked_share() {
        let augmentation = Augmentation { crop_scale: 0.4, ..Augmentation::ROBUST };
        let mut rng = rng(3);
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
        let vary = |seed| Augmentation::ROBUST.apply(&picture(), 48, &mut rng(seed));
        assert_eq!(vary(5), vary(5));
        assert_ne!(vary(5), vary(6));
    }

    #[test]
    fn everything_can_be_switched_off() {
        assert!(variations(NOTHING).iter().all(|varied| *varied == picture()));
    }

    #[test]
    fn each_variation_alone_changes_what_it_should() {
        let original = picture();
        let flipped = variations(Augmentation { flip: true, ..NOTHING });
        let mut mirrored = original.clone();
        flip_horizontal_in_place(&mut mirrored);
        assert!(flipped.contains(&mirrored) && flipped.contains(&original));
        assert!(flipped.iter().all(|varied| *varied == mirrored || *varied == original));

        for weaker in [Augmentation { downscale: 0.2, ..NOTHING }, Augmentation { blur: 2.0, ..NOTHING }] {
            let spoilt: Vec<RgbImage> = variations(weaker).into_iter().filter(|varied| *varied != original).collect();
            assert!((5..=35).contains(&spoilt.len()), "about every second one: {}", spoilt.len());
            assert!(spoilt.iter().all(|varied| detail(varied) < detail(&original)));
        }

        let compressed = variations(Augmentation { jpeg_quality: 30, ..NOTHING });
        let changed = compressed.iter().filter(|varied| **varied != original).count();
        assert!((5..=35).contains(&changed), "{changed}");

        let turned = variations(Augmentation { rotation: 10.0, ..NOTHING });
        // The edge at a third of the width leans: its place in the first row differs from that in the last.
        let edge = |varied: &RgbImage, y| (0..64).find(|&x| varied.get_pixel(x, y)[0] > 115).unwrap_or(64);
        assert!(turned.iter().any(|varied| edge(varied, 0) > edge(varied, 63) + 4));
        assert!(turned.iter().any(|varied| edge(varied, 0) + 4 < edge(varied, 63)));
        assert!(turned.iter().all(|varied| varied.get_pixel(32, 32).0 == original.get_pixel(32, 32).0));
    }

    #[test]
    fn tone_is_varied_within_its_strength() {
        let grey = RgbImage::from_pixel(8, 8, image::Rgb([100; 3]));
        let levels = |augmentation: Augmentation| -> Vec<[u8; 3]> {
            (0..200).map(|seed| augmentation.apply(&grey, 8, &mut rng(seed)).get_pixel(3, 3).0).collect()
        };
        // A plain picture has no contrast and no saturation, so only brightness and gains are left.
        let brightness = levels(Augmentation { brightness: 0.3, ..NOTHING });
        assert!(brightness.iter().all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2] && (70..=130).contains(&rgb[0])));
        assert!(brightness.iter().any(|rgb| rgb[0] < 80) && brightness.iter().any(|rgb| rgb[0] > 120));
        let colour = levels(Augmentation { colour: 0.2, ..NOTHING });
        assert!(colour.iter().flatten().all(|level| (87..=113).contains(level)), "{colour:?}");
        assert!(colour.iter().any(|rgb| rgb[0].abs_diff(rgb[2]) > 8));
    }
}
