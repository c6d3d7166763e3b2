//! One picture explained by several methods: a figure as in the HayCAM paper (its Figures 11 to 13).
//!
//! On the left the input with the model's answer ([`side`]), then a column a method: its map, the map over the picture,
//! the box on the picture, and the facts ([`layout`] says where). [`scan`] is the figure of a scanned picture.

mod layout;
pub mod scan;
mod side;

use image::imageops::{FilterType, overlay, resize, rotate270};
use image::{Rgb, RgbImage};
use ndarray::Array2;

use self::layout::{FACT_PX, GAP_PX, GUTTER_PX, Layout, NAME_PX, ROW_GAP_PX, ROWS, TITLE_PX};
use super::palette::{class_colour, heat_colours};
use super::{Font, heat, outline};
use crate::analyse::comparison::{Comparison, MethodMap};

const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [30; 3];
const GREY: [u8; 3] = [105; 3];
const TITLE_TEXT_PX: (f32, f32) = (13.0, 22.0);
const NAME_TEXT_PX: (f32, f32) = (10.0, 16.0);
const FACT_TEXT_PX: (f32, f32) = (8.0, 12.0);
const ROW_TEXT_PX: f32 = 13.0;
/// Thickness of boxes.
const LINE_PX: u32 = 3;

/// Draws the figure: `name` of the picture above it, `notes` under the input, a line each.
pub fn draw(
    font: &Font,
    picture: &RgbImage,
    comparison: &Comparison,
    classes: &[String],
    name: &str,
    notes: &[String],
) -> RgbImage {
    let layout = Layout::new(comparison.maps.len(), picture.dimensions());
    let side = side::draw(font, picture, comparison, classes, notes);
    let (width, height) = layout.size();
    let width = GAP_PX + side.width() + GAP_PX + width;
    let mut sheet = RgbImage::from_pixel(width, TITLE_PX + height.max(NAME_PX + side.height()), Rgb(PAPER));
    let (class, probability) = (&classes[comparison.class], comparison.probabilities[comparison.class]);
    let title = format!("{name}: evidence for {class} ({:.1} %)", f64::from(probability) * 100.0);
    write(&mut sheet, font, &title, TITLE_TEXT_PX, (GAP_PX, GAP_PX / 2), width - 2 * GAP_PX, INK);
    // Beside the first panels, not their names.
    overlay(&mut sheet, &side, GAP_PX.into(), (TITLE_PX + NAME_PX).into());

    for band in 0..layout.bands {
        draw_row_names(&mut sheet, font, layout, band);
    }
    let (panel_width, panel_height) = layout.panel;
    let small = resize(picture, panel_width, panel_height, FilterType::Triangle);
    let colour = class_colour(&classes[comparison.class], comparison.class);
    for (index, map) in (0..).zip(&comparison.maps) {
        let (x, y) = layout.column(index);
        write(&mut sheet, font, map.method.title(), NAME_TEXT_PX, (x, y), layout.column_px, INK);
        let mut over = small.clone();
        heat::blend(&mut over, &map.values);
        let mut boxed = small.clone();
        for found in &map.boxes {
            outline(&mut boxed, found.rect.scaled(picture.dimensions(), layout.panel), LINE_PX, colour);
        }
        // Panels narrower than their column stand under the beginning of its name.
        let mut y = y + NAME_PX;
        for panel in [grid_picture(&map.values, layout.panel), over, boxed] {
            overlay(&mut sheet, &panel, x.into(), y.into());
            y += panel_height + ROW_GAP_PX;
        }
        for fact in facts(map) {
            write(&mut sheet, font, &fact, FACT_TEXT_PX, (x, y), layout.column_px, GREY);
            y += FACT_PX;
        }
    }
    sheet
}

/// What is worth knowing of a map besides its looks, at most [`layout::FACTS`] lines.
fn facts(map: &MethodMap) -> Vec<String> {
    let (rows, columns) = map.values.dim();
    let mut facts = vec![format!("{rows}x{columns}, {} ms", short(map.time.as_secs_f64() * 1e3))];
    facts.push(match map.boxes.is_empty() {
        true => format!("threshold {}, no box", map.threshold),
        false => format!("threshold {}", map.threshold),
    });
    if let Some(reduction) = map.reduction {
        let plural = if reduction.components == 1 { "" } else { "s" };
        let captured = reduction.captured_variance * 100.0;
        facts.push(format!("{} component{plural}, {captured:.0} %", reduction.components));
    }
    facts
}

/// Two digits, or all of a whole number that has more.
fn short(value: f64) -> String {
    let digits = if value < 0.995 { 2 } else { usize::from(value < 9.95) };
    format!("{value:.digits$}")
}

/// A map enlarged without smoothing, so that the places of its grid are seen.
fn grid_picture(map: &Array2<f32>, (width, height): (u32, u32)) -> RgbImage {
    let colours = heat_colours();
    let (rows, columns) = map.dim();
    RgbImage::from_fn(width, height, |x, y| {
        let place = |at: u32, length: u32, places: usize| at as usize * places / length as usize;
        let value = map[[place(y, height, rows), place(x, width, columns)]];
        Rgb(colours[usize::from((value * 255.0) as u8)])
    })
}

/// Names the rows of a band, upwards along its left edge.
fn draw_row_names(sheet: &mut RgbImage, font: &Font, layout: Layout, band: u32) {
    let (x, y) = layout.band(band);
    let panel = layout.panel.1;
    for (row, name) in (0..ROWS).zip(["map", "on picture", "box"]) {
        let mut strip = RgbImage::from_pixel(panel, GUTTER_PX, Rgb(PAPER));
        let (text_px, name) = font.fit_tag(name, (8.0, ROW_TEXT_PX), panel);
        let start = (panel as f32 - font.text_width(&name, text_px)) / 2.0;
        font.draw_text(&mut strip, &name, text_px, (start.max(0.0), 4.0), GREY);
        let top = y + NAME_PX + row * (panel + ROW_GAP_PX);
        overlay(sheet, &rotate270(&strip), x.into(), top.into());
    }
}

/// Writes a line of text into `width_px`, smaller or shortened if it has to be.
fn write(
    sheet: &mut RgbImage,
    font: &Font,
    text: &str,
    text_px: (f32, f32),
    place: (u32, u32),
    width_px: u32,
    ink: [u8; 3],
) {
    let (text_px, text) = font.fit_tag(text, text_px, width_px);
    font.draw_text(sheet, &text, text_px, (place.0 as f32, place.1 as f32), ink);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ndarray::{Array1, array};

    use super::*;
    use crate::boxes::Threshold;
    use crate::explain::Method;

    fn comparison(classes: usize, methods: &[Method]) -> Comparison {
        let map = |&method: &Method| MethodMap {
            method,
            values: array![[0.0, 1.0, 0.0], [0.0, 0.5, 0.0]],
            reduction: None,
            threshold: Threshold::Otsu,
            boxes: Vec::new(),
            time: Duration::from_micros(1234),
        };
        Comparison {
            label: 0,
            probabilities: Array1::from_elem(classes, 1.0 / classes as f32),
            class: classes - 1,
            maps: methods.iter().map(map).collect(),
        }
    }

    #[test]
    fn any_picture_number_of_classes_and_of_methods_can_be_drawn() {
        let font = Font::bundled().unwrap();
        for (width, height) in [(1, 1), (2, 900), (900, 2), (640, 480)] {
            let picture = RgbImage::from_pixel(width, height, Rgb([9, 120, 70]));
            for (classes, methods) in [(1, &Method::ALL[..1]), (3, &[]), (30, &Method::ALL)] {
                let names: Vec<String> = (0..classes).map(|class| format!("a class with number {class}")).collect();
                let comparison = comparison(classes, methods);
                let sheet = draw(&font, &picture, &comparison, &names, &"name".repeat(99), &["a note".to_owned()]);
                assert!(sheet.pixels().any(|pixel| *pixel == Rgb([9, 120, 70])), "{width}x{height}");
                let hottest = Rgb(heat_colours()[255]);
                assert!(methods.is_empty() || sheet.pixels().any(|pixel| *pixel == hottest), "{width}x{height}");
            }
        }
    }

    #[test]
    fn places_of_the_grid_keep_their_edges() {
        let map = array![[0.0, 1.0, 0.0], [0.0, 0.5, 0.0]];
        let picture = grid_picture(&map, (30, 20));
        let colours = heat_colours();
        for (x, y, level) in [(0, 0, 0), (9, 9, 0), (10, 0, 255), (19, 9, 255), (10, 10, 127), (20, 9, 0), (29, 19, 0)]
        {
            assert_eq!(picture.get_pixel(x, y).0, colours[level], "{x} {y}");
        }
    }

    #[test]
    fn facts_say_what_is_missing() {
        let map = &comparison(2, &[Method::Cam]).maps[0];
        assert_eq!(facts(map), ["2x3, 1.2 ms", "threshold otsu, no box"]);
    }

    #[test]
    fn the_explained_class_is_listed_however_improbable() {
        let mut comparison = comparison(30, &[]);
        comparison.probabilities = Array1::from_shape_fn(30, |class| if class == 29 { 0.0 } else { 1.0 / 29.0 });
        let listed = side::listed_classes(&comparison);
        assert!(listed.contains(&29) && listed.is_sorted() && listed.len() < 30, "{listed:?}");
    }
}
