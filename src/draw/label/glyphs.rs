//! Glyphs as they are inked, kept: frame after frame shows the same letters.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ab_glyph::{Font as _, FontRef, GlyphId, point};
use image::RgbImage;

use crate::draw::palette::Rgb;

/// Glyphs that are kept at most. A run draws a few dozen, of one size; figures of many pictures come by this many in the end.
const MOST_GLYPHS: usize = 2048;

/// A glyph begins at a quarter of a pixel, as what lies between would not be seen.
const QUARTERS: i64 = 4;

/// Glyphs of one font. They are locked for the tens of microseconds that a text takes.
#[derive(Debug, Default)]
pub(super) struct Glyphs(Mutex<HashMap<Key, Mask>>);

/// Which glyph, and how it lies on its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    glyph: GlyphId,
    /// Its height, as the bits of the number.
    text_px: u32,
    /// Of a pixel, from its left edge to where the glyph begins.
    quarter: i64,
}

/// How much of each pixel a glyph covers.
#[derive(Debug, Default)]
struct Mask {
    /// From the pixel where the glyph begins to the mask's first column.
    left: i64,
    /// From the baseline to the mask's first line.
    top: i64,
    /// Columns; none of what has no ink.
    width: usize,
    /// In 255ths, line by line.
    coverage: Vec<u8>,
}

impl Glyphs {
    /// Draws glyphs of a height over a picture, each with its left end at a place across, all on one baseline.
    pub(super) fn draw(
        &self,
        font: &FontRef,
        picture: &mut RgbImage,
        text_px: f32,
        glyphs: impl Iterator<Item = (GlyphId, f32)>,
        baseline: i64,
        ink: Rgb,
    ) {
        let mut masks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (glyph, left) in glyphs {
            let quarters = (left * QUARTERS as f32).round() as i64;
            let (pixel, quarter) = (quarters.div_euclid(QUARTERS), quarters.rem_euclid(QUARTERS));
            let key = Key { glyph, text_px: text_px.to_bits(), quarter };
            if masks.len() >= MOST_GLYPHS && !masks.contains_key(&key) {
                masks.clear();
            }
            let mask = masks.entry(key).or_insert_with(|| Mask::of(font, glyph, text_px, quarter));
            mask.draw(picture, (pixel, baseline), ink);
        }
    }
}

impl Mask {
    /// Of a glyph that begins at a quarter of a pixel. Nothing of what has no ink, as a space.
    fn of(font: &FontRef, glyph: GlyphId, text_px: f32, quarter: i64) -> Self {
        let left = quarter as f32 / QUARTERS as f32;
        let Some(outlined) = font.outline_glyph(glyph.with_scale_and_position(text_px, point(left, 0.0))) else {
            return Self::default();
        };
        let bounds = outlined.px_bounds();
        let width = bounds.width() as usize;
        let mut coverage = vec![0; width * bounds.height() as usize];
        outlined.draw(|x, y, covered| coverage[y as usize * width + x as usize] = (covered * 255.0).round() as u8);
        Self { left: bounds.min.x as i64, top: bounds.min.y as i64, width, coverage }
    }

    /// Draws the part that lies inside the picture, from a pixel on the baseline.
    fn draw(&self, picture: &mut RgbImage, (x, y): (i64, i64), ink: Rgb) {
        if self.width == 0 {
            return;
        }
        for (y, line) in (y + self.top..).zip(self.coverage.chunks_exact(self.width)) {
            let Ok(y) = u32::try_from(y) else { continue };
            for (x, &coverage) in (x + self.left..).zip(line) {
                let Ok(x) = u32::try_from(x) else { continue };
                let Some(pixel) = picture.get_pixel_mut_checked(x, y) else { continue };
                let coverage = u32::from(coverage);
                for (channel, ink) in pixel.0.iter_mut().zip(ink) {
                    *channel = ((u32::from(*channel) * (255 - coverage) + u32::from(ink) * coverage + 127) / 255) as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ab_glyph::{PxScale, ScaleFont};

    use super::*;
    use crate::draw::label::BUNDLED_FONT;

    const INK: Rgb = [250, 10, 120];

    /// A glyph as its outline says, with nothing kept and nothing rounded but its place.
    fn by_outline(font: &FontRef, picture: &mut RgbImage, glyph: GlyphId, text_px: f32, (left, baseline): (f32, i64)) {
        let left = (left * 4.0).round() / 4.0;
        let glyph = glyph.with_scale_and_position(text_px, point(left, baseline as f32));
        let Some(outlined) = font.outline_glyph(glyph) else { return };
        let corner = outlined.px_bounds().min;
        outlined.draw(|x, y, covered| {
            let (x, y) = (corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y));
            let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
            let Some(pixel) = picture.get_pixel_mut_checked(x, y) else { return };
            for (channel, ink) in pixel.0.iter_mut().zip(INK) {
                *channel = (f32::from(*channel) * (1.0 - covered) + f32::from(ink) * covered).round() as u8;
            }
        });
    }

    #[test]
    fn glyphs_are_their_outlines_wherever_they_begin_and_however_often() {
        let font = FontRef::try_from_slice(BUNDLED_FONT).unwrap();
        let glyphs = Glyphs::default();
        for text_px in [8.0f32, 13.5, 40.0] {
            let scaled = font.as_scaled(PxScale::from(text_px));
            for character in "gÄj#@ ".chars() {
                // Half of it beyond each edge, too.
                for (left, baseline) in
                    [(10.0, 40), (10.3, 40), (10.9, 41), (-4.2, 30), (60.7, 20), (20.0, 3), (20.0, 66)]
                {
                    let glyph = scaled.glyph_id(character);
                    let mut expected = RgbImage::from_pixel(64, 64, image::Rgb([90, 200, 33]));
                    let mut drawn = expected.clone();
                    by_outline(&font, &mut expected, glyph, text_px, (left, baseline));
                    glyphs.draw(&font, &mut drawn, text_px, [(glyph, left)].into_iter(), baseline, INK);
                    let most = drawn.iter().zip(expected.iter()).map(|(one, other)| one.abs_diff(*other)).max();
                    assert!(most <= Some(2), "{character} {text_px} at {left}, {baseline}: {most:?}");
                }
            }
        }
    }

    #[test]
    fn not_all_sizes_are_kept_for_ever() {
        let font = FontRef::try_from_slice(BUNDLED_FONT).unwrap();
        let glyphs = Glyphs::default();
        let glyph = font.glyph_id('i');
        let mut picture = RgbImage::new(4, 4);
        for size in 0..2 * MOST_GLYPHS {
            glyphs.draw(&font, &mut picture, 1.0 + size as f32 / 512.0, [(glyph, 0.0)].into_iter(), 3, INK);
        }
        assert!((1..=MOST_GLYPHS).contains(&glyphs.0.lock().unwrap().len()));
    }
}
