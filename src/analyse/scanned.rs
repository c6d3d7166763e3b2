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
use crate::scan::{self, Scan, ScanView, Scanner};
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
            match self.scanner.prepare(request.image) {
                Err(error) => {
                    pictures.push(Err(error));
                    prepared.push(None);
                }
                Ok(scan::Prepared { far: (far, view), near }) => {
                    let (near, near_view) = near.unzip();
                    pictures.extend([Some(far), near].into_iter().flatten().map(Ok));
                    prepared.push(Some(Prepared { view, near_view, time: watch.lap() }));
                }
            }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::RgbImage;
    use image::imageops::{FilterType, overlay, resize};
    use tch::Device;

    use super::*;
    use crate::capture::stills::read_image;
    use crate::scan::ScanSettings;

    /// Two faces, one of them near.
    fn frame() -> RgbImage {
        let portrait = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/collins_no_mask.jpg");
        let portrait = read_image(&portrait).unwrap();
        let mut frame = RgbImage::from_pixel(1280, 720, image::Rgb([110; 3]));
        overlay(&mut frame, &resize(&portrait, 900, 675, FilterType::Triangle), 0, 40);
        overlay(&mut frame, &resize(&portrait, 320, 240, FilterType::Triangle), 940, 60);
        frame
    }

    #[test]
    fn what_a_gpu_finds_is_what_a_cpu_finds() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet18-scenes.safetensors");
        let scan = ScanSettings { short_side: 352, ..ScanSettings::default() };
        let settings = ScanAnalysisSettings { scan, threshold: None, basis: BasisSettings::default() };
        let frame = frame();
        // Each source has a basis; the second frame of a source finds it there.
        let requests = [0, 1, 0].map(|source| FrameRequest { source, image: &frame, live: false, pts: Duration::ZERO });
        let analyses = |engine: Engine| {
            let mut scanned = Scanned::new(engine, settings);
            scanned.analyse_batch(&requests).into_iter().map(Result::unwrap).collect::<Vec<Analysis>>()
        };
        let cpu = analyses(Engine::load(&model, Device::Cpu).unwrap());
        let gpu = analyses(Engine::load_as_on_gpu(&model).unwrap());
        assert!(cpu[0].boxes.len() >= 2, "{:?}", cpu[0].boxes);
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert_eq!((cpu.label, cpu.scan, cpu.boxes.len()), (gpu.label, gpu.scan, gpu.boxes.len()));
            assert!((cpu.confidence - gpu.confidence).abs() < 0.01, "{} {}", cpu.confidence, gpu.confidence);
            for (cpu, gpu) in cpu.boxes.iter().zip(&gpu.boxes) {
                let overlap = cpu.rect.iou(gpu.rect);
                assert!(cpu.label == gpu.label && overlap > 0.95, "{cpu:?} {gpu:?}");
                assert!((cpu.score - gpu.score).abs() < 0.02, "{cpu:?} {gpu:?}");
            }
            let difference = (&cpu.heat - &gpu.heat).iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(difference < 0.03, "{difference}");
        }
        assert_eq!(gpu[2].cam.basis.unwrap().id, gpu[0].cam.basis.unwrap().id);
    }
}
