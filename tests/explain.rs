//! `maskwatch explain`, from outside: figures, numbers, and what is said when something is wrong.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use image::RgbImage;
use maskwatch::analyse::comparison::{ComparisonSettings, compare};
use maskwatch::capture::stills::read_image;
use maskwatch::config::shipped_model;
use maskwatch::explain::{GradientSource, Method};
use maskwatch::model::engine::Engine;
use maskwatch::model::resnet::Resolution;
use serde_json::Value;
use tch::Device;

/// Cheap methods with and without components.
const METHODS: &str = "haycam,cam,gradcam++";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Explains by cheap methods, into a folder or file.
fn explain(pictures: &[&Path], out: &Path, more: &[&str]) -> Finished {
    let pictures = pictures.iter().map(|picture| text(picture));
    let options = ["--out", text(out), "--methods", METHODS];
    maskwatch(["explain"].into_iter().chain(pictures).chain(options).chain(more.iter().copied()))
}

fn figure(path: &Path) -> RgbImage {
    image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The numbers of pictures, without those that differ from run to run.
fn numbers(run: &Finished) -> Vec<Value> {
    let mut lines = parse_events(&run.stdout);
    for line in &mut lines {
        for key in ["picture", "figure"] {
            assert!(line.as_object_mut().unwrap().remove(key).is_some_and(|path| path.is_string()), "{key}");
        }
        for method in line["methods"].as_array_mut().unwrap() {
            assert!(method.as_object_mut().unwrap().remove("ms").unwrap().as_f64().unwrap() >= 0.0);
        }
    }
    lines
}

/// A copy whose pixels lie on their side, which its metadata says (EXIF orientation 6: to be turned clockwise).
fn lying_copy(upright: &RgbImage, path: &Path) {
    let mut tiff = std::io::Cursor::new(Vec::new());
    image::imageops::rotate270(upright).write_to(&mut tiff, image::ImageFormat::Png).unwrap();
    let png = tiff.into_inner();
    let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let kind_and_data = [b"eXIf".as_slice(), exif].concat();
    let chunk = [&(exif.len() as u32).to_be_bytes()[..], &kind_and_data, &crc32(&kind_and_data).to_be_bytes()].concat();
    // Behind the signature (8 bytes) and the header chunk (25).
    std::fs::write(path, [&png[..33], &chunk, &png[33..]].concat()).unwrap();
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[test]
fn a_figure_shows_the_picture_and_what_speaks_for_a_class() {
    let folder = tempfile::tempdir().unwrap();
    let picture = sample("collins_surgical.jpg");
    let out = folder.path().join("new/figures");
    let run = explain(&[&picture], &out, &[]).ok();
    let path = out.join("collins_surgical.explain.png");
    assert!(run.stdout.starts_with(&format!("{}: mask ", path.display())), "{}", run.stdout);
    let first = figure(&path);
    assert!(
        (800..=1600).contains(&first.width()) && (400..=1400).contains(&first.height()),
        "{:?}",
        first.dimensions()
    );
    // Something of every column: heat is colourful, paper and text are not.
    let colourful = |x: u32| (0..first.height()).filter(|&y| is_colourful(first.get_pixel(x, y).0)).count();
    let columns = (0..first.width()).filter(|&x| colourful(x) > 100).count();
    assert!(columns > 3 * 200, "{columns}");

    let other = folder.path().join("other.png");
    explain(&[&picture], &other, &["--class", "no_mask"]).ok();
    let other = figure(&other);
    assert_eq!(other.dimensions(), first.dimensions());
    let differing = other.pixels().zip(first.pixels()).filter(|(one, other)| one != other).count();
    assert!(differing > 20_000, "{differing}");
}

fn is_colourful([red, green, blue]: [u8; 3]) -> bool {
    red.max(green).max(blue) - red.min(green).min(blue) > 60
}

#[test]
fn numbers_are_those_of_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = sample("hopper_no_mask.jpg");
    let options = ["--json", "--threads", "2", "--resolution", "native", "--class", "mask", "--threshold", "0.45"];
    let run = explain(&[&path], folder.path(), &options).ok();
    let [line] = &parse_events(&run.stdout)[..] else { panic!("one line is wanted: {}", run.stdout) };
    assert!(run.stderr.contains("hopper_no_mask.explain.png"), "{}", run.stderr);

    let engine = Engine::load(&shipped_model(), Device::Cpu).unwrap();
    let classes = &engine.description().classes;
    let settings = ComparisonSettings {
        methods: vec![Method::HayCam, Method::Cam, Method::GradCamPlusPlus],
        method_settings: Default::default(),
        threshold: Some("0.45".parse().unwrap()),
        resolution: Resolution::Native,
        gradient_source: GradientSource::ClosedForm,
        class: classes.iter().position(|class| class == "mask"),
    };
    let picture = read_image(&path).unwrap();
    let expected = compare(&engine, &picture, &settings).unwrap();
    assert_eq!((&line["label"], &line["class"]), (&Value::from("no_mask"), &Value::from("mask")));
    assert_eq!(line["picture"], text(&path));
    for (class, probability) in classes.iter().zip(&expected.probabilities) {
        assert!((line["probabilities"][class].as_f64().unwrap() - f64::from(*probability)).abs() < 2e-4, "{class}");
    }
    let methods = line["methods"].as_array().unwrap();
    assert_eq!(methods.len(), expected.maps.len());
    for (method, expected) in methods.iter().zip(&expected.maps) {
        let name = method["method"].as_str().unwrap();
        assert_eq!(name, expected.method.name());
        assert_eq!(method["grid"], serde_json::json!([7, 7]), "{name}");
        assert_eq!(method["threshold"], 0.45, "{name}");
        for ((row, column), expected) in expected.values.indexed_iter() {
            let value = method["map"][row][column].as_f64().unwrap();
            assert!((value - f64::from(*expected)).abs() < 1e-3, "{name} {row} {column}: {value} for {expected}");
        }
        for (found, expected) in method["boxes"].as_array().unwrap().iter().zip(&expected.boxes) {
            let rect = expected.rect;
            let sides = [("x", rect.x), ("y", rect.y), ("width", rect.width), ("height", rect.height)];
            assert!(sides.iter().all(|(side, length)| found[side] == *length), "{name}: {found} for {rect:?}");
            assert!((found["score"].as_f64().unwrap() - f64::from(expected.score)).abs() < 1e-3, "{name}");
        }
        assert_eq!(method["boxes"].as_array().unwrap().len(), expected.boxes.len(), "{name}");
        assert_eq!(method["components"].as_u64(), expected.reduction.map(|reduction| reduction.components as u64));
    }
    assert_eq!(methods[0]["components"], 19);
    assert!(methods[1]["components"].is_null());
}

#[test]
fn a_picture_on_its_side_is_explained_upright() {
    let folder = tempfile::tempdir().unwrap();
    let [upright, lying] = ["upright.png", "lying.png"].map(|name| folder.path().join(name));
    let picture = read_image(&sample("collins_cloth.jpg")).unwrap();
    picture.save(&upright).unwrap();
    lying_copy(&picture, &lying);
    assert_ne!(image::open(&lying).unwrap().into_rgb8().dimensions(), picture.dimensions());
    let run = explain(&[&upright, &lying], &folder.path().join("out"), &["--json"]).ok();
    let lines = numbers(&run);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1]);
}

#[test]
fn methods_components_gradients_and_resolution_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let picture = sample("collins_no_mask.jpg");
    let run = |options: &[&str]| {
        let arguments = ["explain", text(&picture), "--json", "--out", text(folder.path())];
        numbers(&maskwatch(arguments.iter().chain(options)).ok()).remove(0)
    };
    let closed = run(&["--methods", "gradcam,haycam-refined", "--components", "5", "--threshold", "otsu"]);
    assert_eq!(closed["class"], "no_mask");
    let [gradcam, refined] = [0, 1].map(|index| &closed["methods"][index]);
    assert_eq!((&gradcam["method"], &gradcam["threshold"]), (&Value::from("gradcam"), &Value::from("otsu")));
    assert_eq!((&refined["components"], &refined["grid"]), (&Value::from(5), &serde_json::json!([14, 14])));
    assert_eq!(gradcam["grid"], serde_json::json!([14, 14]));

    let propagated = run(&["--methods", "gradcam", "--gradients", "autograd", "--threshold", "otsu"]);
    for row in 0..14 {
        for column in 0..14 {
            let value = |run: &Value| run["methods"][0]["map"][row][column].as_f64().unwrap();
            assert!((value(&closed) - value(&propagated)).abs() < 2e-3, "{row} {column}");
        }
    }
}

#[test]
fn a_method_of_many_passes_is_there_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let picture = sample("collins_no_mask.jpg");
    let arguments = ["explain", text(&picture), "--json", "--methods", "occlusion", "--out", text(folder.path())];
    let line = numbers(&maskwatch(arguments).ok()).remove(0);
    assert_eq!(line["methods"][0]["method"], "occlusion");
    assert_eq!(line["methods"][0]["boxes"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_is_told_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("out"));
    std::fs::create_dir(&pictures).unwrap();
    std::fs::write(pictures.join("a_broken.jpg"), "not a picture").unwrap();
    RgbImage::from_pixel(1, 1, image::Rgb([90, 120, 30])).save(pictures.join("one.png")).unwrap();
    RgbImage::from_pixel(1, 1, image::Rgb([90, 120, 30])).save(pictures.join("one.bmp")).unwrap();
    std::fs::write(pictures.join("film.mp4"), "not looked at").unwrap();
    let run = explain(&[&pictures], &out, &["--progress", "always"]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let told: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(told.len(), 2, "{}", run.stderr);
    assert!(told[0].contains("left out") && told[0].contains("film.mp4, a video"), "{}", run.stderr);
    assert!(told[1].contains("a_broken.jpg is not an image"), "{}", run.stderr);
    assert_eq!(names(&out), ["one-2.explain.png", "one.explain.png"]);
    assert!(figure(&out.join("one.explain.png")).width() > 400);
    assert_eq!(run.stdout.lines().count(), 2, "{}", run.stdout);

    // Figures beside the pictures are not explained themselves, and a second run replaces them.
    std::fs::remove_file(pictures.join("a_broken.jpg")).unwrap();
    for _ in 0..2 {
        explain(&[&pictures], &pictures, &[]).ok();
        let figures = names(&pictures).into_iter().filter(|name| name.ends_with(".explain.png"));
        assert_eq!(figures.collect::<Vec<_>>(), ["one-2.explain.png", "one.explain.png"]);
    }
}

#[test]
fn command_lines_that_make_no_sense_are_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let picture = sample("collins_no_mask.jpg");
    let out = place("out");
    explain(&[&picture], &out, &["--class", "hat"]).fails(2, "the classes of the model are mask, no_mask, background");
    explain(&[&sample("mask_on_off.mp4")], &out, &[]).fails(2, "is no picture: explain takes pictures");
    for source in ["0", "/dev/video0", "rtsp://user:secret@127.0.0.1/stream"] {
        let run = explain(&[Path::new(source)], &out, &[]).fails(2, "is no picture");
        assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    }
    explain(&[Path::new("/nonexistent/a.jpg")], &out, &[]).fails(3, "/nonexistent/a.jpg does not exist");
    explain(&[&picture], &place("x.jpg"), &[]).fails(2, "a figure is saved as .png");
    let two: [&Path; 2] = [&picture, &picture];
    explain(&two, &place("x.png"), &[]).fails(2, "the figures of 2 pictures go into a folder");
    assert!(!out.exists() || names(&out).is_empty());

    let input = place("input.png");
    RgbImage::new(2, 2).save(&input).unwrap();
    explain(&[&input], &input, &[]).fails(2, "would overwrite a source");
    let [named, like_figure] = ["a.png", "a.explain.png"].map(place);
    RgbImage::new(2, 2).save(&named).unwrap();
    RgbImage::new(2, 2).save(&like_figure).unwrap();
    explain(&[&named, &like_figure], folder.path(), &[]).fails(2, "a.explain.png would overwrite a source");
    assert_eq!(figure(&like_figure).dimensions(), (2, 2));

    maskwatch(["explain", text(&picture), "--methods", "gradcam+"]).code_is(2, "gradcam++");
    maskwatch(["explain"]).code_is(2, "IMAGE");
}

#[test]
fn places_that_cannot_be_written_are_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let picture = sample("collins_no_mask.jpg");
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    explain(&[&picture], &file.join("below"), &[]).fails(1, "choose another folder");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    explain(&[&picture], &Path::new("/proc").join("figures"), &[]).fails(1, "choose another folder");

    let out: PathBuf = folder.path().join("out");
    let arguments = ["explain", text(&picture), "--methods", "cam", "--out", text(&out)];
    maskwatch_with_file_limit(8, &arguments).fails(1, "collins_no_mask.explain.png");
    assert!(names(&out).is_empty(), "no half figure stays");
}

#[test]
fn a_scan_shows_the_map_behind_each_box() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scan.png");
    let picture = sample("collins_surgical.jpg");
    let arguments = ["explain", text(&picture), "--scan", "256", "--out", text(&out), "--json"];
    let line = parse_events(&maskwatch(arguments).ok().stdout).remove(0);
    assert_eq!(line["scan"], serde_json::json!({"short_side": 256, "width": 352, "height": 256}));
    assert_eq!(line["grid"], serde_json::json!([8, 11]));
    for class in ["mask", "no_mask", "background"] {
        for kind in ["maps", "posteriors"] {
            let rows = line[kind][class].as_array().unwrap();
            assert!(rows.len() == 8 && rows.iter().all(|row| row.as_array().unwrap().len() == 11));
        }
    }
    let sum: f64 = line["posteriors"].as_object().unwrap().values().map(|rows| rows[3][4].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-3);
    assert!(figure(&out).width() > 1000);

    let scan = |options: &[&str]| maskwatch([&["explain", text(&picture)], options].concat());
    scan(&["--scan", "--methods", "cam"]).code_is(2, "--methods is for pictures seen as a whole");
    scan(&["--class", "mask", "--scan"]).code_is(2, "--class is for pictures seen as a whole");
    scan(&["--scan", "7"]).code_is(2, "expected auto, whole, or a number of pixels from 64 to 2048");
}
