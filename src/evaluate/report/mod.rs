//! An evaluation written down: for programs ([`json`], [`table`]) and for people ([`text`], [`markdown`], [`plots`],
//! [`sheet`]).

pub mod json;
pub mod markdown;
pub mod plots;
pub mod sheet;
pub mod table;
pub mod text;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::classification::Evaluation;
use super::metrics::Proportion;
use super::summary::Summary;
use crate::draw::LabelError;
use crate::exit_code::ExitCode;
use crate::files;
use crate::plot::PlotError;

/// The figures, for programs.
pub const JSON: &str = "report.json";
/// The answer for each picture.
pub const PREDICTIONS: &str = "predictions.csv";
/// The figures by class and by source.
pub const TABLE: &str = "table.csv";
/// The report for people.
pub const MARKDOWN: &str = "report.md";
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

/// Why a report is not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The place for the report makes no sense.
    #[error("--report {0}")]
    Place(String),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}; free some space or choose another folder", path = .path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A picture cannot be drawn or written.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The captions' font.
    #[error(transparent)]
    Font(#[from] LabelError),
}

impl ReportError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Place(_) => ExitCode::Usage,
            Self::Unwritable { .. } | Self::Plot(_) | Self::Font(_) => ExitCode::Failed,
        }
    }
}

/// A folder that a report can be written to.
#[derive(Debug)]
pub struct ReportFolder(PathBuf);

impl ReportFolder {
    /// Makes sure of the folder before the work begins, so that a long evaluation is not lost: creates it if it is
    /// missing, and tries to write to it.
    ///
    /// # Errors
    ///
    /// When the path is no folder, is the folder of one of the `classes` in `data` (the report's pictures would be
    /// taken for data the next time), or cannot be written.
    pub fn prepare(path: &Path, data: &Path, classes: &[String]) -> Result<Self, ReportError> {
        let place = |problem: &str| ReportError::Place(format!("{} {problem}", path.display()));
        let unwritable = |source| ReportError::Unwritable { path: path.to_owned(), source };
        if classes.iter().any(|class| is_same_folder(path, &data.join(class))) {
            return Err(place("is or would be a folder of pictures to be evaluated; choose another"));
        }
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => return Err(place("is no folder; give the name of a folder")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => std::fs::create_dir_all(path).map_err(unwritable)?,
            Err(source) => return Err(unwritable(source)),
        }
        tempfile::tempfile_in(path).map_err(unwritable)?;
        Ok(Self(path.to_owned()))
    }

    /// Writes all files, each completely or not at all; `report.json` is the last, so a new one vouches for the others.
    /// Without mistakes there is no sheet of them, and that of an earlier report is removed.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn write(&self, findings: Findings) -> Result<(), ReportError> {
        let Findings { evaluation, summary, .. } = findings;
        self.write_file(PREDICTIONS, &table::predictions(evaluation))?;
        self.write_file(TABLE, &table::figures(&evaluation.classes, summary))?;
        plots::reliability(&summary.calibration, &self.0.join(RELIABILITY))?;
        plots::confusion(&evaluation.classes, &summary.confusion, &self.0.join(CONFUSION))?;
        let sheet = self.0.join(MISTAKES);
        let has_sheet = sheet::write(evaluation, &sheet)?;
        if !has_sheet && std::fs::symlink_metadata(&sheet).is_ok_and(|metadata| metadata.is_file()) {
            std::fs::remove_file(&sheet).map_err(|source| ReportError::Unwritable { path: sheet, source })?;
        }
        self.write_file(MARKDOWN, markdown::write(findings, has_sheet).as_bytes())?;
        self.write_file(JSON, json::write(findings).as_bytes())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
        let path = self.0.join(name);
        files::replace(&path, bytes).map_err(|source| ReportError::Unwritable { path, source })
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    // One that does not exist yet has no canonical name.
    let resolved = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    resolved(one).is_some_and(|one| resolved(other) == Some(one))
}

/// A share in per cent with its interval, for people; "-" where there is none.
fn percent(proportion: Proportion) -> String {
    match proportion.value().zip(proportion.interval()) {
        Some((value, (low, high))) => {
            format!("{:.2} [{:.2}, {:.2}]", value * 100.0, low * 100.0, high * 100.0)
        }
        None => "-".to_owned(),
    }
}

/// A number with four digits, for people; "-" where there is none.
fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// Control characters, which a file or folder name may hold, would break a line.
fn printable(name: &str) -> String {
    name.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
