//! From analyses to findings, shared by all sinks: the stage that knows what each source has delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender};

use super::Problem;
use super::delivery::{Delivery, Message, Outcome};
use super::report::Report;
use super::stages::Analysed;
use super::summary::StageTimes;
use crate::analyse::Analysis;
use crate::boxes::PerBox;
use crate::capture::{CaptureError, Policy, SourceInfo, SourceState};
use crate::draw::Annotator;
use crate::frame::Frame;
use crate::labels::NO_MASK;
use crate::shared::{Places, Shared};
use crate::shutdown::Shutdown;
use crate::sinks::{Finding, Happening, Notice, Origin};
use crate::stats::RunStats;
use crate::track::{Alarm, Alarms, Sighting, TrackChange, TrackEvent, TrackSettings, TrackUpdate, Tracker};

/// Reports that may wait before those of progress are left out.
const MOST_REPORTS: usize = 64;

/// Hands findings to the sinks.
pub(super) struct Findings {
    pub(super) origin: Arc<Origin>,
    /// Names of the sources, in the order that the user gave.
    pub(super) names: Vec<Arc<str>>,
    /// For how long somebody may have the label that raises alarms.
    pub(super) alarm_after: Duration,
    pub(super) annotator: Arc<Annotator>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) reports: Sender<Report>,
    pub(super) stats: Arc<RunStats>,
    pub(super) shutdown: Shutdown,
    pub(super) sources: BTreeMap<usize, OpenSource>,
    /// Live sources whose outage was told.
    pub(super) lost: BTreeSet<usize>,
    pub(super) times: StageTimes,
    /// For findings, that each need not ask for memory.
    pub(super) places: Places<Finding>,
}

/// A source that has delivered a frame.
pub(super) struct OpenSource {
    info: Arc<SourceInfo>,
    is_live: bool,
    frames: u64,
    tracker: Tracker,
    /// None where the model does not know the class that raises alarms.
    alarms: Option<Alarms>,
    /// When the last frame was captured.
    captured_at: SystemTime,
}

impl Findings {
    /// Takes analyses until inference ends.
    pub(super) fn run(mut self, analyses: &Receiver<Analysed>) -> StageTimes {
        let had_sinks = !self.deliveries.is_empty();
        for analysed in analyses {
            match analysed {
                Analysed::Frame { source, info, policy, frame, analysis } => {
                    self.frame(source, info, policy, frame, analysis);
                }
                Analysed::State { source, state } => self.state(source, state),
                Analysed::Closed { source, error } => self.close(source, error),
            }
            if had_sinks && self.deliveries.is_empty() {
                // Nobody is left to run for.
                self.shutdown.request();
            }
        }
        // Of sources that had no time left to say that they are over.
        let open: Vec<usize> = self.sources.keys().copied().collect();
        open.into_iter().for_each(|source| self.close(source, None));
        self.times
    }

    fn frame(&mut self, source: usize, info: Arc<SourceInfo>, policy: Policy, frame: Frame, analysis: Analysis) {
        let info = self.opened(source, info, policy, frame.image.dimensions());
        self.times.add(&frame, &analysis);
        let (update, alarms) = self.track(source, &frame, &analysis);
        let classes = &self.origin.classes;
        let in_sight = update.tracks.iter().filter(|track| track.id.is_some());
        let faces = in_sight.map(|track| track.label.name(classes));
        self.stats.analysed(source, &classes[analysis.label], faces);
        if analysis.kept_for.is_some() {
            self.stats.unchanged(source);
        }
        if self.deliveries.is_empty() {
            self.stats.latency(source, "analysis", frame.read_started.elapsed());
        }
        let is_live = policy == Policy::Live;
        let (classes, annotator) = (Arc::clone(&self.origin.classes), Arc::clone(&self.annotator));
        let finding = self.places.put(Finding::new(source, info, frame, analysis, update.tracks, classes, annotator));
        self.each(|delivery, stats, shutdown| {
            let outcome = delivery.frame(finding.clone(), is_live, shutdown);
            if outcome == Outcome::Dropped {
                stats.dropped(source, delivery.name);
            }
            outcome
        });
        self.tell_what_happened(source, &update.events, alarms, Some(&finding));
        if let Some(open) = self.sources.get_mut(&source) {
            open.frames += 1;
            let frames_done = open.frames;
            self.tell(Report::Frame { source, frames_done });
        }
    }

    /// What is known of a source, whose frames have this size: what a camera declares and what it delivers may differ, and
    /// what it delivers may change.
    fn opened(
        &mut self,
        source: usize,
        info: Arc<SourceInfo>,
        policy: Policy,
        (width, height): (u32, u32),
    ) -> Arc<SourceInfo> {
        if let Some(open) = self.sources.get(&source)
            && (open.info.width, open.info.height) == (width, height)
        {
            return Arc::clone(&open.info);
        }
        let info = Arc::new(SourceInfo { width, height, ..SourceInfo::clone(&info) });
        match self.sources.get_mut(&source) {
            Some(open) => open.info = Arc::clone(&info),
            None => {
                self.sources.insert(source, self.begin(&info, policy));
                if policy == Policy::Recorded {
                    self.stats.waits_for_outputs(source);
                }
                // What a camera does is told by its supervisor, however it is played.
                match (info.policy, policy) {
                    (Policy::Recorded, Policy::Recorded) => self.stats.playing(source),
                    (Policy::Recorded, Policy::Live) => self.stats.state(source, &SourceState::Live),
                    (Policy::Live, _) => {}
                }
                self.tell(Report::Opened { source, info: Arc::clone(&info) });
            }
        }
        self.each(|delivery, _, _| delivery.send(Message::Open { source, info: Arc::clone(&info) }));
        info
    }

    fn state(&mut self, source: usize, state: SourceState) {
        self.stats.state(source, &state);
        // An outage is told once, not with each attempt to end it.
        let is_told = match &state {
            SourceState::Disconnected { .. } => !self.lost.insert(source),
            SourceState::Connecting { .. } => self.lost.contains(&source),
            _ => {
                self.lost.remove(&source);
                false
            }
        };
        if !is_told {
            self.tell_state(source, &state);
        }
        self.tell(Report::State { source, state });
    }

    fn tell_state(&mut self, source: usize, state: &SourceState) {
        let notice = self.notice(source, SystemTime::now(), Happening::State(state.clone()), None);
        self.announce(&notice, true);
        if !state.delivers() {
            // Who was in sight cannot be known again when the source is back.
            self.end_tracks(source);
        }
    }

    fn end_tracks(&mut self, source: usize) {
        let Some(open) = self.sources.get_mut(&source) else { return };
        let update = open.tracker.end();
        if let Some(alarms) = &mut open.alarms {
            alarms.update(&update);
        }
        self.stats.nobody_in_sight(source);
        self.tell_what_happened(source, &update.events, Vec::new(), None);
    }

    fn announce(&mut self, notice: &Arc<Notice>, is_live: bool) {
        let mut is_logged = false;
        self.each(|delivery, stats, shutdown| {
            let outcome = delivery.notice(notice, is_live, shutdown);
            is_logged |= delivery.logs_alarms && outcome == Outcome::Taken;
            if outcome == Outcome::Dropped {
                stats.dropped(notice.source, delivery.name);
            }
            outcome
        });
        if !is_logged {
            notice.log_alarm(None);
        }
    }

    fn notice(
        &self,
        source: usize,
        time: SystemTime,
        happening: Happening,
        finding: Option<&Shared<Finding>>,
    ) -> Arc<Notice> {
        let (name, origin) = (Arc::clone(&self.names[source]), Arc::clone(&self.origin));
        Arc::new(Notice { source, name, time, happening, origin, finding: finding.cloned() })
    }

    fn begin(&self, info: &Arc<SourceInfo>, policy: Policy) -> OpenSource {
        // A picture is all that there will ever be of it.
        let settings = if info.frame_count == Some(1) { TrackSettings::still() } else { TrackSettings::default() };
        let classes = &self.origin.classes;
        let alarming = classes.iter().position(|class| class == NO_MASK);
        OpenSource {
            info: Arc::clone(info),
            is_live: policy == Policy::Live,
            frames: 0,
            tracker: Tracker::new(settings, classes),
            alarms: alarming.map(|class| Alarms::new(self.alarm_after, class)),
            captured_at: SystemTime::now(),
        }
    }

    fn track(&mut self, source: usize, frame: &Frame, analysis: &Analysis) -> (TrackUpdate, Vec<Alarm>) {
        let open = self.sources.get_mut(&source).expect("a source is open when its frames come");
        open.captured_at = frame.captured_at;
        let sightings: PerBox<Sighting> = (analysis.boxes.iter().zip(&analysis.box_probabilities))
            .map(|(&detection, probabilities)| Sighting { detection, posterior: probabilities.as_slice() })
            .collect();
        let update = open.tracker.update(frame.pts, frame.image.dimensions(), &sightings);
        let alarms = open.alarms.as_mut().map(|alarms| alarms.update(&update)).unwrap_or_default();
        (update, alarms)
    }

    /// A notice for each event and alarm; those that somebody may want to see carry the frame.
    fn tell_what_happened(
        &mut self,
        source: usize,
        events: &[TrackEvent],
        alarms: Vec<Alarm>,
        finding: Option<&Shared<Finding>>,
    ) {
        let Some((time, is_live)) = self.sources.get(&source).map(|open| (open.captured_at, open.is_live)) else {
            return;
        };
        let tracks = events.iter().copied().map(Happening::Track);
        for happening in tracks.chain(alarms.into_iter().map(Happening::Alarm)) {
            let is_shown = match &happening {
                Happening::Alarm(_) => {
                    self.stats.alarmed(source);
                    true
                }
                Happening::Track(event) => matches!(event.change, TrackChange::LabelChanged { .. }),
                Happening::State(_) => false,
            };
            let notice = self.notice(source, time, happening, finding.filter(|_| is_shown));
            self.announce(&notice, is_live);
        }
    }

    fn close(&mut self, source: usize, error: Option<CaptureError>) {
        self.end_tracks(source);
        self.sources.remove(&source);
        self.stats.ended(source, error.as_ref().map(CaptureError::to_string));
        self.each(|delivery, _, _| delivery.send(Message::Close(source)));
        self.tell(Report::Closed { source });
        if let Some(error) = error {
            let origin = (self.names.len() > 1).then(|| Arc::clone(&self.names[source]));
            self.tell(Report::Problem(Problem::Capture { origin, error }));
        }
    }

    /// Does something with each sink that still takes messages.
    fn each(&mut self, mut act: impl FnMut(&Delivery, &RunStats, &Shutdown) -> Outcome) {
        let (stats, shutdown) = (&self.stats, &self.shutdown);
        let mut stuck = Vec::new();
        self.deliveries.retain(|delivery| match act(delivery, stats, shutdown) {
            Outcome::Taken | Outcome::Dropped => true,
            Outcome::Gone => false,
            Outcome::Stuck => {
                stuck.push(delivery.name);
                false
            }
        });
        for stage in stuck {
            let problem = Problem::GivenUp { stage };
            self.stats.sink_failed(stage, &problem);
            self.tell(Report::Problem(problem));
        }
    }

    fn tell(&self, report: Report) {
        // The thread that takes reports may be busy with a window. Progress that nobody looks at may then be left out; all else
        // is rare.
        if matches!(report, Report::Frame { .. }) && self.reports.len() > MOST_REPORTS {
            return;
        }
        // Without a listener the run is over, and so is the interest in it.
        let _ = self.reports.send(report);
    }
}
