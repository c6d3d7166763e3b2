//! Laws of a kept basis, on random activations and invented times.

use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::pca::{Components, fit};

const GRID: (usize, usize) = (6, 8);
const FILTERS: usize = 40;
const KEPT: Components = Components::Count(5);
const SETTINGS: CacheSettings =
    CacheSettings { margin: 0.1, sample_every: 3, max_age: Duration::from_secs(10), cut: 0.5 };

/// Rectified activations of a scene, five directions strong; `variation` gives other frames of the same scene.
fn scene(seed: u64, variation: u64) -> Array2<f32> {
    let random = |rows, columns, seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0f32..1.0))
    };
    let scores = random(GRID.0 * GRID.1, 5, 1000 * seed + variation);
    let noise = random(GRID.0 * GRID.1, FILTERS, 1000 * seed + 500 + variation);
    // Scenes differ in their mean, too.
    let level = 1.5 + 2.0 * random(1, FILTERS, seed + 100);
    (scores.dot(&random(5, FILTERS, seed)) + 0.2 * noise + level).mapv(|value| value.max(0.0))
}

/// Activations in memory, their sums in double precision.
struct Plain<'a> {
    activations: &'a Array2<f32>,
    grid: (usize, usize),
    mean: Array1<f64>,
}

impl<'a> Plain<'a> {
    fn new(activations: &'a Array2<f32>, grid: (usize, usize)) -> Self {
        Self { activations, grid, mean: activations.mapv(f64::from).mean_axis(Axis(0)).unwrap() }
    }
}

impl Activations for Plain<'_> {
    type Error = PcaError;

    fn grid(&self) -> (usize, usize) {
        self.grid
    }

    fn mean(&self) -> &Array1<f64> {
        &self.mean
    }

    fn sums_of_squares(&self, kept: &KeptBasis) -> Result<(f64, f64), PcaError> {
        let centred = self.activations.mapv(f64::from) - kept.mean().host().mapv(f64::from);
        let square = |values: &Array2<f64>| values.iter().map(|value| value * value).sum::<f64>();
        Ok((square(&centred.dot(&kept.directions().host().mapv(f64::from))), square(&centred)))
    }
}

fn captured(kept: &KeptBasis, activations: &Array2<f32>) -> f64 {
    let (along, total) = Plain::new(activations, GRID).sums_of_squares(kept).unwrap();
    along / total
}

fn kept(activations: &Array2<f32>, stamp: FrameStamp) -> KeptBasis {
    KeptBasis::new(fit(activations.view(), KEPT).unwrap(), stamp)
}

fn stamp(frame: u64) -> FrameStamp {
    FrameStamp { frame, pts: at(frame), grid: GRID }
}

/// Ten frames a second.
fn at(frame: u64) -> Duration {
    Duration::from_millis(100 * frame)
}

/// A cache, and the number of the frame that it sees next.
struct Source {
    cache: BasisCache,
    next: u64,
}

impl Source {
    fn new(settings: CacheSettings) -> Self {
        Self { cache: BasisCache::new(settings), next: 0 }
    }

    fn see(&mut self, activations: &Array2<f32>) -> Look {
        let look = self.cache.see(&Plain::new(activations, GRID), at(self.next)).unwrap();
        assert_eq!(look.stamp, stamp(self.next));
        self.next += 1;
        look
    }

    /// Sees a frame, and fits on the spot if that is due; the need that there was.
    fn follow(&mut self, activations: &Array2<f32>) -> FitNeed {
        let look = self.see(activations);
        match look.need {
            FitNeed::Nothing => {}
            FitNeed::Now(reason) => self.cache.keep(kept(activations, look.stamp), reason),
            FitNeed::Soon(reason) => self.cache.keep(kept(activations, look.stamp), Some(reason)),
        }
        look.need
    }
}

#[test]
fn a_basis_captures_less_of_other_frames_and_least_of_other_scenes() {
    let basis = kept(&scene(1, 0), stamp(0));
    let at_fit = basis.basis().captured_variance();
    assert!((captured(&basis, &scene(1, 0)) - at_fit).abs() < 1e-5, "of the frame of the fit");
    let (same, other) = (captured(&basis, &scene(1, 1)), captured(&basis, &scene(2, 0)));
    assert!(same < at_fit && other < same - 0.2, "{at_fit} {same} {other}");
}

#[test]
fn a_shift_of_the_mean_shows_under_the_kept_one() {
    let basis = kept(&scene(1, 0), stamp(0));
    // Along a direction that the basis does not have.
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let shift = ndarray::Array1::from_shape_simple_fn(FILTERS, || rng.random_range(0.0f64..1.0));
    let shift = (&shift - &basis.basis().reduce(shift.view())).mapv(|value| value as f32);
    let shifted = scene(1, 0) + &shift;
    let own = fit(shifted.view(), KEPT).unwrap().captured_variance();
    let under_kept = captured(&basis, &shifted);
    assert!((own - basis.basis().captured_variance()).abs() < 1e-4, "a frame's own mean hides it");
    assert!(under_kept < own - 0.2, "{under_kept} against {own}");
}

#[test]
fn a_flat_picture_has_no_variance_to_miss() {
    let flat = Array2::from_elem((GRID.0 * GRID.1, FILTERS), 0.5f32);
    let mut source = Source::new(SETTINGS);
    source.follow(&flat);
    assert_eq!((0..20).map(|_| source.follow(&flat)).filter(|need| *need != FitNeed::Nothing).count(), 0);
    assert_eq!(source.follow(&scene(1, 0)), FitNeed::Soon(RefitReason::SceneCut), "anything is far from it");
}

#[test]
fn one_scene_needs_one_fit() {
    let mut source = Source::new(SETTINGS);
    assert_eq!(source.follow(&scene(1, 0)), FitNeed::Now(None));
    for variation in 1..50 {
        assert_eq!(source.follow(&scene(1, variation)), FitNeed::Nothing, "frame {variation}");
        assert_eq!(source.cache.age_frames(), variation);
    }
    assert_eq!(source.cache.counts(), RefitCounts::default());
}

#[test]
fn a_scene_cut_is_seen_at_once() {
    let mut source = Source::new(CacheSettings { sample_every: u64::MAX, ..SETTINGS });
    source.follow(&scene(1, 0));
    source.follow(&scene(1, 1));
    assert_eq!(source.follow(&scene(2, 0)), FitNeed::Soon(RefitReason::SceneCut));
    assert_eq!(source.follow(&scene(2, 1)), FitNeed::Nothing);
    assert_eq!(source.cache.counts(), RefitCounts { scene_cut: 1, ..RefitCounts::default() });
}

#[test]
fn drift_is_sampled_every_so_many_frames() {
    let mut source = Source::new(CacheSettings { cut: f64::INFINITY, ..SETTINGS });
    source.follow(&scene(1, 0));
    let at_fit = source.cache.captured_variance();
    for variation in 1..3 {
        assert_eq!(source.follow(&scene(2, variation)), FitNeed::Nothing);
        assert_eq!(source.cache.captured_variance(), at_fit, "not sampled yet");
    }
    let before = source.cache.kept().unwrap().clone();
    assert_eq!(source.follow(&scene(2, 3)), FitNeed::Soon(RefitReason::Drift));
    assert!(captured(&before, &scene(2, 3)) < at_fit - SETTINGS.margin);
    assert!(source.cache.captured_variance() > at_fit - SETTINGS.margin, "of the new basis");
    assert_eq!(source.cache.counts(), RefitCounts { drift: 1, ..RefitCounts::default() });

    let mut wide = Source::new(CacheSettings { cut: f64::INFINITY, margin: 1.0, ..SETTINGS });
    wide.follow(&scene(1, 0));
    assert!((1..20).all(|variation| wide.follow(&scene(2, variation)) == FitNeed::Nothing), "within the margin");
    let sampled = captured(wide.cache.kept().unwrap(), &scene(2, 18));
    assert_eq!(wide.cache.captured_variance(), sampled, "the last sample was at frame 18");
}

#[test]
fn a_basis_lives_for_its_maximum_age_whichever_way_time_runs() {
    let same = scene(1, 0);
    let mut source = Source::new(SETTINGS);
    let needs: Vec<FitNeed> = (0..250).map(|_| source.follow(&same)).collect();
    let due: Vec<usize> = (0..250).filter(|&frame| needs[frame] == FitNeed::Soon(RefitReason::Age)).collect();
    assert_eq!(due, [100, 200], "every 10 s at 10 frames a second");

    let mut cache = BasisCache::new(SETTINGS);
    let late = Duration::from_secs(1000);
    let look = cache.see(&Plain::new(&same, GRID), late).unwrap();
    cache.keep(kept(&same, look.stamp), None);
    assert_eq!(cache.see(&Plain::new(&same, GRID), late - Duration::from_secs(9)).unwrap().need, FitNeed::Nothing);
    let restarted = cache.see(&Plain::new(&same, GRID), Duration::ZERO).unwrap();
    assert_eq!(restarted.need, FitNeed::Soon(RefitReason::Age), "the source's clock began anew");
}

#[test]
fn another_grid_needs_a_basis_now() {
    let mut source = Source::new(SETTINGS);
    source.follow(&scene(1, 0));
    let turned = (GRID.1, GRID.0);
    let look = source.cache.see(&Plain::new(&scene(1, 1), turned), at(1)).unwrap();
    assert_eq!(look.need, FitNeed::Now(Some(RefitReason::Resolution)));
    source.cache.keep(kept(&scene(1, 1), look.stamp), Some(RefitReason::Resolution));
    assert_eq!(source.cache.see(&Plain::new(&scene(1, 2), turned), at(2)).unwrap().need, FitNeed::Nothing);
    assert_eq!(source.cache.counts(), RefitCounts { resolution: 1, ..RefitCounts::default() });
}

#[test]
fn while_a_refit_is_under_way_none_is_due_and_the_old_basis_serves() {
    let mut source = Source::new(SETTINGS);
    source.follow(&scene(1, 0));
    let old = source.cache.kept().unwrap().id();
    let cut = source.see(&scene(2, 0));
    assert_eq!(cut.need, FitNeed::Soon(RefitReason::SceneCut));
    assert_eq!(source.see(&scene(2, 1)).need, cut.need, "due until it has begun");
    source.cache.begin(cut.stamp, RefitReason::SceneCut);
    for variation in 2..10 {
        assert_eq!(source.see(&scene(2, variation)).need, FitNeed::Nothing, "drift, but the remedy is on its way");
    }
    assert_eq!(source.cache.kept().unwrap().id(), old);
    assert!(source.cache.end(kept(&scene(2, 0), cut.stamp)));
    assert_ne!(source.cache.kept().unwrap().id(), old);
    assert_eq!(source.cache.age_frames(), 9, "since the frame that it was fitted to");
    assert_eq!(source.see(&scene(2, 10)).need, FitNeed::Nothing);
    assert_eq!(source.cache.counts(), RefitCounts { scene_cut: 1, ..RefitCounts::default() });
}

#[test]
fn a_cut_during_a_refit_asks_for_another() {
    let mut source = Source::new(SETTINGS);
    source.follow(&scene(1, 0));
    let first = source.see(&scene(2, 0));
    source.cache.begin(first.stamp, RefitReason::SceneCut);
    assert_eq!(source.see(&scene(3, 0)).need, FitNeed::Nothing, "one at a time");
    assert!(source.cache.end(kept(&scene(2, 0), first.stamp)));
    assert_eq!(source.follow(&scene(3, 1)), FitNeed::Soon(RefitReason::SceneCut));
    assert_eq!(source.follow(&scene(3, 2)), FitNeed::Nothing);
    assert_eq!(source.cache.counts().scene_cut, 2);
}

#[test]
fn a_refit_that_was_overtaken_is_dropped_and_one_that_failed_can_be_tried_again() {
    let mut source = Source::new(SETTINGS);
    source.follow(&scene(1, 0));
    let begun = source.see(&scene(2, 0));
    source.cache.begin(begun.stamp, RefitReason::SceneCut);
    source.cache.keep(kept(&scene(4, 0), stamp(1)), Some(RefitReason::Resolution));
    let current = source.cache.kept().unwrap().id();
    assert!(!source.cache.end(kept(&scene(2, 0), begun.stamp)));
    assert_eq!(source.cache.kept().unwrap().id(), current);

    let again = source.see(&scene(5, 0));
    assert_eq!(again.need, FitNeed::Soon(RefitReason::SceneCut));
    source.cache.begin(again.stamp, RefitReason::SceneCut);
    source.cache.abandon();
    assert_eq!(source.see(&scene(6, 0)).need, FitNeed::Soon(RefitReason::SceneCut));
}

#[test]
fn broken_activations_are_errors_and_leave_the_cache_as_it_was() {
    let mut source = Source::new(SETTINGS);
    source.follow(&scene(1, 0));
    let before = source.cache.kept().unwrap().id();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut broken = scene(1, 1);
        broken[[3, 4]] = value;
        assert_eq!(source.cache.see(&Plain::new(&broken, GRID), at(1)).unwrap_err(), PcaError::NotFinite);
    }
    assert_eq!(source.follow(&scene(1, 2)), FitNeed::Nothing);
    assert_eq!(source.cache.kept().unwrap().id(), before);
}

#[test]
fn equal_bases_have_one_name() {
    let activations = scene(1, 0);
    let [one, other] = [0, 7].map(|frame| kept(&activations, stamp(frame)).id());
    assert_eq!(one, other);
    assert_ne!(one, kept(&scene(1, 1), stamp(0)).id());
    assert_eq!(one.to_string().len(), 16);
}
