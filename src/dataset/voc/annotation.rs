//! Reads one annotation: what the XML says, before any picture is looked at.
//!
//! Annotations may come from strangers: no document type and so no entity is ever read, the size is limited, and the
//! reader's time and memory grow no faster than the file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;

use super::{Corners, Problem, ProblemKind};

/// Largest annotation that is read, in bytes: a thousand times the usual.
const MAX_BYTES: u64 = 1_000_000;
/// Name of the outermost element.
const ROOT: &str = "annotation";

/// What an annotation says.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// The XML file.
    pub path: PathBuf,
    /// Width and height in pixels of the picture that was annotated, if said; some tools write 0, which says nothing.
    pub size: Option<(u32, u32)>,
    /// What is seen, in the order of the file.
    pub objects: Vec<AnnotatedObject>,
}

/// One object that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatedObject {
    /// What it is; never empty.
    pub class: String,
    /// Where it is, as written: finite, but anywhere and possibly without area.
    pub corners: Corners,
}

#[derive(Deserialize)]
struct XmlAnnotation {
    size: Option<XmlSize>,
    #[serde(default, rename = "object")]
    objects: Vec<XmlObject>,
}

#[derive(Deserialize)]
struct XmlSize {
    width: Option<String>,
    height: Option<String>,
}

#[derive(Deserialize)]
struct XmlObject {
    name: Option<String>,
    #[serde(default, rename = "bndbox")]
    boxes: Vec<XmlBox>,
}

#[derive(Deserialize)]
struct XmlBox {
    xmin: Option<String>,
    ymin: Option<String>,
    xmax: Option<String>,
    ymax: Option<String>,
}

impl Annotation {
    /// Reads the file at `path`; the problems are those of single objects, which are left out.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no annotation, or is refused.
    pub(super) fn read(path: &Path) -> Result<(Self, Vec<Problem>), Problem> {
        let problem = |kind| Problem { path: path.to_owned(), kind };
        let xml = read_text(path).and_then(|text| parse(&text)).map_err(problem)?;
        let mut problems = Vec::new();
        let mut objects = Vec::with_capacity(xml.objects.len());
        for (object, number) in xml.objects.into_iter().zip(1..) {
            objects.extend(object.check(number, &mut problems));
        }
        if objects.is_empty() {
            problems.push(ProblemKind::NoObject);
        }
        let size = xml.size.and_then(|size| Some((pixels(size.width?)?, pixels(size.height?)?)));
        Ok((Self { path: path.to_owned(), size, objects }, problems.into_iter().map(problem).collect()))
    }
}

impl XmlObject {
    fn check(self, number: usize, problems: &mut Vec<ProblemKind>) -> Option<AnnotatedObject> {
        let class = self.name.unwrap_or_default().trim().to_owned();
        if class.is_empty() {
            problems.push(ProblemKind::ObjectWithoutClass { number });
            return None;
        }
        let boxes = self.boxes.len();
        let Some(first) = self.boxes.into_iter().next() else {
            problems.push(ProblemKind::ObjectWithoutBox { number, class });
            return None;
        };
        if boxes > 1 {
            problems.push(ProblemKind::SeveralBoxes { number, class: class.clone(), boxes });
        }
        match first.corners() {
            Ok(corners) => Some(AnnotatedObject { class, corners }),
            Err((side, text)) => {
                problems.push(ProblemKind::BadCoordinate { number, class, side, text });
                None
            }
        }
    }
}

impl XmlBox {
    /// Its numbers, or name and text of the first that is none.
    fn corners(self) -> Result<Corners, (&'static str, String)> {
        let number = |side, text: Option<String>| {
            let text = text.unwrap_or_default();
            text.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or((side, text))
        };
        Ok(Corners {
            xmin: number("xmin", self.xmin)?,
            ymin: number("ymin", self.ymin)?,
            xmax: number("xmax", self.xmax)?,
            ymax: number("ymax", self.ymax)?,
        })
    }
}

fn pixels(text: String) -> Option<u32> {
    text.trim().parse().ok().filter(|&pixels| pixels > 0)
}

fn read_text(path: &Path) -> Result<String, ProblemKind> {
    let mut text = String::new();
    // One byte more than allowed, to tell a file of just that size from a larger one.
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > MAX_BYTES => Err(ProblemKind::RefusedAnnotation("it is larger than 1 MB")),
        Ok(_) => Ok(text),
        Err(error) => Err(broken(error)),
    }
}

fn parse(text: &str) -> Result<XmlAnnotation, ProblemKind> {
    check_document(text)?;
    quick_xml::de::from_str(text).map_err(broken)
}

/// Refuses document types, and what is not one complete element of the right name: the deserialiser would look neither
/// at the name nor behind the element.
fn check_document(text: &str) -> Result<(), ProblemKind> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let (mut depth, mut roots) = (0, 0);
    loop {
        match reader.read_event().map_err(broken)? {
            Event::DocType(_) => return Err(ProblemKind::RefusedAnnotation("it declares a document type")),
            Event::Start(tag) => {
                if depth == 0 {
                    roots += 1;
                    let name = tag.name();
                    let name: &str = name.as_ref();
                    if name != ROOT {
                        return Err(broken(format!("it begins with <{name}> in place of <{ROOT}>")));
                    }
                }
                depth += 1;
            }
            // The reader itself refuses an end that nothing began.
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    match (depth, roots) {
        (0, 1) => Ok(()),
        (0, 0) => Err(broken("it holds no element")),
        (0, _) => Err(broken(format!("it holds more than one <{ROOT}>"))),
        _ => Err(broken("it is cut short")),
    }
}

fn broken(reason: impl ToString) -> ProblemKind {
    ProblemKind::BrokenAnnotation(reason.to_string())
}
