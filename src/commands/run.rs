//! `maskwatch run`: sources through the pipeline.

use std::io::Write;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analyse::{Analyser, BatchLimit};
use crate::capture::{Policy, SourceInfo, SourceSpec};
use crate::cli::{ProgressArg, RunArgs};
use crate::config::RunConfig;
#[cfg(feature = "serve")]
use crate::config::serve::LiveOutputs;
use crate::draw::Annotator;
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::model::engine::Engine;
use crate::model::identity::identity;
use crate::pipeline::summary::Summary;
use crate::pipeline::{self, Observer, Problem, RunSettings};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::sinks::events::Events;
use crate::sinks::moments::Moments;
#[cfg(feature = "gstreamer")]
use crate::sinks::rtsp::RtspOut;
#[cfg(feature = "serve")]
use crate::sinks::serve::{Serve, ServeLimits, ServeSettings};
use crate::sinks::stats_file::{self, StatsFile};
use crate::sinks::{Sink, SinkError};
use crate::stats::RunStats;
use crate::threads;

/// Runs until the sources end or the user stops it.
///
/// # Errors
///
/// When the command line cannot be carried out; what goes wrong later is logged, and shows in the exit code.
pub fn run(args: &RunArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let mut config = RunConfig::new(args)?;
    if args.check {
        Engine::load(&config.model, device::resolve(config.device)?)?.with_precision(config.precision)?;
        let sources = config.run.sources.len();
        return super::print(
            format!("{sources} source{}, all options valid\n", if sources == 1 { "" } else { "s" }).as_bytes(),
        );
    }
    let stats = Arc::new(RunStats::new(config.run.sources.iter().map(|source| source.name.clone())));
    // First, because an address that is taken should be told before a model is loaded.
    let mut sinks = open_live_outputs(&config, &stats)?;
    threads::size_pools(config.threads);
    let engine = Engine::load(&config.model, device::resolve(config.device)?)?;
    let engine = engine.with_precision(config.precision)?.with_resolution(config.resolution)?;
    let (device, precision) = (engine.device(), engine.precision());
    config.run.model = identity(&config.model)?;
    let engine = if config.view.needs_gradients() { engine } else { engine.for_forward_passes() };
    let mut analyser = Analyser::new(engine, config.view);
    config.run.batch = match config.batch {
        Some(frames) => BatchLimit::of_frames(frames),
        None => analyser.suitable_batch(config.run.frames_can_wait()),
    };
    let annotator = Annotator::new()?;
    sinks.extend(open_files(&config, &stats)?);
    #[cfg(feature = "opencv")]
    if config.show {
        sinks.push(Box::new(crate::sinks::window::Window::new(shutdown.clone())));
    }
    if sinks.is_empty() {
        tracing::info!("no output asked for: only the summary will be shown (see --save, --events, --serve, --show)");
    }
    tracing::info!("{} on {} in {precision} precision", config.model.display(), device::name(device));

    let mut display = Display::new(args.progress, &config.run);
    let mut summary = pipeline::run(&config.run, &mut analyser, annotator, sinks, &stats, &mut display, shutdown);
    if let Err(error) = write_last_figures(&config, &summary) {
        let problem = Problem::from(error);
        display.problem(&problem);
        summary.problems.push(problem);
    }
    drop(display);
    let to_stdout = config.events.as_deref().is_some_and(|path| path == "-");
    if to_stdout {
        // Nobody may be listening any more; the events are out all the same.
        let _ = write!(std::io::stderr(), "{summary}");
    } else {
        super::print(summary.to_string().as_bytes())?;
    }
    Ok(summary.exit_code())
}

#[allow(unused_mut, unused_variables, reason = "a build may lack both")]
fn open_live_outputs(config: &RunConfig, stats: &Arc<RunStats>) -> Result<Vec<Box<dyn Sink>>, SinkError> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    let names = || config.run.sources.iter().map(|source| source.name.clone());
    let live = &config.live;
    #[cfg(feature = "serve")]
    if let Some(address) = live.serve {
        let settings = ServeSettings { address, token: live.token.clone(), limits: ServeLimits::default() };
        let serve = Serve::create(&settings, names(), Arc::clone(stats))?;
        tracing::info!("live page: http://{}/{}", serve.address(), token_hint(live));
        sinks.push(Box::new(serve));
    }
    #[cfg(feature = "gstreamer")]
    if let Some(address) = live.rtsp_out {
        let rtsp = RtspOut::create(address, live.token.as_ref(), names())?;
        for address in rtsp.addresses() {
            tracing::info!("live stream: {address}");
        }
        sinks.push(Box::new(rtsp));
    }
    Ok(sinks)
}

/// The token itself belongs in no log.
#[cfg(feature = "serve")]
fn token_hint(live: &LiveOutputs) -> &'static str {
    if live.token.is_some() { "?token=TOKEN" } else { "" }
}

fn open_files(config: &RunConfig, stats: &Arc<RunStats>) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    #[cfg(feature = "gstreamer")]
    if let Some(target) = &config.save {
        let specs = config.run.sources.iter().map(|source| source.spec.clone()).collect();
        let save = crate::sinks::save::Save::create(target.clone(), specs, config.segment_length)?;
        sinks.push(Box::new(save.with_preset(config.save_preset.map(Into::into).unwrap_or_default())));
    }
    if let Some(path) = &config.events {
        let is_live = config.run.sources.iter().any(|source| source.spec.policy() == Policy::Live);
        // What was recorded can be run again; what was live is kept.
        let rotation = is_live.then_some(config.rotation);
        sinks.push(Box::new(Events::create(path, rotation)?));
    }
    if let Some(folder) = &config.snapshots {
        sinks.push(Box::new(Moments::open(folder, config.snapshot_limits)?));
    }
    if let Some(path) = &config.stats {
        sinks.push(Box::new(StatsFile::create(path.clone(), Arc::clone(stats))?));
    }
    Ok(sinks)
}

/// What became of the outputs is known only when all have ended. Where figures could not be written, nothing is tried again.
fn write_last_figures(config: &RunConfig, summary: &Summary) -> Result<(), SinkError> {
    match &config.stats {
        Some(path) if summary.stats.failed_sinks().all(|(sink, _)| sink != stats_file::NAME) => {
            stats_file::write(path, &summary.stats)
        }
        _ => Ok(()),
    }
}

/// Shows progress and problems.
struct Display {
    when: ProgressArg,
    limit: Option<u64>,
    /// A bar for each source that has more than one frame.
    sources: BTreeMap<usize, Progress>,
    /// Which sources are single pictures, and one bar for all of them.
    is_picture: Vec<bool>,
    pictures: Progress,
    pictures_done: u64,
}

impl Display {
    fn new(when: ProgressArg, run: &RunSettings) -> Self {
        let is_picture: Vec<bool> =
            run.sources.iter().map(|source| matches!(source.spec, SourceSpec::Image(_))).collect();
        let pictures = is_picture.iter().filter(|is_picture| **is_picture).count() as u64;
        // A bar for a single picture would be gone before it is seen.
        let pictures_when = if pictures > 1 { when } else { ProgressArg::Never };
        Self {
            when,
            limit: run.limit,
            sources: BTreeMap::new(),
            is_picture,
            pictures: Progress::new(pictures_when, "pictures", Some(pictures), "pictures"),
            pictures_done: 0,
        }
    }
}

impl Observer for Display {
    fn opened(&mut self, source: usize, info: &SourceInfo) {
        let total = match (info.frame_count, self.limit) {
            (Some(count), Some(limit)) => Some(count.min(limit)),
            (count, limit) => count.or(limit),
        };
        if !self.is_picture[source] {
            self.sources.insert(source, Progress::new(self.when, &info.name, total, "frames"));
        }
    }

    fn frame(&mut self, source: usize, frames_done: u64) {
        if let Some(progress) = self.sources.get_mut(&source) {
            progress.update(frames_done, "");
        }
    }

    fn closed(&mut self, source: usize) {
        if let Some(progress) = self.sources.remove(&source) {
            progress.finish();
        }
        if self.is_picture[source] {
            self.pictures_done += 1;
            self.pictures.update(self.pictures_done, "");
        }
    }

    fn problem(&mut self, problem: &Problem) {
        tracing::error!("{problem}");
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.pictures.finish();
        self.sources.values().for_each(Progress::finish);
    }
}
