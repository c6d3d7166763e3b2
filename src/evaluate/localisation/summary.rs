//! All figures of an evaluation, worked out from its measures.

use super::curves::Areas;
use super::max_box_acc::{LEAST_IOU, MaxBoxAcc};
use super::picture::COMPONENTS;
use super::pointing::holds;
use super::tuning::mean_iou_by_threshold;
use super::{Choice, Evaluation, Measures, Subject};
use crate::evaluate::bootstrap::{Estimate, mean_with_interval, quantile};
use crate::evaluate::overlap::{best_dice, best_iou};
use crate::evaluate::proportion::Proportion;
use crate::explain::Method;
use crate::geometry::Rect;

/// The method that all others are compared with: the default of `explain`, and of `run` with fewer layers.
const REFERENCE: Method = Method::HayCamRefined;

/// The figures.
#[derive(Debug)]
pub struct Summary {
    /// How often the annotated class is the predicted one.
    pub right: Proportion,
    /// Median of the forward pass that all methods share, in milliseconds.
    pub forward_ms: f64,
    /// One a method, in the order of the evaluation.
    pub methods: Vec<MethodFigures>,
    /// What boxes reach that do not look at the picture.
    pub baselines: Vec<BaselineFigures>,
    /// The default method against every other and against the baselines; empty if it was not measured.
    pub differences: Vec<Difference>,
}

/// The figures of one method. Means are over subjects: pictures, each once for each class that is annotated on it.
#[derive(Debug)]
pub struct MethodFigures {
    /// The method and its threshold.
    pub choice: Choice,
    /// IoU from the map of the annotated class.
    pub iou: Estimate,
    /// IoU from the map of the predicted class.
    pub iou_of_predicted: Estimate,
    /// Mean Dice from the map of the annotated class, in [0, 1].
    pub dice: f64,
    /// MaxBoxAccV2, an oracle.
    pub max_box_acc: MaxBoxAcc,
    /// The pointing game.
    pub pointing: Proportion,
    /// Mean insertion and deletion, if measured.
    pub areas: Option<Areas>,
    /// Median of what a map takes beyond the forward pass that all methods share, in milliseconds.
    pub millis: f64,
    /// Mean IoU by index of the threshold, see [`threshold`](super::sweep::threshold).
    pub iou_by_threshold: Vec<f64>,
    /// Mean IoU with each of [`COMPONENTS`]; empty for methods without principal components.
    pub iou_by_components: Vec<f64>,
}

/// A box that does not look at the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// In the middle, half as wide and half as high as the picture.
    CentreBox,
    /// All of the picture.
    WholeImage,
}

/// The figures of a baseline.
#[derive(Debug)]
pub struct BaselineFigures {
    /// Which.
    pub baseline: Baseline,
    /// Its IoU.
    pub iou: Estimate,
    /// Mean Dice, in [0, 1].
    pub dice: f64,
    /// As MaxBoxAccV2, with no threshold to choose.
    pub box_acc: f64,
    /// Whether its middle lies in a box.
    pub pointing: Proportion,
}

/// By how much the IoU of the default method is higher, picture by picture.
#[derive(Debug)]
pub struct Difference {
    /// The default method.
    pub method: Method,
    /// What it is compared with, by its names for programs and for people.
    pub minus: (&'static str, &'static str),
    /// Mean difference.
    pub iou: Estimate,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::CentreBox, Self::WholeImage];

    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::CentreBox => "centre-box",
            Self::WholeImage => "whole-image",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::CentreBox => "centre box",
            Self::WholeImage => "whole image",
        }
    }

    /// Its box in a picture of (width, height).
    pub fn rect(self, (width, height): (u32, u32)) -> Rect {
        match self {
            Self::CentreBox => {
                let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
                Rect {
                    x: (width - half_width) / 2,
                    y: (height - half_height) / 2,
                    width: half_width,
                    height: half_height,
                }
            }
            Self::WholeImage => Rect { x: 0, y: 0, width, height },
        }
    }
}

impl Summary {
    /// Works out the figures.
    pub fn new(evaluation: &Evaluation) -> Self {
        let Evaluation { pictures, subjects, .. } = evaluation;
        let mut right = Proportion::default();
        for subject in subjects {
            right.add(pictures[subject.picture].predicted == subject.class);
        }
        let forward = pictures.iter().map(|picture| picture.forward.as_secs_f64() * 1e3);
        Self {
            right,
            forward_ms: median(forward),
            methods: (0..evaluation.methods.len()).map(|method| method_figures(evaluation, method)).collect(),
            baselines: Baseline::ALL.map(|baseline| baseline_figures(evaluation, baseline)).into(),
            differences: differences(evaluation),
        }
    }
}

fn method_figures(evaluation: &Evaluation, method: usize) -> MethodFigures {
    let measures = || evaluation.subjects.iter().map(|subject| &subject.measures[method]);
    let mean_of = |value: &dyn Fn(&Measures) -> f64| measures().map(value).sum::<f64>() / measures().count() as f64;
    let mut pointing = Proportion::default();
    measures().for_each(|measured| pointing.add(measured.points_inside));
    let are_measured = measures().all(|measured| measured.areas.is_some());
    let area = |choose: fn(Areas) -> f64| mean_of(&|measured| measured.areas.map_or(0.0, choose));
    let has_components = measures().all(|measured| measured.iou_by_components.len() == COMPONENTS.len());
    let by_components = |index| mean_of(&|measured: &Measures| measured.iou_by_components[index]);
    MethodFigures {
        choice: evaluation.methods[method],
        iou: estimate(evaluation, |subject| subject.measures[method].iou),
        iou_of_predicted: estimate(evaluation, |subject| subject.measures[method].iou_of_predicted),
        dice: mean_of(&|measured| measured.dice),
        max_box_acc: MaxBoxAcc::new(measures().map(|measured| &measured.sweep)),
        pointing,
        areas: are_measured
            .then(|| Areas { insertion: area(|areas| areas.insertion), deletion: area(|areas| areas.deletion) }),
        millis: median(measures().map(|measured| measured.time.as_secs_f64() * 1e3)),
        iou_by_threshold: mean_iou_by_threshold(evaluation, method),
        iou_by_components: if has_components { (0..COMPONENTS.len()).map(by_components).collect() } else { vec![] },
    }
}

fn baseline_figures(evaluation: &Evaluation, baseline: Baseline) -> BaselineFigures {
    let Evaluation { pictures, subjects, .. } = evaluation;
    let rect = |subject: &Subject| baseline.rect(pictures[subject.picture].size);
    let mut pointing = Proportion::default();
    let (mut dice, mut right) = (0.0, 0.0);
    for subject in subjects {
        let (width, height) = pictures[subject.picture].size;
        let middle = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        pointing.add(subject.boxes.iter().any(|&annotated| holds(annotated, middle.0, middle.1)));
        dice += best_dice(rect(subject), &subject.boxes);
        let iou = best_iou(rect(subject), &subject.boxes) as f32;
        right += LEAST_IOU.iter().filter(|&&least| iou >= least).count() as f64 / LEAST_IOU.len() as f64;
    }
    BaselineFigures {
        baseline,
        iou: estimate(evaluation, |subject| best_iou(rect(subject), &subject.boxes)),
        dice: dice / subjects.len() as f64,
        box_acc: right / subjects.len() as f64,
        pointing,
    }
}

fn differences(evaluation: &Evaluation) -> Vec<Difference> {
    let Evaluation { pictures, methods, .. } = evaluation;
    let Some(reference) = methods.iter().position(|choice| choice.method == REFERENCE) else { return Vec::new() };
    let with_methods = methods.iter().enumerate().filter(|&(index, _)| index != reference).map(|(index, choice)| {
        let difference = |subject: &Subject| subject.measures[reference].iou - subject.measures[index].iou;
        Difference {
            method: REFERENCE,
            minus: (choice.method.name(), choice.method.title()),
            iou: estimate(evaluation, difference),
        }
    });
    let with_baselines = Baseline::ALL.into_iter().map(|baseline| {
        let difference = |subject: &Subject| {
            subject.measures[reference].iou - best_iou(baseline.rect(pictures[subject.picture].size), &subject.boxes)
        };
        Difference {
            method: REFERENCE,
            minus: (baseline.name(), baseline.title()),
            iou: estimate(evaluation, difference),
        }
    });
    with_methods.chain(with_baselines).collect()
}

fn estimate(evaluation: &Evaluation, value: impl Fn(&Subject) -> f64) -> Estimate {
    let values: Vec<f64> = evaluation.subjects.iter().map(value).collect();
    let pictures: Vec<usize> = evaluation.subjects.iter().map(|subject| subject.picture).collect();
    mean_with_interval(&values, &pictures).expect("an evaluation has subjects")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_lie_inside_every_picture_and_in_its_middle() {
        for (width, height) in [(1, 1), (2, 3), (100, 50), (641, 479)] {
            for baseline in Baseline::ALL {
                let rect = baseline.rect((width, height));
                assert!(rect.width >= 1 && rect.height >= 1);
                let (right, bottom) = (width - rect.x - rect.width, height - rect.y - rect.height);
                assert!(right.abs_diff(rect.x) <= 1 && bottom.abs_diff(rect.y) <= 1, "{rect:?}");
            }
        }
        let quarter = Rect { x: 25, y: 12, width: 50, height: 25 };
        assert_eq!(Baseline::CentreBox.rect((100, 50)), quarter);
        assert_eq!(best_iou(quarter, &[Baseline::WholeImage.rect((100, 50))]), 0.25);
    }
}
