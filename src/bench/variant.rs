//! One variant: a model loaded with its options, and what a turn of it measures.

use std::path::Path;

use super::BenchError;
use super::frames::Frames;
use super::laps::{Laps, Turn};
use super::pipeline::PipelineRun;
use super::report::Options;
use super::saving::Saving;
use super::scan::ScanStages;
use super::stage::Stage;
use super::whole::WholeStages;
use crate::analyse::{Analyser, BatchLimit, FrameRequest, Steps, View};
use crate::boxes::PerBox;
use crate::capture::SourceSpec;
use crate::config::available_threads;
use crate::config::bench::VariantSettings;
use crate::draw::Annotator;
use crate::frame::{Frame, SharedImage};
use crate::model::device;
use crate::model::engine::Engine;
use crate::model::resnet::Resolution;
use crate::scan::ScanView;
use crate::shutdown::Shutdown;
use crate::sinks::Sink;
use crate::stopwatch::Stopwatch;
use crate::threads;
use crate::track::{Sighting, TrackSettings, Tracker};

/// Frames of a turn on which stages are timed one by one, or a forward pass of more.
const STAGE_FRAMES: usize = 8;

/// Number of the only source.
const SOURCE: usize = 0;

/// A variant that is ready.
pub(super) struct Variant {
    settings: VariantSettings,
    batch: usize,
    frames: Frames,
    analyser: Analyser,
    stages: Stages,
    annotator: Annotator,
    tracker: Tracker,
    run: PipelineRun,
    saving: Saving,
}

/// The stages that differ by how frames are seen.
enum Stages {
    Whole(Box<WholeStages>),
    Scan(Box<ScanStages>),
}

impl Variant {
    /// Loads the model and opens the source; videos will be written into `folder`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used.
    pub(super) fn load(settings: &VariantSettings, folder: &Path) -> Result<Self, BenchError> {
        let frames = Frames::open(settings.source.clone())?;
        // Engines take as many threads as there are when they are loaded.
        threads::size_pools(settings.threads);
        let engine = Engine::load(&settings.model, device::resolve(settings.device)?)?;
        let engine = engine.with_precision(settings.precision)?.with_resolution(settings.resolution)?;
        let analyser = Analyser::new(engine, settings.view);
        let limit = match settings.batch {
            Some(frames) => BatchLimit::of_frames(frames),
            None => analyser.suitable_batch(true),
        };
        let stages = match settings.view {
            View::Scan(view) => Stages::Scan(Box::new(ScanStages::new(&view, analyser.classes()))),
            View::Whole(view) => {
                Stages::Whole(Box::new(WholeStages::new(&settings.methods, settings.method_settings, view)))
            }
        };
        let (width, height) = frames.size();
        let frame_bytes = 3 * width as usize * height as usize;
        let tracker = Tracker::new(TrackSettings::default(), analyser.classes());
        let run = PipelineRun::new(settings.source.clone(), settings.frames, frame_bytes, limit);
        Ok(Self {
            settings: settings.clone(),
            batch: limit.most_of(frame_bytes),
            frames,
            analyser,
            stages,
            annotator: Annotator::new()?,
            tracker,
            run,
            saving: Saving::new(folder, &settings.source, settings.save_preset),
        })
    }

    /// What it is measured with; all of it is known after a turn.
    pub(super) fn options(&self) -> Options {
        let settings = &self.settings;
        let views = match &self.stages {
            Stages::Scan(stages) => stages.views(),
            Stages::Whole(_) => None,
        };
        let engine = match self.analyser.steps() {
            Steps::Whole(engine, _) => engine,
            Steps::Scan(scanner) => scanner.engine(),
        };
        let size = |view: ScanView| (view.size.width, view.size.height);
        Options {
            video: match &settings.source {
                SourceSpec::VideoFile(path) => Some(path.display().to_string()),
                _ => None,
            },
            frame_size: self.frames.size(),
            frames: settings.frames,
            scan: settings.scan.to_string(),
            scan_size: views.map(|(far, _)| size(far)),
            near_size: views.and_then(|(_, near)| near).map(size),
            resolution: match settings.resolution {
                Resolution::Native => "native",
                Resolution::Atrous => "atrous",
            },
            methods: settings.methods.iter().map(|method| method.name()).collect(),
            model: settings.model.display().to_string(),
            device: device::name(engine.device()),
            precision: engine.precision().to_string(),
            threads: settings.threads.unwrap_or_else(available_threads),
            batch: self.batch,
            save_preset: self.saving.preset_name(),
        }
    }

    /// Measures each stage once; nothing if the end was asked for meanwhile.
    ///
    /// # Errors
    ///
    /// When a stage fails.
    pub(super) fn turn(&mut self, shutdown: &Shutdown) -> Result<Option<Turn>, BenchError> {
        threads::size_pools(self.settings.threads);
        let mut laps = Laps::default();
        let frames = self.frames.next(STAGE_FRAMES.next_multiple_of(self.batch))?;
        if !matches!(self.settings.source, SourceSpec::Synthetic { .. }) {
            laps.add(Stage::Decode, frames.iter().map(|frame| frame.decode_time).sum(), frames.len());
        }
        match (&mut self.stages, self.analyser.steps()) {
            (Stages::Whole(stages), Steps::Whole(engine, folding)) => {
                stages.time((engine, folding), &frames, self.batch, &mut laps)?;
            }
            (Stages::Scan(stages), Steps::Scan(scanner)) => stages.time(scanner, &frames, self.batch, &mut laps)?,
            _ => unreachable!("the stages were made for the analyser's view"),
        }
        if shutdown.is_requested() {
            return Ok(None);
        }
        let drawn = self.draw(&frames, &mut laps)?;
        self.saving.encode(&drawn, &mut laps)?;
        if !self.run(Stage::Analysis, Vec::new(), &mut laps, shutdown)? {
            return Ok(None);
        }
        if let Some(sink) = self.saving.sink()?
            && !self.run(Stage::Whole, vec![sink], &mut laps, shutdown)?
        {
            return Ok(None);
        }
        Ok(Some(laps.turn()))
    }

    /// Times drawing of what is found, and gives the pictures.
    fn draw(&mut self, frames: &[Frame], laps: &mut Laps) -> Result<Vec<SharedImage>, BenchError> {
        let mut drawn = Vec::with_capacity(frames.len());
        let classes = self.analyser.classes().to_vec();
        for frames in frames.chunks(self.batch) {
            let requests = frames.iter().map(|frame| FrameRequest {
                source: SOURCE,
                image: &frame.image,
                live: false,
                pts: frame.pts,
            });
            let requests: Vec<FrameRequest> = requests.collect();
            for (frame, analysis) in frames.iter().zip(self.analyser.analyse_batch(&requests)) {
                let analysis = analysis?;
                let sightings: PerBox<Sighting> = (analysis.boxes.iter().zip(&analysis.box_probabilities))
                    .map(|(&detection, probabilities)| Sighting { detection, posterior: probabilities.as_slice() })
                    .collect();
                let update = self.tracker.update(frame.pts, frame.image.dimensions(), &sightings);
                let mut watch = Stopwatch::start();
                let picture = self.annotator.annotated(&frame.image, &analysis, &update.tracks, &classes);
                laps.add(Stage::Draw, watch.lap(), 1);
                drawn.push(picture.into());
            }
        }
        Ok(drawn)
    }

    /// Times a run of the pipeline; false if the end was asked for meanwhile.
    fn run(
        &mut self,
        stage: Stage,
        sinks: Vec<Box<dyn Sink>>,
        laps: &mut Laps,
        shutdown: &Shutdown,
    ) -> Result<bool, BenchError> {
        // What is kept is of the frames that were measured before.
        self.analyser.forget(SOURCE);
        let Some(time) = self.run.time(&mut self.analyser, sinks, shutdown)? else { return Ok(false) };
        laps.add(stage, time, 1);
        Ok(true)
    }
}
