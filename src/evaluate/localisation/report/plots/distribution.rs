//! The IoU of every picture, a row a method.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::look;
use crate::evaluate::bootstrap::quantile;
use crate::evaluate::localisation::summary::Baseline;
use crate::evaluate::localisation::{Evaluation, Subject};
use crate::evaluate::overlap::best_iou;
use crate::plot::{self, Area, GREY, GRID, INK, PlotError, axis_label};

const WIDTH_PX: u32 = 1280;
const ROW_PX: u32 = 64;
/// For title and axis.
const FRAME_PX: u32 = 150;
const TEXT_PX: u32 = 20;

struct Row {
    name: &'static str,
    colour: RGBColor,
    /// By picture.
    values: Vec<f64>,
}

/// Draws a dot a picture and method at its IoU; a box from the lower to the upper quartile with a line at the median; a dot
/// with a white rim at the mean.
///
/// # Errors
///
/// When the file cannot be written.
pub fn distribution(evaluation: &Evaluation, path: &Path) -> Result<(), PlotError> {
    let row = |name, colour, value: &dyn Fn(&Subject) -> f64| Row {
        name,
        colour,
        values: evaluation.subjects.iter().map(value).collect(),
    };
    let methods = evaluation.methods.iter().enumerate().map(|(index, choice)| {
        row(choice.method.title(), look(choice.method).0, &|subject| subject.measures[index].iou)
    });
    let baselines = Baseline::ALL.into_iter().map(|baseline| {
        row(baseline.title(), GREY, &|subject| {
            best_iou(baseline.rect(evaluation.pictures[subject.picture].size), &subject.boxes)
        })
    });
    let rows: Vec<Row> = methods.chain(baselines).collect();
    let size = (WIDTH_PX, FRAME_PX + ROW_PX * rows.len() as u32);
    plot::write_png(path, size, |area| {
        let title = "IoU of every picture; box: middle half with the median, white rim: mean";
        draw(&area.margin(14, 6, 0, 20).titled(title, plot::text(26))?, &rows)
    })
}

fn draw(area: &Area, rows: &[Row]) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(58)
        .y_label_area_size(270)
        .build_cartesian_2d(0.0..1.0, rows.len() as f64..0.0)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(plot::text(TEXT_PX))
        .axis_desc_style(plot::text(TEXT_PX))
        .x_desc("IoU")
        .x_labels(11)
        .y_labels(0)
        .disable_y_mesh()
        .x_label_formatter(&|value| axis_label(*value))
        .draw()?;
    for (row, number) in rows.iter().zip(0u32..) {
        let middle = f64::from(number) + 0.5;
        let mut sorted = row.values.clone();
        sorted.sort_by(f64::total_cmp);
        let [lower, median, upper] = [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let quartiles = [(lower, middle - 0.34), (upper, middle + 0.34)];
        chart.draw_series([Rectangle::new(quartiles, row.colour.mix(0.18).filled())])?;
        chart.draw_series([Rectangle::new(quartiles, row.colour.stroke_width(1))])?;
        // Many dots are paler, so that their density is seen.
        let ink = (60.0 / row.values.len() as f64).clamp(0.06, 0.7);
        let dots = row.values.iter().zip(0u32..);
        chart.draw_series(
            dots.map(|(&iou, index)| Circle::new((iou, middle + scatter(index)), 3, row.colour.mix(ink).filled())),
        )?;
        let line = [(median, middle - 0.34), (median, middle + 0.34)];
        chart.draw_series([PathElement::new(line, row.colour.stroke_width(3))])?;
        chart.draw_series([
            Circle::new((mean, middle), 8, WHITE.filled()),
            Circle::new((mean, middle), 6, row.colour.filled()),
        ])?;
        let place = chart.backend_coord(&(0.0, middle));
        let style = plot::text(TEXT_PX).color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
        let origin = area.get_base_pixel();
        // The font has more room below its letters than above.
        area.draw_text(row.name, &style, (place.0 - origin.0 - 14, place.1 - origin.1 + 4))?;
    }
    Ok(())
}

/// Where in a row, between -0.3 and 0.3, the dot of a picture lies: neighbours far apart, and always the same (golden ratio).
fn scatter(index: u32) -> f64 {
    0.6 * (f64::from(index) * 0.618_033_988_749_895).fract() - 0.3
}
