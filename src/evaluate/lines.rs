//! Lines over a common axis, their names beside them.

use std::path::Path;

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::plot::{self, Area, GREY, GRID, PlotError, axis_label};

const SIZE_PX: (u32, u32) = (1280, 720);
/// Right of the lines, for their names.
const LEGEND_PX: u32 = 270;
const TEXT_PX: u32 = 20;
const STROKE_PX: u32 = 3;

/// How a line is drawn: lengths of dash and gap in pixels; no gap for a solid line.
pub type Dash = (u32, u32);
/// A line without gaps.
pub const SOLID: Dash = (1, 0);
/// Long dashes.
pub const DASHED: Dash = (14, 9);
/// Short ones.
pub const DOTTED: Dash = (4, 6);

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// As the legend has it.
    pub name: String,
    /// Of the line and its marks.
    pub colour: RGBColor,
    /// How it is drawn.
    pub dash: Dash,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Places that are marked.
    pub marks: Vec<(f64, f64)>,
}

/// What the lines run over.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// What it measures.
    pub name: &'static str,
    /// From left to right.
    pub range: (f64, f64),
    /// Numbers below it, at most.
    pub labels: usize,
}

/// Draws lines over an axis; `height` is what they measure, in [0, 1].
///
/// # Errors
///
/// When the file cannot be written.
pub fn draw(title: &str, axis: &Axis, height: &str, lines: &[Line], path: &Path) -> Result<(), PlotError> {
    let values = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    // The next tenth leaves room above the highest line.
    let highest = (values.fold(0.0, f64::max) * 10.0 + 0.3).ceil().min(10.0) / 10.0;
    plot::write_png(path, SIZE_PX, |area| {
        let area = area.margin(14, 6, 0, 0).titled(title, plot::text(26))?;
        let (left, right) = area.split_horizontally(SIZE_PX.0 - LEGEND_PX);
        draw_chart(&left, axis, (height, highest), lines)?;
        draw_names(&right, lines)
    })
}

fn draw_chart(area: &Area, axis: &Axis, (height, highest): (&str, f64), lines: &[Line]) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(58)
        .y_label_area_size(74)
        .build_cartesian_2d(axis.range.0..axis.range.1, 0.0..highest)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(plot::text(TEXT_PX))
        .axis_desc_style(plot::text(TEXT_PX))
        .x_desc(axis.name)
        .y_desc(height)
        .x_labels(axis.labels)
        .y_labels(10)
        .x_label_formatter(&|value| axis_label(*value))
        .y_label_formatter(&|value| axis_label(*value))
        .draw()?;
    for line in lines {
        let style = line.colour.stroke_width(STROKE_PX);
        let points = line.points.iter().copied();
        match line.dash {
            SOLID => drop(chart.draw_series(LineSeries::new(points, style))?),
            (dash, gap) => drop(chart.draw_series(DashedLineSeries::new(points, dash, gap, style))?),
        }
    }
    let marks = lines.iter().flat_map(|line| line.marks.iter().map(|&place| (place, line.colour)));
    chart.draw_series(marks.map(|(place, colour)| Circle::new(place, 7, colour.filled())))?;
    Ok(())
}

/// One below the other, each behind a piece of its line.
fn draw_names(area: &Area, lines: &[Line]) -> Result<(), PlotError> {
    let style = plot::text(TEXT_PX).pos(Pos::new(HPos::Left, VPos::Center));
    for (line, row) in lines.iter().zip(0..) {
        let y = 34 + row * 34;
        let ends = [(8, y), (58, y)];
        let stroke = line.colour.stroke_width(STROKE_PX);
        match line.dash {
            SOLID => area.draw(&PathElement::new(ends, stroke))?,
            (dash, gap) => area.draw(&DashedPathElement::new(ends, dash, gap, stroke))?,
        }
        // The font has more room below its letters than above.
        area.draw_text(&line.name, &style, (70, y + 4))?;
    }
    Ok(())
}
