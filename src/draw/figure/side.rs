//! The left column of a figure: the input, what the model makes of it, and what the colours mean.

use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};

use super::layout::{FACT_PX, GAP_PX, SIDE_PX, fitted};
use super::{FACT_TEXT_PX, GREY, INK, PAPER, write};
use crate::analyse::comparison::Comparison;
use crate::draw::palette::{class_colour, heat_colours};
use crate::draw::{Font, fill};
use crate::geometry::Rect;

/// Height of the room for the input.
const INPUT_MAX_PX: u32 = 340;
/// Classes listed; the most probable ones, if a model has more.
const MAX_CLASSES: usize = 8;
const TEXT_PX: (f32, f32) = (10.0, 15.0);
/// Height of a line of text with the bar under it.
const CLASS_PX: u32 = 32;
const BAR_PX: u32 = 7;
const TRACK: [u8; 3] = [228; 3];
/// Height of the scale of colours.
const SCALE_PX: u32 = 16;
/// Height of the scale with the text under it and the space below.
pub(super) const SCALE_HEIGHT_PX: u32 = SCALE_PX + FACT_PX + GAP_PX;

/// Draws the column, as wide as it is allowed and as high as it needs to be.
pub(super) fn draw(
    font: &Font,
    picture: &RgbImage,
    comparison: &Comparison,
    classes: &[String],
    notes: &[String],
) -> RgbImage {
    let (width, height) = fitted(picture.dimensions(), (SIDE_PX, INPUT_MAX_PX));
    let listed = listed_classes(comparison);
    let below = GAP_PX + listed.len() as u32 * CLASS_PX + GAP_PX + SCALE_HEIGHT_PX;
    let total = height + below + notes.len() as u32 * FACT_PX + GAP_PX;
    let mut column = RgbImage::from_pixel(SIDE_PX, total, Rgb(PAPER));
    overlay(&mut column, &resize(picture, width, height, FilterType::Triangle), 0, 0);

    let name = &classes[comparison.label];
    let confidence = f64::from(comparison.probabilities[comparison.label]) * 100.0;
    let (text_px, tag) = font.fit_tag(&format!("{name} {confidence:.1} %"), TEXT_PX, SIDE_PX);
    font.draw_tag(&mut column, &tag, text_px, (0, 0), class_colour(name, comparison.label));

    let mut y = height + GAP_PX;
    for class in listed {
        draw_probability(&mut column, font, comparison, classes, class, y);
        y += CLASS_PX;
    }
    y += GAP_PX;
    draw_scale(&mut column, font, y);
    y += SCALE_HEIGHT_PX;
    for note in notes {
        write(&mut column, font, note, FACT_TEXT_PX, (0, y), SIDE_PX, GREY);
        y += FACT_PX;
    }
    column
}

/// The classes to list, in their order; the one that is explained is among them.
pub(super) fn listed_classes(comparison: &Comparison) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..comparison.probabilities.len()).collect();
    classes.sort_by(|&one, &other| {
        let rank = |class: usize| (class == comparison.class, comparison.probabilities[class]);
        rank(other).0.cmp(&rank(one).0).then(rank(other).1.total_cmp(&rank(one).1))
    });
    classes.truncate(MAX_CLASSES);
    classes.sort_unstable();
    classes
}

fn draw_probability(
    column: &mut RgbImage,
    font: &Font,
    comparison: &Comparison,
    classes: &[String],
    class: usize,
    y: u32,
) {
    let probability = comparison.probabilities[class];
    let share = format!("{:.1} %", f64::from(probability) * 100.0);
    let share_px = font.text_width(&share, TEXT_PX.1).ceil() as u32;
    let ink = if class == comparison.class { INK } else { GREY };
    let name = match class == comparison.class {
        true => format!("{}, explained", classes[class]),
        false => classes[class].clone(),
    };
    write(column, font, &name, TEXT_PX, (0, y), SIDE_PX - share_px - GAP_PX, ink);
    font.draw_text(column, &share, TEXT_PX.1, ((SIDE_PX - share_px) as f32, y as f32), ink);
    let track = Rect { x: 0, y: y + CLASS_PX - BAR_PX - 5, width: SIDE_PX, height: BAR_PX };
    fill(column, track, TRACK);
    let width = (probability * SIDE_PX as f32).round() as u32;
    fill(column, Rect { width, ..track }, class_colour(&classes[class], class));
}

/// What the colours of maps mean.
pub(super) fn draw_scale(column: &mut RgbImage, font: &Font, y: u32) {
    let colours = heat_colours();
    for x in 0..SIDE_PX {
        let level = x as usize * colours.len() / SIDE_PX as usize;
        fill(column, Rect { x, y, width: 1, height: SCALE_PX }, colours[level]);
    }
    let text_px = FACT_TEXT_PX.1;
    let y = (y + SCALE_PX) as f32 + 3.0;
    for (text, place) in [("0", 0.0), ("evidence for the class", 0.5), ("1", 1.0)] {
        let x = (SIDE_PX as f32 - font.text_width(text, text_px)) * place;
        font.draw_text(column, text, text_px, (x, y), GREY);
    }
}
