//! What can be wrong with annotated pictures: none of it ends an evaluation, all of it is counted by name.

use std::fmt;
use std::path::PathBuf;

use super::Corners;

/// Longest text of an annotation that a message repeats, in characters: a name may be a megabyte long.
const LONGEST_QUOTE: usize = 100;

/// Something wrong with one file, shown as one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The file: a picture or an annotation.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.kind {
            // The reason names the file.
            ProblemKind::UnreadablePicture(_) => write!(f, "{}", self.kind),
            kind => write!(f, "{}: {kind}", self.path.display()),
        }
    }
}

/// What is wrong, and what became of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProblemKind {
    /// There is no picture of the annotation's name.
    #[error("no picture in images has this name; add it, or remove the annotation")]
    AnnotationWithoutPicture,
    /// There is no annotation of the picture's name.
    #[error("no annotation has this name, so the picture is left out; annotate it, or remove it")]
    PictureWithoutAnnotation,
    /// Two files differ in nothing but their extensions.
    #[error("{} has the same name and is used instead; rename one of them", .used.display())]
    SameName {
        /// The file that is used.
        used: PathBuf,
    },
    /// The annotation cannot be read or is no Pascal VOC XML; with the reason.
    #[error("cannot be read as Pascal VOC XML ({}), so its picture is left out; write it again", one_line(.0))]
    BrokenAnnotation(String),
    /// The annotation holds what could exhaust memory or time; with the reason.
    #[error("is refused ({0}), so its picture is left out; write it again without that")]
    RefusedAnnotation(&'static str),
    /// The annotation holds no object that can be used.
    #[error("holds no usable object, so its picture is left out; draw a box, or remove the picture")]
    NoObject,
    /// An object does not say what it is.
    #[error("object {number} has no name and is left out; name it")]
    ObjectWithoutClass {
        /// Place of the object in the file, from 1.
        number: usize,
    },
    /// An object does not say where it is.
    #[error("object {number} ({}) has no bndbox and is left out; draw its box", one_line(.class))]
    ObjectWithoutBox {
        /// Place of the object in the file, from 1.
        number: usize,
        /// What it is.
        class: String,
    },
    /// An object says several times where it is.
    #[error("object {number} ({}) has {boxes} boxes, of which the first is used; make an object of each", one_line(.class))]
    SeveralBoxes {
        /// Place of the object in the file, from 1.
        number: usize,
        /// What it is.
        class: String,
        /// How many boxes it has.
        boxes: usize,
    },
    /// A coordinate is missing, or is no finite number.
    #[error("object {number} ({}) has the {side} '{}', which is no number, and is left out; draw its box again", one_line(.class), one_line(.text))]
    BadCoordinate {
        /// Place of the object in the file, from 1.
        number: usize,
        /// What it is.
        class: String,
        /// Name of the coordinate, such as `xmin`.
        side: &'static str,
        /// What stands in its place.
        text: String,
    },
    /// A box has no area, or its edges are swapped.
    #[error("the box {corners} of {} has no area and is left out; draw it again", one_line(.class))]
    EmptyBox {
        /// What is said to be in it.
        class: String,
        /// The box as written.
        corners: Corners,
    },
    /// A part of a box lies outside the picture.
    #[error("the box {corners} of {} leaves the picture and is clipped; draw it again", one_line(.class))]
    BoxClipped {
        /// What is in it.
        class: String,
        /// The box as written.
        corners: Corners,
    },
    /// No part of a box lies inside the picture.
    #[error("the box {corners} of {} lies outside the picture and is left out; draw it again", one_line(.class))]
    BoxOutside {
        /// What is said to be in it.
        class: String,
        /// The box as written.
        corners: Corners,
    },
    /// The annotation was written for a picture of another size.
    #[error("is of a picture with {}x{} pixels, but the picture has {}x{}; check its boxes", .annotated.0, .annotated.1, .picture.0, .picture.1)]
    SizeDiffers {
        /// Width and height as annotated, in pixels.
        annotated: (u32, u32),
        /// Width and height of the upright picture, in pixels.
        picture: (u32, u32),
    },
    /// The picture cannot be decoded; with the reason, which names the file.
    #[error("{0}")]
    UnreadablePicture(String),
    /// A class that whoever asks does not know.
    #[error("holds the unknown class {}; correct its name, or use a model that knows it", one_line(.0))]
    UnknownClass(String),
}

impl ProblemKind {
    /// A name for counting, which reports may rely on: it never changes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AnnotationWithoutPicture => "annotation-without-picture",
            Self::PictureWithoutAnnotation => "picture-without-annotation",
            Self::SameName { .. } => "same-name",
            Self::BrokenAnnotation(_) => "broken-annotation",
            Self::RefusedAnnotation(_) => "refused-annotation",
            Self::NoObject => "no-object",
            Self::ObjectWithoutClass { .. } => "object-without-class",
            Self::ObjectWithoutBox { .. } => "object-without-box",
            Self::SeveralBoxes { .. } => "several-boxes",
            Self::BadCoordinate { .. } => "bad-coordinate",
            Self::EmptyBox { .. } => "empty-box",
            Self::BoxClipped { .. } => "box-clipped",
            Self::BoxOutside { .. } => "box-outside",
            Self::SizeDiffers { .. } => "size-differs",
            Self::UnreadablePicture(_) => "unreadable-picture",
            Self::UnknownClass(_) => "unknown-class",
        }
    }
}

/// Foreign text as a part of one line, without what could steer a terminal.
fn one_line(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST_QUOTE) {
        line.truncate(end);
        line.push_str("...");
    }
    line.replace(char::is_control, "?")
}
