//! Labelled pictures: a folder a class, the folder's name being the label. Training never reads any other label.
//!
//! [`loader`] reads and batches them for training and evaluation alike. [`voc`] finds pictures with annotated boxes, which
//! only evaluation compares with.

pub mod loader;
pub mod voc;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::capture::stills::has_image_extension;
use crate::exit_code::ExitCode;

/// What can be wrong with a data set.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A folder cannot be listed.
    #[error("cannot list {path}: {source}; check the path and its permissions", path = .path.display())]
    Unlistable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder of pictures has none.
    #[error("{path} holds no images; put JPEG or PNG pictures there", path = .0.display())]
    NoImages(PathBuf),
    /// No picture of a folder of annotated pictures has an annotation that can be used.
    #[error("{path} holds no picture with a usable annotation{}; put pictures in images and, by the same names, Pascal VOC XML in annotations", first_of(.first), path = .path.display())]
    NoAnnotations {
        /// The folder that holds the two.
        path: PathBuf,
        /// The first problem met, if any.
        first: Option<String>,
    },
    /// The folders are not those that are needed.
    #[error("{0}")]
    Classes(String),
    /// Pictures there are, but none of them can be read.
    #[error("none of the pictures can be read; the first: {0}")]
    AllUnreadable(String),
    /// A loader thread cannot be started.
    #[error("cannot start a loader thread: {0}")]
    Thread(std::io::Error),
}

impl DatasetError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unlistable { .. }
            | Self::NoImages(_)
            | Self::NoAnnotations { .. }
            | Self::Classes(_)
            | Self::AllUnreadable(_) => ExitCode::Input,
            Self::Thread(_) => ExitCode::Failed,
        }
    }
}

/// Pictures of one class folder after another.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Class names; a picture's label is an index into them.
    pub classes: Vec<String>,
    /// All pictures, by class and then by name.
    pub pictures: Vec<Picture>,
}

/// One labelled picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The image file.
    pub path: PathBuf,
    /// Index of its class.
    pub label: usize,
}

impl Dataset {
    /// The class folders in `folder`, in alphabetical order.
    ///
    /// # Errors
    ///
    /// When the folder cannot be listed.
    pub fn class_folders(folder: &Path) -> Result<Vec<String>, DatasetError> {
        let mut names: Vec<String> = list(folder)?
            .into_iter()
            .filter(|path| path.is_dir())
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Finds the pictures of the given classes in `folder`.
    ///
    /// # Errors
    ///
    /// When a class has no folder or no picture.
    pub fn scan(folder: &Path, classes: &[String]) -> Result<Self, DatasetError> {
        let mut pictures = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let paths = pictures_in(&folder.join(class))?;
            pictures.extend(paths.into_iter().map(|path| Picture { path, label }));
        }
        Ok(Self { classes: classes.to_vec(), pictures })
    }

    /// A digest of class names, file names and file sizes: tells whether pictures were added, removed or replaced by others
    /// of another size, wherever they lie.
    ///
    /// # Errors
    ///
    /// When a file has gone.
    pub fn fingerprint(&self) -> Result<String, DatasetError> {
        let mut digest = Sha256::new();
        digest.update(self.classes.join("\n"));
        for Picture { path, label } in &self.pictures {
            let unlistable = |source| DatasetError::Unlistable { path: path.clone(), source };
            let length = std::fs::metadata(path).map_err(unlistable)?.len();
            digest.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            digest.update([b'\n']);
            digest.update(length.to_le_bytes());
            digest.update((*label as u64).to_le_bytes());
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// How many pictures each class has.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for picture in &self.pictures {
            counts[picture.label] += 1;
        }
        counts
    }

    /// Class names with their numbers of pictures.
    pub fn count_by_class(&self) -> BTreeMap<&str, usize> {
        self.classes.iter().map(String::as_str).zip(self.counts()).collect()
    }
}

/// The image files in `folder` itself, by name; there is at least one.
///
/// # Errors
///
/// When the folder cannot be listed or holds none.
pub fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut paths = list(folder)?;
    paths.retain(|path| has_image_extension(path) && path.is_file());
    paths.sort();
    if paths.is_empty() { Err(DatasetError::NoImages(folder.to_owned())) } else { Ok(paths) }
}

/// Where a picture was gathered, as its file name tells: the leading words, up to the first that is only a number or a
/// hash (`rmfd_part1_0081474671.jpg` comes from `rmfd_part1`).
pub fn source_of(path: &Path) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let words: Vec<&str> = stem
        .split(['_', '-'])
        .take_while(|word| !word.is_empty() && !word.chars().all(|character| character.is_ascii_hexdigit()))
        .collect();
    if words.is_empty() { "other".to_owned() } else { words.join("_") }
}

fn first_of(problem: &Option<String>) -> String {
    problem.as_ref().map_or(String::new(), |problem| format!(" (the first problem: {problem})"))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let unlistable = |source| DatasetError::Unlistable { path: folder.to_owned(), source };
    std::fs::read_dir(folder)
        .map_err(unlistable)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(unlistable))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_leading_words() {
        for (name, source) in [
            ("rmfd_part1_0081474671.jpg", "rmfd_part1"),
            ("kaggle12k_010c7f8b29.jpg", "kaggle12k"),
            ("house_101_frontal.jpg", "house"),
            ("ilc_0558e71b94_0.jpg", "ilc"),
            ("0042.png", "other"),
        ] {
            assert_eq!(source_of(Path::new(name)), source);
        }
    }

    #[test]
    fn an_empty_class_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mask")).unwrap();
        let error = Dataset::scan(folder.path(), &["mask".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("mask holds no images"), "{error}");
    }
}
