//! A basis that is kept from frame to frame of a source, and when it has to be fitted anew.
//!
//! With the mean mu and the directions V of an earlier frame, a map costs one product with a vector a class. What they are
//! still worth shows in the captured variance |X V|^2 / |X|^2 of the current frame, where X = A - 1 mu' is centred by the
//! **kept** mean: with the frame's own, a shift of the mean would go half unnoticed. It costs about as much as 19 maps, so
//! it is sampled. A basis is due for a refit
//!
//! * at another grid: positions and receptive fields are others ([`RefitReason::Resolution`]);
//! * at a scene cut: the mean activation jumps from one frame to the next, by more than a share of what positions differ
//!   from one another. This costs as much as a map and is looked at on every frame;
//! * at a maximum age;
//! * when the captured variance has fallen by more than a margin since the fit ([`RefitReason::Drift`]).
//!
//! Everything here is decided from numbers that come in, time included. Who fits, and on which thread, is up to the owner:
//! a refit that has [begun](BasisCache::begin) may end any number of frames later.

mod kept;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ndarray::Array1;

use super::fit::PcaError;

pub use kept::{BasisId, FrameStamp, KeptBasis};
pub use settings::{CacheSettings, RefitCounts, RefitReason};

use settings::State;

/// Activations of a frame, wherever they lie.
pub trait Activations {
    /// Why a sum over them cannot be had.
    type Error: From<PcaError>;

    /// Rows and columns of positions.
    fn grid(&self) -> (usize, usize);

    /// Mean of each filter over the positions.
    fn mean(&self) -> &Array1<f64>;

    /// With X the activations centred by the kept mean, and V the kept directions: |X V|^2 and |X|^2.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    fn sums_of_squares(&self, kept: &KeptBasis) -> Result<(f64, f64), Self::Error>;
}

/// What a look at a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The frame.
    pub stamp: FrameStamp,
    /// Whether a fit is due.
    pub need: FitNeed,
}

/// Whether a fit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitNeed {
    /// The kept basis will do.
    Nothing,
    /// There is no basis that this frame could be read with: it must be fitted now. The reason is missing at the first.
    Now(Option<RefitReason>),
    /// The kept basis will do until a new one is there.
    Soon(RefitReason),
}

/// The basis of one source.
#[derive(Debug)]
pub struct BasisCache {
    settings: CacheSettings,
    kept: Option<Arc<KeptBasis>>,
    /// Captured variance of the frame that was sampled last, and which one that was.
    sample: (f64, u64),
    frames_seen: u64,
    previous_mean: Option<Array1<f64>>,
    due: Option<RefitReason>,
    begun: Option<(FrameStamp, RefitReason)>,
    counts: RefitCounts,
}

impl BasisCache {
    /// Keeps nothing yet.
    pub fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            kept: None,
            sample: (1.0, 0),
            frames_seen: 0,
            previous_mean: None,
            due: None,
            begun: None,
            counts: RefitCounts::default(),
        }
    }

    /// Looks at the next frame.
    ///
    /// # Errors
    ///
    /// When an activation is not finite, or a sum over them cannot be had.
    pub fn see<A: Activations>(&mut self, activations: &A, pts: Duration) -> Result<Look, A::Error> {
        let (mean, grid) = (activations.mean(), activations.grid());
        // A sum with an infinite or undefined summand is not finite.
        if mean.iter().any(|value| !value.is_finite()) {
            return Err(PcaError::NotFinite.into());
        }
        let stamp = FrameStamp { frame: self.frames_seen, pts, grid };
        self.frames_seen += 1;
        let shift = self.shift_to(mean);
        let Some(kept) = &self.kept else { return Ok(Look { stamp, need: FitNeed::Now(None) }) };
        if kept.fitted().grid != grid || kept.basis().mean.len() != mean.len() {
            let need = FitNeed::Now(Some(RefitReason::Resolution));
            return Ok(Look { stamp, need });
        }
        let shift = shift.map_or(0.0, |shift| share(shift, kept.spread()));
        if stamp.frame - self.sample.1 >= self.settings.sample_every {
            let (along, total) = activations.sums_of_squares(kept)?;
            self.sample = (if total == 0.0 { 1.0 } else { (along / total).min(1.0) }, stamp.frame);
        }
        let state = State {
            shift,
            age: pts.abs_diff(kept.fitted().pts),
            lost: kept.basis().captured_variance() - self.sample.0,
        };
        match self.settings.reason(state) {
            // What is under way was fitted before the cut.
            Some(RefitReason::SceneCut) => self.due = Some(RefitReason::SceneCut),
            // What is under way will put it right.
            Some(reason) if self.begun.is_none() => self.due = self.due.or(Some(reason)),
            Some(_) | None => {}
        }
        let need = match self.due {
            Some(reason) if self.begun.is_none() => FitNeed::Soon(reason),
            Some(_) | None => FitNeed::Nothing,
        };
        Ok(Look { stamp, need })
    }

    /// Squared distance of the mean of the frame before to this one, which takes its place; none at the first.
    fn shift_to(&mut self, mean: &Array1<f64>) -> Option<f64> {
        match &mut self.previous_mean {
            Some(previous) if previous.len() == mean.len() => {
                let shift = squared_distance(previous, mean);
                previous.assign(mean);
                Some(shift)
            }
            other => {
                *other = Some(mean.clone());
                None
            }
        }
    }

    /// A refit to a frame has begun elsewhere; none is due until it has ended.
    pub fn begin(&mut self, stamp: FrameStamp, reason: RefitReason) {
        self.due = None;
        self.begun = Some((stamp, reason));
    }

    /// The refit that was begun has failed.
    pub fn abandon(&mut self) {
        self.begun = None;
    }

    /// The refit that was begun has ended. Gives false, and keeps what it has, if none of this frame is awaited any more:
    /// another fit has overtaken it.
    pub fn end(&mut self, kept: impl Into<Arc<KeptBasis>>) -> bool {
        let kept = kept.into();
        match self.begun {
            Some((stamp, reason)) if stamp == kept.fitted() => {
                let due = self.due;
                self.keep(kept, Some(reason));
                self.due = due;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Keeps a basis that was fitted on the spot; the reason is missing at the first.
    pub fn keep(&mut self, kept: impl Into<Arc<KeptBasis>>, reason: Option<RefitReason>) {
        let kept = kept.into();
        self.sample = (kept.basis().captured_variance(), kept.fitted().frame);
        self.kept = Some(kept);
        self.due = None;
        self.begun = None;
        if let Some(reason) = reason {
            self.counts.count(reason);
        }
    }

    /// What is kept.
    pub fn kept(&self) -> Option<&Arc<KeptBasis>> {
        self.kept.as_ref()
    }

    /// Captured variance of the frame that was sampled last, in [0, 1].
    pub fn captured_variance(&self) -> f64 {
        self.sample.0
    }

    /// Frames between the one that the kept basis was fitted to and the last one seen.
    pub fn age_frames(&self) -> u64 {
        let last = self.frames_seen.saturating_sub(1);
        self.kept.as_ref().map_or(0, |kept| last - kept.fitted().frame)
    }

    /// Why bases were given up so far.
    pub fn counts(&self) -> RefitCounts {
        self.counts
    }
}

fn squared_distance(one: &Array1<f64>, other: &Array1<f64>) -> f64 {
    one.iter().zip(other).map(|(one, other)| (one - other).powi(2)).sum()
}

/// Of a flat picture, which has no spread, any other is infinitely far.
fn share(part: f64, whole: f64) -> f64 {
    if part == 0.0 { 0.0 } else { part / whole }
}
