//! Reading frames with a basis that is kept.

use std::time::Duration;

use super::BenchError;
use crate::explain::Reduction;
use crate::model::device_layer::DeviceLayer;
use crate::pca::cache::KeptBasis;
use crate::pca::{Basis, BasisCache, CacheSettings};
use crate::scan::folded::{FoldedHead, Folding};
use crate::scan::maps::Reading;
use crate::stopwatch::Stopwatch;

/// What is kept from frame to frame: the basis of the first one, which is never given up.
#[derive(Debug)]
pub(super) struct Kept {
    /// Looks at whether the basis still suits, as in a run.
    cache: BasisCache,
    /// The head under that basis, and what it captures.
    kept: Option<(FoldedHead, Reduction)>,
}

/// What a frame says under the basis that is kept.
#[derive(Debug)]
pub(super) struct KeptReading {
    pub(super) reading: Reading,
    /// Of the near view, if there is one.
    pub(super) near: Option<Reading>,
    pub(super) reduction: Reduction,
    /// What looking at the basis and reading with it took.
    pub(super) time: Duration,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self { cache: BasisCache::new(CacheSettings::default()), kept: None }
    }

    /// Reads a frame, and its near view, if there is one; `basis` is kept if none is yet.
    ///
    /// # Errors
    ///
    /// When the device fails or an activation is not finite.
    pub(super) fn read(
        &mut self,
        folding: &Folding,
        basis: Basis,
        (layer, near): (&DeviceLayer, Option<&DeviceLayer>),
        pts: Duration,
    ) -> Result<KeptReading, BenchError> {
        if self.kept.is_none() {
            self.kept = Some((folding.fold(&basis), Reduction::from(&basis)));
            let look = self.cache.see(layer, pts)?;
            self.cache.keep(KeptBasis::new(basis, look.stamp), None);
        }
        let (folded, reduction) = self.kept.as_ref().expect("it was set above");
        let mut watch = Stopwatch::start();
        self.cache.see(layer, pts)?;
        let reading = folded.read_layer(layer)?;
        let near = near.map(|near| folded.read_layer(near)).transpose()?;
        Ok(KeptReading { reading, near, reduction: *reduction, time: watch.lap() })
    }
}
