//! Thresholds, given or chosen on other pictures than those that are measured with them.

use std::path::Path;

use super::matching::{Outcome, Rule};
use super::operating::{Measured, Tally};
use super::scene::{Counting, Face, Scene};
use super::{Evaluation, LEAST_IOU, Settings};
use crate::analyse::Detection;
use crate::evaluate::EvaluateError;

/// Whether thresholds are chosen, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// They are given; every picture is measured.
    Given,
    /// They are chosen on the first pictures, so many of them; the rest is measured.
    First(usize),
    /// Pictures take turns in so many folds (at least 2); each fold is measured with thresholds chosen on the others.
    Folds(usize),
}

impl Protocol {
    /// A name for programs, which never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::First(_) => "tune-first",
            Self::Folds(_) => "folds",
        }
    }

    /// Makes sure that there is something to choose on and something to measure.
    ///
    /// # Errors
    ///
    /// When there are too few pictures.
    pub fn check(self, folder: &Path, pictures: usize) -> Result<(), EvaluateError> {
        let needed = match self {
            Self::Given => 1,
            Self::First(first) => first.saturating_add(1),
            Self::Folds(folds) => folds,
        };
        if pictures < needed {
            let path = folder.to_owned();
            return Err(EvaluateError::TooFewPictures { path, pictures, needed, option: self.name() });
        }
        Ok(())
    }

    /// Index of the fit whose thresholds hold for the picture at a place; `None` if that picture only serves to choose them.
    fn fit_of(self, place: usize) -> Option<usize> {
        match self {
            Self::Given => Some(0),
            Self::First(first) => (place >= first).then_some(0),
            Self::Folds(folds) => Some(place % folds),
        }
    }

    /// Whether the thresholds of a fit are chosen on the picture at a place.
    fn is_tuned_on(self, place: usize, fit: usize) -> bool {
        match self {
            Self::Given => false,
            Self::First(first) => place < first,
            Self::Folds(folds) => place % folds != fit,
        }
    }
}

/// Thresholds and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Least score, one a class.
    pub thresholds: Vec<f32>,
    /// The best F1 where they were chosen, one a class; `None` where nothing could be chosen, and the given one holds.
    pub f1: Vec<Option<f64>>,
    /// How many pictures they were chosen on.
    pub tuned_on: usize,
    /// How many pictures are measured with them.
    pub measured: usize,
}

/// All thresholds of an evaluation.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// How they are chosen.
    pub protocol: Protocol,
    /// One, or one a fold.
    pub fits: Vec<Fit>,
}

impl Tuning {
    /// Chooses the threshold of each class for the best F1 at the smaller IoU, the highest of equals. A class of which no face
    /// counts there keeps the given one.
    pub fn new(evaluation: &Evaluation, settings: &Settings) -> Self {
        let protocol = settings.protocol;
        let fits = match protocol {
            Protocol::Given | Protocol::First(_) => 1,
            Protocol::Folds(folds) => folds,
        };
        let fits = (0..fits).map(|fit| {
            let places = evaluation.scenes.iter().enumerate();
            let scenes: Vec<&Scene> =
                places.filter(|(place, _)| protocol.is_tuned_on(*place, fit)).map(|(_, scene)| scene).collect();
            let measured = (0..evaluation.scenes.len()).filter(|&place| protocol.fit_of(place) == Some(fit)).count();
            chosen(&scenes, measured, settings)
        });
        Self { protocol, fits: fits.collect() }
    }

    /// The pictures that are measured, with their thresholds.
    pub fn measured<'a>(&'a self, evaluation: &'a Evaluation) -> Vec<Measured<'a>> {
        self.with_thresholds(evaluation.scenes.iter().enumerate())
    }

    /// The pictures without faces, annotated as such or from a folder of their own, with their thresholds; those of the folder
    /// take turns in the fits, none of which was chosen on them.
    pub fn face_free<'a>(&'a self, evaluation: &'a Evaluation) -> Vec<Measured<'a>> {
        let annotated = evaluation.scenes.iter().enumerate().filter(|(_, scene)| scene.faces.is_empty());
        let mut all = self.with_thresholds(annotated);
        let turns = evaluation.face_free.iter().zip(self.fits.iter().cycle());
        all.extend(turns.map(|(scene, fit)| Measured { scene, thresholds: &fit.thresholds }));
        all
    }

    fn with_thresholds<'a>(&'a self, scenes: impl Iterator<Item = (usize, &'a Scene)>) -> Vec<Measured<'a>> {
        let measured = scenes.filter_map(|(place, scene)| {
            let fit = self.protocol.fit_of(place)?;
            Some(Measured { scene, thresholds: &self.fits[fit].thresholds })
        });
        measured.collect()
    }
}

fn chosen(scenes: &[&Scene], measured: usize, settings: &Settings) -> Fit {
    let rule = Rule { counting: Counting::AtLeast(settings.min_size), least_iou: LEAST_IOU[0] };
    let classes = settings.classes.len();
    let mut fit =
        Fit { thresholds: settings.thresholds.clone(), f1: vec![None; classes], tuned_on: scenes.len(), measured };
    // No threshold changes an outcome above it, so that one matching does for all.
    let outcomes: Vec<(&Detection, Outcome)> =
        scenes.iter().flat_map(|scene| scene.detections.iter().zip(rule.within_classes(scene))).collect();
    let faces = |class| {
        let of_class = |face: &&Face| face.label == Some(class) && rule.counting.counts(face);
        scenes.iter().flat_map(|scene| &scene.faces).filter(of_class).count() as u64
    };
    for class in settings.face_classes() {
        let none = Tally { faces: faces(class), ..Tally::default() };
        for threshold in tried().filter(|_| none.faces > 0) {
            let mut tally = none;
            for (_, outcome) in outcomes.iter().filter(|(found, _)| found.label == class && found.score >= threshold) {
                tally.add(*outcome);
            }
            if tally.f1() >= fit.f1[class] {
                fit.f1[class] = tally.f1();
                fit.thresholds[class] = threshold;
            }
        }
    }
    fit
}

/// The thresholds that are tried: 0.05, 0.075, ..., 0.95.
fn tried() -> impl Iterator<Item = f32> {
    (2..=38).map(|step| (f64::from(step) * 0.025) as f32)
}

#[cfg(test)]
mod tests {
    use super::super::operating::Counts;
    use super::super::testing::{MASK, NO_MASK, RULE, found_or_false, random_scenes, settings};
    use super::*;

    fn evaluation(scenes: Vec<Scene>) -> Evaluation {
        Evaluation { data: "data".into(), scenes, face_free: Vec::new(), problems: Vec::new() }
    }

    #[test]
    fn the_chosen_threshold_has_the_best_f1_of_those_tried_and_is_the_highest_of_equals() {
        for seed in 0..10 {
            let evaluation = evaluation(random_scenes(30, seed));
            let tuning = Tuning::new(&evaluation, &settings(Protocol::First(29)));
            let [fit] = &tuning.fits[..] else { panic!("one fit") };
            assert_eq!((fit.tuned_on, fit.measured), (29, 1));
            let f1 = |class: usize, threshold: f32| {
                let thresholds = [threshold; 3];
                let scenes = evaluation.scenes[..29].iter();
                let there: Vec<_> = scenes.map(|scene| Measured { scene, thresholds: &thresholds }).collect();
                Counts::new(&there, 3, RULE).tallies[class].f1().unwrap()
            };
            for class in [MASK, NO_MASK] {
                let chosen = f1(class, fit.thresholds[class]);
                assert_eq!(fit.f1[class], Some(chosen));
                for threshold in tried() {
                    let other = f1(class, threshold);
                    assert!(other < chosen || other == chosen && threshold <= fit.thresholds[class]);
                }
            }
        }
    }

    #[test]
    fn each_fold_is_measured_with_what_was_chosen_on_the_others() {
        // Pictures at even places want a threshold from 0.6 to 0.9, those at odd places one from 0.3 to 0.5.
        let even = found_or_false(&[(0.9, true), (0.6, false), (0.9, true)]);
        let odd = found_or_false(&[(0.5, true), (0.3, false), (0.5, true)]);
        let scenes = even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect();
        let evaluation = evaluation(scenes);
        let tuning = Tuning::new(&evaluation, &settings(Protocol::Folds(2)));
        let thresholds: Vec<f32> = tuning.fits.iter().map(|fit| fit.thresholds[MASK]).collect();
        assert_eq!(thresholds, [0.5, 0.9]);
        assert_eq!(tuning.fits[0].thresholds[NO_MASK], 0.5, "without faces the given one stays");
        assert_eq!(tuning.fits[0].f1, [Some(1.0), None, None]);
        let used: Vec<f32> = tuning.measured(&evaluation).iter().map(|one| one.thresholds[MASK]).collect();
        assert_eq!(used, [0.5, 0.9, 0.5, 0.9, 0.5, 0.9]);
        assert_eq!(tuning.face_free(&evaluation).len(), 2, "those without faces");
    }

    #[test]
    fn what_thresholds_were_chosen_on_is_not_measured() {
        let evaluation = evaluation(random_scenes(10, 1));
        for (protocol, measured) in [(Protocol::Given, 10), (Protocol::First(4), 6), (Protocol::Folds(3), 10)] {
            assert_eq!(Tuning::new(&evaluation, &settings(protocol)).measured(&evaluation).len(), measured);
            assert!(protocol.check(Path::new("data"), 10).is_ok());
        }
        let message = |protocol: Protocol| protocol.check(Path::new("data"), 4).unwrap_err().to_string();
        assert!(message(Protocol::First(4)).contains("--tune-first needs 5 pictures or more, but data has 4"));
        assert!(message(Protocol::Folds(5)).contains("--folds needs 5"));
    }
}
