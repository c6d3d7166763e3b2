//! The kept bases of all sources: one cache a source, the head folded with what it keeps, and one thread that renews them.
//!
//! Bases of live sources are renewed beside their frames. Those of recorded sources are renewed on the spot, so that two runs
//! of a file find the same. A basis that is missing, at the first frame and at a change of the grid, is always fitted on the
//! spot. Activations leave the network's device for fits alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CamBasis;
use super::fitter::{Fitted, Fitter, Request};
use crate::explain::{ExplainError, Reduction};
use crate::model::device_layer::DeviceLayer;
use crate::pca::cache::{FitNeed, FrameStamp, KeptBasis, RefitReason};
use crate::pca::{BasisCache, CacheSettings, PcaError, RefitCounts};
use crate::scan::Scanner;
use crate::scan::folded::FoldedHead;
use crate::scan::maps::Reading;

/// By the source's number.
#[derive(Debug)]
pub(super) struct SourceBases {
    sources: BTreeMap<usize, SourceBasis>,
    fitter: Fitter,
    /// Sources seen so far: tells apart those that had the same number one after another.
    lives: u64,
}

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
    pub reading: Reading,
    /// Of the near view, if there is one.
    pub near: Option<Reading>,
    pub reduction: Reduction,
    pub basis: CamBasis,
}

impl SourceBases {
    pub(super) fn new(scanner: &Scanner) -> Self {
        Self { sources: BTreeMap::new(), fitter: Fitter::new(scanner.components()), lives: 0 }
    }

    /// Reads a frame with its source's basis, and sees to the basis.
    ///
    /// # Errors
    ///
    /// When activations are not finite, a refit has failed, or the thread that fits is gone.
    pub(super) fn read(
        &mut self,
        scanner: &Scanner,
        settings: CacheSettings,
        sighting: Sighting,
        layer: &DeviceLayer,
        near: Option<&DeviceLayer>,
    ) -> Result<BasisReading, ExplainError> {
        self.take_fitted(scanner)?;
        let source = self.sources.entry(sighting.source).or_insert_with(|| {
            self.lives += 1;
            SourceBasis { life: self.lives, cache: BasisCache::new(settings), folded: None, failed: None }
        });
        if let Some(error) = source.failed.take() {
            return Err(ExplainError::Refit(error));
        }
        let look = source.cache.see(layer, sighting.pts)?;
        let soon = match look.need {
            FitNeed::Nothing => None,
            FitNeed::Soon(reason) if sighting.live => Some(reason),
            FitNeed::Soon(reason) => {
                source.fit_now(scanner, layer, look.stamp, Some(reason))?;
                None
            }
            FitNeed::Now(reason) => {
                source.fit_now(scanner, layer, look.stamp, reason)?;
                None
            }
        };
        let read = source.read(layer, near)?;
        if let Some(reason) = soon {
            let request = Request { life: source.life, stamp: look.stamp, activations: layer.to_host()?.activations };
            if self.fitter.offer(request)? {
                source.cache.begin(look.stamp, reason);
            }
        }
        Ok(read)
    }

    /// Forgets a source that has ended.
    pub(super) fn forget(&mut self, source: usize) {
        self.sources.remove(&source);
    }

    /// Why bases of a source were given up so far, if it has any.
    pub(super) fn refits(&self, source: usize) -> Option<RefitCounts> {
        self.sources.get(&source).map(|source| source.cache.counts())
    }

    fn take_fitted(&mut self, scanner: &Scanner) -> Result<(), ExplainError> {
        let taken = self.fitter.take().inspect_err(|_| {
            // What was under way is lost with the thread.
            self.sources.values_mut().for_each(|source| source.cache.abandon());
        });
        for Fitted { life, basis } in taken? {
            // Its source may have ended meanwhile.
            let Some(source) = self.sources.values_mut().find(|source| source.life == life) else { continue };
            match basis {
                Err(error) => {
                    source.cache.abandon();
                    source.failed = Some(error);
                }
                Ok(kept) => {
                    let folded = scanner.fold(kept.basis());
                    if source.cache.end(kept) {
                        source.folded = Some(folded);
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
        scanner: &Scanner,
        layer: &DeviceLayer,
        stamp: FrameStamp,
        reason: Option<RefitReason>,
    ) -> Result<(), ExplainError> {
        let basis = scanner.fit(layer.to_host()?.activations.view())?;
        self.folded = Some(scanner.fold(&basis));
        self.cache.keep(KeptBasis::new(basis, stamp), reason);
        Ok(())
    }

    fn read(&self, layer: &DeviceLayer, near: Option<&DeviceLayer>) -> Result<BasisReading, ExplainError> {
        let (folded, kept) = (self.folded.as_ref(), self.cache.kept());
        let (folded, kept) = folded.zip(kept).expect("a source without a basis is fitted before it is read");
        Ok(BasisReading {
            reading: folded.read_layer(layer)?,
            near: near.map(|near| folded.read_layer(near)).transpose()?,
            reduction: Reduction {
                components: kept.basis().components(),
                captured_variance: self.cache.captured_variance(),
            },
            basis: CamBasis { id: kept.id(), age_frames: self.cache.age_frames() },
        })
    }
}
