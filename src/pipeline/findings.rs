//! From analyses to findings, shared by all sinks: the stage that knows what each source has delivered.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::Problem;
use super::delivery::{Delivery, Message, Outcome};
use super::report::Report;
use super::stages::Analysed;
use super::summary::StageTimes;
use crate::analyse::Analysis;
use crate::capture::{CaptureError, Policy, SourceInfo};
use crate::draw::Annotator;
use crate::frame::Frame;
use crate::shutdown::Shutdown;
use crate::sinks::Finding;
use crate::stats::{DropStage, RunStats};

/// Hands findings to the sinks.
pub(super) struct Findings {
    pub(super) classes: Arc<[String]>,
    pub(super) annotator: Arc<Annotator>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) reports: Sender<Report>,
    pub(super) stats: Arc<RunStats>,
    pub(super) shutdown: Shutdown,
    /// Overrides what suits each source.
    pub(super) policy: Option<Policy>,
    pub(super) sources: BTreeMap<usize, OpenSource>,
    pub(super) times: StageTimes,
}

/// A source that has delivered a frame.
pub(super) struct OpenSource {
    info: Arc<SourceInfo>,
    frames: u64,
}

impl Findings {
    /// Takes analyses until inference ends.
    pub(super) fn run(mut self, analyses: &Receiver<Analysed>) -> StageTimes {
        let had_sinks = !self.deliveries.is_empty();
        for analysed in analyses {
            match analysed {
                Analysed::Frame { source, info, frame, analysis } => self.frame(source, info, *frame, *analysis),
                Analysed::Closed { source, error } => self.close(source, error),
            }
            if had_sinks && self.deliveries.is_empty() {
                // Nobody is left to run for.
                self.shutdown.request();
            }
        }
        self.times
    }

    fn frame(&mut self, source: usize, info: Arc<SourceInfo>, frame: Frame, analysis: Analysis) {
        let info = self.opened(source, info, frame.image.dimensions());
        self.times.add(&frame, &analysis);
        let faces = analysis.boxes.iter().map(|found| self.classes[found.label].as_str());
        self.stats.analysed(source, &self.classes[analysis.label], faces);
        if self.deliveries.is_empty() {
            self.stats.latency(source, "analysis", frame.read_started.elapsed());
        }
        let is_live = self.policy.unwrap_or(info.policy) == Policy::Live;
        let (classes, annotator) = (Arc::clone(&self.classes), Arc::clone(&self.annotator));
        let finding = Arc::new(Finding::new(source, info, frame, analysis, classes, annotator));
        self.each(|delivery, stats, shutdown| {
            let outcome = delivery.frame(Arc::clone(&finding), is_live, shutdown);
            if outcome == Outcome::Dropped {
                stats.dropped(source, DropStage::Sink(delivery.name), 1);
            }
            outcome
        });
        if let Some(open) = self.sources.get_mut(&source) {
            open.frames += 1;
            let frames_done = open.frames;
            self.tell(Report::Frame { source, frames_done });
        }
    }

    /// What is known of a source, whose frames have this size: what a camera declares and what it delivers may differ, and
    /// what it delivers may change.
    fn opened(&mut self, source: usize, info: Arc<SourceInfo>, (width, height): (u32, u32)) -> Arc<SourceInfo> {
        if let Some(open) = self.sources.get(&source)
            && (open.info.width, open.info.height) == (width, height)
        {
            return Arc::clone(&open.info);
        }
        let info = Arc::new(SourceInfo { width, height, ..SourceInfo::clone(&info) });
        match self.sources.get_mut(&source) {
            Some(open) => open.info = Arc::clone(&info),
            None => {
                self.sources.insert(source, OpenSource { info: Arc::clone(&info), frames: 0 });
                self.tell(Report::Opened { source, info: Arc::clone(&info) });
            }
        }
        self.each(|delivery, _, _| delivery.send(Message::Open { source, info: Arc::clone(&info) }));
        info
    }

    fn close(&mut self, source: usize, error: Option<CaptureError>) {
        self.each(|delivery, _, _| delivery.send(Message::Close(source)));
        self.tell(Report::Closed { source });
        if let Some(error) = error {
            self.tell(Report::Problem(Problem::from(error)));
        }
    }

    /// Does something with each sink that still takes messages.
    fn each(&mut self, mut act: impl FnMut(&Delivery, &RunStats, &Shutdown) -> Outcome) {
        let (stats, shutdown) = (&self.stats, &self.shutdown);
        self.deliveries.retain(|delivery| act(delivery, stats, shutdown) != Outcome::Gone);
    }

    fn tell(&self, report: Report) {
        // Without a listener the run is over, and so is the interest in it.
        let _ = self.reports.send(report);
    }
}
