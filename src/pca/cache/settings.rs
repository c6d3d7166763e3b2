//! When a kept basis is given up, and why.

use std::time::Duration;

/// When a kept basis is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheSettings {
    /// Fall of the captured variance since the fit that is put up with, in (0, 1).
    pub margin: f64,
    /// Every how many frames the captured variance is computed, at least 1.
    pub sample_every: u64,
    /// How long a basis is kept at most.
    pub max_age: Duration,
    /// Squared distance between the mean activations of two consecutive frames that makes a scene cut, as a share of the
    /// mean squared distance of a position from the mean when the basis was fitted.
    pub cut: f64,
}

/// Chosen on six clips at 8 frames a second (`examples/basis`): maps correlate with those of a basis a frame by 0.999, boxes
/// have an IoU of 0.98 with theirs, and 3 % of the frames are refitted. Between frames of a clip the mean activation moves by
/// at most 0.007, at a cut inside a clip or from one to another by 0.024 and more.
impl Default for CacheSettings {
    fn default() -> Self {
        Self { margin: 0.05, sample_every: 5, max_age: Duration::from_secs(10), cut: 0.015 }
    }
}

/// Why a basis was fitted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefitReason {
    /// It captured too little of a frame.
    Drift,
    /// The picture changed at once.
    SceneCut,
    /// It was old.
    Age,
    /// The grid of positions changed.
    Resolution,
}

/// How often bases of a source were fitted anew, by reason. The first fit is none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefitCounts {
    /// See [`RefitReason::Drift`].
    pub drift: u64,
    /// See [`RefitReason::SceneCut`].
    pub scene_cut: u64,
    /// See [`RefitReason::Age`].
    pub age: u64,
    /// See [`RefitReason::Resolution`].
    pub resolution: u64,
}

impl RefitCounts {
    /// Of all reasons.
    pub fn total(&self) -> u64 {
        self.drift + self.scene_cut + self.age + self.resolution
    }

    pub(super) fn count(&mut self, reason: RefitReason) {
        *match reason {
            RefitReason::Drift => &mut self.drift,
            RefitReason::SceneCut => &mut self.scene_cut,
            RefitReason::Age => &mut self.age,
            RefitReason::Resolution => &mut self.resolution,
        } += 1;
    }
}

/// How a kept basis stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// Squared distance from the mean of the frame before to this one's, as a share of the spread.
    pub shift: f64,
    /// Time between the frame of the fit and this one.
    pub age: Duration,
    /// Captured variance at the fit less that of the last sample.
    pub lost: f64,
}

impl CacheSettings {
    /// Why a basis in that state is due.
    pub(super) fn reason(&self, state: State) -> Option<RefitReason> {
        if state.shift > self.cut {
            Some(RefitReason::SceneCut)
        } else if state.age >= self.max_age {
            Some(RefitReason::Age)
        } else if state.lost > self.margin {
            Some(RefitReason::Drift)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: CacheSettings =
        CacheSettings { margin: 0.1, sample_every: 3, max_age: Duration::from_secs(10), cut: 0.5 };

    #[test]
    fn each_reason_has_its_bound_and_the_sudden_comes_first() {
        let reason =
            |shift, age_secs, lost| SETTINGS.reason(State { shift, age: Duration::from_secs_f64(age_secs), lost });
        assert_eq!(reason(0.0, 0.0, 0.0), None);
        assert_eq!(reason(0.5, 9.999, 0.1), None, "a bound itself is within");
        assert_eq!(reason(0.0, 5.0, -0.3), None, "a frame may suit better than the one of the fit");
        assert_eq!(reason(0.501, 0.0, 0.0), Some(RefitReason::SceneCut));
        assert_eq!(reason(f64::INFINITY, 0.0, 0.0), Some(RefitReason::SceneCut));
        assert_eq!(reason(0.0, 10.0, 0.0), Some(RefitReason::Age));
        assert_eq!(reason(0.0, 0.0, 0.101), Some(RefitReason::Drift));
        assert_eq!(reason(0.6, 11.0, 0.2), Some(RefitReason::SceneCut));
        assert_eq!(reason(0.1, 11.0, 0.2), Some(RefitReason::Age));
    }

    #[test]
    fn refits_are_counted_by_reason() {
        let mut counts = RefitCounts::default();
        for (reason, times) in
            [(RefitReason::Drift, 4), (RefitReason::SceneCut, 3), (RefitReason::Age, 2), (RefitReason::Resolution, 1)]
        {
            (0..times).for_each(|_| counts.count(reason));
        }
        assert_eq!(counts, RefitCounts { drift: 4, scene_cut: 3, age: 2, resolution: 1 });
        assert_eq!(counts.total(), 10);
    }
}
