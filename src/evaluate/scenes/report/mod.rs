//! An evaluation of scenes written down: for programs ([`json`], [`table`]) and for people ([`text`], [`markdown`],
//! [`plots`], [`sheet`]).

pub mod json;
pub mod markdown;
pub mod plots;
pub mod sheet;
pub mod table;
pub mod text;

use std::path::Path;

use serde_json::Value;

use super::matching::Rule;
use super::operating::Measured;
use super::scene::Counting;
use super::summary::{Figures, Summary};
use super::tuning::Tuning;
use super::verdict::Verdicts;
use super::{Evaluation, LEAST_IOU, Settings};
use crate::evaluate::report::{JSON, MARKDOWN, ReportError, ReportFolder, TABLE};
use crate::evaluate::text::printable;

/// A line a detection.
pub const DETECTIONS: &str = "detections.csv";
/// A line an annotated face.
pub const FACES: &str = "faces.csv";
/// A line a detection on a picture of the folder without faces.
pub const FACE_FREE: &str = "face_free.csv";
/// Precision by recall.
pub const PRECISION_RECALL: &str = "precision_recall.png";
/// Recall by size of the faces.
pub const BY_SIZE: &str = "by_size.png";
/// Scenes with their boxes.
pub const SCENES: &str = "scenes.png";
/// Those with most errors.
pub const WORST: &str = "worst.png";

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// The model's file.
    pub model: &'a Path,
    /// How the detector is set, for the report alone.
    pub detector: &'a Value,
    /// How it was measured.
    pub settings: &'a Settings,
    /// What was found.
    pub evaluation: &'a Evaluation,
    /// The thresholds.
    pub tuning: &'a Tuning,
    /// The figures that follow.
    pub summary: &'a Summary,
}

impl<'a> Findings<'a> {
    /// The measured pictures with what became of their detections and faces.
    fn judged(self) -> Vec<(Measured<'a>, Verdicts)> {
        let rule = Rule { counting: Counting::AtLeast(self.settings.min_size), least_iou: LEAST_IOU[0] };
        let measured = self.tuning.measured(self.evaluation).into_iter();
        measured.map(|one| (one, Verdicts::new(one, rule))).collect()
    }

    /// All classes together, then each, by name.
    fn scopes(self, all: &'a str) -> impl Iterator<Item = (&'a str, &'a Figures)> {
        let classes = self.summary.classes.iter();
        let classes = classes.map(|(class, of_class)| (self.settings.classes[*class].as_str(), &of_class.figures));
        [(all, &self.summary.overall)].into_iter().chain(classes)
    }

    /// Thresholds of a fit by class, for people.
    fn thresholds(self, fit: usize) -> String {
        let fit = &self.tuning.fits[fit];
        let each = self.settings.face_classes().map(|class| {
            let f1 = fit.f1[class].map_or_else(String::new, |f1| format!(" (F1 {f1:.4} there)"));
            format!("{} {}{f1}", printable(&self.settings.classes[class]), fit.thresholds[class])
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Writes all files, each completely or not at all; `report.json` goes first and comes last, so it vouches for the others.
/// What does not apply is not written, and that of an earlier report is removed: pictures of errors without errors, the
/// table of pictures without faces without such a folder.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(folder: &ReportFolder, findings: Findings) -> Result<(), ReportError> {
    let judged = findings.judged();
    folder.remove_file(JSON)?;
    folder.write_csv(DETECTIONS, &table::detections(findings, &judged))?;
    folder.write_csv(FACES, &table::faces(&judged))?;
    if findings.settings.face_free.is_some() {
        folder.write_csv(FACE_FREE, &table::face_free(findings))?;
    } else {
        folder.remove_file(FACE_FREE)?;
    }
    folder.write_csv(TABLE, &table::figures(findings))?;
    plots::precision_recall(findings, &folder.path(PRECISION_RECALL))?;
    plots::by_size(findings, &folder.path(BY_SIZE))?;
    sheet::scenes(findings, &judged, &folder.path(SCENES))?;
    let has_errors = sheet::worst(findings, &judged, &folder.path(WORST))?;
    if !has_errors {
        folder.remove_file(WORST)?;
    }
    folder.write_file(MARKDOWN, markdown::write(findings, has_errors).as_bytes())?;
    folder.write_file(JSON, json::write(findings).as_bytes())
}
