//! `report.json`: all figures, for programs. Its top-level keys do not change: scripts rely on them.
//!
//! Shares are in [0, 1], intervals are 95 % score intervals as `[low, high]`, and what cannot be measured is null.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Findings;
use crate::evaluate::classification::calibration::bin_range;
use crate::evaluate::classification::metrics::Confusion;
use crate::evaluate::proportion::Proportion;

type Interval = Option<(f64, f64)>;

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    data: String,
    /// In the order of the model's outputs, of rows and columns of the confusion matrix.
    classes: &'a [String],
    pictures: u64,
    accuracy: Option<f64>,
    accuracy_interval: Interval,
    balanced_accuracy: Option<f64>,
    macro_f1: Option<f64>,
    mask_or_not: Accuracy,
    mask_or_not_of_two: Accuracy,
    per_class: BTreeMap<&'a str, Class>,
    per_source: BTreeMap<&'a str, Source<'a>>,
    /// A row is a true class, a column a predicted one.
    confusion: Vec<Vec<u64>>,
    ece: f64,
    nll: f64,
    brier: f64,
    reliability: Vec<Bin>,
    unreadable: Vec<String>,
    left_out: &'a [String],
}

#[derive(Serialize)]
struct Accuracy {
    pictures: u64,
    correct: u64,
    accuracy: Option<f64>,
    accuracy_interval: Interval,
}

impl From<Proportion> for Accuracy {
    fn from(right: Proportion) -> Self {
        Self {
            pictures: right.total,
            correct: right.count,
            accuracy: right.value(),
            accuracy_interval: right.interval(),
        }
    }
}

#[derive(Serialize)]
struct Class {
    support: u64,
    sensitivity: Option<f64>,
    sensitivity_interval: Interval,
    specificity: Option<f64>,
    specificity_interval: Interval,
    precision: Option<f64>,
    precision_interval: Interval,
    f1: Option<f64>,
}

impl Class {
    fn new(confusion: &Confusion, index: usize) -> Self {
        let class = confusion.of_class(index);
        Self {
            support: class.support,
            sensitivity: class.sensitivity.value(),
            sensitivity_interval: class.sensitivity.interval(),
            specificity: class.specificity.value(),
            specificity_interval: class.specificity.interval(),
            precision: class.precision.value(),
            precision_interval: class.precision.interval(),
            f1: class.f1,
        }
    }
}

#[derive(Serialize)]
struct Source<'a> {
    #[serde(flatten)]
    all: Accuracy,
    per_class: BTreeMap<&'a str, Class>,
}

#[derive(Serialize)]
struct Bin {
    above: f64,
    up_to: f64,
    confidence: Option<f64>,
    #[serde(flatten)]
    accuracy: Accuracy,
}

/// The text of `report.json`.
pub fn write(Findings { model, evaluation, summary }: Findings) -> String {
    let classes = &evaluation.classes;
    let right = summary.confusion.accuracy();
    let indices = || classes.iter().map(String::as_str).enumerate();
    let sources = summary.sources.iter().map(|(source, confusion)| {
        let metrics = indices().map(|(index, class)| (class, Class::new(confusion, index)));
        let per_class = metrics.filter(|(_, metrics)| metrics.support > 0).collect();
        (source.as_str(), Source { all: confusion.accuracy().into(), per_class })
    });
    let bins = summary.calibration.bins.iter().enumerate().map(|(index, bin)| {
        let (above, up_to) = bin_range(index);
        Bin { above, up_to, confidence: bin.confidence(), accuracy: bin.accuracy.into() }
    });
    let report = Report {
        model: model.display().to_string(),
        data: evaluation.data.display().to_string(),
        classes,
        pictures: right.total,
        accuracy: right.value(),
        accuracy_interval: right.interval(),
        balanced_accuracy: summary.confusion.balanced_accuracy(),
        macro_f1: summary.confusion.macro_f1(),
        mask_or_not: summary.mask_or_not.into(),
        mask_or_not_of_two: summary.mask_or_not_of_two.into(),
        per_class: indices().map(|(index, class)| (class, Class::new(&summary.confusion, index))).collect(),
        per_source: sources.collect(),
        confusion: summary.confusion.counts().rows().into_iter().map(|row| row.to_vec()).collect(),
        ece: summary.calibration.expected_error(),
        nll: summary.calibration.negative_log_likelihood,
        brier: summary.calibration.brier,
        reliability: bins.collect(),
        unreadable: evaluation.unreadable.iter().map(|(path, _)| path.display().to_string()).collect(),
        left_out: &evaluation.unknown_classes,
    };
    let text = serde_json::to_string_pretty(&report).expect("names and numbers are always valid JSON");
    text + "\n"
}
