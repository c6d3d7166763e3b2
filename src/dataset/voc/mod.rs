//! Pictures with annotated boxes: a folder with `images/` and `annotations/`, where `annotations/a.xml` (Pascal VOC,
//! Everingham et al. 2010) tells what is seen on `images/a.jpg`.
//!
//! [`VocDataset::scan`] pairs the files and reads the annotations; [`Annotation::on_picture`] places the boxes on a picture
//! once that is decoded. Annotations come from many tools and hands: what is wrong with one is a [`Problem`], to be counted
//! and reported, never a reason to stop and never passed over in silence.

mod annotation;
mod boxes;
mod problem;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{DatasetError, list};
use crate::capture::stills::has_image_extension;

pub use annotation::{AnnotatedObject, Annotation};
pub use boxes::{Corners, LabelledBox};
pub use problem::{Problem, ProblemKind};

/// Subfolder with the pictures.
const IMAGES: &str = "images";
/// Subfolder with the annotations.
const ANNOTATIONS: &str = "annotations";

/// The annotated pictures of one folder.
#[derive(Debug, Clone)]
pub struct VocDataset {
    /// Pictures with at least one annotated object, by path; from [`VocDataset::scan_with_empty`] those without, too.
    pub pictures: Vec<AnnotatedPicture>,
    /// What was wrong with the rest, by path.
    pub problems: Vec<Problem>,
}

/// A picture and what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatedPicture {
    /// The image file.
    pub path: PathBuf,
    /// Its annotation.
    pub annotation: Annotation,
}

impl VocDataset {
    /// Whether `folder` is laid out like this: both subfolders exist.
    pub fn is_voc(folder: &Path) -> bool {
        Self::subfolders(folder).iter().all(|subfolder| subfolder.is_dir())
    }

    /// The subfolders of a folder that is laid out like this.
    pub fn subfolders(folder: &Path) -> [PathBuf; 2] {
        [IMAGES, ANNOTATIONS].map(|name| folder.join(name))
    }

    /// Pairs the pictures in `folder` with their annotations and reads these; the pictures themselves are not opened.
    ///
    /// Names are compared without their extensions. Files that are called neither like a picture nor like XML take no part.
    ///
    /// # Errors
    ///
    /// When a subfolder cannot be listed, or when no picture with a usable annotation is left.
    pub fn scan(folder: &Path) -> Result<Self, DatasetError> {
        Self::read(folder, false)
    }

    /// The same, but pictures on which nothing is annotated are kept and are no problem: they say that nothing is there.
    /// Where objects are annotated but none can be used, something is there, and the picture is left out.
    ///
    /// # Errors
    ///
    /// When a subfolder cannot be listed, or when no picture with a usable annotation is left.
    pub fn scan_with_empty(folder: &Path) -> Result<Self, DatasetError> {
        Self::read(folder, true)
    }

    fn read(folder: &Path, keeps_empty: bool) -> Result<Self, DatasetError> {
        let mut problems = Vec::new();
        let images = by_stem(&folder.join(IMAGES), has_image_extension, &mut problems)?;
        let mut annotations = by_stem(&folder.join(ANNOTATIONS), has_xml_extension, &mut problems)?;

        let mut pictures = Vec::new();
        for (stem, path) in images {
            let Some(annotation) = annotations.remove(&stem) else {
                problems.push(Problem { path, kind: ProblemKind::PictureWithoutAnnotation });
                continue;
            };
            match Annotation::read(&annotation) {
                Ok((annotation, found)) => {
                    let is_empty = annotation.objects.is_empty();
                    let is_kept = keeps_empty && found.iter().all(|problem| problem.kind == ProblemKind::NoObject);
                    if !(is_empty && is_kept) {
                        problems.extend(found);
                    }
                    if !is_empty || is_kept {
                        pictures.push(AnnotatedPicture { path, annotation });
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        let unpaired = annotations.into_values();
        problems.extend(unpaired.map(|path| Problem { path, kind: ProblemKind::AnnotationWithoutPicture }));

        // Stable: the problems of one file stay in the order of its objects.
        problems.sort_by(|one, other| one.path.cmp(&other.path));
        pictures.sort_by(|one, other| one.path.cmp(&other.path));
        if pictures.is_empty() {
            let first = problems.first().map(Problem::to_string);
            return Err(DatasetError::NoAnnotations { path: folder.to_owned(), first });
        }
        Ok(Self { pictures, problems })
    }
}

/// The wanted files of a folder by their names without extension, of equal names the first.
fn by_stem(
    folder: &Path,
    wanted: fn(&Path) -> bool,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<OsString, PathBuf>, DatasetError> {
    let mut paths = list(folder)?;
    paths.retain(|path| wanted(path) && path.is_file());
    paths.sort();
    let mut files = BTreeMap::new();
    for path in paths {
        match files.entry(path.file_stem().unwrap_or_default().to_owned()) {
            Entry::Vacant(place) => _ = place.insert(path),
            Entry::Occupied(first) => {
                problems.push(Problem { path, kind: ProblemKind::SameName { used: first.get().clone() } });
            }
        }
    }
    Ok(files)
}

fn has_xml_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
}
