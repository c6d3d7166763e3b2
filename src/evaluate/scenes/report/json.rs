//! `report.json`: all figures, for programs. Its keys do not change: scripts rely on them.
//!
//! Shares are in [0, 1], intervals are 95 % intervals as `[low, high]`, times are in milliseconds, and what cannot be measured
//! is null. Names that end in 50 are of an IoU of 0.5 and more; the others of 0.3 and more.

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::Serialize;
use serde_json::Value;

use super::Findings;
use crate::evaluate::problems::{ProblemEntry, by_kind};
use crate::evaluate::proportion::Proportion;
use crate::evaluate::report::short;
use crate::evaluate::scenes::operating::Tally;
use crate::evaluate::scenes::scene::SizeBucket;
use crate::evaluate::scenes::summary::Figures;
use crate::evaluate::scenes::tuning::Fit;

type Interval = Option<(f64, f64)>;

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    data: String,
    face_free: Option<String>,
    detector: &'a Value,
    classes: Vec<&'a str>,
    pictures: usize,
    face_free_pictures: usize,
    ignored_faces: usize,
    min_size: u32,
    protocol: &'static str,
    thresholds: Vec<FitEntry<'a>>,
    detector_ms: f64,
    scene: SceneEntry<'a>,
    /// How many of each kind.
    problems: BTreeMap<&'static str, usize>,
    problem_details: Vec<ProblemEntry>,
}

#[derive(Serialize)]
struct FitEntry<'a> {
    tuned_on: usize,
    measured: usize,
    by_class: BTreeMap<&'a str, f64>,
    f1: BTreeMap<&'a str, Option<f64>>,
}

#[derive(Serialize)]
struct SceneEntry<'a> {
    #[serde(flatten)]
    overall: FiguresEntry,
    classes: BTreeMap<&'a str, FiguresEntry>,
    confusion: Vec<Vec<u64>>,
    confusion50: Vec<Vec<u64>>,
}

#[derive(Serialize)]
struct FiguresEntry {
    ap30: Option<f64>,
    ap30_ci95: Interval,
    ap50: Option<f64>,
    ap50_ci95: Interval,
    #[serde(flatten)]
    operating: OperatingEntry,
    by_size: BTreeMap<&'static str, OperatingEntry>,
    label_accuracy: Option<f64>,
    label_accuracy_ci95: Interval,
    label_accuracy50: Option<f64>,
    label_accuracy50_ci95: Interval,
    counting_error: Option<f64>,
    false_alarms_per_1000: Option<f64>,
    false_alarms_per_1000_ci95: Interval,
    false_alarm_boxes_per_1000: Option<f64>,
}

#[derive(Serialize)]
struct OperatingEntry {
    faces: u64,
    right: u64,
    #[serde(rename = "false")]
    wrong: u64,
    precision: Option<f64>,
    precision_ci95: Interval,
    recall: Option<f64>,
    recall_ci95: Interval,
    f1: Option<f64>,
    right50: u64,
    false50: u64,
    precision50: Option<f64>,
    precision50_ci95: Interval,
    recall50: Option<f64>,
    recall50_ci95: Interval,
    f1_50: Option<f64>,
}

impl From<[Tally; 2]> for OperatingEntry {
    fn from([tally, tally50]: [Tally; 2]) -> Self {
        Self {
            faces: tally.faces,
            right: tally.right,
            wrong: tally.wrong,
            precision: tally.precision().value(),
            precision_ci95: tally.precision().interval(),
            recall: tally.recall().value(),
            recall_ci95: tally.recall().interval(),
            f1: tally.f1(),
            right50: tally50.right,
            false50: tally50.wrong,
            precision50: tally50.precision().value(),
            precision50_ci95: tally50.precision().interval(),
            recall50: tally50.recall().value(),
            recall50_ci95: tally50.recall().interval(),
            f1_50: tally50.f1(),
        }
    }
}

impl From<&Figures> for FiguresEntry {
    fn from(figures: &Figures) -> Self {
        let [ap30, ap50] = figures.ap;
        let [labels, labels50] = figures.label_accuracy;
        let alarms: Option<Proportion> = figures.alarms.map(|alarms| alarms.pictures);
        let sizes = SizeBucket::ALL.iter().zip(figures.by_size);
        Self {
            ap30: ap30.map(|ap| ap.value),
            ap30_ci95: ap30.and_then(|ap| ap.interval),
            ap50: ap50.map(|ap| ap.value),
            ap50_ci95: ap50.and_then(|ap| ap.interval),
            operating: figures.tally.into(),
            by_size: sizes.map(|(bucket, tallies)| (bucket.name(), tallies.into())).collect(),
            label_accuracy: labels.value(),
            label_accuracy_ci95: labels.interval(),
            label_accuracy50: labels50.value(),
            label_accuracy50_ci95: labels50.interval(),
            counting_error: figures.counting_error,
            false_alarms_per_1000: alarms.and_then(Proportion::value).map(|share| 1e3 * share),
            false_alarms_per_1000_ci95: alarms
                .and_then(Proportion::interval)
                .map(|(low, high)| (1e3 * low, 1e3 * high)),
            false_alarm_boxes_per_1000: figures.alarms.map(|alarms| alarms.boxes_per_1000()),
        }
    }
}

/// The text of `report.json`.
pub fn write(findings: Findings) -> String {
    let Findings { model, detector, settings, evaluation, tuning, summary } = findings;
    let name = |class: usize| settings.classes[class].as_str();
    let fit = |fit: &Fit| FitEntry {
        tuned_on: fit.tuned_on,
        measured: fit.measured,
        by_class: settings.face_classes().map(|class| (name(class), short(fit.thresholds[class]))).collect(),
        f1: settings.face_classes().map(|class| (name(class), fit.f1[class])).collect(),
    };
    let confusion = |counts: &Array2<u64>| {
        let row = |row| settings.face_classes().map(|column| counts[[row, column]]).collect();
        settings.face_classes().map(row).collect()
    };
    let classes = summary.classes.iter();
    let report = Report {
        model: model.display().to_string(),
        data: evaluation.data.display().to_string(),
        face_free: settings.face_free.as_ref().map(|folder| folder.display().to_string()),
        detector,
        classes: settings.face_classes().map(name).collect(),
        pictures: summary.pictures,
        face_free_pictures: summary.face_free,
        ignored_faces: summary.ignored,
        min_size: settings.min_size,
        protocol: tuning.protocol.name(),
        thresholds: tuning.fits.iter().map(fit).collect(),
        detector_ms: summary.millis,
        scene: SceneEntry {
            overall: (&summary.overall).into(),
            classes: classes.map(|(class, of_class)| (name(*class), (&of_class.figures).into())).collect(),
            confusion: confusion(&summary.confusion[0]),
            confusion50: confusion(&summary.confusion[1]),
        },
        problems: by_kind(&evaluation.problems),
        problem_details: evaluation.problems.iter().map(ProblemEntry::from).collect(),
    };
    let text = serde_json::to_string_pretty(&report).expect("names and numbers are always valid JSON");
    text + "\n"
}
