//! The stages of a scan, one by one, as `run` does them.

use std::hint::black_box;

use super::BenchError;
use super::laps::Laps;
use super::stage::Stage;
use crate::analyse::ScanAnalysisSettings;
use crate::explain::{ExplainError, Reduction};
use crate::frame::Frame;
use crate::model::ModelError;
use crate::model::device_layer::DeviceLayer;
use crate::model::picture::Picture;
use crate::pca::cache::KeptBasis;
use crate::pca::{BasisCache, CacheSettings};
use crate::scan::folded::FoldedHead;
use crate::scan::maps::Reading;
use crate::scan::{ScanView, Scanner};
use crate::stopwatch::Stopwatch;

/// What is kept from frame to frame.
#[derive(Debug)]
pub(super) struct ScanStages {
    /// Score from which each class counts.
    thresholds: Vec<f32>,
    /// Looks at whether the basis of the first frame still suits, as in a run, but never gives it up.
    cache: BasisCache,
    /// The head under that basis, and what it captures.
    kept: Option<(FoldedHead, Reduction)>,
    /// How the last frame was resized.
    views: Option<Views>,
}

/// How a frame is resized: for what is far and, if that is worth it, once more for what is near.
pub(super) type Views = (ScanView, Option<ScanView>);

impl ScanStages {
    pub(super) fn new(settings: &ScanAnalysisSettings, classes: &[String]) -> Self {
        let thresholds = settings.thresholds(classes);
        Self { thresholds, cache: BasisCache::new(CacheSettings::default()), kept: None, views: None }
    }

    /// How the last frame was resized, if there was one.
    pub(super) fn views(&self) -> Option<Views> {
        self.views
    }

    /// Times the stages on frames of one size, one stage after another, as many frames in a forward pass as `batch` says.
    ///
    /// # Errors
    ///
    /// When the network or a fit fails.
    pub(super) fn time(
        &mut self,
        scanner: &Scanner,
        frames: &[Frame],
        batch: usize,
        laps: &mut Laps,
    ) -> Result<(), BenchError> {
        let mut watch = Stopwatch::start();
        let (mut far, mut near, mut views) = (Vec::new(), Vec::new(), Vec::new());
        for frame in frames {
            let prepared = scanner.prepare(&frame.image)?;
            let (picture, view) = prepared.far;
            far.push(picture);
            let (picture, near_view) = prepared.near.unzip();
            near.extend(picture);
            views.push((view, near_view));
        }
        scanner.engine().wait()?;
        laps.add(Stage::Prepare, watch.lap(), frames.len());
        let infer = |pictures: &[Picture]| {
            let passes =
                pictures.chunks(batch).map(|pictures| scanner.infer(pictures)).collect::<Result<Vec<_>, _>>()?;
            Ok::<Vec<DeviceLayer>, ModelError>(passes.into_iter().flatten().collect())
        };
        let (far, near) = (infer(&far)?, infer(&near)?);
        scanner.engine().wait()?;
        laps.add(Stage::Forward, watch.lap(), frames.len());
        let mut near = near.iter();
        for ((frame, layer), views) in frames.iter().zip(&far).zip(views) {
            let near = views.1.and_then(|_| near.next());
            self.explain(scanner, frame, (layer, near), views, laps)?;
            self.views = Some(views);
        }
        Ok(())
    }

    /// Times what follows the forward pass.
    fn explain(
        &mut self,
        scanner: &Scanner,
        frame: &Frame,
        (layer, near): (&DeviceLayer, Option<&DeviceLayer>),
        (view, near_view): Views,
        laps: &mut Laps,
    ) -> Result<(), BenchError> {
        let mut watch = Stopwatch::start();
        let host = layer.to_host()?;
        let basis = scanner.fit(host.activations.view()).map_err(ExplainError::from)?;
        let folded = scanner.fold(&basis);
        black_box(folded.read_activations(host.activations.view(), &basis.mean));
        black_box(read_near(&folded, near)?);
        let exact = watch.lap();

        let reduction = Reduction::from(&basis);
        let (folded, reduction) = match &self.kept {
            Some(kept) => kept,
            None => {
                let look = self.cache.see(layer, frame.pts)?;
                self.cache.keep(KeptBasis::new(basis, look.stamp), None);
                self.kept.insert((folded, reduction))
            }
        };
        watch.lap();
        self.cache.see(layer, frame.pts)?;
        let reading = folded.read_layer(layer)?;
        let near_reading = read_near(folded, near)?;
        let cached = watch.lap();

        let mut scan = scanner.find(reading, layer.grid(), view, *reduction);
        if let (Some(reading), Some(near), Some(near_view)) = (near_reading, near, near_view) {
            let near = scanner.find(reading, near.grid(), near_view, *reduction);
            scan = scanner.join(scan, near, view);
        }
        scan.keep_from(&self.thresholds);
        let found = watch.lap();
        // Maps are the end of explaining, and take the same time whatever the basis.
        laps.add(Stage::ExplainExact, exact + scan.times.maps, 1);
        laps.add(Stage::ExplainCached, cached + scan.times.maps, 1);
        laps.add(Stage::Boxes, found.saturating_sub(scan.times.maps), 1);
        Ok(())
    }
}

fn read_near(folded: &FoldedHead, near: Option<&DeviceLayer>) -> Result<Option<Reading>, BenchError> {
    Ok(near.map(|near| folded.read_layer(near)).transpose()?)
}
