//! IoU by threshold, by number of components, and of every picture, as pictures.

mod distribution;

use std::path::Path;

use plotters::style::RGBColor;

use crate::boxes::Threshold;
use crate::evaluate::lines::{self, Axis, DASHED, DOTTED, Dash, Line, SOLID};
use crate::evaluate::localisation::picture::COMPONENTS;
use crate::evaluate::localisation::summary::Summary;
use crate::evaluate::localisation::sweep::{THRESHOLDS, threshold};
use crate::explain::Method;
use crate::plot::{BLUE, GREY, INK, ORANGE, PlotError};
pub use distribution::distribution;

/// What every plot of lines measures.
const HEIGHT: &str = "mean IoU";

const AMBER: RGBColor = RGBColor(230, 159, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const PINK: RGBColor = RGBColor(204, 121, 167);
const PURPLE: RGBColor = RGBColor(106, 61, 154);
const SKY: RGBColor = RGBColor(86, 180, 233);

/// Colour and dashes of a method, the same in every plot. Methods whose maps are equal differ in both, so that each is seen.
fn look(method: Method) -> (RGBColor, Dash) {
    match method {
        Method::HayCamRefined => (ORANGE, SOLID),
        Method::HayCam => (BLUE, SOLID),
        Method::HayCamFilters => (BLUE, DASHED),
        Method::HayCamLoadings => (BLUE, DOTTED),
        Method::Cam => (GREEN, SOLID),
        Method::GradCam => (AMBER, DASHED),
        Method::XGradCam => (PURPLE, DOTTED),
        Method::GradCamPlusPlus => (SKY, SOLID),
        Method::LayerCam => (PINK, SOLID),
        Method::LayerCamLayer3 => (PINK, DOTTED),
        Method::EigenCam => (PURPLE, SOLID),
        Method::AblationCam => (AMBER, SOLID),
        Method::ScoreCam => (PINK, DASHED),
        Method::Occlusion => (SKY, DASHED),
    }
}

/// Draws mean IoU by threshold, a line a method; a dot marks the threshold of its boxes. Dashed lines are the baselines.
///
/// # Errors
///
/// When the file cannot be written.
pub fn by_threshold(summary: &Summary, path: &Path) -> Result<(), PlotError> {
    let methods = summary.methods.iter().map(|figures| {
        let points = (0..THRESHOLDS).map(|index| (f64::from(threshold(index)), figures.iou_by_threshold[index]));
        let (colour, dash) = look(figures.choice.method);
        Line {
            name: figures.choice.method.title().to_owned(),
            colour,
            dash,
            points: points.collect(),
            marks: match figures.choice.threshold {
                Threshold::Share(share) => vec![(f64::from(share), figures.iou.mean)],
                Threshold::Otsu => vec![],
            },
        }
    });
    let lines: Vec<Line> = methods.chain(baselines(summary, (0.0, 1.0))).collect();
    let axis = Axis { name: "threshold, as a share of the hottest value", range: (0.0, 1.0), labels: 11 };
    lines::draw("Mean IoU by threshold; dots mark the thresholds of the tables", &axis, HEIGHT, &lines, path)
}

/// Draws mean IoU by the number of principal components, a line a method that has some, at its threshold, and tells whether
/// there is one; otherwise nothing is written.
///
/// # Errors
///
/// When the file cannot be written.
pub fn by_components(summary: &Summary, path: &Path) -> Result<bool, PlotError> {
    let methods = summary.methods.iter().filter(|figures| !figures.iou_by_components.is_empty()).map(|figures| {
        let components = COMPONENTS.iter().map(|&components| components as f64);
        let (colour, dash) = look(figures.choice.method);
        let points: Vec<_> = components.zip(figures.iou_by_components.iter().copied()).collect();
        Line { name: figures.choice.method.title().to_owned(), colour, dash, marks: points.clone(), points }
    });
    let lines: Vec<Line> = methods.collect();
    if lines.is_empty() {
        return Ok(false);
    }
    let lines: Vec<Line> = lines.into_iter().chain(baselines(summary, (0.0, 50.0))).collect();
    let axis = Axis { name: "principal components kept", range: (0.0, 50.0), labels: 11 };
    lines::draw("Mean IoU by number of principal components", &axis, HEIGHT, &lines, path)?;
    Ok(true)
}

fn baselines(summary: &Summary, (from, to): (f64, f64)) -> impl Iterator<Item = Line> {
    summary.baselines.iter().zip([INK, GREY]).map(move |(figures, colour)| Line {
        name: figures.baseline.title().to_owned(),
        colour,
        dash: DASHED,
        points: vec![(from, figures.iou.mean), (to, figures.iou.mean)],
        marks: vec![],
    })
}
