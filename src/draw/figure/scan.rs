//! One scanned picture: all boxes on it, and for each of the strongest the map that made it.

use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};
use ndarray::Array2;

use super::layout::{FACT_PX, GAP_PX, NAME_PX, SIDE_PX, TITLE_PX, fitted};
use super::{FACT_TEXT_PX, GREY, INK, LINE_PX, NAME_TEXT_PX, PAPER, TITLE_TEXT_PX, side, write};
use crate::boxes::Detection;
use crate::draw::palette::class_colour;
use crate::draw::{Font, heat, outline};
use crate::scan::Scan;

/// Detections with a panel of their own; the others are on the picture alone.
pub const MOST_PANELS: usize = 12;
/// Panels side by side.
const COLUMNS: u32 = 4;
/// Room for a panel.
const PANEL_MAX_PX: (u32, u32) = (330, 330);
/// Narrowest column, so that captions stay legible under narrow pictures.
const COLUMN_MIN_PX: u32 = 200;
/// Room for the picture with all boxes.
const PICTURE_MAX_PX: (u32, u32) = (1040, 640);

/// A panel: what it is called, the map, and the box that it shows.
type Panel<'a> = (String, &'a Array2<f32>, Option<&'a Detection>);

/// Draws the figure: `name` of the picture above it, `notes` beside it, a line each.
pub fn draw(
    font: &Font,
    picture: &RgbImage,
    scan: &Scan,
    classes: &[String],
    name: &str,
    notes: &[String],
) -> RgbImage {
    let heat = scan.heat();
    let mut panels: Vec<Panel> = (1..)
        .zip(&scan.detections)
        .take(MOST_PANELS)
        .map(|(number, found): (usize, _)| {
            let caption = format!("{number}. {} {:.2}", classes[found.label], found.score);
            (caption, scan.map_of(number - 1), Some(found))
        })
        .collect();
    if panels.is_empty() {
        panels.push(("hottest of all maps".to_owned(), &heat, None));
    }
    let large = fitted(picture.dimensions(), PICTURE_MAX_PX);
    let small = fitted(picture.dimensions(), PANEL_MAX_PX);
    let column_px = small.0.max(COLUMN_MIN_PX);
    let bands = (panels.len() as u32).div_ceil(COLUMNS);
    let width = (large.0 + GAP_PX + SIDE_PX).max(COLUMNS * (column_px + GAP_PX) - GAP_PX) + 2 * GAP_PX;
    let band_px = NAME_PX + small.1 + GAP_PX;
    let beside = side::SCALE_HEIGHT_PX + notes.len() as u32 * FACT_PX;
    let top_px = large.1.max(beside) + GAP_PX;
    let mut sheet = RgbImage::from_pixel(width, TITLE_PX + top_px + bands * band_px, Rgb(PAPER));

    let title = format!("{name}: {}", counted(&scan.detections, classes));
    write(&mut sheet, font, &title, TITLE_TEXT_PX, (GAP_PX, GAP_PX / 2), width - 2 * GAP_PX, INK);
    let mut boxed = resize(picture, large.0, large.1, FilterType::Triangle);
    for found in scan.detections.iter().rev() {
        draw_box(&mut boxed, found, picture.dimensions(), classes);
    }
    for (number, found) in (1..).zip(&scan.detections).take(MOST_PANELS) {
        let rect = found.rect.scaled(picture.dimensions(), large);
        let (number, text_px) = (format!("{number}"), NAME_TEXT_PX.0);
        let place = font.tag_position(&number, text_px, rect, large);
        font.draw_tag(&mut boxed, &number, text_px, place, class_colour(&classes[found.label], found.label));
    }
    overlay(&mut sheet, &boxed, GAP_PX.into(), TITLE_PX.into());

    let mut column = RgbImage::from_pixel(SIDE_PX, beside, Rgb(PAPER));
    side::draw_scale(&mut column, font, 0);
    for (line, note) in (0..).zip(notes) {
        let y = side::SCALE_HEIGHT_PX + line * FACT_PX;
        write(&mut column, font, note, FACT_TEXT_PX, (0, y), SIDE_PX, GREY);
    }
    overlay(&mut sheet, &column, (large.0 + 2 * GAP_PX).into(), TITLE_PX.into());

    let plain = resize(picture, small.0, small.1, FilterType::Triangle);
    for (index, (caption, map, found)) in (0..).zip(panels) {
        let x = GAP_PX + index % COLUMNS * (column_px + GAP_PX);
        let y = TITLE_PX + top_px + index / COLUMNS * band_px;
        write(&mut sheet, font, &caption, NAME_TEXT_PX, (x, y), column_px, INK);
        let mut panel = plain.clone();
        heat::blend(&mut panel, map);
        if let Some(found) = found {
            draw_box(&mut panel, found, picture.dimensions(), classes);
        }
        overlay(&mut sheet, &panel, x.into(), (y + NAME_PX).into());
    }
    sheet
}

/// Draws a box of a picture of `size` on a copy of it of another size.
fn draw_box(copy: &mut RgbImage, found: &Detection, size: (u32, u32), classes: &[String]) {
    let rect = found.rect.scaled(size, copy.dimensions());
    outline(copy, rect, LINE_PX, class_colour(&classes[found.label], found.label));
}

/// How many there are of each class.
pub fn counted(detections: &[Detection], classes: &[String]) -> String {
    let of = |label: usize| detections.iter().filter(|found| found.label == label).count();
    let counts = classes.iter().enumerate().map(|(label, class)| (of(label), class));
    let counts: Vec<String> =
        counts.filter(|(count, _)| *count > 0).map(|(count, class)| format!("{count} {class}")).collect();
    if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::boxes::PerBox;
    use crate::explain::Reduction;
    use crate::geometry::Rect;
    use crate::scan::ScanSize;
    use crate::scan::maps::Reading;
    use crate::scan::{Distance, Peak};

    fn scan(detections: Vec<Detection>) -> Scan {
        Scan {
            peaks: PerBox::from_elem(Peak { distance: Distance::Far, row: 0, column: 0 }, detections.len()),
            near: None,
            detections: detections.into(),
            maps: smallvec![Array2::from_elem((2, 3), 0.4).into(); 3],
            reading: Reading::of(Array2::zeros((6, 6)).into()),
            reduction: Reduction { components: 1, captured_variance: 1.0 },
            size: ScanSize { short_side: 64, width: 96, height: 64 },
            times: Default::default(),
        }
    }

    #[test]
    fn any_picture_and_number_of_detections_can_be_drawn() {
        let font = Font::bundled().unwrap();
        let classes = ["mask", "no_mask", "background"].map(str::to_owned);
        for (width, height) in [(1, 1), (2, 900), (900, 2), (640, 480)] {
            let picture = RgbImage::from_pixel(width, height, Rgb([9, 120, 70]));
            let mut heights = Vec::new();
            for count in [0, 1, 5, 40] {
                let rect = Rect { x: width / 2, y: height / 2, width: 1, height: 1 };
                let detections = (0..count).map(|index| Detection { rect, score: 0.5, label: index % 2 }).collect();
                let sheet = draw(&font, &picture, &scan(detections), &classes, &"name".repeat(99), &["a note".into()]);
                assert!(sheet.pixels().any(|pixel| *pixel == Rgb([9, 120, 70])) || width * height < 900);
                heights.push(sheet.height());
            }
            assert!(heights[0] == heights[1] && heights[1] < heights[2] && heights[2] < heights[3]);
        }
    }

    #[test]
    fn what_was_found_is_counted() {
        let classes = ["mask", "no_mask", "background"].map(str::to_owned);
        let found = |label| Detection { rect: Rect { x: 0, y: 0, width: 1, height: 1 }, score: 0.5, label };
        assert_eq!(counted(&[found(1), found(0), found(1)], &classes), "1 mask, 2 no_mask");
        assert_eq!(counted(&[], &classes), "nothing found");
    }
}
