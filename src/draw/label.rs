//! Text on a coloured tag.

mod glyphs;

use ab_glyph::{Font as _, FontRef, GlyphId, PxScale, ScaleFont};
use image::RgbImage;

use self::glyphs::Glyphs;
use super::fill;
use super::palette::{Rgb, text_colour};
use crate::geometry::Rect;

/// The font in the program is damaged.
#[derive(Debug, thiserror::Error)]
#[error("the bundled font cannot be read: {0}; reinstall maskwatch")]
pub struct LabelError(ab_glyph::InvalidFont);

/// The font file in the program: DejaVu Sans Bold, which covers Latin, Greek, Cyrillic and more.
pub const BUNDLED_FONT: &[u8] = include_bytes!("fonts/DejaVuSans-Bold.ttf");

/// A font with which tags are drawn.
#[derive(Debug)]
pub struct Font {
    outlines: FontRef<'static>,
    glyphs: Glyphs,
}

/// Space around the text, as a share of its height.
const MARGIN: f32 = 0.2;

impl Font {
    /// Loads the bundled font.
    ///
    /// # Errors
    ///
    /// When the font in the program is damaged.
    pub fn bundled() -> Result<Self, LabelError> {
        let outlines = FontRef::try_from_slice(BUNDLED_FONT).map_err(LabelError)?;
        Ok(Self { outlines, glyphs: Glyphs::default() })
    }

    /// Upper left corner of a tag for a box: above it where there is room, otherwise inside it at its top, and never
    /// beyond the picture's edge if the tag fits at all.
    pub fn tag_position(&self, text: &str, text_px: f32, rect: Rect, picture: (u32, u32)) -> (u32, u32) {
        let (width, height) = self.tag_size(text, text_px);
        let x = rect.x.min(picture.0.saturating_sub(width));
        let y = if rect.y >= height { rect.y - height } else { rect.y.min(picture.1.saturating_sub(height)) };
        (x, y)
    }

    /// Draws text on a filled tag with its upper left corner at `place`; what lies beyond the picture is cut off.
    pub fn draw_tag(&self, picture: &mut RgbImage, text: &str, text_px: f32, place: (u32, u32), colour: Rgb) {
        let (width, height) = self.tag_size(text, text_px);
        fill(picture, Rect { x: place.0, y: place.1, width, height }, colour);
        let margin = text_px * MARGIN;
        let corner = (place.0 as f32 + margin, place.1 as f32 + margin);
        self.draw_text(picture, text, text_px, corner, text_colour(colour));
    }

    /// Draws text, its upper left corner at `place`, over what is there; what lies beyond the picture is cut off. Its baseline lies
    /// on a whole pixel, its letters begin at quarters of one.
    pub fn draw_text(&self, picture: &mut RgbImage, text: &str, text_px: f32, place: (f32, f32), ink: Rgb) {
        let baseline = place.1 + self.outlines.as_scaled(PxScale::from(text_px)).ascent();
        let glyphs = self.lay_out(text, text_px).map(|(glyph, left, _)| (glyph, place.0 + left));
        self.glyphs.draw(&self.outlines, picture, text_px, glyphs, baseline.round() as i64, ink);
    }

    /// Width and height of a tag in pixels.
    pub fn tag_size(&self, text: &str, text_px: f32) -> (u32, u32) {
        let margin = text_px * MARGIN;
        let width = self.text_width(text, text_px);
        ((width + 2.0 * margin).ceil() as u32, (text_px + 2.0 * margin).ceil() as u32)
    }

    /// Width of a text in pixels.
    pub fn text_width(&self, text: &str, text_px: f32) -> f32 {
        self.lay_out(text, text_px).last().map_or(0.0, |(.., right)| right)
    }

    /// The text and its height so that its tag is at most `width_px` wide: smaller first, down to the lower of the two
    /// heights, then with its middle left out.
    pub fn fit_tag(&self, text: &str, (smallest_px, largest_px): (f32, f32), width_px: u32) -> (f32, String) {
        let fits = |text: &str, text_px: f32| self.tag_size(text, text_px).0 <= width_px;
        let mut text_px = largest_px;
        while text_px > smallest_px && !fits(text, text_px) {
            text_px -= 0.5;
        }
        let characters: Vec<char> = text.chars().collect();
        let mut kept = characters.len();
        let mut shown = text.to_owned();
        while kept > 2 && !fits(&shown, text_px) {
            kept -= 1;
            let (head, tail) = (kept.div_ceil(2), kept / 2);
            shown = characters[..head].iter().chain(&['…']).chain(&characters[characters.len() - tail..]).collect();
        }
        (text_px, shown)
    }

    /// Glyphs of one line of text, and where each begins and ends across, from the left end of the text.
    fn lay_out(&self, text: &str, text_px: f32) -> impl Iterator<Item = (GlyphId, f32, f32)> {
        let font = self.outlines.as_scaled(PxScale::from(text_px));
        text.chars().scan((None, 0.0), move |(previous, end), character| {
            let glyph = font.glyph_id(character);
            let left = *end + previous.replace(glyph).map_or(0.0, |previous| font.kern(previous, glyph));
            *end = left + font.h_advance(glyph);
            Some((glyph, left, *end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitted_tags_keep_both_ends_of_a_name() {
        let font = Font::bundled().unwrap();
        let name = format!("kaggle12k_{}_end.jpg", "é".repeat(80));
        let (text_px, text) = font.fit_tag(&name, (11.0, 17.0), 220);
        assert!(text_px == 11.0 && font.tag_size(&text, text_px).0 <= 220);
        assert!(text.starts_with("kaggle") && text.ends_with("end.jpg") && text.contains('…'), "{text}");
        assert_eq!(font.fit_tag("short", (11.0, 17.0), 220), (17.0, "short".to_owned()));
    }
}
