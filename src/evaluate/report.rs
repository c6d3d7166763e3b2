//! The folder that a report is written to, and the files that every report has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::draw::LabelError;
use crate::exit_code::ExitCode;
use crate::files;
use crate::plot::PlotError;

/// The figures, for programs.
pub const JSON: &str = "report.json";
/// The figures as a table, for programs.
pub const TABLE: &str = "table.csv";
/// The report for people.
pub const MARKDOWN: &str = "report.md";

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
    /// When the path is no folder, is one of the `data` folders (the report's pictures would be taken for data the next
    /// time), or cannot be written.
    pub fn prepare(path: &Path, data: &[PathBuf]) -> Result<Self, ReportError> {
        let place = |problem: &str| ReportError::Place(format!("{} {problem}", path.display()));
        let unwritable = |source| ReportError::Unwritable { path: path.to_owned(), source };
        if data.iter().any(|folder| is_same_folder(path, folder)) {
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

    /// Where a file of the report is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file of the report, completely or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
        let path = self.0.join(name);
        files::replace(&path, bytes).map_err(|source| ReportError::Unwritable { path, source })
    }

    /// Writes a table of the report, whose lines all have as many cells.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_csv(&self, name: &str, lines: &[Vec<String>]) -> Result<(), ReportError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for line in lines {
            writer.write_record(line).expect("all lines have as many cells, and memory takes them");
        }
        self.write_file(name, &writer.into_inner().expect("memory takes what is written to it"))
    }

    /// Removes a file that an earlier report left and this one does not have.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove_file(&self, name: &str) -> Result<(), ReportError> {
        let path = self.path(name);
        if !std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(());
        }
        std::fs::remove_file(&path).map_err(|source| ReportError::Unwritable { path, source })
    }
}

/// The double of a float's shortest decimal: 0.3 rather than 0.30000001192092896.
pub fn short(value: f32) -> f64 {
    value.to_string().parse().expect("a number's own text is a number")
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    // One that does not exist yet has no canonical name.
    let resolved = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    resolved(one).is_some_and(|one| resolved(other) == Some(one))
}
