//! A training as a picture: loss, accuracy and learning rate by epoch.

use std::path::Path;

use plotters::prelude::*;

use super::log::EpochRecord;
use crate::plot::{self, Area, BLUE, GREY, GRID, INK, ORANGE, PlotError, axis_label};

const SIZE_PX: (u32, u32) = (1680, 520);
/// More points than this run into each other and hide the line.
const MAX_POINTS: usize = 50;

/// One line of a panel.
struct Line {
    name: &'static str,
    colour: RGBColor,
    value: fn(&EpochRecord) -> f64,
}

/// One of the three diagrams.
struct Panel<'a> {
    title: String,
    lines: &'a [Line],
    /// Lowest and highest value on the axis.
    range: (f64, f64),
}

/// Draws three panels beside each other into a PNG file: loss and accuracy on training and validation pictures, and the
/// learning rate. A dashed line marks the epoch whose model is kept. The file is replaced in one step, so it can be
/// watched during a training.
///
/// # Errors
///
/// When the file cannot be written.
pub fn draw(records: &[EpochRecord], path: &Path) -> Result<(), PlotError> {
    let loss = [
        Line { name: "training", colour: BLUE, value: |record| record.train_loss },
        Line { name: "validation", colour: ORANGE, value: |record| record.val_loss },
    ];
    let accuracy = [
        Line { name: "training", colour: BLUE, value: |record| record.train_accuracy * 100.0 },
        Line { name: "validation", colour: ORANGE, value: |record| record.val_accuracy * 100.0 },
    ];
    let learning_rate = [Line { name: "learning rate", colour: BLUE, value: |record| record.learning_rate }];
    // Each record says whether it was the best so far, so the last of these is the best of all.
    let best = records.iter().rev().find(|record| record.best);
    let best_title =
        best.map_or_else(String::new, |best| format!(", best {:.2} (epoch {})", best.val_accuracy * 100.0, best.epoch));
    // Differences between good epochs are small, so the axis need not begin at 0; whole tens are easy to read.
    let lowest_accuracy = (extreme(records, &accuracy, f64::min).unwrap_or(0.0) / 10.0 - 0.05).floor().max(0.0) * 10.0;
    let above = |highest: Option<f64>| highest.filter(|&highest| highest > 0.0).unwrap_or(1.0) * 1.06;
    let panels = [
        Panel {
            title: "Cross entropy (nats)".to_owned(),
            range: (0.0, above(extreme(records, &loss, f64::max))),
            lines: &loss,
        },
        Panel {
            title: format!("Accuracy (%){best_title}"),
            range: (lowest_accuracy.min(90.0), 100.0),
            lines: &accuracy,
        },
        Panel {
            title: "Learning rate".to_owned(),
            range: (0.0, above(extreme(records, &learning_rate, f64::max))),
            lines: &learning_rate,
        },
    ];
    plot::write_png(path, SIZE_PX, |area| {
        for (area, panel) in area.split_evenly((1, panels.len())).iter().zip(&panels) {
            draw_panel(area, panel, records, best.map(|best| best.epoch))?;
        }
        Ok(())
    })
}

fn draw_panel(area: &Area, panel: &Panel, records: &[EpochRecord], best: Option<u32>) -> Result<(), PlotError> {
    let last_epoch = records.last().map_or(1, |record| record.epoch);
    // Half an epoch of space on either side keeps the points off the frame; a long training needs none.
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(26)
        .caption(&panel.title, plot::text(22))
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(0.5..f64::from(last_epoch) + 0.5, panel.range.0..panel.range.1)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(plot::text(18))
        .axis_desc_style(plot::text(18))
        .x_desc("epoch")
        .x_labels(8.min(last_epoch as usize + 1))
        .x_label_formatter(&|epoch| axis_label(*epoch))
        .y_labels(8)
        .y_label_formatter(&|value| axis_label(*value))
        .draw()?;
    if let Some(best) = best {
        let line = [(f64::from(best), panel.range.0), (f64::from(best), panel.range.1)];
        chart.draw_series(DashedLineSeries::new(line, 6, 5, GREY.stroke_width(2)))?;
    }
    for line in panel.lines {
        let colour = line.colour;
        let points: Vec<(f64, f64)> = records
            .iter()
            .map(|record| (f64::from(record.epoch), (line.value)(record)))
            .filter(|(_, value)| value.is_finite())
            .collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3)));
        let marked =
            points.iter().filter(|(epoch, _)| points.len() <= MAX_POINTS || Some(*epoch) == best.map(f64::from));
        chart.draw_series(marked.map(|&(epoch, value)| {
            Circle::new((epoch, value), 3 + 2 * i32::from(Some(epoch) == best.map(f64::from)), colour.filled())
        }))?;
    }
    if panel.lines.len() > 1 {
        chart
            .configure_series_labels()
            .label_font(plot::text(18))
            .position(if panel.range.0 == 0.0 {
                SeriesLabelPosition::UpperRight
            } else {
                SeriesLabelPosition::LowerRight
            })
            .legend_area_size(34)
            .margin(10)
            .background_style(WHITE.mix(0.85))
            .border_style(INK.mix(0.3))
            .draw()?;
    }
    Ok(())
}

/// The smallest or largest finite value of some lines.
fn extreme(records: &[EpochRecord], lines: &[Line], choose: fn(f64, f64) -> f64) -> Option<f64> {
    let values = records.iter().flat_map(|record| lines.iter().map(|line| (line.value)(record)));
    values.filter(|value| value.is_finite()).reduce(choose)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn records(epochs: u32, pace: f64) -> Vec<EpochRecord> {
        (1..=epochs)
            .map(|epoch| {
                let learnt = 1.0 - (-f64::from(epoch) * pace).exp();
                EpochRecord {
                    epoch,
                    pictures: 100,
                    learning_rate: 0.001 * f64::from(epoch),
                    train_loss: 1.1 - learnt,
                    train_accuracy: 0.4 + 0.6 * learnt,
                    val_loss: 1.2 - learnt,
                    val_accuracy: 0.4 + 0.5 * learnt,
                    seconds: 1.0,
                    best: epoch <= epochs.div_ceil(2),
                }
            })
            .collect()
    }

    fn drawn(records: &[EpochRecord]) -> RgbImage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.png");
        draw(records, &path).unwrap();
        image::open(path).unwrap().into_rgb8()
    }

    fn count(picture: &RgbImage, colour: RGBColor) -> usize {
        picture.pixels().filter(|pixel| pixel.0 == [colour.0, colour.1, colour.2]).count()
    }

    /// Pixels of a colour where a panel has neither title nor axes nor legend.
    fn in_panel(picture: &RgbImage, panel: u32, colour: RGBColor) -> usize {
        let width = SIZE_PX.0 / 3;
        let columns = panel * width + 95..(panel + 1) * width - 190;
        let places = columns.flat_map(|x| (60..SIZE_PX.1 - 85).map(move |y| (x, y)));
        places.filter(|&(x, y)| picture.get_pixel(x, y).0 == [colour.0, colour.1, colour.2]).count()
    }

    #[test]
    fn every_length_shows_its_lines() {
        for epochs in [2, 30, 300] {
            let picture = drawn(&records(epochs, 0.05));
            assert_eq!(picture.dimensions(), SIZE_PX);
            for (panel, colours) in [(0, &[BLUE, ORANGE, GREY][..]), (1, &[BLUE, ORANGE, GREY]), (2, &[BLUE, GREY])] {
                for &colour in colours {
                    assert!(in_panel(&picture, panel, colour) > 20, "{epochs} epochs, panel {panel}: {colour:?}");
                }
            }
            assert_eq!(in_panel(&picture, 2, ORANGE), 0);
        }
        drawn(&records(1, 0.1));
    }

    #[test]
    fn other_data_give_other_lines() {
        let of_loss = |loss: f64| {
            let mut records = records(20, 0.1);
            records[9].val_loss = loss;
            drawn(&records)
        };
        assert_eq!(of_loss(0.7), of_loss(0.7));
        assert_ne!(in_panel(&of_loss(0.7), 0, ORANGE), in_panel(&of_loss(0.2), 0, ORANGE));
    }

    #[test]
    fn nothing_and_nonsense_can_be_drawn() {
        drawn(&[]);
        let mut odd = records(5, 0.1);
        odd[2].val_loss = f64::INFINITY;
        odd[3].train_loss = f64::NAN;
        odd.iter_mut().for_each(|record| record.learning_rate = 0.0);
        assert!(count(&drawn(&odd), ORANGE) > 50);
    }
}
