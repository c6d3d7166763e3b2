//! Annotations made to exhaust memory, time or the reader's patience.

use std::time::{Duration, Instant};

use image::metadata::Orientation;

use super::*;

#[test]
fn document_types_are_refused_before_anything_is_expanded() {
    let mut bomb = "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol0 'lol'>".to_owned();
    for level in 1..30 {
        let references = format!("&lol{};", level - 1).repeat(10);
        bomb += &format!("<!ENTITY lol{level} '{references}'>");
    }
    bomb += &format!("]>{}", annotation(&object("&lol29;", ["0", "0", "1", "1"])));
    let external = format!("<!DOCTYPE a [<!ENTITY file SYSTEM 'file:///etc/passwd'>]>{}", good());
    let behind = format!("{}<!DOCTYPE annotation>", good());
    let folder = Folder::new();
    for xml in [bomb, external, behind] {
        let started = Instant::now();
        let problem = folder.read(xml).unwrap_err();
        assert_eq!(problem.kind.name(), "refused-annotation", "{problem}");
        assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    }
}

#[test]
fn a_megabyte_of_anything_is_read_or_refused_at_once() {
    let attributes: String = (0..110_000).map(|number| format!(" a{number:x}=''")).collect();
    let namespaces: String = (0..40_000).map(|number| format!("<a xmlns:b{number:x}=''>")).collect();
    let deep = format!("{}{}", "<object>".repeat(55_000), "</object>".repeat(55_000));
    let many = |content: &str| content.repeat(990_000 / content.len());
    let folder = Folder::new();
    for (name, xml) in [
        ("attributes", format!("<annotation{attributes}/>")),
        ("namespaces", annotation(&(namespaces + &"</a>".repeat(40_000)))),
        ("deep", annotation(&deep)),
        ("deep elsewhere", annotation(&format!("{}{}", "<a>".repeat(140_000), "</a>".repeat(140_000)))),
        ("objects", annotation(&many("<object/><a/>"))),
        ("boxes", annotation(&format!("<object>{}</object>", many("<bndbox/><a/>")))),
        ("objects with boxes", annotation(&many("<object><bndbox/><a/><bndbox/></object><a/>"))),
        ("one name", annotation(&object(&many("&#27;x\n"), ["0", "0", "x", "1"]))),
        ("one number", annotation(&object("mask", ["0", "0", &many("9"), "1"]))),
        ("just too large", format!("{}{}", good(), " ".repeat(1_000_001 - good().len()))),
        ("far too large", " ".repeat(50_000_000)),
    ] {
        let size = xml.len();
        let started = Instant::now();
        let problems = match folder.read(xml) {
            Ok((_, problems)) => problems,
            Err(problem) => vec![problem],
        };
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
        assert!(!problems.is_empty(), "{name}");
        assert_eq!(problems[0].kind.name() == "refused-annotation", size > 1_000_000, "{name}: {}", problems[0]);
        for problem in problems {
            let line = problem.to_string();
            assert!(line.len() < 600 && !line.contains(char::is_control), "{name}: {line}");
        }
    }
    assert!(folder.read(format!("{}{}", good(), " ".repeat(1_000_000 - good().len()))).is_ok());
}

#[test]
fn cut_or_changed_bytes_never_panic() {
    let folder = Folder::new();
    let size = "<?xml version='1.0'?><!-- x --><annotation a='b'><size><width>9</width><height>9</height></size>";
    let xml = format!("{size}{}</annotation>", object("m&#228;sk", ["1", "2", "3e0", "4"])).into_bytes();
    assert!(folder.read(&xml).is_ok());
    for end in 0..xml.len() {
        let problem = folder.read(&xml[..end]).unwrap_err();
        assert_eq!(problem.kind.name(), "broken-annotation", "{end}");
    }
    for at in 0..xml.len() {
        for byte in [b'<', b'>', b'&', b'/', b'!', b'"', b'0', 0, 0xff] {
            let mut changed = xml.clone();
            changed[at] = byte;
            if let Ok((annotation, _)) = folder.read(&changed) {
                annotation.on_picture((9, 9), Orientation::Rotate90);
            }
        }
    }
}
