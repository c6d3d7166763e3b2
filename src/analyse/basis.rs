//! The kept bases of all sources: one cache a source, the head folded with what it keeps, and one thread that renews them.
//!
//! Bases of live sources are renewed beside their frames. Those of recorded sources are renewed on the spot, so that two runs
//! of a file find the same. A basis that is missing, at the first frame and at a change of the grid, is always fitted on the
//! spot. Activations leave the network's device for fits alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ndarray::Array2;

use super::fitter::{Fitted, Fitter, Request};
use super::{CamBasis, FrameRequest};
use crate::explain::{ExplainError, Reduction};
use crate::model::device_layer::{DeviceLayer, Questions};
use crate::pca::cache::{FitNeed, FrameStamp, KeptBasis, RefitReason};
use crate::pca::{BasisCache, CacheSettings, PcaError, RefitCounts};
use crate::recycled::Recycled;
use crate::scan::folded::{FoldedHead, Folding};
use crate::scan::maps::Reading;

/// By the source's number.
#[derive(Debug)]
pub(super) struct SourceBases {
    sources: BTreeMap<usize, SourceBasis>,
    folding: Folding,
    fitter: Fitter,
    /// Sources seen so far: tells apart those that had the same number one after another.
    lives: u64,
    known: Arc<KnownQuestions>,
}

/// What will be asked about the next frame of each source, by its number, for all that is known now: its basis may be another by
/// then. Whoever hands frames to the network looks here.
#[derive(Debug, Default)]
pub(super) struct KnownQuestions(Mutex<BTreeMap<usize, Arc<Questions>>>);

#[derive(Debug)]
struct SourceBasis {
    life: u64,
    cache: BasisCache,
    /// Of what the cache keeps.
    folded: Option<FoldedHead>,
    /// Why a refit beside the frames has failed, until the next frame tells it.
    failed: Option<PcaError>,
}

/// A frame that is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    /// Number of its source.
    pub source: usize,
    /// Whether it must not wait.
    pub live: bool,
    /// Its presentation time.
    pub pts: Duration,
}

/// What was read.
#[derive(Debug)]
pub(super) struct BasisReading {
    pub seen: Seen,
    /// Of the near view, if there is one.
    pub near: Option<Seen>,
    pub reduction: Reduction,
    pub basis: CamBasis,
}

/// A layer under a basis. What it says can be worked out by any thread.
#[derive(Debug)]
pub(super) struct Seen {
    /// See [`FoldedHead::sums`].
    sums: Recycled<Array2<f32>>,
    /// Rows and columns of positions.
    grid: (usize, usize),
}

impl Seen {
    pub(super) fn new(folded: &FoldedHead, layer: &DeviceLayer) -> Result<Self, ExplainError> {
        Ok(Self { sums: folded.sums_of_layer(layer)?, grid: layer.grid() })
    }

    /// What it says, and the rows and columns of positions.
    pub(super) fn read(self) -> (Reading, (usize, usize)) {
        (Reading::of(self.sums), self.grid)
    }
}

impl KnownQuestions {
    pub(super) fn of(&self, source: usize) -> Option<Arc<Questions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&source).map(Arc::clone)
    }

    fn set(&self, source: usize, questions: Option<Questions>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match questions {
            Some(questions) => known.insert(source, Arc::new(questions)),
            None => known.remove(&source),
        };
    }
}

impl From<&FrameRequest<'_>> for Sighting {
    fn from(request: &FrameRequest) -> Self {
        Self { source: request.source, live: request.live, pts: request.pts }
    }
}

impl SourceBases {
    pub(super) fn new(folding: Folding) -> Self {
        let fitter = Fitter::new(folding.components());
        Self { sources: BTreeMap::new(), folding, fitter, lives: 0, known: Arc::default() }
    }

    pub(super) fn folding(&self) -> &Folding {
        &self.folding
    }

    /// What will be asked about the next frames.
    pub(super) fn known(&self) -> &Arc<KnownQuestions> {
        &self.known
    }

    /// Reads a frame with its source's basis, and sees to the basis.
    ///
    /// # Errors
    ///
    /// When activations are not finite, a refit has failed, or the thread that fits is gone.
    pub(super) fn read(
        &mut self,
        settings: CacheSettings,
        sighting: Sighting,
        layer: &DeviceLayer,
        near: Option<&DeviceLayer>,
    ) -> Result<BasisReading, ExplainError> {
        self.take_fitted()?;
        let source = self.sources.entry(sighting.source).or_insert_with(|| {
            self.lives += 1;
            SourceBasis { life: self.lives, cache: BasisCache::new(settings), folded: None, failed: None }
        });
        if let Some(error) = source.failed.take() {
            return Err(ExplainError::Refit(error));
        }
        let before = source.cache.kept().map(|kept| kept.id());
        let look = source.cache.see(layer, sighting.pts)?;
        let soon = match look.need {
            FitNeed::Nothing => None,
            FitNeed::Soon(reason) if sighting.live => Some(reason),
            FitNeed::Soon(reason) => {
                source.fit_now(&self.folding, layer, look.stamp, Some(reason))?;
                None
            }
            FitNeed::Now(reason) => {
                source.fit_now(&self.folding, layer, look.stamp, reason)?;
                None
            }
        };
        let read = source.read(layer, near)?;
        if before != Some(read.basis.id) {
            self.known.set(sighting.source, source.questions());
        }
        if let Some(reason) = soon {
            let request =
                Request { life: source.life, stamp: look.stamp, activations: layer.activations()?.into_owned() };
            if self.fitter.offer(request)? {
                source.cache.begin(look.stamp, reason);
            }
        }
        Ok(read)
    }

    /// Forgets a source that has ended.
    pub(super) fn forget(&mut self, source: usize) {
        self.sources.remove(&source);
        self.known.set(source, None);
    }

    /// Why bases of a source were given up so far, if it has any.
    pub(super) fn refits(&self, source: usize) -> Option<RefitCounts> {
        self.sources.get(&source).map(|source| source.cache.counts())
    }

    fn take_fitted(&mut self) -> Result<(), ExplainError> {
        let taken = self.fitter.take().inspect_err(|_| {
            // What was under way is lost with the thread.
            self.sources.values_mut().for_each(|source| source.cache.abandon());
        });
        for Fitted { life, basis } in taken? {
            // Its source may have ended meanwhile.
            let with_life = self.sources.iter_mut().find(|(_, source)| source.life == life);
            let Some((&number, source)) = with_life else { continue };
            match basis {
                Err(error) => {
                    source.cache.abandon();
                    source.failed = Some(error);
                }
                Ok(kept) => {
                    let folded = self.folding.fold(kept.basis());
                    if source.cache.end(kept) {
                        source.folded = Some(folded);
                        self.known.set(number, source.questions());
                    }
                }
            }
        }
        Ok(())
    }
}

impl SourceBasis {
    fn fit_now(
        &mut self,
        folding: &Folding,
        layer: &DeviceLayer,
        stamp: FrameStamp,
        reason: Option<RefitReason>,
    ) -> Result<(), ExplainError> {
        let basis = folding.fit(layer.activations()?.view())?;
        self.folded = Some(folding.fold(&basis));
        self.cache.keep(KeptBasis::new(basis, stamp), reason);
        Ok(())
    }

    fn questions(&self) -> Option<Questions> {
        let (folded, kept) = self.folded_and_kept()?;
        Some(Questions::new(folded.weights(), kept.mean(), kept.directions()))
    }

    fn folded_and_kept(&self) -> Option<(&FoldedHead, &Arc<KeptBasis>)> {
        self.folded.as_ref().zip(self.cache.kept())
    }

    fn read(&self, layer: &DeviceLayer, near: Option<&DeviceLayer>) -> Result<BasisReading, ExplainError> {
        let (folded, kept) = self.folded_and_kept().expect("a source without a basis is fitted before it is read");
        Ok(BasisReading {
            seen: Seen::new(folded, layer)?,
            near: near.map(|near| Seen::new(folded, near)).transpose()?,
            reduction: Reduction {
                components: kept.basis().components(),
                captured_variance: self.cache.captured_variance(),
            },
            basis: CamBasis { id: kept.id(), age_frames: self.cache.age_frames() },
        })
    }
}
