//! A frame scanned for faces, and what it is called as a whole for those who want one label.

use std::sync::Arc;
use std::time::Duration;

use ndarray::Array1;

use super::basis::{BasisReading, KnownQuestions, Seen, Sighting, SourceBases};
use super::batch::{self, Answer, each};
use super::{Analysis, AnalysisTimes, BasisSettings, CamBasis, CamSummary, FrameRequest, ScanAnalysisSettings};
use crate::explain::{ExplainError, Method, Reduction};
use crate::frame::Batch;
use crate::labels::argmax;
use crate::model::device_layer::{DeviceLayer, PendingLayer};
use crate::model::engine::Engine;
use crate::model::forward::ForwardRequest;
use crate::model::picture::Picture;
use crate::pca::{CacheSettings, RefitCounts};
use crate::recycled::Recycled;
use crate::scan::{self, Finder, Scan, ScanView, Scanner, near};
use crate::stopwatch::Stopwatch;

/// A scanner and what counts.
#[derive(Debug)]
pub(super) struct Scanned {
    scanner: Scanner,
    finder: Finder,
    /// Score from which each class counts.
    thresholds: Vec<f32>,
    settings: BasisSettings,
    bases: SourceBases,
}

/// The side that hands frames to the network. It alone has the scanner, which threads can hand on but not share.
#[derive(Debug)]
pub(super) struct Submission<'a> {
    scanner: &'a mut Scanner,
    known: Arc<KnownQuestions>,
}

/// The side that takes the answers.
#[derive(Debug)]
pub(super) struct Completion<'a> {
    bases: &'a mut SourceBases,
    settings: BasisSettings,
    finder: &'a Finder,
    thresholds: &'a [f32],
}

/// Frames that the network is looking at.
#[derive(Debug)]
pub(super) struct Pending {
    /// How each was prepared; nothing of those that could not be.
    frames: Batch<(Sighting, Option<Prepared>)>,
    /// Of each view of each frame.
    layers: Batch<Answer<PendingLayer>>,
}

/// The layers of a frame's views.
struct Layers {
    far: Answer<DeviceLayer>,
    near: Option<Answer<DeviceLayer>>,
    /// The frame's share of what waiting for them took.
    wait: Duration,
}

/// How a frame was prepared.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    view: ScanView,
    near_view: Option<ScanView>,
    time: Duration,
}

/// A frame under a basis, and all else that is left of it.
struct SeenFrame {
    far: (Seen, ScanView),
    near: Option<(Seen, ScanView)>,
    reduction: Reduction,
    basis: Option<CamBasis>,
    times: AnalysisTimes,
}

impl Scanned {
    pub(super) fn new(engine: Engine, settings: ScanAnalysisSettings) -> Self {
        let scanner = Scanner::new(engine, settings.scan);
        let thresholds = settings.thresholds(scanner.classes());
        let bases = SourceBases::new(scanner.folding().clone());
        let finder = scanner.finder().clone();
        Self { scanner, finder, thresholds, settings: settings.basis, bases }
    }

    pub(super) fn classes(&self) -> &[String] {
        self.scanner.classes()
    }

    pub(super) fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    pub(super) fn refits(&self, source: usize) -> Option<RefitCounts> {
        self.bases.refits(source)
    }

    pub(super) fn sides(&mut self) -> (Submission<'_>, Completion<'_>) {
        let Self { scanner, finder, thresholds, settings, bases } = self;
        let known = Arc::clone(bases.known());
        (Submission { scanner, known }, Completion { bases, settings: *settings, finder, thresholds })
    }
}

impl Submission<'_> {
    pub(super) fn engine(&self) -> &Engine {
        self.scanner.engine()
    }

    pub(super) fn submit(&mut self, requests: &[FrameRequest], taken: &[Picture], take: Duration) -> Pending {
        let mut pictures: Batch<Result<_, ExplainError>> = Batch::new();
        let mut prepared: Batch<Option<Prepared>> = Batch::new();
        for (request, picture) in requests.iter().zip(taken) {
            let mut watch = Stopwatch::start();
            match self.scanner.prepare_taken(picture) {
                Err(error) => {
                    pictures.push(Err(error));
                    prepared.push(None);
                }
                Ok(scan::Prepared { far: (far, view), near }) => {
                    let (near, near_view) = near.unzip();
                    let questions = self.known.of(request.source);
                    pictures.push(Ok(ForwardRequest { picture: far, questions: questions.clone() }));
                    pictures.extend(near.map(|near| Ok(ForwardRequest { picture: near, questions })));
                    prepared.push(Some(Prepared { view, near_view, time: take + watch.lap() }));
                }
            }
        }
        let size_of = |request: &ForwardRequest| request.picture.dimensions();
        let layers = batch::infer(pictures, size_of, |pictures| self.scanner.engine().begin_layer4(pictures));
        Pending { frames: requests.iter().map(Sighting::from).zip(prepared).collect(), layers }
    }
}

impl Completion<'_> {
    pub(super) fn forget(&mut self, source: usize) {
        self.bases.forget(source);
    }

    pub(super) fn complete(&mut self, Pending { frames, layers }: Pending) -> Batch<Result<Analysis, ExplainError>> {
        let (layers, wait) = batch::wait(layers, frames.len());
        let mut layers = layers.into_iter();
        let mut next = || layers.next().expect("an answer for each view");
        // Bases see frames in their order. What comes after them depends on nothing else.
        let seen = frames.into_iter().map(|(sighting, prepared)| {
            let far = next();
            let has_near = prepared.is_some_and(|prepared| prepared.near_view.is_some());
            self.see(sighting, prepared, Layers { far, near: has_near.then(&mut next), wait })
        });
        let seen: Batch<_> = seen.collect();
        let (finder, thresholds) = (self.finder, self.thresholds);
        each(seen, |frame| Ok(find(finder, thresholds, frame?)))
    }

    fn see(
        &mut self,
        sighting: Sighting,
        prepared: Option<Prepared>,
        Layers { far, near, wait }: Layers,
    ) -> Result<SeenFrame, ExplainError> {
        let ((layer, far_time), near) = (far?, near.transpose()?);
        let (near_layer, near_time) = near.unzip();
        let infer = far_time + near_time.unwrap_or_default() + wait;
        let mut watch = Stopwatch::start();
        let Prepared { view, near_view, time: prepare } = prepared.expect("what the network has seen was prepared");
        let (far, near, reduction, basis) = match self.cache_settings(sighting.live) {
            Some(settings) => {
                let BasisReading { seen, near, reduction, basis } =
                    self.bases.read(settings, sighting, &layer, near_layer.as_ref())?;
                (seen, near, reduction, Some(basis))
            }
            None => {
                let folding = self.bases.folding();
                let basis = folding.fit(layer.activations()?.view())?;
                let folded = folding.fold(&basis);
                let near = near_layer.map(|near| Seen::new(&folded, &near)).transpose()?;
                (Seen::new(&folded, &layer)?, near, Reduction::from(&basis), None)
            }
        };
        let times = AnalysisTimes { prepare, infer, explain: watch.lap(), boxes: Duration::ZERO };
        Ok(SeenFrame { far: (far, view), near: near.zip(near_view), reduction, basis, times })
    }

    fn cache_settings(&self, live: bool) -> Option<CacheSettings> {
        if live { self.settings.live } else { self.settings.recorded }
    }
}

/// From what activations say to faces.
fn find(finder: &Finder, thresholds: &[f32], frame: SeenFrame) -> Analysis {
    let SeenFrame { far: (far, view), near, reduction, basis, times } = frame;
    let mut watch = Stopwatch::start();
    let (reading, grid) = far.read();
    let near = near.map(|(near, near_view)| (near.read(), near_view));
    let times = AnalysisTimes { explain: times.explain + watch.lap(), ..times };
    let mut scan = finder.find(reading, grid, view, reduction);
    if let Some(((reading, grid), near_view)) = near {
        let near = finder.find(reading, grid, near_view, reduction);
        scan = near::join(scan, near, view);
    }
    scan.keep_from(thresholds);
    let heat = scan.heat();
    let (label, probabilities) = match (scan.detections.first(), scan.peaks.first()) {
        (Some(strongest), Some(&peak)) => (strongest.label, scan.posterior_at(peak)),
        _ => {
            let probabilities = most_like_a_face(&scan, finder.background());
            (finder.background().unwrap_or_else(|| argmax(&probabilities)), probabilities)
        }
    };
    Analysis {
        label,
        confidence: probabilities[label],
        probabilities,
        heat,
        box_probabilities: scan.peaks.iter().map(|&peak| scan.posterior_at(peak)).collect(),
        boxes: scan.detections,
        cam: CamSummary { method: Method::HayCam, reduction: Some(scan.reduction), basis },
        scan: Some(scan.size),
        times: AnalysisTimes { explain: times.explain + scan.times.maps, boxes: scan.times.regions, ..times },
        kept_for: None,
    }
}

/// Probabilities at the position that is least probably background or, of a model that does not know it, surest of anything.
fn most_like_a_face(scan: &Scan, background: Option<usize>) -> Recycled<Array1<f32>> {
    let posteriors = scan.reading.posteriors();
    let face = |position: usize| {
        let probabilities = posteriors.row(position);
        match background {
            Some(background) => 1.0 - probabilities[background],
            None => probabilities.iter().copied().fold(0.0, f32::max),
        }
    };
    let likeliest = (0..posteriors.nrows()).max_by(|&one, &other| face(one).total_cmp(&face(other)));
    scan.reading.posterior_at(likeliest.unwrap_or(0))
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
            let (mut submission, mut completion) = scanned.sides();
            let taken = requests.map(|request| submission.engine().take(request.image));
            let pending = submission.submit(&requests, &taken, Duration::ZERO);
            completion.complete(pending).into_iter().map(Result::unwrap).collect::<Vec<Analysis>>()
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
            let difference = (&*cpu.heat - &*gpu.heat).iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(difference < 0.03, "{difference}");
        }
        assert_eq!(gpu[2].cam.basis.unwrap().id, gpu[0].cam.basis.unwrap().id);
    }

    #[test]
    fn what_will_be_asked_is_answered_with_the_pass_once_a_basis_is_there() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet18-scenes.safetensors");
        let scan = ScanSettings { short_side: 352, ..ScanSettings::default() };
        let settings = ScanAnalysisSettings { scan, threshold: None, basis: BasisSettings::default() };
        let frame = frame();
        let mut scanned = Scanned::new(Engine::load_as_on_gpu(&model).unwrap(), settings);
        let (mut submission, mut completion) = scanned.sides();
        let mut submit = |source| {
            let request = FrameRequest { source, image: &frame, live: false, pts: Duration::ZERO };
            let taken = submission.engine().take(&frame);
            submission.submit(&[request], &[taken], Duration::ZERO)
        };
        let mut are_answered = |pending: Pending| {
            let are = pending.layers.iter().all(|layer| layer.as_ref().is_ok_and(|(layer, _)| layer.is_asked()));
            let analysis = completion.complete(pending).remove(0).unwrap();
            (are, analysis.boxes)
        };
        let (first, second_ahead) = (submit(0), submit(0));
        let (is_asked, expected) = are_answered(first);
        assert!(!is_asked && !expected.is_empty(), "nothing is known yet");
        assert!(!are_answered(second_ahead).0);
        for source in [0, 1, 0] {
            let (is_asked, boxes) = are_answered(submit(source));
            assert_eq!(is_asked, source == 0, "each source has its own questions");
            assert_eq!(boxes.len(), expected.len());
            for (found, expected) in boxes.iter().zip(&expected) {
                assert!(found.rect.iou(expected.rect) > 0.99 && (found.score - expected.score).abs() < 1e-3);
            }
        }
    }
}
