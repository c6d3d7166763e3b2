//! Scenes: pictures with any number of faces, on which a detector's boxes are compared with all that are annotated.
//!
//! [`evaluate`] asks a detector for everything that it sees on each [`Scene`], however unsure. All figures follow from that:
//! [`matching`] joins detections and faces, [`average_precision`] needs no threshold, [`tuning`] chooses the thresholds at
//! which [`operating`] counts, [`verdict`] says what became of each box, [`summary`] puts the figures together, and
//! [`report`] writes them for people and programs.

pub mod average_precision;
pub mod matching;
pub mod operating;
pub mod report;
pub mod scene;
pub mod summary;
pub mod tuning;
pub mod verdict;

#[cfg(test)]
mod testing;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::RgbImage;
use image::metadata::Orientation;

use crate::analyse::Detection;
use crate::capture::stills::read_oriented;
use crate::dataset::loader::{self, Request};
use crate::dataset::voc::{AnnotatedPicture, LabelledBox, Problem, ProblemKind, VocDataset};
use crate::dataset::{DatasetError, pictures_in};
use crate::evaluate::EvaluateError;
use crate::explain::ExplainError;
use crate::labels::BACKGROUND;
use scene::{Face, Scene};
use tuning::Protocol;

/// Whatever finds faces on a picture: all that it sees, with scores in (0, 1] down to a floor far below any threshold, so
/// that leaving out those below a threshold is the same as detecting with it. Labels are indices of the model's classes.
pub type Detect<'a> = dyn FnMut(&RgbImage) -> Result<Vec<Detection>, ExplainError> + 'a;

/// Least IoU of a detection with the face that it finds; the figures are given for each.
pub const LEAST_IOU: [f64; 2] = [0.3, 0.5];

/// What is measured and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Class names, in the order of the detections' labels.
    pub classes: Vec<String>,
    /// Least score of a detection, one a class, unless they are chosen.
    pub thresholds: Vec<f32>,
    /// Whether and on what thresholds are chosen.
    pub protocol: Protocol,
    /// Shorter side, in pixels of the picture, below which a face is ignored.
    pub min_size: u32,
    /// A folder of pictures without faces.
    pub face_free: Option<PathBuf>,
    /// Threads that read pictures.
    pub loader_threads: usize,
}

/// What was found on a set of pictures.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The evaluated folder.
    pub data: PathBuf,
    /// Its pictures, by name.
    pub scenes: Vec<Scene>,
    /// Those of the folder without faces, by name; their paths are relative to that folder.
    pub face_free: Vec<Scene>,
    /// What was wrong with pictures and annotations.
    pub problems: Vec<Problem>,
}

impl Settings {
    /// Indices of the classes that are faces: all but `background`.
    pub fn face_classes(&self) -> impl Iterator<Item = usize> + Clone {
        let names = self.classes.iter().enumerate();
        names.filter(|(_, name)| *name != BACKGROUND).map(|(index, _)| index)
    }

    fn face(&self, labelled: LabelledBox) -> Face {
        let label = self.face_classes().find(|&label| self.classes[label] == labelled.class);
        Face { rect: labelled.rect, class: labelled.class, label }
    }
}

/// A picture as a loader's thread hands it over.
struct Prepared {
    image: RgbImage,
    orientation: Orientation,
}

/// Asks `detect` for the faces on every picture in `folder`, see [`VocDataset::scan_with_empty`], and on those without faces.
/// `observe` is told how many of how many pictures are done.
///
/// Pictures whose objects all lie outside of them, or have no area, are left out: there is something on them.
///
/// # Errors
///
/// When there are fewer pictures than the protocol needs, the detector fails, or `observe` breaks off.
pub fn evaluate(
    detect: &mut Detect,
    folder: &Path,
    settings: &Settings,
    mut observe: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Evaluation, EvaluateError> {
    let VocDataset { pictures, problems } = VocDataset::scan_with_empty(folder)?;
    let face_free = settings.face_free.as_deref().map(pictures_in).transpose()?.unwrap_or_default();
    settings.protocol.check(folder, pictures.len())?;
    let mut evaluation = Evaluation { data: folder.to_owned(), scenes: Vec::new(), face_free: Vec::new(), problems };
    let (annotated, total) = (pictures.len(), pictures.len() + face_free.len());
    let paths = pictures.iter().map(|picture| &picture.path).chain(&face_free);
    let requests: Vec<Request> =
        paths.zip(0..).map(|(path, draw)| Request { path: path.clone(), label: 0, draw }).collect();
    let prepare = |request: &Request| {
        let (image, orientation) = read_oriented(&request.path).map_err(|error| error.to_string())?;
        Ok(Prepared { image, orientation })
    };
    let mut done = 0;
    loader::load(&requests, 1, settings.loader_threads, prepare, |batch| {
        for (prepared, index) in batch.items.into_iter().zip(batch.indices) {
            let Prepared { image, orientation } = prepared;
            let place =
                |base: &Path| requests[index].path.strip_prefix(base).unwrap_or(&requests[index].path).to_owned();
            if index >= annotated {
                let path = place(settings.face_free.as_deref().unwrap_or(folder));
                evaluation.face_free.push(detected(detect, settings, (path, &image), Vec::new())?);
                continue;
            }
            let AnnotatedPicture { annotation, .. } = &pictures[index];
            let (boxes, mut found) = annotation.on_picture(image.dimensions(), orientation);
            evaluation.problems.append(&mut found);
            if boxes.is_empty() && !annotation.objects.is_empty() {
                continue;
            }
            let faces = boxes.into_iter().map(|labelled| settings.face(labelled)).collect();
            evaluation.scenes.push(detected(detect, settings, (place(folder), &image), faces)?);
        }
        let unreadable = |(path, reason)| Problem { path, kind: ProblemKind::UnreadablePicture(reason) };
        evaluation.problems.extend(batch.unreadable.into_iter().map(unreadable));
        done += 1;
        match observe(done, total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(EvaluateError::Interrupted),
        }
    })?;
    evaluation.problems.sort_by(|one, other| one.path.cmp(&other.path));
    if evaluation.scenes.is_empty() {
        let first = evaluation.problems.first().map(Problem::to_string);
        return Err(DatasetError::NoAnnotations { path: folder.to_owned(), first }.into());
    }
    settings.protocol.check(folder, evaluation.scenes.len())?;
    Ok(evaluation)
}

fn detected(
    detect: &mut Detect,
    settings: &Settings,
    (path, image): (PathBuf, &RgbImage),
    faces: Vec<Face>,
) -> Result<Scene, ExplainError> {
    let start = Instant::now();
    let mut detections = detect(image)?;
    let time: Duration = start.elapsed();
    // That nobody is there is no face.
    detections.retain(|detection| settings.face_classes().any(|label| label == detection.label));
    Ok(Scene::new(path, image.dimensions(), faces, detections, time))
}
