//! All figures of an evaluation, worked out from what was detected.

use ndarray::Array2;

use super::average_precision::{Point, Ranking};
use super::matching::Rule;
use super::operating::{Alarms, Counts, Measured, Tally};
use super::scene::{Counting, Scene, SizeBucket};
use super::tuning::Tuning;
use super::{Evaluation, LEAST_IOU, Settings};
use crate::evaluate::bootstrap::{drawn_sets, interval, quantile};
use crate::evaluate::proportion::Proportion;

/// Drawn sets for the intervals of average precision, each of which is worked out anew.
const RESAMPLES: usize = 2_000;

/// The figures.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Of all classes: average precision is the mean over those that have faces, the rest is pooled.
    pub overall: Figures,
    /// By class, with its index.
    pub classes: Vec<(usize, ClassFigures)>,
    /// Faces by their class (rows) and that of the detection that found them (columns), by [`LEAST_IOU`] and class index.
    pub confusion: [Array2<u64>; 2],
    /// Pictures that were measured.
    pub pictures: usize,
    /// Pictures without faces, annotated or from a folder of their own, that were measured.
    pub face_free: usize,
    /// Annotated faces that do not count.
    pub ignored: usize,
    /// Median time that the detector took for a picture, in milliseconds.
    pub millis: f64,
}

/// The figures of one class and its curves.
#[derive(Debug, Clone)]
pub struct ClassFigures {
    /// The figures.
    pub figures: Figures,
    /// Recall and precision from the surest detection to the least sure, by [`LEAST_IOU`].
    pub curves: [Vec<Point>; 2],
}

/// The figures of one class or all. Pairs are by [`LEAST_IOU`].
#[derive(Debug, Clone)]
pub struct Figures {
    /// Average precision.
    pub ap: [Option<AveragePrecision>; 2],
    /// Right and false detections at the thresholds.
    pub tally: [Tally; 2],
    /// The same by size of the faces, whatever the least size.
    pub by_size: [[Tally; 2]; 4],
    /// Share of the found faces whose class is right.
    pub label_accuracy: [Proportion; 2],
    /// Mean absolute difference between the numbers of detections and faces on a picture, at the smaller IoU.
    pub counting_error: Option<f64>,
    /// Detections on pictures without faces, if there are such pictures.
    pub alarms: Option<Alarms>,
}

/// Average precision with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AveragePrecision {
    /// In [0, 1].
    pub value: f64,
    /// 95 % percentile bootstrap over pictures.
    pub interval: Option<(f64, f64)>,
}

impl Summary {
    /// Works out all figures at the thresholds of `tuning`.
    pub fn new(evaluation: &Evaluation, settings: &Settings, tuning: &Tuning) -> Self {
        let measured = tuning.measured(evaluation);
        let face_free = tuning.face_free(evaluation);
        let classes: Vec<usize> = settings.face_classes().collect();
        let counting = Counting::AtLeast(settings.min_size);
        let counted = |counting| {
            LEAST_IOU.map(|least_iou| Counts::new(&measured, settings.classes.len(), Rule { counting, least_iou }))
        };
        let counts = counted(counting);
        let by_size = SizeBucket::ALL.map(|bucket| counted(Counting::Bucket(bucket)));
        let ranked = LEAST_IOU.map(|least_iou| {
            let scenes = || measured.iter().map(|one| one.scene);
            let rule = Rule { counting, least_iou };
            classes.iter().map(|&class| Ranking::new(scenes(), class, rule)).collect::<Vec<_>>()
        });
        let ap = ranked.each_ref().map(|rankings| average_precision(rankings, measured.len()));

        let figures = |class: Option<usize>, ap: [Option<AveragePrecision>; 2]| {
            let tally = |counts: &Counts| class.map_or_else(|| counts.pooled(), |class| counts.tallies[class]);
            Figures {
                ap,
                tally: counts.each_ref().map(tally),
                by_size: by_size.each_ref().map(|counts| counts.each_ref().map(tally)),
                label_accuracy: counts.each_ref().map(|counts| counts.label_accuracy(class)),
                counting_error: counts[0].counting_error(class),
                alarms: Alarms::new(&face_free, class),
            }
        };
        let of_class = |(place, &class): (usize, &usize)| {
            let curves = ranked.each_ref().map(|rankings| rankings[place].curve());
            let ap = ap.each_ref().map(|(_, by_class)| by_class[place]);
            (class, ClassFigures { figures: figures(Some(class), ap), curves })
        };
        let faces = measured.iter().flat_map(|one| &one.scene.faces);
        Self {
            overall: figures(None, ap.each_ref().map(|(overall, _)| *overall)),
            classes: classes.iter().enumerate().map(of_class).collect(),
            confusion: counts.each_ref().map(|counts| counts.confusion.clone()),
            pictures: measured.len(),
            face_free: face_free.len(),
            ignored: faces.filter(|face| !counting.counts(face)).count(),
            millis: median_millis(&measured),
        }
    }
}

/// The mean over the classes that have faces, and that of each class, from the same drawn sets.
fn average_precision(
    rankings: &[Ranking],
    pictures: usize,
) -> (Option<AveragePrecision>, Vec<Option<AveragePrecision>>) {
    let mut drawn = vec![Vec::new(); rankings.len()];
    let mut means = Vec::new();
    for times in drawn_sets(pictures, RESAMPLES) {
        let values: Vec<Option<f64>> = rankings.iter().map(|ranking| ranking.of_drawn(&times)).collect();
        means.extend(mean(&values));
        for (drawn, value) in drawn.iter_mut().zip(values) {
            drawn.extend(value);
        }
    }
    let values: Vec<Option<f64>> = rankings.iter().map(Ranking::average_precision).collect();
    let estimate = |value: Option<f64>, drawn| value.map(|value| AveragePrecision { value, interval: interval(drawn) });
    let overall = estimate(mean(&values), means);
    (overall, values.into_iter().zip(drawn).map(|(value, drawn)| estimate(value, drawn)).collect())
}

/// The mean of those that there are.
fn mean(values: &[Option<f64>]) -> Option<f64> {
    let there: Vec<f64> = values.iter().flatten().copied().collect();
    (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64)
}

fn median_millis(measured: &[Measured]) -> f64 {
    let millis = |scene: &Scene| scene.time.as_secs_f64() * 1e3;
    let mut times: Vec<f64> = measured.iter().map(|one| millis(one.scene)).collect();
    times.sort_by(f64::total_cmp);
    if times.is_empty() { 0.0 } else { quantile(&times, 0.5) }
}
