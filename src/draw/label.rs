//! Text on a coloured tag.

use ab_glyph::{Font as _, FontRef, Glyph, PxScale, ScaleFont, point};
use image::RgbImage;

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
pub struct Font(FontRef<'static>);

/// Space around the text, as a share of its height.
const MARGIN: f32 = 0.2;

impl Font {
    /// Loads the bundled font.
    ///
    /// # Errors
    ///
    /// When the font in the program is damaged.
    pub fn bundled() -> Result<Self, LabelError> {
        FontRef::try_from_slice(BUNDLED_FONT).map(Self).map_err(LabelError)
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

    /// Draws text, its upper left corner at `place`, over what is there; what lies beyond the picture is cut off.
    pub fn draw_text(&self, picture: &mut RgbImage, text: &str, text_px: f32, place: (f32, f32), ink: Rgb) {
        let (glyphs, _) = self.lay_out(text, text_px);
        for mut glyph in glyphs {
            glyph.position.x += place.0;
            glyph.position.y += place.1;
            let Some(outlined) = self.0.outline_glyph(glyph) else { continue };
            let corner = outlined.px_bounds().min;
            outlined.draw(|x, y, coverage| {
                let (x, y) = (corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y));
                let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
                let Some(pixel) = picture.get_pixel_mut_checked(x, y) else { return };
                for (channel, ink) in pixel.0.iter_mut().zip(ink) {
                    *channel = (f32::from(*channel) * (1.0 - coverage) + f32::from(ink) * coverage).round() as u8;
                }
            });
        }
    }

    /// Width and height of a tag in pixels.
    pub fn tag_size(&self, text: &str, text_px: f32) -> (u32, u32) {
        let margin = text_px * MARGIN;
        let (_, width) = self.lay_out(text, text_px);
        ((width + 2.0 * margin).ceil() as u32, (text_px + 2.0 * margin).ceil() as u32)
    }

    /// Width of a text in pixels.
    pub fn text_width(&self, text: &str, text_px: f32) -> f32 {
        self.lay_out(text, text_px).1
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

    /// Glyphs of one line of text whose upper left corner is the origin, and its width.
    fn lay_out(&self, text: &str, text_px: f32) -> (Vec<Glyph>, f32) {
        let font = self.0.as_scaled(PxScale::from(text_px));
        let mut glyphs = Vec::with_capacity(text.len());
        let mut x = 0.0;
        for character in text.chars() {
            let id = font.glyph_id(character);
            if let Some(previous) = glyphs.last().map(|glyph: &Glyph| glyph.id) {
                x += font.kern(previous, id);
            }
            glyphs.push(id.with_scale_and_position(text_px, point(x, font.ascent())));
            x += font.h_advance(id);
        }
        (glyphs, x)
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
