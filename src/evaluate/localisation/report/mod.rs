//! An evaluation of boxes written down: for programs ([`json`], [`table`]) and for people ([`text`], [`markdown`],
//! [`plots`]).

pub mod json;
pub mod markdown;
pub mod plots;
pub mod table;
pub mod text;

use std::path::Path;

use super::summary::Summary;
use super::tuning::Tuning;
use super::{Evaluation, Settings};
use crate::evaluate::report::{JSON, MARKDOWN, ReportError, ReportFolder, TABLE};
use crate::model::resnet::Resolution;

/// A line a picture and class, with the IoU of each method: the HayCAM paper's table 2.
pub const PICTURES: &str = "pictures.csv";
/// A line a picture, class and method, with all that was measured.
pub const MEASURES: &str = "measures.csv";
/// A line a method and threshold.
pub const THRESHOLDS: &str = "thresholds.csv";
/// IoU by threshold.
pub const BY_THRESHOLD: &str = "iou_by_threshold.png";
/// IoU by the number of principal components.
pub const BY_COMPONENTS: &str = "iou_by_components.png";
/// IoU of every picture.
pub const DISTRIBUTION: &str = "iou_distribution.png";

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// The model's file.
    pub model: &'a Path,
    /// How densely `layer4` was read.
    pub resolution: Resolution,
    /// How it was measured.
    pub settings: &'a Settings,
    /// What was measured.
    pub evaluation: &'a Evaluation,
    /// The figures that follow from it.
    pub summary: &'a Summary,
    /// How thresholds were chosen, if they were.
    pub tuning: Option<&'a Tuning>,
}

/// Writes all files, each completely or not at all; `report.json` goes first and comes last, so it vouches for the others. Without
/// methods that have principal components there is no plot by their number, and that of an earlier report is removed.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(folder: &ReportFolder, findings: Findings) -> Result<(), ReportError> {
    let Findings { evaluation, summary, .. } = findings;
    folder.remove_file(JSON)?;
    folder.write_csv(PICTURES, &table::pictures(evaluation))?;
    folder.write_csv(MEASURES, &table::measures(evaluation))?;
    folder.write_csv(THRESHOLDS, &table::thresholds(summary))?;
    folder.write_csv(TABLE, &table::figures(summary))?;
    plots::by_threshold(summary, &folder.path(BY_THRESHOLD))?;
    plots::distribution(evaluation, &folder.path(DISTRIBUTION))?;
    let has_components = plots::by_components(summary, &folder.path(BY_COMPONENTS))?;
    if !has_components {
        folder.remove_file(BY_COMPONENTS)?;
    }
    folder.write_file(MARKDOWN, markdown::write(findings, has_components).as_bytes())?;
    folder.write_file(JSON, json::write(findings).as_bytes())
}
