//! An evaluation written down: for programs ([`json`], [`table`]) and for people ([`text`], [`markdown`], [`plots`],
//! [`sheet`]).

pub mod json;
pub mod markdown;
pub mod plots;
pub mod sheet;
pub mod table;
pub mod text;

use std::path::Path;

use super::Evaluation;
use super::summary::Summary;
use crate::evaluate::report::{JSON, MARKDOWN, ReportError, ReportFolder, TABLE};

/// The answer for each picture.
pub const PREDICTIONS: &str = "predictions.csv";
/// Accuracy by confidence.
pub const RELIABILITY: &str = "reliability.png";
/// The confusion matrix.
pub const CONFUSION: &str = "confusion.png";
/// The worst mistakes, picture by picture.
pub const MISTAKES: &str = "mistakes.png";

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// The model's file.
    pub model: &'a Path,
    /// Its answers.
    pub evaluation: &'a Evaluation,
    /// The figures that follow from them.
    pub summary: &'a Summary,
}

/// Writes all files, each completely or not at all; `report.json` is the last, so a new one vouches for the others.
/// Without mistakes there is no sheet of them, and that of an earlier report is removed.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(folder: &ReportFolder, findings: Findings) -> Result<(), ReportError> {
    let Findings { evaluation, summary, .. } = findings;
    // It comes last, and vouches for the others.
    folder.remove_file(JSON)?;
    folder.write_csv(PREDICTIONS, &table::predictions(evaluation))?;
    folder.write_csv(TABLE, &table::figures(&evaluation.classes, summary))?;
    plots::reliability(&summary.calibration, &folder.path(RELIABILITY))?;
    plots::confusion(&evaluation.classes, &summary.confusion, &folder.path(CONFUSION))?;
    let has_sheet = sheet::write(evaluation, &folder.path(MISTAKES))?;
    if !has_sheet {
        folder.remove_file(MISTAKES)?;
    }
    folder.write_file(MARKDOWN, markdown::write(findings, has_sheet).as_bytes())?;
    folder.write_file(JSON, json::write(findings).as_bytes())
}
