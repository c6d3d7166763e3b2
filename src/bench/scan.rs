//! The stages of a scan, one by one, as `run` does them.

use std::hint::black_box;

use image::RgbImage;

use super::BenchError;
use super::kept::{Kept, KeptReading};
use super::laps::Laps;
use super::stage::Stage;
use crate::analyse::ScanAnalysisSettings;
use crate::explain::ExplainError;
use crate::frame::Frame;
use crate::model::device_layer::{DeviceLayer, PendingLayer};
use crate::model::forward::ForwardRequest;
use crate::scan::{ScanView, Scanner, near};
use crate::stopwatch::Stopwatch;

/// A scan's stages.
#[derive(Debug)]
pub(super) struct ScanStages {
    /// Score from which each class counts.
    thresholds: Vec<f32>,
    kept: Kept,
    /// How the last frame was resized.
    views: Option<Views>,
}

/// How a frame is resized: for what is far and, if that is worth it, once more for what is near.
pub(super) type Views = (ScanView, Option<ScanView>);

impl ScanStages {
    pub(super) fn new(settings: &ScanAnalysisSettings, classes: &[String]) -> Self {
        let thresholds = settings.thresholds(classes);
        Self { thresholds, kept: Kept::new(), views: None }
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
        let images: Vec<&RgbImage> = frames.iter().map(|frame| &**frame.image).collect();
        for picture in &scanner.engine().take_all(&images) {
            let prepared = scanner.prepare_taken(picture)?;
            let (picture, view) = prepared.far;
            far.push(picture);
            let (picture, near_view) = prepared.near.unzip();
            near.extend(picture);
            views.push((view, near_view));
        }
        let engine = scanner.engine();
        let (far, near) = (engine.bring_to_size(far)?, engine.bring_to_size(near)?);
        engine.wait()?;
        laps.add(Stage::Prepare, watch.lap(), frames.len());
        let [far, near] =
            [far, near].map(|pictures| pictures.into_iter().map(ForwardRequest::from).collect::<Vec<_>>());
        watch.lap();
        // By turns, as in a run: what one pass leaves in the caches is there for the next.
        let mut layers = [Vec::new(), Vec::new()];
        for batch in (0..frames.len()).step_by(batch).map(|first| first..first + batch) {
            for (layers, pictures) in layers.iter_mut().zip([&far, &near]) {
                // Frames of a size have a near view or none.
                let pictures = &pictures[batch.start.min(pictures.len())..batch.end.min(pictures.len())];
                layers.extend(engine.begin_layer4(pictures)?);
            }
        }
        let [far, near] = layers;
        engine.wait()?;
        laps.add(Stage::Forward, watch.lap(), frames.len());
        let wait =
            |layers: Vec<PendingLayer>| layers.into_iter().map(PendingLayer::wait).collect::<Result<Vec<_>, _>>();
        let (far, near) = (wait(far)?, wait(near)?);
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
        let (folding, finder) = (scanner.folding(), scanner.finder());
        let mut watch = Stopwatch::start();
        let activations = layer.activations()?;
        let basis = folding.fit(activations.view()).map_err(ExplainError::from)?;
        let folded = folding.fold(&basis);
        black_box(folded.read(activations.view(), &basis.mean));
        black_box(near.map(|near| folded.read_layer(near)).transpose()?);
        let exact = watch.lap();

        let KeptReading { reading, near: near_reading, reduction, time: cached } =
            self.kept.read(folding, basis, (layer, near), frame.pts)?;
        watch.lap();
        let mut scan = finder.find(reading, layer.grid(), view, reduction);
        if let (Some(reading), Some(near), Some(near_view)) = (near_reading, near, near_view) {
            let near = finder.find(reading, near.grid(), near_view, reduction);
            scan = near::join(scan, near, view);
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
