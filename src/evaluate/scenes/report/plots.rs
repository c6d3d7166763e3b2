//! Precision by recall, and recall by size of the faces, as pictures.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Findings;
use super::text::ALL;
use crate::draw::palette::class_colour;
use crate::evaluate::lines::{self, Axis, DASHED, Line, SOLID};
use crate::evaluate::scenes::scene::SizeBucket;
use crate::evaluate::text::{printable, shortened};
use crate::plot::{self, Area, GREY, GRID, INK, PlotError, axis_label};

/// Names longer than this do not fit the legend.
const LONGEST_NAME: usize = 14;
const SIZE_PX: (u32, u32) = (1000, 640);
const TEXT_PX: u32 = 20;

/// Draws precision by recall, a line a class and IoU; dots mark the thresholds.
///
/// # Errors
///
/// When the file cannot be written.
pub fn precision_recall(findings: Findings, path: &Path) -> Result<(), PlotError> {
    let looks = [("0.3", SOLID), ("0.5", DASHED)];
    let mut lines = Vec::new();
    for (class, of_class) in &findings.summary.classes {
        let name = &findings.settings.classes[*class];
        for (place, (iou, dash)) in looks.into_iter().enumerate() {
            let points: Vec<_> = of_class.curves[place].iter().map(|point| (point.recall, point.precision)).collect();
            let tally = of_class.figures.tally[place];
            lines.push(Line {
                name: format!("{}, IoU {iou}", shortened(&printable(name), LONGEST_NAME)),
                colour: colour(name, *class),
                dash,
                points,
                marks: tally.recall().value().zip(tally.precision().value()).into_iter().collect(),
            });
        }
    }
    let axis = Axis { name: "recall", range: (0.0, 1.0), labels: 11 };
    lines::draw("Precision by recall; dots mark the thresholds of the tables", &axis, "precision", &lines, path)
}

/// Draws the recall by size, a bar a class with its 95 % interval and the number of faces.
///
/// # Errors
///
/// When the file cannot be written.
pub fn by_size(findings: Findings, path: &Path) -> Result<(), PlotError> {
    plot::write_png(path, SIZE_PX, |area| {
        let area =
            area.margin(14, 6, 0, 0).titled("Recall by size of the face, IoU 0.3, 95 % intervals", plot::text(26))?;
        draw_bars(&area, findings)
    })
}

fn draw_bars(area: &Area, findings: Findings) -> Result<(), PlotError> {
    let sizes = SizeBucket::ALL.len();
    // Room above the bars for the numbers of faces.
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(16)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..sizes as f64, -0.12..1.1)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(plot::text(TEXT_PX))
        .axis_desc_style(plot::text(TEXT_PX))
        .y_desc("recall")
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(6)
        .y_label_formatter(&|value| if *value < 0.0 || *value > 1.0 { String::new() } else { axis_label(*value) })
        .draw()?;
    let centred = plot::text(TEXT_PX).pos(Pos::new(HPos::Center, VPos::Center));
    chart.draw_series(
        SizeBucket::ALL
            .iter()
            .zip(0..)
            .map(|(size, place)| Text::new(size.title(), (f64::from(place) + 0.5, -0.07), centred.clone())),
    )?;
    let names = [None].into_iter().chain(findings.settings.face_classes().map(Some));
    let scopes: Vec<_> = findings.scopes(ALL).zip(names).collect();
    let width = 0.8 / scopes.len() as f64;
    let small = plot::text(16).pos(Pos::new(HPos::Center, VPos::Bottom));
    for (place, ((name, figures), class)) in scopes.into_iter().enumerate() {
        let fill = class.map_or(INK.mix(0.55), |class| colour(name, class).mix(0.85));
        let left = |size: usize| size as f64 + 0.1 + place as f64 * width;
        let recalls = figures.by_size.iter().enumerate().map(|(size, [tally, _])| (left(size), tally.recall()));
        let bars = recalls.clone().map(|(left, recall)| {
            let corners = [(left + 0.01, 0.0), (left + width - 0.01, recall.value().unwrap_or_default())];
            Rectangle::new(corners, fill.filled())
        });
        chart
            .draw_series(bars)?
            .label(shortened(&printable(name), LONGEST_NAME))
            .legend(move |(x, y)| Rectangle::new([(x, y - 7), (x + 26, y + 7)], fill.filled()));
        chart.draw_series(recalls.clone().filter_map(|(left, recall)| {
            let (low, high) = recall.interval()?;
            Some(PathElement::new([(left + width / 2.0, low), (left + width / 2.0, high)], INK.stroke_width(2)))
        }))?;
        chart.draw_series(recalls.map(|(left, recall)| {
            let top = recall.interval().map_or(0.0, |(_, high)| high);
            Text::new(recall.total.to_string(), (left + width / 2.0, top + 0.01), small.clone())
        }))?;
    }
    chart
        .configure_series_labels()
        .label_font(plot::text(TEXT_PX))
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(36)
        .margin(10)
        .background_style(WHITE.mix(0.85))
        .border_style(INK.mix(0.3))
        .draw()?;
    Ok(())
}

fn colour(name: &str, class: usize) -> RGBColor {
    let [red, green, blue] = class_colour(name, class);
    RGBColor(red, green, blue)
}
