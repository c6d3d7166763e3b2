//! `maskwatch run`: sources through the pipeline.

use anyhow::Context;

use crate::analyse::Analyser;
use crate::capture::SourceInfo;
use crate::cli::{ProgressArg, RunArgs};
use crate::config::{RunConfig, has_display};
use crate::draw::Annotator;
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::pipeline::{self, Observer, Problem};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::sinks::Sink;
use crate::sinks::events::Events;
use crate::threads;

/// Runs until the sources end or the user stops it.
///
/// # Errors
///
/// When the command line cannot be carried out; what goes wrong later is logged, and shows in the exit code.
pub fn run(args: &RunArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let config = RunConfig::new(args, has_display())?;
    threads::size_pools(config.threads);
    let device = device::resolve(config.device)?;
    let analyser = Analyser::load(&config.model, device, config.analysis)?;
    let annotator = Annotator::new()?;
    let sinks = open_sinks(&config)?;
    if sinks.is_empty() {
        tracing::info!("no output asked for: only the summary will be shown (see --save, --events, --show)");
    }
    tracing::info!("{} on {}", config.model.display(), device::name(device));

    let mut observer = Display { progress: args.progress, limit: args.limit, current: Vec::new() };
    let summary = pipeline::run(&config.run, analyser, annotator, sinks, &mut observer, shutdown);
    let to_stdout = config.events.as_deref().is_some_and(|path| path == "-");
    if to_stdout {
        eprint!("{summary}");
    } else {
        super::print(summary.to_string().as_bytes()).context("cannot print the summary")?;
    }
    Ok(summary.exit_code())
}

fn open_sinks(config: &RunConfig) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    #[cfg(feature = "gstreamer")]
    if let Some(target) = &config.save {
        sinks.push(Box::new(crate::sinks::save::Save::create(target.clone(), config.run.sources.clone())?));
    }
    if let Some(path) = &config.events {
        sinks.push(Box::new(Events::create(path)?));
    }
    #[cfg(feature = "opencv")]
    if config.show {
        sinks.push(Box::<crate::sinks::window::Window>::default());
    }
    Ok(sinks)
}

/// Shows progress and problems.
struct Display {
    progress: ProgressArg,
    limit: Option<u64>,
    current: Vec<(String, Progress)>,
}

impl Observer for Display {
    fn opened(&mut self, source: &SourceInfo) {
        let total = match (source.frame_count, self.limit) {
            (Some(count), Some(limit)) => Some(count.min(limit)),
            (count, limit) => count.or(limit),
        };
        // A bar for a single picture would be gone before it is seen.
        if total != Some(1) {
            self.current.push((source.name.clone(), Progress::new(self.progress, &source.name, total, "frames")));
        }
    }

    fn frame(&mut self, source: &SourceInfo, frames_done: u64) {
        if let Some((_, progress)) = self.current.iter_mut().find(|(name, _)| *name == source.name) {
            progress.update(frames_done, "");
        }
    }

    fn closed(&mut self, name: &str) {
        self.current.retain(|(current, progress)| {
            if current == name {
                progress.finish();
            }
            current != name
        });
    }

    fn problem(&mut self, problem: &Problem) {
        tracing::error!("{problem}");
    }
}
