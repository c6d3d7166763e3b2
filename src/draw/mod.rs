//! Annotating a frame: the heat map blended over it, boxes, labels.

pub mod figure;
mod heat;
mod label;
pub mod palette;

use std::cell::Cell;
use std::fmt::{self, Write as _};

use image::RgbImage;

use crate::analyse::Analysis;
use crate::boxes::PerBox;
use crate::geometry::Rect;
use crate::labels::BACKGROUND;
use crate::recycled::Memory;
use crate::track::{Label, TrackedBox};
use palette::Rgb;

pub use heat::picture as heat_picture;
pub use label::{BUNDLED_FONT, Font, LabelError};

/// Draws analyses onto frames. Keeps the font.
#[derive(Debug)]
pub struct Annotator {
    font: Font,
}

/// Text height as a share of the picture's shorter side, and never below this many pixels: readable at 240p and at 4K.
const TEXT_SHARE: f32 = 1.0 / 22.0;
const MIN_TEXT_PX: f32 = 13.0;

thread_local! {
    /// Where what is to be drawn is written.
    static TEXT: Cell<String> = const { Cell::new(String::new()) };
}

impl Annotator {
    /// Loads the bundled font.
    ///
    /// # Errors
    ///
    /// When the font in the program is damaged.
    pub fn new() -> Result<Self, LabelError> {
        Ok(Self { font: Font::bundled()? })
    }

    /// Draws onto a copy: the heat map where a class other than `background` was found, its boxes, and the label: of each
    /// track in sight with its number if the picture was scanned, otherwise of the whole picture at its first box.
    pub fn annotated(
        &self,
        picture: &RgbImage,
        analysis: &Analysis,
        tracks: &[TrackedBox],
        classes: &[String],
    ) -> RgbImage {
        let is_explained = classes[analysis.label] != BACKGROUND;
        let mut drawn = if is_explained { heat::blended(picture, &analysis.heat) } else { picture.copied() };
        self.mark(&mut drawn, analysis, tracks, classes);
        drawn
    }

    /// Draws boxes and labels.
    fn mark(&self, picture: &mut RgbImage, analysis: &Analysis, tracks: &[TrackedBox], classes: &[String]) {
        let shorter = picture.width().min(picture.height()) as f32;
        let text_px = (shorter * TEXT_SHARE).max(MIN_TEXT_PX);
        let line_px = (shorter / 240.0).round().max(1.0) as u32;
        let name = &classes[analysis.label];
        if analysis.scan.is_some() {
            let seen = tracks.iter().filter_map(|track| Some((track, track.id?, track.seen?)));
            for (track, ..) in seen.clone() {
                outline(picture, track.rect, line_px, label_colour(track.label, classes));
            }
            // The strongest last, so that it can be read where tags overlap.
            let mut tags: PerBox<_> = seen.collect();
            tags.sort_by(|(.., one), (.., other)| one.detection.score.total_cmp(&other.detection.score));
            for (track, id, seen) in tags {
                let text = format_args!("{} {:.2} #{id}", track.label.name(classes), seen.detection.score);
                self.tag(picture, Some(track.rect), text, text_px, label_colour(track.label, classes));
            }
            if analysis.boxes.is_empty() {
                let colour = palette::class_colour(name, analysis.label);
                self.tag(picture, None, format_args!("{name}"), text_px, colour);
            }
            return;
        }
        for detection in &analysis.boxes {
            let colour = palette::class_colour(&classes[detection.label], detection.label);
            outline(picture, detection.rect, line_px, colour);
        }
        let text = format_args!("{name} {:.0} %", f64::from(analysis.confidence) * 100.0);
        let colour = palette::class_colour(name, analysis.label);
        self.tag(picture, analysis.boxes.first().map(|found| found.rect), text, text_px, colour);
    }

    /// Writes on a tag at a box, or in the corner of the picture.
    fn tag(&self, picture: &mut RgbImage, rect: Option<Rect>, text: fmt::Arguments, text_px: f32, colour: Rgb) {
        let mut written = TEXT.take();
        written.clear();
        written.write_fmt(text).expect("a string takes any text");
        let place = rect.map(|rect| self.font.tag_position(&written, text_px, rect, picture.dimensions()));
        self.font.draw_tag(picture, &written, text_px, place.unwrap_or_default(), colour);
        TEXT.set(written);
    }
}

fn label_colour(label: Label, classes: &[String]) -> Rgb {
    match label {
        Label::Class(class) => palette::class_colour(&classes[class], class),
        Label::Uncertain => palette::UNCERTAIN,
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
    use crate::analyse::{CamSummary, Detection};
    use crate::explain::Method;

    fn analysis(label: usize, boxes: Vec<Detection>) -> Analysis {
        Analysis {
            label,
            confidence: 0.97,
            probabilities: Array1::from(vec![0.97, 0.02, 0.01]).into(),
            heat: Array2::from_shape_fn((224, 224), |(row, column)| ((row + column) as f32 / 446.0).min(1.0)).into(),
            box_probabilities: PerBox::new(),
            boxes: boxes.into(),
            cam: CamSummary { method: Method::Cam, reduction: None, basis: None },
            scan: None,
            times: Default::default(),
            kept_for: None,
        }
    }

    fn classes() -> Vec<String> {
        ["mask", "no_mask", "background"].map(str::to_owned).into()
    }

    fn annotated(picture: &RgbImage, analysis: &Analysis) -> RgbImage {
        Annotator::new().unwrap().annotated(picture, analysis, &[], &classes())
    }

    #[test]
    fn any_size_and_place_can_be_drawn() {
        let annotator = Annotator::new().unwrap();
        for (width, height) in [(1, 1), (2, 500), (101, 77), (426, 240), (3840, 2160)] {
            let rect = Rect { x: width - 1, y: height - 1, width: 1, height: 1 };
            let whole = Rect { x: 0, y: 0, width, height };
            let boxes = [rect, whole].map(|rect| Detection { rect, score: 0.5, label: 0 }).to_vec();
            let picture = RgbImage::new(width, height);
            assert_ne!(annotator.annotated(&picture, &analysis(0, boxes), &[], &classes()), picture);
        }
    }

    #[test]
    fn boxes_are_outlined_in_the_colour_of_their_class() {
        let rect = Rect { x: 100, y: 120, width: 150, height: 90 };
        let detection = Detection { rect, score: 0.5, label: 0 };
        let picture = annotated(&RgbImage::new(400, 300), &analysis(0, vec![detection]));
        let colour = palette::class_colour("mask", 0);
        for (x, y) in [(100, 120), (249, 120), (100, 209), (249, 209), (170, 209), (249, 160)] {
            assert_eq!(picture.get_pixel(x, y).0, colour, "{x} {y}");
        }
        assert_ne!(picture.get_pixel(170, 160).0, colour);
    }

    #[test]
    fn heat_is_hotter_where_the_map_is() {
        let picture = annotated(&RgbImage::from_pixel(400, 300, image::Rgb([100; 3])), &analysis(0, Vec::new()));
        let change = |x, y| picture.get_pixel(x, y).0.iter().map(|&value: &u8| value.abs_diff(100) as u32).sum::<u32>();
        assert!(change(395, 295) > 40);
        assert!(change(395, 295) > change(5, 200));
    }

    #[test]
    fn nobody_is_explained_by_no_heat() {
        let picture = annotated(&RgbImage::from_pixel(400, 300, image::Rgb([100; 3])), &analysis(2, Vec::new()));
        assert_eq!(picture.get_pixel(395, 295).0, [100; 3]);
        assert_ne!(picture.get_pixel(2, 2).0, [100; 3], "the label is there all the same");
    }
}
