//! `report.json`: all figures, for programs. Its keys do not change: scripts rely on them.
//!
//! Shares are in [0, 1], intervals are 95 % intervals as `[low, high]`, times are in milliseconds, and what was not measured
//! is null.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::Findings;
use crate::boxes::Threshold;
use crate::evaluate::localisation::Extent;
use crate::evaluate::localisation::max_box_acc::LEAST_IOU;
use crate::evaluate::localisation::picture::COMPONENTS;
use crate::evaluate::localisation::summary::{BaselineFigures, MethodFigures};
use crate::evaluate::localisation::sweep::{THRESHOLDS, threshold};
use crate::evaluate::localisation::tuning::{Tuned, Tuning};
use crate::evaluate::problems::{ProblemEntry, by_kind};
use crate::evaluate::report::short;
use crate::explain::{GradientSource, HayCamRefined};
use crate::model::resnet::Resolution;

type Interval = (f64, f64);

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    data: String,
    classes: &'a [String],
    pictures: usize,
    /// Pictures, each once for each class that is annotated on it.
    subjects: usize,
    /// Share of the subjects whose class is the predicted one.
    predicted_right: Option<f64>,
    resolution: Resolution,
    gradients: &'static str,
    /// The switches of `haycam-refined`.
    refined: RefinedEntry,
    curve_steps: usize,
    forward_ms: f64,
    methods: Vec<MethodEntry>,
    baselines: Vec<BaselineEntry>,
    differences: Vec<DifferenceEntry>,
    /// Those of `iou_by_threshold`.
    thresholds: Vec<f64>,
    /// Those of `iou_by_components`.
    components: &'a [usize],
    tuning: Option<TuningEntry>,
    /// How many of each kind.
    problems: BTreeMap<&'static str, usize>,
    problem_details: Vec<ProblemEntry>,
}

#[derive(Serialize)]
struct RefinedEntry {
    layer: String,
    class_weights: &'static str,
    centred: bool,
    components: String,
}

impl From<HayCamRefined> for RefinedEntry {
    fn from(refined: HayCamRefined) -> Self {
        Self {
            layer: refined.read_at.to_string(),
            class_weights: if refined.non_negative { "non-negative" } else { "signed" },
            centred: refined.centred,
            components: refined.components.to_string(),
        }
    }
}

#[derive(Serialize)]
struct MethodEntry {
    method: &'static str,
    #[serde(serialize_with = "number_or_otsu")]
    threshold: Threshold,
    mean_iou: f64,
    ci95: Interval,
    mean_iou_predicted: f64,
    ci95_predicted: Interval,
    dice: f64,
    max_box_acc_v2: f64,
    max_box_acc: Vec<BoxAcc>,
    pointing: Option<f64>,
    pointing_interval: Option<Interval>,
    insertion: Option<f64>,
    deletion: Option<f64>,
    ms: f64,
    iou_by_threshold: Vec<f64>,
    iou_by_components: Option<Vec<f64>>,
}

/// The oracle's choice for one IoU.
#[derive(Serialize)]
struct BoxAcc {
    iou: f64,
    threshold: f64,
    share: f64,
}

#[derive(Serialize)]
struct BaselineEntry {
    baseline: &'static str,
    mean_iou: f64,
    ci95: Interval,
    dice: f64,
    max_box_acc_v2: f64,
    pointing: Option<f64>,
}

#[derive(Serialize)]
struct DifferenceEntry {
    method: &'static str,
    minus: &'static str,
    mean_iou: f64,
    ci95: Interval,
}

#[derive(Serialize)]
struct TuningEntry {
    data: String,
    pictures: usize,
    methods: Vec<TunedEntry>,
    problems: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct TunedEntry {
    method: &'static str,
    #[serde(serialize_with = "number_or_otsu")]
    threshold: Threshold,
    mean_iou: f64,
    iou_by_threshold: Vec<f64>,
}

impl From<&MethodFigures> for MethodEntry {
    fn from(figures: &MethodFigures) -> Self {
        let best = figures.max_box_acc.best().into_iter().zip(LEAST_IOU);
        let components = &figures.iou_by_components;
        Self {
            method: figures.choice.method.name(),
            threshold: figures.choice.threshold,
            mean_iou: figures.iou.mean,
            ci95: figures.iou.interval,
            mean_iou_predicted: figures.iou_of_predicted.mean,
            ci95_predicted: figures.iou_of_predicted.interval,
            dice: figures.dice,
            max_box_acc_v2: figures.max_box_acc.value(),
            max_box_acc: best
                .map(|(best, iou)| BoxAcc { iou: short(iou), threshold: short(best.threshold), share: best.share })
                .collect(),
            pointing: figures.pointing.value(),
            pointing_interval: figures.pointing.interval(),
            insertion: figures.areas.map(|areas| areas.insertion),
            deletion: figures.areas.map(|areas| areas.deletion),
            ms: figures.millis,
            iou_by_threshold: figures.iou_by_threshold.clone(),
            iou_by_components: (!components.is_empty()).then(|| components.clone()),
        }
    }
}

impl From<&BaselineFigures> for BaselineEntry {
    fn from(figures: &BaselineFigures) -> Self {
        Self {
            baseline: figures.baseline.name(),
            mean_iou: figures.iou.mean,
            ci95: figures.iou.interval,
            dice: figures.dice,
            max_box_acc_v2: figures.box_acc,
            pointing: figures.pointing.value(),
        }
    }
}

impl From<&Tuned> for TunedEntry {
    fn from(tuned: &Tuned) -> Self {
        Self {
            method: tuned.choice.method.name(),
            threshold: tuned.choice.threshold,
            mean_iou: tuned.mean_iou,
            iou_by_threshold: tuned.iou_by_threshold.clone(),
        }
    }
}

impl From<&Tuning> for TuningEntry {
    fn from(tuning: &Tuning) -> Self {
        Self {
            data: tuning.data.display().to_string(),
            pictures: tuning.pictures,
            methods: tuning.methods.iter().map(TunedEntry::from).collect(),
            problems: by_kind(&tuning.problems),
        }
    }
}

/// The text of `report.json`.
pub fn write(findings: Findings) -> String {
    let Findings { model, resolution, settings, evaluation, summary, tuning } = findings;
    let differences = summary.differences.iter().map(|difference| DifferenceEntry {
        method: difference.method.name(),
        minus: difference.minus.0,
        mean_iou: difference.iou.mean,
        ci95: difference.iou.interval,
    });
    let report = Report {
        model: model.display().to_string(),
        data: evaluation.data.display().to_string(),
        classes: &evaluation.classes,
        pictures: evaluation.pictures.len(),
        subjects: evaluation.subjects.len(),
        predicted_right: summary.right.value(),
        resolution,
        gradients: match settings.gradient_source {
            GradientSource::ClosedForm => "closed-form",
            GradientSource::Autograd => "autograd",
        },
        refined: settings.method_settings.refined().into(),
        curve_steps: match settings.extent {
            Extent::Full { curve_steps } => curve_steps,
            Extent::Thresholds => 0,
        },
        forward_ms: summary.forward_ms,
        methods: summary.methods.iter().map(MethodEntry::from).collect(),
        baselines: summary.baselines.iter().map(BaselineEntry::from).collect(),
        differences: differences.collect(),
        thresholds: (0..THRESHOLDS).map(|index| short(threshold(index))).collect(),
        components: &COMPONENTS,
        tuning: tuning.map(TuningEntry::from),
        problems: by_kind(&evaluation.problems),
        problem_details: evaluation.problems.iter().map(ProblemEntry::from).collect(),
    };
    let text = serde_json::to_string_pretty(&report).expect("names and numbers are always valid JSON");
    text + "\n"
}

fn number_or_otsu<S: Serializer>(threshold: &Threshold, serializer: S) -> Result<S::Ok, S::Error> {
    match threshold {
        Threshold::Share(share) => serializer.serialize_f64(short(*share)),
        Threshold::Otsu => serializer.serialize_str("otsu"),
    }
}
