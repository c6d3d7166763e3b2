//! The reliability diagram and the confusion matrix, as pictures.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::evaluate::classification::calibration::{BINS, Bin, Calibration, bin_range};
use crate::evaluate::classification::metrics::Confusion;
use crate::evaluate::text::{printable, shortened};
use crate::plot::{self, Area, BLUE, GREY, GRID, INK, ORANGE, PlotError, axis_label};

const RELIABILITY_PX: (u32, u32) = (860, 1040);

/// Draws accuracy by confidence, with 95 % intervals, over a histogram of the confidences. On the diagonal lies whoever
/// is right as often as confident.
///
/// # Errors
///
/// When the file cannot be written.
pub fn reliability(calibration: &Calibration, path: &Path) -> Result<(), PlotError> {
    let title = format!("Expected calibration error {:.4}", calibration.expected_error());
    let bins: Vec<(f64, f64, &Bin)> = calibration
        .bins
        .iter()
        .enumerate()
        .map(|(index, bin)| (bin_range(index).0, bin_range(index).1, bin))
        .filter(|(_, _, bin)| bin.accuracy.total > 0)
        .collect();
    plot::write_png(path, RELIABILITY_PX, |area| {
        let area = area.margin(18, 0, 0, 0).titled(&title, plot::text(28))?;
        let (upper, lower) = area.split_vertically((65).percent_height());
        draw_accuracy(&upper, &bins)?;
        draw_histogram(&lower, &bins)
    })
}

fn draw_accuracy(area: &Area, bins: &[(f64, f64, &Bin)]) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(30)
        .x_label_area_size(34)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(plot::text(20))
        .axis_desc_style(plot::text(20))
        .y_desc("accuracy")
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|value| axis_label(*value))
        .y_label_formatter(&|value| axis_label(*value))
        .draw()?;
    chart
        .draw_series(bins.iter().map(|(low, high, bin)| {
            Rectangle::new([(*low, 0.0), (*high, bin.accuracy.value().unwrap_or_default())], BLUE.mix(0.75).filled())
        }))?
        .label("accuracy, 95 % interval")
        .legend(|(x, y)| Rectangle::new([(x, y - 7), (x + 26, y + 7)], BLUE.mix(0.75).filled()));
    chart
        .draw_series(bins.iter().filter_map(|(_, _, bin)| {
            let confidence = bin.confidence()?;
            Some(PathElement::new(
                [(confidence - 0.022, confidence), (confidence + 0.022, confidence)],
                ORANGE.stroke_width(4),
            ))
        }))?
        .label("mean confidence")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 26, y)], ORANGE.stroke_width(4)));
    chart.draw_series(bins.iter().filter_map(|(low, high, bin)| {
        let (from, to) = bin.accuracy.interval()?;
        let middle = (low + high) / 2.0;
        Some(PathElement::new([(middle, from), (middle, to)], INK.stroke_width(2)))
    }))?;
    chart.draw_series(DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 8, 6, GREY.stroke_width(2)))?;
    chart
        .configure_series_labels()
        .label_font(plot::text(20))
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(36)
        .margin(14)
        .background_style(WHITE.mix(0.85))
        .border_style(INK.mix(0.3))
        .draw()?;
    Ok(())
}

fn draw_histogram(area: &Area, bins: &[(f64, f64, &Bin)]) -> Result<(), PlotError> {
    let pictures: u64 = bins.iter().map(|(_, _, bin)| bin.accuracy.total).sum();
    let share = |bin: &Bin| 100.0 * bin.accuracy.total as f64 / pictures as f64;
    // Room for the numbers above the bars.
    let highest = 1.15 * bins.iter().map(|(_, _, bin)| share(bin)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(30)
        .x_label_area_size(60)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..1.0, 0.0..highest)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(plot::text(20))
        .axis_desc_style(plot::text(20))
        .x_desc("confidence (probability of the predicted class)")
        .y_desc("pictures (%)")
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|value| axis_label(*value))
        .y_label_formatter(&|value| axis_label(*value))
        .draw()?;
    chart.draw_series(
        bins.iter().map(|(low, high, bin)| Rectangle::new([(*low, 0.0), (*high, share(bin))], BLUE.mix(0.75).filled())),
    )?;
    // As wide as a bar at most, whatever the number.
    let digits = pictures.max(1).ilog10() + 1;
    let number = plot::text((78 / digits).min(20)).pos(Pos::new(HPos::Center, VPos::Bottom));
    let width = 1.0 / BINS as f64;
    chart.draw_series(bins.iter().map(|(low, _, bin)| {
        EmptyElement::at((low + width / 2.0, share(bin)))
            + Text::new(bin.accuracy.total.to_string(), (0, -4), number.clone())
    }))?;
    Ok(())
}

/// Sides of a cell in pixels, between which it is chosen so that the matrix fits a screen.
const CELL_PX: std::ops::RangeInclusive<u32> = 64..=190;
const MATRIX_PX: u32 = 760;

/// Draws the confusion matrix: a row a true class with its pictures' shares, a column a predicted class.
///
/// # Errors
///
/// When the file cannot be written.
pub fn confusion(classes: &[String], confusion: &Confusion, path: &Path) -> Result<(), PlotError> {
    let count = classes.len() as u32;
    let cell = (MATRIX_PX / count.max(1)).clamp(*CELL_PX.start(), *CELL_PX.end());
    let text_px = (cell / 7).clamp(14, 24);
    let names: Vec<String> = classes.iter().map(|class| shortened(&printable(class), 22)).collect();
    let widest = names.iter().map(|name| name.chars().count() as u32).max().unwrap_or_default();
    // A bold letter is about 0.6 as wide as the text is high.
    let label_px = widest * text_px * 6 / 10 + 24;
    let across = widest * text_px * 6 / 10 > cell;
    let top = 70 + if across { label_px } else { text_px + 20 };
    let left = 50 + label_px;
    let size = (left + count * cell + 30, top + count * cell + 30);
    plot::write_png(path, size, |area| {
        let style = plot::text(text_px);
        let anchored = |horizontal, vertical| style.pos(Pos::new(horizontal, vertical));
        let (left, top, cell) = (left as i32, top as i32, cell as i32);
        let extent = count as i32 * cell;
        let centre = Pos::new(HPos::Center, VPos::Center);
        area.draw_text("predicted class", &plot::text(22).pos(centre), (left + extent / 2, 24))?;
        let upwards = plot::text(22).transform(FontTransform::Rotate270).pos(centre);
        area.draw_text("true class", &upwards, (24, top + extent / 2))?;
        for (index, name) in names.iter().enumerate() {
            let middle = index as i32 * cell + cell / 2;
            area.draw_text(name, &anchored(HPos::Right, VPos::Center), (left - 14, top + middle))?;
            let above = if across {
                style.transform(FontTransform::Rotate270).pos(Pos::new(HPos::Left, VPos::Center))
            } else {
                anchored(HPos::Center, VPos::Bottom)
            };
            area.draw_text(name, &above, (left + middle, top - 12))?;
        }
        for ((truth, predicted), &pictures) in confusion.counts().indexed_iter() {
            let support = confusion.of_class(truth).support;
            let share = if support == 0 { 0.0 } else { pictures as f64 / support as f64 };
            let corner = (left + predicted as i32 * cell, top + truth as i32 * cell);
            let opposite = (corner.0 + cell, corner.1 + cell);
            let colour = shade(share);
            area.draw(&Rectangle::new([corner, opposite], colour.filled()))?;
            area.draw(&Rectangle::new([corner, opposite], GREY))?;
            let ink = plot::text_colour(colour);
            let place = |line: i32| (corner.0 + cell / 2, corner.1 + cell / 2 + line * text_px as i32 * 7 / 10);
            let number = anchored(HPos::Center, VPos::Center).color(&ink);
            if support == 0 {
                area.draw_text("-", &number, place(0))?;
            } else {
                area.draw_text(&pictures.to_string(), &number, place(-1))?;
                area.draw_text(&format!("{:.1} %", share * 100.0), &number, place(1))?;
            }
        }
        Ok(())
    })
}

/// From white for none to blue for all.
fn shade(share: f64) -> RGBColor {
    let mix = |full: u8| (255.0 - share * (255.0 - f64::from(full))).round() as u8;
    RGBColor(mix(BLUE.0), mix(BLUE.1), mix(BLUE.2))
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use ndarray::Array1;

    use super::*;

    fn drawn(draw: impl Fn(&Path) -> Result<(), PlotError>) -> RgbImage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.png");
        draw(&path).unwrap();
        image::open(path).unwrap().into_rgb8()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("class_{}", "x".repeat(index * 3))).collect()
    }

    #[test]
    fn the_diagonal_of_a_perfect_matrix_is_dark() {
        for classes in [1, 2, 3, 12] {
            let perfect = Confusion::new(classes, (0..classes).map(|class| (class, class)));
            let picture = drawn(|path| confusion(&names(classes), &perfect, path));
            let dark = picture.pixels().filter(|pixel| pixel.0 == [BLUE.0, BLUE.1, BLUE.2]).count();
            let cells = picture.pixels().filter(|pixel| pixel.0 == [255; 3]).count();
            assert!(dark > 2000 * classes && cells > 1000, "{classes} classes: {dark}, {cells}");
        }
    }

    #[test]
    fn a_class_without_pictures_can_be_drawn() {
        drawn(|path| confusion(&names(3), &Confusion::new(3, [(0, 2), (1, 1)]), path));
    }

    #[test]
    fn reliability_shows_the_bins_that_have_pictures() {
        let answers = [0.55f32, 0.97].map(|confidence| Array1::from(vec![confidence, 1.0 - confidence]));
        let one = drawn(|path| reliability(&Calibration::new([(0, &answers[1])]), path));
        let two = drawn(|path| reliability(&Calibration::new(answers.iter().map(|answer| (0, answer))), path));
        assert_eq!(one.dimensions(), RELIABILITY_PX);
        assert_ne!(one, two);
    }
}
