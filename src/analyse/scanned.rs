//! A frame scanned for faces, and what it is called as a whole for those who want one label.

use std::time::Duration;

use ndarray::Array1;

use super::basis::{BasisReading, Sighting, SourceBases};
use super::batch::{self, Answer};
use super::{Analysis, AnalysisTimes, BasisSettings, CamSummary, FrameRequest, ScanAnalysisSettings};
use crate::explain::{ExplainError, Method, Reduction};
use crate::labels::argmax;
use crate::model::device_layer::DeviceLayer;
use crate::model::engine::Engine;
use crate::pca::{CacheSettings, RefitCounts};
use crate::scan::{Scan, ScanView, Scanner};
use crate::stopwatch::Stopwatch;

/// A scanner and what counts.
#[derive(Debug)]
pub(super) struct Scanned {
    scanner: Scanner,
    /// Score from which each class counts.
    thresholds: Vec<f32>,
    settings: BasisSettings,
    bases: SourceBases,
}

/// How a frame was prepared.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    view: ScanView,
    near_view: Option<ScanView>,
    time: Duration,
}

/// What the network says of a frame.
struct Layers {
    far: Answer<DeviceLayer>,
    near: Option<Answer<DeviceLayer>>,
}

impl Scanned {
    pub(super) fn new(engine: Engine, settings: ScanAnalysisSettings) -> Self {
        let scanner = Scanner::new(engine, settings.scan);
        let thresholds = settings.thresholds(scanner.classes());
        let bases = SourceBases::new(&scanner);
        Self { scanner, thresholds, settings: settings.basis, bases }
    }

    pub(super) fn classes(&self) -> &[String] {
        self.scanner.classes()
    }

    pub(super) fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    pub(super) fn forget(&mut self, source: usize) {
        self.bases.forget(source);
    }

    pub(super) fn refits(&self, source: usize) -> Option<RefitCounts> {
        self.bases.refits(source)
    }

    pub(super) fn analyse_batch(&mut self, requests: &[FrameRequest]) -> Vec<Result<Analysis, ExplainError>> {
        let mut pictures = Vec::with_capacity(requests.len());
        let mut prepared = Vec::with_capacity(requests.len());
        for request in requests {
            let mut watch = Stopwatch::start();
            let (picture, view) = self
                .scanner
                .prepare(request.image)
                .map_or_else(|error| (Err(error), None), |(picture, view)| (Ok(picture), Some(view)));
            pictures.push(picture);
            let near = view.and_then(|view| self.scanner.prepare_near(request.image, view));
            let near_view = near.map(|(picture, view)| {
                pictures.push(Ok(picture));
                view
            });
            prepared.push(view.map(|view| Prepared { view, near_view, time: watch.lap() }));
        }
        let mut layers = batch::infer(pictures, |pictures| self.scanner.infer(pictures)).into_iter();
        let frames = requests.iter().zip(prepared);
        let mut answer = |(request, prepared): (&FrameRequest, Option<Prepared>)| {
            let mut next = || layers.next().expect("an answer for each view");
            let far = next();
            let has_near = prepared.is_some_and(|prepared| prepared.near_view.is_some());
            let layers = Layers { far, near: has_near.then(next) };
            self.analyse(request, prepared, layers)
        };
        frames.map(&mut answer).collect()
    }

    fn analyse(
        &mut self,
        request: &FrameRequest,
        prepared: Option<Prepared>,
        layers: Layers,
    ) -> Result<Analysis, ExplainError> {
        let (layer, mut infer) = layers.far?;
        let near = layers.near.transpose()?;
        infer += near.as_ref().map_or(Duration::ZERO, |(_, time)| *time);
        let near = near.map(|(layer, _)| layer);
        let Prepared { view, near_view, time: prepare } = prepared.expect("what the network has seen was prepared");
        let mut watch = Stopwatch::start();
        let grid = layer.grid();
        let (reading, near_reading, reduction, basis) = match self.cache_settings(request.live) {
            Some(settings) => {
                let sighting = Sighting { source: request.source, live: request.live, pts: request.pts };
                let BasisReading { reading, near, reduction, basis } =
                    self.bases.read(&self.scanner, settings, sighting, &layer, near.as_ref())?;
                (reading, near, reduction, Some(basis))
            }
            None => {
                let layer = layer.to_host()?;
                let basis = self.scanner.fit(layer.activations.view())?;
                let folded = self.scanner.fold(&basis);
                let reading = folded.read_activations(layer.activations.view(), &basis.mean);
                let near = near.as_ref().map(|near| folded.read_layer(near)).transpose()?;
                (reading, near, Reduction::from(&basis), None)
            }
        };
        let read = watch.lap();
        let mut scan = self.scanner.find(reading, grid, view, reduction);
        if let (Some(reading), Some(layer), Some(near_view)) = (near_reading, near, near_view) {
            let near = self.scanner.find(reading, layer.grid(), near_view, reduction);
            scan = self.scanner.join(scan, near, view);
        }
        scan.keep_from(&self.thresholds);
        let heat = scan.heat();
        let (label, probabilities) = match (scan.detections.first(), scan.peaks.first()) {
            (Some(strongest), Some(&peak)) => (strongest.label, scan.posterior_at(peak)),
            _ => {
                let probabilities = self.most_like_a_face(&scan);
                (self.scanner.background().unwrap_or_else(|| argmax(&probabilities)), probabilities)
            }
        };
        Ok(Analysis {
            label,
            confidence: probabilities[label],
            probabilities,
            heat,
            box_probabilities: scan.peaks.iter().map(|&peak| scan.posterior_at(peak)).collect(),
            boxes: scan.detections,
            cam: CamSummary { method: Method::HayCam, reduction: Some(scan.reduction), basis },
            scan: Some(scan.size),
            times: AnalysisTimes { prepare, infer, explain: read + scan.times.maps, boxes: scan.times.regions },
            kept_for: None,
        })
    }

    fn cache_settings(&self, live: bool) -> Option<CacheSettings> {
        if live { self.settings.live } else { self.settings.recorded }
    }

    /// Probabilities at the position that is least probably background or, of a model that does not know it, surest of
    /// anything.
    fn most_like_a_face(&self, scan: &Scan) -> Array1<f32> {
        let face = |position: usize| {
            let probabilities = scan.posteriors.row(position);
            match self.scanner.background() {
                Some(background) => 1.0 - probabilities[background],
                None => probabilities.iter().copied().fold(0.0, f32::max),
            }
        };
        let likeliest = (0..scan.posteriors.nrows()).max_by(|&one, &other| face(one).total_cmp(&face(other)));
        scan.posteriors.row(likeliest.unwrap_or(0)).to_owned()
    }
}
