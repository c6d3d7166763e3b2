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
        let ink = text_colour(colour);
        let margin = text_px * MARGIN;
        let (glyphs, _) = self.lay_out(text, text_px);
        for mut glyph in glyphs {
            glyph.position.x += place.0 as f32 + margin;
            glyph.position.y += place.1 as f32 + margin;
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
