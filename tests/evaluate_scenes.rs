//! Evaluating scenes: a detector with planted answers, whose figures are known, and the options from outside.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use common::*;
use image::{Rgb, RgbImage};
use maskwatch::analyse::Detection;
use maskwatch::evaluate::report::ReportFolder;
use maskwatch::evaluate::scenes::report::{self, Findings, text};
use maskwatch::evaluate::scenes::summary::Summary;
use maskwatch::evaluate::scenes::tuning::{Protocol, Tuning};
use maskwatch::evaluate::scenes::{self, Evaluation, Settings};
use maskwatch::evaluate::{EvaluateError, report::ReportError};
use maskwatch::geometry::Rect;
use serde_json::{Value, json};

/// Left, top, width and height in pixels.
type Edges = [u32; 4];
const MASK: usize = 0;
const NO_MASK: usize = 1;
const NOBODY: usize = 2;
const FILES: [&str; 10] = [
    "by_size.png",
    "detections.csv",
    "face_free.csv",
    "faces.csv",
    "precision_recall.png",
    "report.json",
    "report.md",
    "scenes.png",
    "table.csv",
    "worst.png",
];

/// Pictures in a folder, each of which has its number as its colour, and what is detected on them.
#[derive(Default)]
struct Planted {
    detections: BTreeMap<u8, Vec<Detection>>,
}

impl Planted {
    fn picture(&mut self, path: &Path, detections: &[(usize, Edges, f32)]) {
        let number = self.detections.len() as u8;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(200, 150, Rgb([number, 90, 120])).save(path).unwrap();
        let detection = |&(label, [x, y, width, height], score): &(usize, Edges, f32)| Detection {
            rect: Rect { x, y, width, height },
            score,
            label,
        };
        self.detections.insert(number, detections.iter().map(detection).collect());
    }

    fn scene(&mut self, folder: &Path, name: &str, faces: &[(&str, Edges)], detections: &[(usize, Edges, f32)]) {
        self.picture(&folder.join("images").join(name).with_extension("png"), detections);
        let object = |(class, [x, y, width, height]): &(&str, Edges)| {
            let (right, bottom) = (x + width, y + height);
            format!(
                "<object><name>{class}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{right}</xmax>\
                 <ymax>{bottom}</ymax></bndbox></object>"
            )
        };
        let xml: String = faces.iter().map(object).collect();
        std::fs::create_dir_all(folder.join("annotations")).unwrap();
        let path = folder.join("annotations").join(name).with_extension("xml");
        std::fs::write(path, format!("<annotation>{xml}</annotation>")).unwrap();
    }

    fn evaluate(&self, folder: &Path, settings: &Settings) -> Result<Evaluation, EvaluateError> {
        let mut detect = |picture: &RgbImage| Ok(self.detections[&picture.get_pixel(0, 0).0[0]].clone());
        scenes::evaluate(&mut detect, folder, settings, |_, _| ControlFlow::Continue(()))
    }
}

fn settings(protocol: Protocol) -> Settings {
    Settings {
        classes: ["mask", "no_mask", "background"].map(str::to_owned).to_vec(),
        thresholds: vec![0.5; 3],
        protocol,
        min_size: 32,
        face_free: None,
        loader_threads: 2,
    }
}

/// Every outcome that there is, on pictures `a` to `f`, and pictures without faces.
fn everything(folder: &Path, face_free: &Path) -> Planted {
    let mut planted = Planted::default();
    let face = [10, 10, 50, 50];
    let twice = [(MASK, face, 0.9), (MASK, face, 0.8), (MASK, [120, 20, 60, 60], 0.3), (NOBODY, face, 0.99)];
    planted.scene(folder, "a", &[("mask", face)], &twice);
    planted.scene(folder, "b", &[("no_mask", [100, 50, 80, 80])], &[(MASK, [100, 50, 80, 80], 0.85)]);
    let (small, incorrect) = ([10, 10, 20, 20], [80, 20, 60, 60]);
    let faces = [("mask", small), ("incorrect", incorrect)];
    planted.scene(folder, "c", &faces, &[(MASK, small, 0.7), (NO_MASK, incorrect, 0.6)]);
    planted.scene(folder, "d", &[], &[(MASK, [0, 0, 30, 30], 0.55)]);
    // 23 of 40 columns in common: an IoU of 23/57.
    planted.scene(folder, "e", &[("no_mask", [20, 20, 40, 40])], &[(NO_MASK, [37, 20, 40, 40], 0.95)]);
    // Its only object lies outside: something is there, nobody knows where.
    planted.scene(folder, "f", &[("mask", [300, 300, 40, 40])], &[(MASK, face, 0.9)]);
    planted.picture(&face_free.join("x.png"), &[(MASK, face, 0.6), (NO_MASK, small, 0.9)]);
    planted.picture(&face_free.join("y.png"), &[(MASK, face, 0.2)]);
    planted.picture(&face_free.join("z.png"), &[]);
    planted
}

fn write(folder: &Path, evaluation: &Evaluation, settings: &Settings) -> Result<(Value, String), ReportError> {
    let tuning = Tuning::new(evaluation, settings);
    let summary = Summary::new(evaluation, settings, &tuning);
    let detector = json!({"detector": "planted"});
    let findings = Findings {
        model: Path::new("model.safetensors"),
        detector: &detector,
        settings,
        evaluation,
        tuning: &tuning,
        summary: &summary,
    };
    report::write(&ReportFolder::prepare(folder, &[])?, findings)?;
    let figures = std::fs::read_to_string(folder.join("report.json")).unwrap();
    Ok((serde_json::from_str(&figures).unwrap(), text::write(findings)))
}

fn close(actual: &Value, expected: f64, what: &str) {
    let actual = actual.as_f64().unwrap_or_else(|| panic!("{what}: {actual} for {expected}"));
    assert!((actual - expected).abs() < 1e-9, "{what}: {actual} for {expected}");
}

/// Lines of a CSV file as maps from column to cell.
fn lines(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn planted_detections_have_the_figures_that_were_worked_out_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let [data, face_free, report] = ["data", "face_free", "report"].map(|name| folder.path().join(name));
    let planted = everything(&data, &face_free);
    let settings = Settings { face_free: Some(face_free), ..settings(Protocol::Given) };
    let evaluation = planted.evaluate(&data, &settings).unwrap();
    let (figures, text) = write(&report, &evaluation, &settings).unwrap();
    assert_eq!(names(&report), FILES);

    let scene = &figures["scene"];
    let classes = &scene["classes"];
    for (scope, name, expected) in [
        (scene, "ap30", 0.75),
        (scene, "ap50", 0.5),
        (&classes["mask"], "ap30", 1.0),
        (&classes["no_mask"], "ap30", 0.5),
        (&classes["no_mask"], "ap50", 0.0),
        (scene, "precision", 2.0 / 5.0),
        (scene, "recall", 2.0 / 3.0),
        (scene, "precision50", 1.0 / 5.0),
        (scene, "recall50", 1.0 / 3.0),
        (&classes["mask"], "precision", 1.0 / 4.0),
        (&classes["mask"], "recall", 1.0),
        (&classes["no_mask"], "precision", 1.0),
        (&classes["no_mask"], "recall", 0.5),
        (scene, "label_accuracy", 2.0 / 3.0),
        (scene, "label_accuracy50", 1.0 / 2.0),
        (&classes["no_mask"], "label_accuracy", 0.5),
        (scene, "counting_error", 2.0 / 5.0),
        (&classes["mask"], "counting_error", 3.0 / 5.0),
        (&classes["no_mask"], "counting_error", 1.0 / 5.0),
        (scene, "false_alarms_per_1000", 500.0),
        (scene, "false_alarm_boxes_per_1000", 750.0),
        (&classes["mask"], "false_alarms_per_1000", 500.0),
        (&classes["no_mask"], "false_alarms_per_1000", 250.0),
        // The other faces absorb what was detected on them.
        (&scene["by_size"]["16_to_32"], "recall", 1.0),
        (&scene["by_size"]["16_to_32"], "precision", 0.5),
        (&scene["by_size"]["32_to_64"], "recall", 1.0),
        (&scene["by_size"]["over_64"], "recall", 0.0),
    ] {
        close(&scope[name], expected, name);
    }
    assert_eq!((&scene["confusion"], &scene["confusion50"]), (&json!([[1, 0], [1, 1]]), &json!([[1, 0], [1, 0]])));
    assert_eq!(
        (&scene["by_size"]["under_16"]["recall"], &scene["by_size"]["under_16"]["faces"]),
        (&Value::Null, &json!(0))
    );
    assert_eq!(
        (&figures["pictures"], &figures["face_free_pictures"], &figures["ignored_faces"]),
        (&json!(5), &json!(4), &json!(2))
    );
    assert_eq!(figures["thresholds"][0]["by_class"], json!({"mask": 0.5, "no_mask": 0.5}));
    assert_eq!((&figures["protocol"], &figures["detector"]["detector"]), (&json!("given"), &json!("planted")));
    assert_eq!(figures["problems"], json!({"box-outside": 1}), "neither unknown classes nor empty pictures");
    for name in ["ap30", "ap50", "precision", "recall", "precision50", "label_accuracy", "false_alarms_per_1000"] {
        let [low, value, high] = [&scene[format!("{name}_ci95")][0], &scene[name], &scene[format!("{name}_ci95")][1]]
            .map(|number| number.as_f64().unwrap_or_else(|| panic!("{name}: {number}")));
        assert!(low <= value && value <= high, "{name}: {low} {value} {high}");
    }
    check_tables(&report, scene);

    for picture in FILES.iter().filter(|name| name.ends_with(".png")) {
        let picture = image::open(report.join(picture)).unwrap().into_rgb8();
        assert!(picture.width() >= 900 && picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count() > 5000);
    }
    let markdown = std::fs::read_to_string(report.join("report.md")).unwrap();
    for words in ["box-outside", "no_mask", "false alarms", "0.7500"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(markdown.contains("detected as no\\_mask") && markdown.contains("box-outside"), "{markdown}");
}

/// The tables say the same as the figures.
fn check_tables(report: &Path, scene: &Value) {
    let detections = lines(&report.join("detections.csv"));
    let count = |column: &str, value: &str| detections.iter().filter(|line| line[column] == value).count();
    assert_eq!(scene["right"], count("outcome", "matched"));
    assert_eq!(scene["false"], count("outcome", "false"));
    assert_eq!((count("outcome", "absorbed"), count("outcome", "below threshold"), detections.len()), (2, 1, 8));
    let labelled: Vec<_> = detections.iter().filter(|line| !line["class_across"].is_empty()).collect();
    let right = labelled.iter().filter(|line| line["class_across"] == line["label"]).count();
    close(&scene["label_accuracy"], right as f64 / labelled.len() as f64, "label accuracy");
    let near = detections.iter().find(|line| line["picture"] == "images/e.png").unwrap();
    assert!((near["iou"].parse::<f64>().unwrap() - 23.0 / 57.0).abs() < 1e-9);
    assert_eq!(
        (near["face_class"].as_str(), near["face_size"].as_str(), near["score"].as_str()),
        ("no_mask", "40", "0.95")
    );

    let faces = lines(&report.join("faces.csv"));
    let outcomes: Vec<_> = faces.iter().map(|line| (line["picture"].as_str(), line["outcome"].as_str())).collect();
    let expected = [("a", "found"), ("b", "mislabelled"), ("c", "ignored"), ("c", "ignored"), ("e", "found")];
    assert_eq!(
        outcomes,
        expected
            .map(|(name, outcome)| (format!("images/{name}.png"), outcome))
            .each_ref()
            .map(|(name, outcome)| (name.as_str(), *outcome))
    );
    assert_eq!(lines(&report.join("face_free.csv")).len(), 3);
    let table = lines(&report.join("table.csv"));
    assert_eq!(table.iter().map(|line| line["class"].as_str()).collect::<Vec<_>>(), ["*", "mask", "no_mask"]);
    close(&scene["recall"], table[0]["recall"].parse().unwrap(), "recall in the table");
}

#[test]
fn a_perfect_detector_has_nothing_to_be_shown_as_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let [data, report] = ["data", "report"].map(|name| folder.path().join(name));
    let mut planted = Planted::default();
    for (name, class, label) in [("a", "mask", MASK), ("b", "no_mask", NO_MASK)] {
        let faces = [[5, 5, 40, 40], [60, 60, 70, 50]];
        planted.scene(&data, name, &faces.map(|edges| (class, edges)), &faces.map(|edges| (label, edges, 0.8)));
    }
    let settings = settings(Protocol::Given);
    let evaluation = planted.evaluate(&data, &settings).unwrap();
    std::fs::create_dir_all(&report).unwrap();
    for earlier in ["worst.png", "face_free.csv"] {
        std::fs::write(report.join(earlier), "of an earlier report").unwrap();
    }
    let (figures, _) = write(&report, &evaluation, &settings).unwrap();
    let without: Vec<&str> = FILES.into_iter().filter(|name| !["worst.png", "face_free.csv"].contains(name)).collect();
    assert_eq!(names(&report), without);
    for name in ["ap30", "ap50", "precision", "recall", "precision50", "recall50", "label_accuracy"] {
        close(&figures["scene"][name], 1.0, name);
    }
    close(&figures["scene"]["counting_error"], 0.0, "counting error");
    assert_eq!(figures["scene"]["false_alarms_per_1000"], Value::Null);
    assert_eq!(figures["scene"]["ap50_ci95"], json!([1.0, 1.0]));
}

#[test]
fn thresholds_are_chosen_on_other_pictures_than_those_that_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let [data, report] = ["data", "report"].map(|name| folder.path().join(name));
    let mut planted = Planted::default();
    let face = [10, 10, 50, 50];
    // What is right has 0.9 on even places and 0.5 on odd ones, what is false 0.6 and 0.3.
    for (name, right, wrong) in [("a", 0.9, 0.6), ("b", 0.5, 0.3), ("c", 0.9, 0.6), ("d", 0.5, 0.3)] {
        planted.scene(&data, name, &[("mask", face)], &[(MASK, face, right), (MASK, [100, 60, 50, 50], wrong)]);
    }
    let measured = |protocol| {
        let settings = settings(protocol);
        write(&report, &planted.evaluate(&data, &settings).unwrap(), &settings).unwrap().0
    };
    let folds = measured(Protocol::Folds(2));
    assert_eq!(
        (&folds["thresholds"][0]["by_class"]["mask"], &folds["thresholds"][1]["by_class"]["mask"]),
        (&json!(0.5), &json!(0.9))
    );
    assert_eq!(
        (&folds["scene"]["right"], &folds["scene"]["false"], &folds["scene"]["faces"]),
        (&json!(2), &json!(2), &json!(4))
    );
    assert_eq!(folds["scene"]["classes"]["no_mask"]["ap30"], Value::Null);

    let first = measured(Protocol::First(1));
    assert_eq!((&first["pictures"], &first["thresholds"][0]["tuned_on"]), (&json!(3), &json!(1)));
    close(&first["thresholds"][0]["by_class"]["mask"], 0.9, "from picture a");
    close(&first["scene"]["recall"], 1.0 / 3.0, "only c reaches it");
    close(&first["scene"]["precision"], 1.0, "nothing false does");

    let error = planted.evaluate(&data, &settings(Protocol::First(4))).unwrap_err();
    assert!(error.to_string().contains("--tune-first needs 5 pictures"), "{error}");
}

#[test]
fn an_evaluation_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut planted = Planted::default();
    for name in ["a", "b"] {
        planted.scene(folder.path(), name, &[], &[]);
    }
    let mut seen = Vec::new();
    let observe = |done, total| {
        seen.push((done, total));
        ControlFlow::Break(())
    };
    let result = scenes::evaluate(&mut |_| Ok(Vec::new()), folder.path(), &settings(Protocol::Given), observe);
    assert!(matches!(result, Err(EvaluateError::Interrupted)));
    assert_eq!(seen, [(1, 2)]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [boxes, classes] = ["boxes", "classes"].map(|name| folder.path().join(name));
    Planted::default().scene(&boxes, "a", &[("mask", [10, 10, 50, 50])], &[]);
    class_folders(&classes);
    let evaluate =
        |data: &Path, options: &[&str]| maskwatch(["evaluate", data.to_str().unwrap()].iter().chain(options));
    for options in
        [["--min-size", "16"], ["--face-free", "x"], ["--tune-first", "3"], ["--folds", "2"], ["--scan", "200"]]
    {
        for data in [&boxes, &classes] {
            evaluate(data, &options).fails(2, &format!("{} is for scenes; give --scenes", options[0]));
        }
    }
    evaluate(&classes, &["--scenes"]).fails(2, "--scenes is for annotated boxes");
    for options in [["--methods", "cam"], ["--tune-on", "x"], ["--curve-steps", "0"], ["--layer", "layer4"]] {
        let message = format!("{} compares methods of explanation, not scenes", options[0]);
        evaluate(&boxes, &[&["--scenes"], &options[..]].concat()).fails(2, &message);
    }
    evaluate(&boxes, &["--scenes", "--batch-size", "4"]).fails(2, "--batch-size is for class folders");
    evaluate(&boxes, &["--scenes", "--threshold", "otsu"]).fails(2, "--threshold otsu is for pictures seen as a whole");
    evaluate(&boxes, &["--scenes", "--scan", "whole"]).fails(2, "--scenes measures scans");
    evaluate(&boxes, &["--scenes", "--folds", "2", "--tune-first", "3"]).code_is(2, "cannot be used with");
    evaluate(&boxes, &["--scenes", "--folds", "2", "--threshold", "0.5"]).code_is(2, "cannot be used with");
    evaluate(&boxes, &["--scenes", "--folds", "1"]).code_is(2, "1");
}
