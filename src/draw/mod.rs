//! Annotating a frame: the heat map blended over it, boxes, labels.

pub mod figure;
mod heat;
mod label;
pub mod palette;

use image::RgbImage;

use crate::analyse::{Analysis, Detection};
use crate::geometry::Rect;
use crate::labels::BACKGROUND;
use palette::Rgb;

pub use label::{BUNDLED_FONT, Font, LabelError};

/// Draws analyses onto frames. Keeps the font.
#[derive(Debug)]
pub struct Annotator {
    font: Font,
}

/// Text height as a share of the picture's shorter side, and never below this many pixels: readable at 240p and at 4K.
const TEXT_SHARE: f32 = 1.0 / 22.0;
const MIN_TEXT_PX: f32 = 13.0;

impl Annotator {
    /// Loads the bundled font.
    ///
    /// # Errors
    ///
    /// When the font in the program is damaged.
    pub fn new() -> Result<Self, LabelError> {
        Ok(Self { font: Font::bundled()? })
    }

    /// Draws in place: the heat map where a class other than `background` was found, its boxes, and the label: of each box
    /// with its score if the picture was scanned, otherwise of the whole picture at its first box.
    pub fn annotate(&self, picture: &mut RgbImage, analysis: &Analysis, classes: &[String]) {
        let shorter = picture.width().min(picture.height()) as f32;
        let text_px = (shorter * TEXT_SHARE).max(MIN_TEXT_PX);
        let line_px = (shorter / 240.0).round().max(1.0) as u32;
        let name = &classes[analysis.label];
        if name != BACKGROUND {
            heat::blend(picture, &analysis.heat);
        }
        for detection in &analysis.boxes {
            let colour = palette::class_colour(&classes[detection.label], detection.label);
            outline(picture, detection.rect, line_px, colour);
        }
        if analysis.scan.is_some() && !analysis.boxes.is_empty() {
            // The strongest last, so that it can be read where tags overlap.
            for found in analysis.boxes.iter().rev() {
                self.tag(picture, found, &format!("{} {:.2}", classes[found.label], found.score), text_px, classes);
            }
            return;
        }
        let text = format!("{name} {:.0} %", f64::from(analysis.confidence) * 100.0);
        match analysis.boxes.first() {
            Some(found) => self.tag(picture, found, &text, text_px, classes),
            None => self.font.draw_tag(picture, &text, text_px, (0, 0), palette::class_colour(name, analysis.label)),
        }
    }

    /// Writes on a tag at a box, in the colour of its class.
    fn tag(&self, picture: &mut RgbImage, found: &Detection, text: &str, text_px: f32, classes: &[String]) {
        let place = self.font.tag_position(text, text_px, found.rect, picture.dimensions());
        self.font.draw_tag(picture, text, text_px, place, palette::class_colour(&classes[found.label], found.label));
    }
}

/// Draws the edge of a rectangle, `line_px` thick, inwards.
pub fn outline(picture: &mut RgbImage, rect: Rect, line_px: u32, colour: Rgb) {
    let Rect { x, y, width, height } = rect;
    let across = line_px.min(width);
    let down = line_px.min(height);
    for edge in [
        Rect { height: down, ..rect },
        Rect { y: y + height - down, height: down, ..rect },
        Rect { width: across, ..rect },
        Rect { x: x + width - across, width: across, ..rect },
    ] {
        fill(picture, edge, colour);
    }
}

/// Fills the part of a rectangle that lies inside the picture.
fn fill(picture: &mut RgbImage, rect: Rect, colour: Rgb) {
    for y in rect.y..(rect.y + rect.height).min(picture.height()) {
        for x in rect.x..(rect.x + rect.width).min(picture.width()) {
            picture.put_pixel(x, y, image::Rgb(colour));
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::analyse::CamSummary;
    use crate::explain::Method;

    fn analysis(label: usize, boxes: Vec<Detection>) -> Analysis {
        Analysis {
            label,
            confidence: 0.97,
            probabilities: Array1::from(vec![0.97, 0.02, 0.01]),
            heat: Array2::from_shape_fn((224, 224), |(row, column)| ((row + column) as f32 / 446.0).min(1.0)),
            boxes,
            cam: CamSummary { method: Method::Cam, reduction: None, basis: None },
            scan: None,
            times: Default::default(),
        }
    }

    fn classes() -> Vec<String> {
        ["mask", "no_mask", "background"].map(str::to_owned).into()
    }

    #[test]
    fn any_size_and_place_can_be_drawn() {
        let annotator = Annotator::new().unwrap();
        for (width, height) in [(1, 1), (2, 500), (101, 77), (426, 240), (3840, 2160)] {
            let rect = Rect { x: width - 1, y: height - 1, width: 1, height: 1 };
            let whole = Rect { x: 0, y: 0, width, height };
            let boxes = [rect, whole].map(|rect| Detection { rect, score: 0.5, label: 0 }).to_vec();
            let mut picture = RgbImage::new(width, height);
            annotator.annotate(&mut picture, &analysis(0, boxes), &classes());
            assert_ne!(picture, RgbImage::new(width, height));
        }
    }

    #[test]
    fn boxes_are_outlined_in_the_colour_of_their_class() {
        let rect = Rect { x: 100, y: 120, width: 150, height: 90 };
        let mut picture = RgbImage::new(400, 300);
        let detection = Detection { rect, score: 0.5, label: 0 };
        Annotator::new().unwrap().annotate(&mut picture, &analysis(0, vec![detection]), &classes());
        let colour = palette::class_colour("mask", 0);
        for (x, y) in [(100, 120), (249, 120), (100, 209), (249, 209), (170, 209), (249, 160)] {
            assert_eq!(picture.get_pixel(x, y).0, colour, "{x} {y}");
        }
        assert_ne!(picture.get_pixel(170, 160).0, colour);
    }

    #[test]
    fn heat_is_hotter_where_the_map_is() {
        let mut picture = RgbImage::from_pixel(400, 300, image::Rgb([100; 3]));
        Annotator::new().unwrap().annotate(&mut picture, &analysis(0, Vec::new()), &classes());
        let change = |x, y| picture.get_pixel(x, y).0.iter().map(|&value: &u8| value.abs_diff(100) as u32).sum::<u32>();
        assert!(change(395, 295) > 40);
        assert!(change(395, 295) > change(5, 200));
    }

    #[test]
    fn nobody_is_explained_by_no_heat() {
        let mut picture = RgbImage::from_pixel(400, 300, image::Rgb([100; 3]));
        Annotator::new().unwrap().annotate(&mut picture, &analysis(2, Vec::new()), &classes());
        assert_eq!(picture.get_pixel(395, 295).0, [100; 3]);
        assert_ne!(picture.get_pixel(2, 2).0, [100; 3], "the label is there all the same");
    }
}
