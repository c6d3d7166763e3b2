//! Folders as tools and accidents leave them.

mod annotation;
mod boxes;
mod hostile;

use super::*;
use crate::capture::stills::read_oriented;

/// A folder with both subfolders.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        std::fs::create_dir(folder.path().join("annotations")).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    fn scan(&self) -> Result<VocDataset, DatasetError> {
        VocDataset::scan(self.0.path())
    }

    /// What becomes of one annotation beside a good picture.
    fn read(&self, xml: impl AsRef<[u8]>) -> Result<(Annotation, Vec<Problem>), Problem> {
        Annotation::read(&self.write("annotations/a.xml", xml).0.path().join("annotations/a.xml"))
    }
}

fn object(class: &str, [xmin, ymin, xmax, ymax]: [&str; 4]) -> String {
    format!(
        "<object><name>{class}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>\
         <xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )
}

fn annotation(content: &str) -> String {
    format!("<annotation>{content}</annotation>")
}

fn good() -> String {
    annotation(&object("mask", ["1", "2", "3", "4"]))
}

fn kinds(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.kind.name()).collect()
}

#[test]
fn pictures_and_annotations_are_paired_by_name() {
    let folder = Folder::new();
    for name in ["b.PNG", "a.jpg", "a-b.jpg", "notes.txt", ".hidden"] {
        folder.write(&format!("images/{name}"), "");
    }
    for name in ["a.xml", "b.XML", "a-b.xml", "classes.txt"] {
        folder.write(&format!("annotations/{name}"), good());
    }
    let dataset = folder.scan().unwrap();
    let names: Vec<_> = dataset.pictures.iter().map(|picture| picture.path.file_name().unwrap()).collect();
    assert_eq!(names, ["a-b.jpg", "a.jpg", "b.PNG"]);
    assert!(dataset.pictures.iter().all(|picture| picture.annotation.path.file_stem() == picture.path.file_stem()));
    assert_eq!(dataset.problems, []);
    assert!(VocDataset::is_voc(folder.0.path()) && !VocDataset::is_voc(&folder.0.path().join("images")));
}

#[test]
fn files_without_their_other_half_and_twins_are_reported() {
    let folder = Folder::new();
    for name in ["images/a.jpg", "images/a.png", "images/lonely.jpg"] {
        folder.write(name, "");
    }
    for name in ["annotations/a.XML", "annotations/a.xml", "annotations/widow.xml"] {
        folder.write(name, good());
    }
    let dataset = folder.scan().unwrap();
    assert!(matches!(&dataset.pictures[..], [picture] if picture.path.ends_with("a.jpg")));
    let found: Vec<_> = dataset
        .problems
        .iter()
        .map(|problem| (problem.path.file_name().unwrap().to_str().unwrap(), problem.kind.name()))
        .collect();
    assert_eq!(
        found,
        [
            ("a.xml", "same-name"),
            ("widow.xml", "annotation-without-picture"),
            ("a.png", "same-name"),
            ("lonely.jpg", "picture-without-annotation"),
        ]
    );
}

#[test]
fn what_one_annotation_lacks_leaves_the_others_alone() {
    let folder = Folder::new();
    for (name, xml) in [("bare", annotation("")), ("broken", good().replace("</name>", "")), ("fine", good())] {
        folder.write(&format!("images/{name}.jpg"), "").write(&format!("annotations/{name}.xml"), xml);
    }
    let dataset = folder.scan().unwrap();
    assert!(matches!(&dataset.pictures[..], [picture] if picture.path.ends_with("fine.jpg")));
    assert_eq!(kinds(&dataset.problems), ["no-object", "broken-annotation"]);
}

#[test]
fn pictures_on_which_nothing_is_annotated_are_kept_if_asked_for() {
    let folder = Folder::new();
    let unusable = annotation("<object><name>mask</name></object>");
    for (name, xml) in [("bare", annotation("")), ("unusable", unusable), ("fine", good())] {
        folder.write(&format!("images/{name}.jpg"), "").write(&format!("annotations/{name}.xml"), xml);
    }
    let dataset = VocDataset::scan_with_empty(folder.0.path()).unwrap();
    assert!(
        matches!(&dataset.pictures[..], [bare, fine] if bare.annotation.objects.is_empty() && fine.path.ends_with("images/fine.jpg"))
    );
    assert_eq!(kinds(&dataset.problems), ["object-without-box", "no-object"]);
}

#[test]
fn a_folder_without_any_usable_annotation_is_an_error_that_says_why() {
    let folder = Folder::new();
    let error = folder.scan().unwrap_err().to_string();
    assert!(error.contains("holds no picture with a usable annotation; put"), "{error}");
    let error = folder.write("images/a.jpg", "").write("annotations/a.xml", "no XML").scan().unwrap_err().to_string();
    assert!(error.contains("(the first problem: ") && error.contains("it holds no element"), "{error}");
    assert!(matches!(VocDataset::scan(Path::new("/nowhere")), Err(DatasetError::Unlistable { .. })));
}

#[test]
fn an_unreadable_picture_is_named_once() {
    let folder = Folder::new();
    let path = folder.write("images/a.jpg", "no picture").0.path().join("images/a.jpg");
    let reason = read_oriented(&path).unwrap_err().to_string();
    let problem = Problem { kind: ProblemKind::UnreadablePicture(reason), path };
    assert_eq!(problem.to_string().matches("images/a.jpg").count(), 1);
    assert_eq!(problem.kind.name(), "unreadable-picture");
}
