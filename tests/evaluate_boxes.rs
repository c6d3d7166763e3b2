//! `maskwatch evaluate` on annotated boxes, from outside: every figure is worked out again from the tables beside it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::*;
use maskwatch::evaluate::bootstrap::mean_with_interval;
use serde_json::Value;

/// Left, top, right and lower edge in pixels.
type Edges = [i32; 4];

const PICTURE: (f64, f64) = (640.0, 480.0);
const FACE: Edges = [200, 90, 430, 400];
const OTHER: Edges = [20, 300, 180, 470];
const FILES: [&str; 9] = [
    "iou_by_components.png",
    "iou_by_threshold.png",
    "iou_distribution.png",
    "measures.csv",
    "pictures.csv",
    "report.json",
    "report.md",
    "table.csv",
    "thresholds.csv",
];

/// An annotation of a picture that it says to be 640 wide, or 600 for one that lies.
fn annotation(width: u32, objects: &[(&str, Edges)]) -> String {
    let object = |(name, [xmin, ymin, xmax, ymax]): &(&str, Edges)| {
        format!(
            "<object><name>{name}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>\
             <xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
        )
    };
    let objects: String = objects.iter().map(object).collect();
    format!("<annotation><size><width>{width}</width><height>480</height></size>{objects}</annotation>")
}

fn add(folder: &Path, name: &str, picture: &str, xml: &str) {
    for subfolder in ["images", "annotations"] {
        std::fs::create_dir_all(folder.join(subfolder)).unwrap();
    }
    std::fs::copy(sample(picture), folder.join("images").join(name).with_extension("jpg")).unwrap();
    std::fs::write(folder.join("annotations").join(name).with_extension("xml"), xml).unwrap();
}

/// Sound pictures only.
fn sound(folder: &Path) {
    add(folder, "a", "collins_surgical.jpg", &annotation(640, &[("mask", FACE)]));
    add(folder, "b", "hopper_no_mask.jpg", &annotation(640, &[("no_mask", FACE)]));
}

/// Sound pictures, one with two classes, one that is taken for another class, and every kind of problem. Returns the usable
/// boxes by picture and class.
fn with_problems(folder: &Path) -> BTreeMap<(String, String), Vec<Edges>> {
    sound(folder);
    let two = annotation(640, &[("mask", FACE), ("no_mask", OTHER), ("mask", OTHER)]);
    add(folder, "c", "hopper_ffp2.jpg", &two);
    add(folder, "d", "empty_studio.jpg", &annotation(640, &[("mask", FACE)]));
    let objects =
        [("mask", [400, 300, 700, 500]), ("mask", [650, 10, 700, 60]), ("mask", [50, 50, 50, 90]), ("helmet", FACE)];
    add(folder, "e", "collins_cloth.jpg", &annotation(600, &objects));
    add(folder, "only_unknown", "collins_cloth.jpg", &annotation(640, &[("helmet", FACE)]));
    add(folder, "broken_picture", "collins_cloth.jpg", &annotation(640, &[("mask", FACE)]));
    std::fs::write(folder.join("images/broken_picture.jpg"), "not a picture").unwrap();
    add(folder, "broken_annotation", "collins_cloth.jpg", "<annotation><object>");
    add(folder, "nothing", "collins_cloth.jpg", &annotation(640, &[]));
    add(folder, "lonely_annotation", "collins_cloth.jpg", &annotation(640, &[("mask", FACE)]));
    std::fs::remove_file(folder.join("images/lonely_annotation.jpg")).unwrap();
    std::fs::copy(sample("empty_studio.jpg"), folder.join("images/lonely_picture.jpg")).unwrap();
    [
        ("a", "mask", vec![FACE]),
        ("b", "no_mask", vec![FACE]),
        ("c", "mask", vec![FACE, OTHER]),
        ("c", "no_mask", vec![OTHER]),
        ("d", "mask", vec![FACE]),
        ("e", "mask", vec![[400, 300, 640, 480]]),
    ]
    .into_iter()
    .map(|(name, class, boxes)| ((format!("images/{name}.jpg"), class.to_owned()), boxes))
    .collect()
}

/// Lines of a CSV file as maps from column to cell.
fn lines(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn number(line: &BTreeMap<String, String>, column: &str) -> f64 {
    line[column].parse().unwrap_or_else(|_| panic!("{column}: {:?}", line[column]))
}

fn json(report: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(report.join("report.json")).unwrap()).unwrap()
}

fn close(actual: &Value, expected: f64, what: &str) {
    let actual = actual.as_f64().unwrap_or_else(|| panic!("{what}: {actual} for {expected}"));
    assert!((actual - expected).abs() < 1e-6, "{what}: {actual} for {expected}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// IoU with the best of several boxes.
fn iou(found: [f64; 4], boxes: &[Edges]) -> f64 {
    let area = |edges: [f64; 4]| (edges[2] - edges[0]).max(0.0) * (edges[3] - edges[1]).max(0.0);
    let one = |edges: &Edges| {
        let edges = edges.map(f64::from);
        let both =
            area([found[0].max(edges[0]), found[1].max(edges[1]), found[2].min(edges[2]), found[3].min(edges[3])]);
        both / (area(found) + area(edges) - both)
    };
    boxes.iter().map(one).fold(0.0, f64::max)
}

/// Runs `evaluate` on one thread: the tests run side by side.
fn evaluate(data: &Path, options: &[&str]) -> Finished {
    maskwatch(["evaluate", data.to_str().unwrap(), "--threads", "1"].iter().chain(options))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Works out every figure of the report again from its tables and the boxes that were annotated.
fn check_figures(report: &Path, annotated: &BTreeMap<(String, String), Vec<Edges>>) {
    let figures = json(report);
    let measures = lines(&report.join("measures.csv"));
    let pictures = lines(&report.join("pictures.csv"));
    let thresholds = lines(&report.join("thresholds.csv"));
    let key = |line: &BTreeMap<String, String>| (line["picture"].clone(), line["class"].clone());
    assert_eq!(pictures.iter().map(key).collect::<BTreeSet<_>>(), annotated.keys().cloned().collect());
    assert_eq!(figures["subjects"], annotated.len());
    let different: BTreeSet<_> = annotated.keys().map(|(picture, _)| picture).collect();
    assert_eq!(figures["pictures"], different.len());
    let number_of: Vec<usize> =
        pictures.iter().map(|line| different.iter().position(|name| **name == line["picture"]).unwrap()).collect();
    let right = pictures.iter().filter(|line| line["class"] == line["predicted"]).count();
    close(&figures["predicted_right"], right as f64 / pictures.len() as f64, "predicted_right");

    let methods = figures["methods"].as_array().unwrap();
    for figures in methods {
        let name = figures["method"].as_str().unwrap();
        let of_method: Vec<_> = measures.iter().filter(|line| line["method"] == name).collect();
        assert_eq!(of_method.len(), annotated.len(), "no picture is left out");
        let column = |column: &str| of_method.iter().map(|line| number(line, column)).collect::<Vec<f64>>();
        for (line, row) in of_method.iter().zip(&pictures) {
            let found = match line["width"].as_str() {
                "" => 0.0,
                _ => {
                    let [x, y, width, height] = ["x", "y", "width", "height"].map(|side| number(line, side));
                    assert!(x + width <= PICTURE.0 && y + height <= PICTURE.1);
                    iou([x, y, x + width, y + height], &annotated[&key(line)])
                }
            };
            assert!((number(line, "iou") - found).abs() < 1e-9, "{line:?}");
            assert!((number(line, "dice") - 2.0 * found / (1.0 + found)).abs() < 1e-9, "{line:?}");
            assert_eq!((key(line), &line["iou"]), (key(row), &row[&format!("iou_{name}")]));
            if row["class"] == row["predicted"] {
                assert_eq!(line["iou_predicted"], line["iou"]);
            }
        }
        close(&figures["mean_iou"], mean(&column("iou")), name);
        close(&figures["mean_iou_predicted"], mean(&column("iou_predicted")), name);
        close(&figures["dice"], mean(&column("dice")), name);
        close(&figures["pointing"], mean(&column("pointing")), name);
        close(&figures["insertion"], mean(&column("insertion")), name);
        close(&figures["deletion"], mean(&column("deletion")), name);
        for (interval, values) in [("ci95", "iou"), ("ci95_predicted", "iou_predicted")] {
            let (low, high) = mean_with_interval(&column(values), &number_of).unwrap().interval;
            close(&figures[interval][0], low, name);
            close(&figures[interval][1], high, name);
        }
        let mut times = column("ms");
        times.sort_by(f64::total_cmp);
        close(&figures["ms"], (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0, name);

        let of_method: Vec<_> = thresholds.iter().filter(|line| line["method"] == name).collect();
        assert_eq!(of_method.len(), 99);
        for (line, iou) in of_method.iter().zip(figures["iou_by_threshold"].as_array().unwrap()) {
            close(iou, number(line, "mean_iou"), name);
            if number(line, "threshold") == figures["threshold"].as_f64().unwrap() {
                close(&figures["mean_iou"], number(line, "mean_iou"), name);
            }
        }
        let best = ["box_acc_0.3", "box_acc_0.5", "box_acc_0.7"]
            .map(|column| of_method.iter().map(|line| number(line, column)).fold(0.0, f64::max));
        close(&figures["max_box_acc_v2"], mean(&best), name);
        for (oracle, best) in figures["max_box_acc"].as_array().unwrap().iter().zip(best) {
            close(&oracle["share"], best, name);
        }
        if let Some(by_components) = figures["iou_by_components"].as_array() {
            assert!(name.starts_with("haycam"));
            for (components, iou) in [1, 2, 3, 5, 8, 12, 19, 26, 33, 40, 48].iter().zip(by_components) {
                close(iou, mean(&column(&format!("iou_k{components}"))), name);
            }
            if name == "haycam" {
                close(&by_components[6], mean(&column("iou")), "19 components are its default");
            }
        }
    }

    let whole = [0.0, 0.0, 640.0, 480.0];
    for (baseline, name, found) in [(0, "centre-box", [160.0, 120.0, 480.0, 360.0]), (1, "whole-image", whole)] {
        let figures = &figures["baselines"][baseline];
        let ious: Vec<f64> = pictures.iter().map(|line| iou(found, &annotated[&key(line)])).collect();
        assert_eq!(figures["baseline"], name);
        close(&figures["mean_iou"], mean(&ious), name);
        close(&figures["dice"], mean(&ious.iter().map(|iou| 2.0 * iou / (1.0 + iou)).collect::<Vec<_>>()), name);
        let shares = [0.3, 0.5, 0.7].map(|least| ious.iter().filter(|iou| **iou >= least).count() as f64);
        close(&figures["max_box_acc_v2"], mean(&shares) / ious.len() as f64, name);
    }
    let of = |entries: &Value, key: &str, name: &Value| {
        entries.as_array().unwrap().iter().find(|entry| entry[key] == *name).map(|entry| entry["mean_iou"].as_f64())
    };
    let differences = figures["differences"].as_array().unwrap();
    assert_eq!(differences.len(), methods.len() - 1 + 2);
    for difference in differences {
        let minus = &difference["minus"];
        let minus_iou = of(&figures["methods"], "method", minus).or(of(&figures["baselines"], "baseline", minus));
        let reference = of(&figures["methods"], "method", &difference["method"]);
        close(&difference["mean_iou"], reference.unwrap().unwrap() - minus_iou.unwrap().unwrap(), &minus.to_string());
    }
    let table = lines(&report.join("table.csv"));
    assert_eq!(table.len(), methods.len() + 2);
    for (line, figures) in table.iter().zip(methods) {
        assert_eq!(line["method"], figures["method"].as_str().unwrap());
        for column in ["mean_iou", "mean_iou_predicted", "dice", "max_box_acc_v2", "pointing", "insertion"] {
            close(&figures[column], number(line, column), column);
        }
    }
}

#[test]
fn a_report_says_the_same_in_all_its_files_and_counts_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (data, report) = (folder.path().join("data"), folder.path().join("new/report"));
    let annotated = with_problems(&data);
    let methods = "cam,gradcam,layercam,haycam,haycam-refined";
    let options = ["--methods", methods, "--curve-steps", "2", "--report", report.to_str().unwrap()];
    let run = evaluate(&data, &options).ok();
    assert_eq!(names(&report), FILES);
    check_figures(&report, &annotated);
    for picture in FILES.iter().filter(|name| name.ends_with(".png")) {
        let picture = image::open(report.join(picture)).unwrap().into_rgb8();
        assert!(picture.width() >= 1000 && picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count() > 5000);
    }

    let figures = json(&report);
    let expected = serde_json::json!({
        "annotation-without-picture": 1, "box-clipped": 1, "box-outside": 1, "broken-annotation": 1, "empty-box": 1,
        "no-object": 1, "picture-without-annotation": 1, "size-differs": 1, "unknown-class": 2, "unreadable-picture": 1
    });
    assert_eq!(figures["problems"], expected);
    assert_eq!(figures["problem_details"].as_array().unwrap().len(), 11);
    assert_eq!((&figures["resolution"], &figures["tuning"]), (&"atrous".into(), &Value::Null));
    for kind in expected.as_object().unwrap().keys() {
        assert!(run.stdout.contains(kind), "{kind}\n{}", run.stdout);
    }
    for text in ["HayCAM refined", "centre box", "whole image", "oracle"] {
        assert!(run.stdout.contains(text), "{text}\n{}", run.stdout);
    }
    assert!(run.stderr.contains("helmet") && run.stderr.lines().count() == 11, "{}", run.stderr);
    let text = std::fs::read_to_string(report.join("report.md")).unwrap();
    assert!(text.contains("CAM, GradCAM and XGradCAM are the same map") && text.contains("helmet"), "{text}");

    // GAP and one fully connected layer make these one map, up to rounding.
    let of = |method: usize, key: &str| figures["methods"][method][key].as_f64().unwrap();
    assert!((of(0, "mean_iou") - of(1, "mean_iou")).abs() < 0.01);
    // The studio is taken for background, whose map is another.
    let studio = lines(&report.join("measures.csv")).into_iter().filter(|line| line["picture"] == "images/d.jpg");
    assert!(studio.into_iter().any(|line| line["iou"] != line["iou_predicted"]));
}

#[test]
fn thresholds_are_chosen_on_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let [data, other, report] = ["data", "other", "report"].map(|name| folder.path().join(name));
    sound(&data);
    add(&other, "x", "hopper_ffp2.jpg", &annotation(640, &[("mask", [230, 120, 400, 330])]));
    add(&other, "y", "collins_cloth.jpg", &annotation(640, &[("mask", FACE)]));
    let tuned_on = |folder: &Path, options: &[&str]| {
        let arguments = ["--methods", "haycam,layercam", "--curve-steps", "0", "--tune-on", folder.to_str().unwrap()];
        evaluate(&data, &[&arguments, options].concat())
    };
    tuned_on(&other, &["--report", report.to_str().unwrap()]).ok();
    let figures = json(&report);
    assert_eq!(figures["tuning"]["pictures"], 2);
    assert_eq!(figures["differences"].as_array().unwrap().len(), 0, "the default method was not asked for");
    for (tuned, used) in
        figures["tuning"]["methods"].as_array().unwrap().iter().zip(figures["methods"].as_array().unwrap())
    {
        assert_eq!((&tuned["method"], &tuned["threshold"]), (&used["method"], &used["threshold"]));
        let iou: Vec<f64> =
            tuned["iou_by_threshold"].as_array().unwrap().iter().map(|iou| iou.as_f64().unwrap()).collect();
        let best = iou.iter().skip(4).step_by(5).copied().fold(0.0, f64::max);
        close(&tuned["mean_iou"], best, "the best of those tried");
        let index = (tuned["threshold"].as_f64().unwrap() * 100.0).round() as usize - 1;
        close(&tuned["mean_iou"], iou[index], "at the chosen threshold");
        close(&used["mean_iou"], used["iou_by_threshold"][index].as_f64().unwrap(), "is used");
        assert_eq!((&used["insertion"], &used["deletion"]), (&Value::Null, &Value::Null));
    }

    // The other way round: what the program measures there is what it said when it chose.
    let there = folder.path().join("there");
    let threshold = figures["methods"][0]["threshold"].to_string();
    let options = ["--methods", "haycam", "--threshold", &threshold, "--curve-steps", "0"];
    evaluate(&other, &[&options[..], &["--report", there.to_str().unwrap()]].concat()).ok();
    let chosen = figures["tuning"]["methods"][0]["mean_iou"].as_f64().unwrap();
    close(&json(&there)["methods"][0]["mean_iou"], chosen, "measured directly");

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    tuned_on(&link, &[]).fails(2, "other pictures than those evaluated");
    tuned_on(Path::new("/nonexistent"), &[]).fails(3, "/nonexistent");
    tuned_on(&other, &["--threshold", "0.3"]).code_is(2, "cannot be used with");
}

#[test]
fn gradients_of_either_source_and_any_threshold_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sound(&data);
    let figures = |methods: &str, gradients: &str| {
        let report = folder.path().join(gradients);
        let options = ["--methods", methods, "--gradients", gradients, "--report", report.to_str().unwrap()];
        let more = ["--threshold", "otsu", "--resolution", "native", "--curve-steps", "0"];
        let has_components = methods.contains("haycam");
        let components: &[&str] = if has_components { &["--components", "5"] } else { &[] };
        evaluate(&data, &[&options[..], &more, components].concat()).ok();
        assert_eq!(report.join("iou_by_components.png").exists(), has_components);
        json(&report)
    };
    let (closed_form, autograd) = (figures("gradcam,haycam-refined", "closed-form"), figures("gradcam", "autograd"));
    assert_eq!((&closed_form["gradients"], &autograd["gradients"]), (&"closed-form".into(), &"autograd".into()));
    assert_eq!((&closed_form["resolution"], &closed_form["curve_steps"]), (&"native".into(), &0.into()));
    let [gradcam, refined] = [0, 1].map(|method| closed_form["methods"][method].clone());
    assert_eq!(gradcam["threshold"], "otsu");
    assert_eq!(
        (&closed_form["refined"]["components"], &closed_form["refined"]["layer"]),
        (&"5".into(), &"both".into())
    );
    assert_eq!(gradcam["iou_by_components"], Value::Null);
    let iou = |figures: &Value| figures["mean_iou"].as_f64().unwrap();
    assert!((iou(&gradcam) - iou(&autograd["methods"][0])).abs() < 0.01);
    assert_eq!(refined["iou_by_components"][3], refined["mean_iou"], "five components, asked for or tried");
}

#[test]
fn options_and_places_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [boxes, classes, empty] = ["boxes", "classes", "empty"].map(|name| folder.path().join(name));
    sound(&boxes);
    class_folders(&classes);
    let evaluate =
        |data: &Path, options: &[&str]| maskwatch(["evaluate", data.to_str().unwrap()].iter().chain(options));
    evaluate(&boxes, &["--batch-size", "4"]).fails(2, "--batch-size is for class folders");
    for options in [
        ["--methods", "cam"],
        ["--resolution", "native"],
        ["--gradients", "autograd"],
        ["--curve-steps", "0"],
        ["--tune-on", "x"],
        ["--components", "3"],
        ["--threshold", "0.3"],
        ["--layer", "layer4"],
        ["--class-weights", "signed"],
    ] {
        evaluate(&classes, &options).fails(2, &format!("{} is for annotated boxes", options[0]));
    }
    evaluate(&boxes, &["--methods", "camm"]).code_is(2, "expected one of cam, gradcam");
    for place in ["images", "annotations"] {
        let report = boxes.join(place);
        let before = names(&report);
        evaluate(&boxes, &["--report", report.to_str().unwrap()]).fails(2, "a folder of pictures to be evaluated");
        assert_eq!(names(&report), before);
    }
    std::fs::create_dir_all(empty.join("images")).unwrap();
    std::fs::create_dir_all(empty.join("annotations")).unwrap();
    evaluate(&empty, &[]).fails(3, "holds no picture with a usable annotation");
    add(&empty, "x", "hopper_ffp2.jpg", &annotation(640, &[("helmet", FACE)]));
    evaluate(&empty, &[]).fails(3, "unknown class helmet");
}

#[test]
fn an_interrupt_leaves_no_half_report() {
    let folder = tempfile::tempdir().unwrap();
    let [data, report] = ["data", "report"].map(|name| folder.path().join(name));
    for number in 0..40 {
        add(&data, &number.to_string(), "hopper_ffp2.jpg", &annotation(640, &[("mask", FACE)]));
    }
    let mut child = program()
        .args(["evaluate", data.to_str().unwrap(), "--threads", "1", "--report", report.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The folder is made when the work begins.
    let begin = Instant::now();
    while !report.exists() {
        assert!(begin.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let run = finished(child.wait_with_output().unwrap()).fails(130, "interrupted");
    assert_eq!((run.stdout.as_str(), names(&report).len()), ("", 0));
}
