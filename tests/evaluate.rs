//! `maskwatch evaluate --report`, from outside: every figure is worked out again from the predictions.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::*;
use serde_json::Value;

/// All files of a report on pictures some of which are classified wrong.
const FILES: [&str; 7] =
    ["confusion.png", "mistakes.png", "predictions.csv", "reliability.png", "report.json", "report.md", "table.csv"];

struct Answer {
    picture: String,
    source: String,
    label: usize,
    predicted: usize,
    probabilities: Vec<f64>,
}

/// Reads `predictions.csv`: the classes in its order of columns, and its lines.
fn predictions(report: &Path) -> (Vec<String>, Vec<Answer>) {
    let mut reader = csv::Reader::from_path(report.join("predictions.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    assert_eq!(header.iter().take(4).collect::<Vec<_>>(), ["picture", "source", "label", "predicted"]);
    let classes: Vec<String> =
        header.iter().skip(4).map(|column| column.strip_prefix("probability_").unwrap().to_owned()).collect();
    let answers = reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let class = |column: usize| classes.iter().position(|class| *class == record[column]).unwrap();
            Answer {
                picture: record[0].to_owned(),
                source: record[1].to_owned(),
                label: class(2),
                predicted: class(3),
                probabilities: record.iter().skip(4).map(|cell| cell.parse().unwrap()).collect(),
            }
        })
        .collect();
    (classes, answers)
}

fn json(report: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(report.join("report.json")).unwrap()).unwrap()
}

fn assert_close(actual: &Value, expected: Option<f64>, what: &str) {
    match expected.filter(|value| !value.is_nan()) {
        Some(expected) => {
            let actual = actual.as_f64().unwrap_or_else(|| panic!("{what}: {actual} for {expected}"));
            assert!((actual - expected).abs() < 1e-9, "{what}: {actual} for {expected}");
        }
        None => assert!(actual.is_null(), "{what}: {actual}"),
    }
}

/// Works out every figure from the predictions, by formulas of its own, and compares.
fn check_figures(report: &Path) {
    let (classes, answers) = predictions(report);
    let figures = json(report);
    for key in ["accuracy", "per_class", "per_source", "confusion", "ece"] {
        assert!(!figures[key].is_null(), "{key}");
    }
    let count =
        |is_counted: &dyn Fn(&Answer) -> bool| answers.iter().filter(|answer| is_counted(answer)).count() as f64;
    let right = |answer: &Answer| answer.label == answer.predicted;
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    for answer in &answers {
        let highest = answer.probabilities.iter().copied().fold(0.0, f64::max);
        assert_eq!(answer.probabilities[answer.predicted], highest, "{}", answer.picture);
        assert!((answer.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{}", answer.picture);
    }
    assert_eq!(figures["pictures"], answers.len());
    assert_close(&figures["accuracy"], share(count(&right), answers.len() as f64), "accuracy");

    for (class, name) in classes.iter().enumerate() {
        let per_class = &figures["per_class"][name];
        let support = count(&|answer| answer.label == class);
        let taken = count(&|answer| answer.predicted == class);
        let found = count(&|answer| answer.label == class && right(answer));
        assert_eq!(per_class["support"].as_f64().unwrap(), support);
        assert_close(&per_class["sensitivity"], share(found, support), name);
        let others = answers.len() as f64 - support;
        let rejected = count(&|answer| answer.label != class && answer.predicted != class);
        assert_close(&per_class["specificity"], share(rejected, others), name);
        let precision = if support > 0.0 { share(found, taken) } else { None };
        assert_close(&per_class["precision"], precision, name);
        let f1 = (support > 0.0).then(|| 2.0 * found / (support + taken));
        assert_close(&per_class["f1"], f1, name);
        for (predicted, cell) in figures["confusion"][class].as_array().unwrap().iter().enumerate() {
            let expected = count(&|answer| answer.label == class && answer.predicted == predicted);
            assert_eq!(cell.as_f64().unwrap(), expected, "{name} taken for {predicted}");
        }
        for figure in ["sensitivity", "specificity", "precision"] {
            let Some(value) = per_class[figure].as_f64() else { continue };
            let bounds = &per_class[format!("{figure}_interval")];
            let (low, high) = (bounds[0].as_f64().unwrap(), bounds[1].as_f64().unwrap());
            assert!(0.0 <= low && low <= value && value <= high && high <= 1.0, "{name} {figure}: {bounds}");
        }
    }

    let mut sources: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    for answer in &answers {
        sources.entry(&answer.source).or_default().push(answer);
    }
    assert_eq!(figures["per_source"].as_object().unwrap().len(), sources.len());
    for (source, answers) in sources {
        let correct = answers.iter().filter(|answer| right(answer)).count() as f64;
        let per_source = &figures["per_source"][source];
        assert_close(&per_source["accuracy"], Some(correct / answers.len() as f64), source);
        let of_classes: u64 =
            per_source["per_class"].as_object().unwrap().values().map(|class| class["support"].as_u64().unwrap()).sum();
        assert_eq!(of_classes, answers.len() as u64);
    }

    // Expected calibration error: a picture belongs to the bin whose upper end is the first not below its confidence.
    let mut gaps = 0.0;
    for bin in 0..15 {
        let (low, high) = (f64::from(bin) / 15.0, f64::from(bin + 1) / 15.0);
        let inside = |answer: &&Answer| {
            let confidence = answer.probabilities[answer.predicted];
            low < confidence && confidence <= high
        };
        let gap: f64 = answers
            .iter()
            .filter(inside)
            .map(|answer| answer.probabilities[answer.predicted] - f64::from(u8::from(right(answer))))
            .sum();
        gaps += gap.abs();
    }
    // The probabilities are of single precision, read back from their shortest decimals.
    assert!((figures["ece"].as_f64().unwrap() - gaps / answers.len() as f64).abs() < 1e-6);
    let likelihood: f64 = answers.iter().map(|answer| -answer.probabilities[answer.label].ln()).sum();
    assert!((figures["nll"].as_f64().unwrap() - likelihood / answers.len() as f64).abs() < 1e-5);
}

fn check_picture(path: &Path) {
    let picture = image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8();
    let first = *picture.get_pixel(0, 0);
    let others = picture.pixels().filter(|&&pixel| pixel != first).count();
    assert!(picture.width() >= 200 && picture.height() >= 200 && others > 2000, "{}", path.display());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_report_says_the_same_in_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (data, report) = (folder.path().join("data"), folder.path().join("new/report"));
    class_folders(&data);
    // A wrong label is a mistake for sure.
    std::fs::copy(sample("empty_studio.jpg"), data.join("mask/odd | name.jpg")).unwrap();
    std::fs::write(data.join("mask/broken.jpg"), "not a picture").unwrap();
    let arguments = ["evaluate", data.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let run = maskwatch(arguments).ok();
    assert!(run.stdout.contains("6 of     7"), "{}", run.stdout);
    assert_eq!(names(&report), FILES);
    check_figures(&report);
    for picture in FILES.iter().filter(|name| name.ends_with(".png")) {
        check_picture(&report.join(picture));
    }
    let figures = json(&report);
    assert_eq!(figures["confusion"][0], serde_json::json!([3, 0, 1]), "{figures}");
    assert_eq!(figures["unreadable"].as_array().unwrap().len(), 1);
    assert_eq!(figures["mask_or_not"]["pictures"], 6);
    let table = std::fs::read_to_string(report.join("table.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(lines[0].iter().take(4).collect::<Vec<_>>(), ["*", "*", "7", "6"]);
    let mask = lines.iter().find(|line| &line[0] == "*" && &line[1] == "mask").unwrap();
    assert_eq!((&mask[2], &mask[3], &mask[4]), ("4", "3", "0.750000"));
    let text = std::fs::read_to_string(report.join("report.md")).unwrap();
    assert!(text.contains("| mask | 4 | 75.00 ["), "{text}");
    assert!(text.contains("mistakes.png"), "{text}");

    // The same again without the mistake: the old sheet is gone, a report in a used folder is no trouble.
    let before = std::fs::read(report.join("confusion.png")).unwrap();
    std::fs::remove_file(data.join("mask/odd | name.jpg")).unwrap();
    maskwatch(arguments).ok();
    let expected: Vec<&str> = FILES.into_iter().filter(|name| *name != "mistakes.png").collect();
    assert_eq!(names(&report), expected);
    assert_ne!(std::fs::read(report.join("confusion.png")).unwrap(), before);
    assert!(!std::fs::read_to_string(report.join("report.md")).unwrap().contains("mistakes.png"));
}

#[test]
fn a_set_may_lack_classes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, report) = (folder.path().join("data"), folder.path().join("report"));
    class_folders(&data);
    std::fs::remove_dir_all(data.join("no_mask")).unwrap();
    let run = maskwatch(["evaluate", data.to_str().unwrap(), "--report", report.to_str().unwrap()]).ok();
    assert!(!run.stdout.contains("NaN") && !run.stdout.contains("mask or no mask"), "{}", run.stdout);
    check_figures(&report);
    let figures = json(&report);
    assert_eq!(figures["per_class"]["no_mask"]["sensitivity"], Value::Null);
    assert_eq!(figures["per_class"]["no_mask"]["specificity"], 1.0);
    assert_eq!(figures["mask_or_not"]["accuracy"], Value::Null);
    assert_eq!(figures["macro_f1"], 1.0);
    check_picture(&report.join("confusion.png"));
    for file in ["report.md", "table.csv", "report.json"] {
        assert!(!std::fs::read_to_string(report.join(file)).unwrap().contains("NaN"), "{file}");
    }
}

#[test]
fn places_that_cannot_take_a_report_are_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    class_folders(&data);
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let evaluate =
        |report: &Path| maskwatch(["evaluate", data.to_str().unwrap(), "--report", report.to_str().unwrap()]);
    let run = evaluate(&file).fails(2, "is no folder; give the name of a folder");
    assert_eq!((run.stdout.as_str(), std::fs::read_to_string(&file).unwrap().as_str()), ("", "precious"));
    let run = evaluate(&data.join("mask")).fails(2, "a folder of pictures to be evaluated");
    assert_eq!((run.stdout.as_str(), names(&data.join("mask")).len()), ("", 3));
    let run = evaluate(Path::new("/proc/report")).fails(1, "choose another folder");
    assert_eq!(run.stdout, "");
}

#[test]
fn a_full_disk_is_told_and_leaves_no_torn_file() {
    let folder = tempfile::tempdir().unwrap();
    let (data, report) = (folder.path().join("data"), folder.path().join("report"));
    class_folders(&data);
    std::fs::create_dir(&report).unwrap();
    std::fs::write(report.join("reliability.png"), "an earlier one").unwrap();
    // The tables fit, the first picture does not.
    let arguments = ["evaluate", data.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let run = maskwatch_with_file_limit(4, &arguments).fails(1, "reliability.png");
    assert!(run.stderr.contains("free some space or choose another folder"), "{}", run.stderr);
    assert!(run.stdout.contains("all classes"), "the figures are not lost: {}", run.stdout);
    assert_eq!(names(&report), ["predictions.csv", "reliability.png", "table.csv"]);
    assert_eq!(std::fs::read_to_string(report.join("reliability.png")).unwrap(), "an earlier one");
}
