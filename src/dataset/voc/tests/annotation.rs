//! What is read of one annotation, and what is said of the rest.

use super::*;

#[test]
fn everything_that_tools_write_is_read() {
    let xml = "\u{feff}<?xml version=\"1.0\"?><!-- by hand --><annotation verified=\"yes\">\
         <folder>images</folder><path>C:\\M\u{e4}rz &amp; &unknown;</path>\
         <size><width> 640 </width><height>480</height><depth>3</depth></size><segmented>0</segmented>\
         <object><part><name>nose</name><bndbox/></part><difficult>1</difficult>\
         <bndbox><ymax>4.5e0</ymax><ymin>2</ymin><xmin>\n 1.25\n</xmin><xmax>-3</xmax></bndbox>\
         <name> no &lt;mask&#33; <![CDATA[&]]> </name></object>\
         <owner/><object><name>mask</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox>\
         </object></annotation>\n";
    let (annotation, problems) = Folder::new().read(xml).unwrap();
    assert_eq!(problems, []);
    assert_eq!(annotation.size, Some((640, 480)));
    assert_eq!(
        annotation.objects,
        [
            AnnotatedObject {
                class: "no <mask! &".to_owned(),
                corners: Corners { xmin: 1.25, ymin: 2.0, xmax: -3.0, ymax: 4.5 }
            },
            AnnotatedObject {
                class: "mask".to_owned(),
                corners: Corners { xmin: 0.0, ymin: 0.0, xmax: 1.0, ymax: 1.0 }
            },
        ]
    );
}

#[test]
fn a_size_of_zero_says_nothing() {
    let folder = Folder::new();
    let size = |width, height| {
        let size = format!("<size><width>{width}</width><height>{height}</height></size>");
        folder.read(annotation(&(size + &object("mask", ["0", "0", "1", "1"])))).unwrap().0.size
    };
    assert_eq!(size("7", "5"), Some((7, 5)));
    for (width, height) in [("0", "0"), ("7", "0"), ("-7", "5"), ("", "5"), ("wide", "5"), ("99999999999", "5")] {
        assert_eq!(size(width, height), None);
    }
}

#[test]
fn objects_that_cannot_be_used_are_reported_one_by_one() {
    let bndbox = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>";
    let content = [
        format!("<object>{bndbox}</object>"),
        format!("<object><name> </name>{bndbox}</object>"),
        "<object><name>mask</name></object>".to_owned(),
        format!("<object><name>mask</name>{bndbox}<bndbox/></object>"),
        object("mask", ["nan", "2", "3", "4"]),
        object("mask", ["1", "-inf", "3", "4"]),
        object("mask", ["1", "2", "1e999", "4"]),
        object("mask", ["1", "2", "3", "4,5"]),
        object("mask", ["1", "2", "3", ""]),
        "<object><name>mask</name><bndbox><xmin>1</xmin></bndbox></object>".to_owned(),
    ];
    let (read, problems) = Folder::new().read(annotation(&content.concat())).unwrap();
    assert_eq!(read.objects.len(), 1, "the first of several boxes is used");
    let mut expected = vec!["object-without-class", "object-without-class", "object-without-box", "several-boxes"];
    expected.extend(["bad-coordinate"; 6]);
    assert_eq!(kinds(&problems), expected);
    let sides: Vec<_> = problems[4..].iter().map(|problem| problem.to_string()).collect();
    for (message, side) in sides.iter().zip(["xmin 'nan'", "ymin '-inf'", "xmax '1e999'", "ymax '4,5'", "ymax ''"]) {
        assert!(message.contains(side), "{message}");
    }
    let (_, problems) = Folder::new().read(annotation(&content[2])).unwrap();
    assert_eq!(kinds(&problems), ["object-without-box", "no-object"]);
}

#[test]
fn what_is_no_annotation_is_named_so() {
    let folder = Folder::new();
    for (xml, reason) in [
        (&b""[..], "no element"),
        (b"just words", "no element"),
        (b"\xff\xfe<\0a\0", "UTF-8"),
        (b"<svg/>", "begins with <svg>"),
        (b"<annotation/><annotation/>", "more than one"),
        (b"<annotation><object>", "cut short"),
        (b"<annotation></object>", "object"),
        (b"</annotation>", "annotation"),
        (b"<annotation><object><name><b>mask</b></name></object></annotation>", "<b>"),
        (b"<annotation><object><name>&who;</name></object></annotation>", "who"),
        (b"<annotation><size/><size/></annotation>", "size"),
    ] {
        let problem = folder.read(xml).unwrap_err();
        assert_eq!(problem.kind.name(), "broken-annotation");
        assert!(problem.to_string().contains(reason), "{problem}");
    }
    let missing = Annotation::read(&folder.0.path().join("missing.xml")).unwrap_err();
    assert_eq!(missing.kind.name(), "broken-annotation");
}
