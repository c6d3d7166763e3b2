//! From the findings to one sink: a bounded queue, and the loop of the thread at its end.
//!
//! Frames need a permit, of which there are a few: a recorded source waits for one, a live source goes on without. Notices
//! need none; they too wait for room, or go missing and are counted, but leave places for what tells that a source begins
//! or ends. A sink that does not even take that is given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError, bounded};

use super::Problem;
use super::report::{Report, SinkTimes};
use crate::capture::SourceInfo;
use crate::shared::Shared;
use crate::shutdown::Shutdown;
use crate::sinks::{Finding, Notice, Sink, SinkError, SourceContext};
use crate::stats::RunStats;

/// Frames that may wait for a sink.
const FRAMES: usize = 4;
/// Notices that may wait for a sink.
const NOTICES: usize = 60;
/// Places that notices leave to beginnings and ends.
const OTHERS: usize = 64;
/// How often a sink without messages may look at the clock, and how often a waiting sender looks whether to go on waiting.
const TICK: Duration = Duration::from_millis(250);
/// How often a notice that waits looks for room.
const POLL: Duration = Duration::from_millis(5);
/// How long a sink may take after a signal asked for the end.
pub(super) const DRAIN: Duration = Duration::from_millis(4500);

/// What a sink is told.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Open { source: usize, info: Arc<SourceInfo> },
    Frame(Shared<Finding>),
    Notice(Arc<Notice>),
    Close(usize),
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// A live frame for which the sink has no room.
    Dropped,
    /// Nobody takes messages any more.
    Gone,
    /// Somebody should, and does not.
    Stuck,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) name: &'static str,
    wants_frames: bool,
    wants_notices: bool,
    /// Whether the sink tells the log of alarms that it takes.
    pub(super) logs_alarms: bool,
    messages: Sender<Message>,
    permits: Sender<()>,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Inbox {
    messages: Receiver<Message>,
    permits: Receiver<()>,
}

/// A queue to a sink.
pub(super) fn delivery(sink: &dyn Sink) -> (Delivery, Inbox) {
    let (delivery, inbox) = queue(sink.name());
    let (wants_frames, wants_notices, logs_alarms) = (sink.wants_frames(), sink.wants_notices(), sink.logs_alarms());
    (Delivery { wants_frames, wants_notices, logs_alarms, ..delivery }, inbox)
}

fn queue(name: &'static str) -> (Delivery, Inbox) {
    let (messages, inbox) = bounded(FRAMES + NOTICES + OTHERS);
    let (permits, used) = bounded(FRAMES);
    (
        Delivery { name, wants_frames: true, wants_notices: true, logs_alarms: false, messages, permits },
        Inbox { messages: inbox, permits: used },
    )
}

impl Delivery {
    /// Hands over a frame: of a live source if there is room, of a recorded one as soon as there is.
    pub(super) fn frame(&self, finding: Shared<Finding>, is_live: bool, shutdown: &Shutdown) -> Outcome {
        if !self.wants_frames {
            return Outcome::Taken;
        }
        let permit = if is_live { self.permit_now() } else { wait(shutdown, || self.permit_within(TICK)) };
        match permit {
            Outcome::Taken => self.send(Message::Frame(finding)),
            other => other,
        }
    }

    /// Hands over a notice, if the sink wants any: of a live source if there is room, of a recorded one as soon as there is.
    pub(super) fn notice(&self, notice: &Arc<Notice>, is_live: bool, shutdown: &Shutdown) -> Outcome {
        if !self.wants_notices {
            return Outcome::Taken;
        }
        // Nobody else sends, so that room stays room.
        let room = || if self.messages.len() < FRAMES + NOTICES { Outcome::Taken } else { Outcome::Dropped };
        let room = if is_live {
            room()
        } else {
            wait(shutdown, || match room() {
                Outcome::Taken => Some(Outcome::Taken),
                _ => {
                    std::thread::sleep(POLL);
                    None
                }
            })
        };
        match room {
            Outcome::Taken => self.send(Message::Notice(Arc::clone(notice))),
            other => other,
        }
    }

    /// Hands over a message without a frame, at once.
    pub(super) fn send(&self, message: Message) -> Outcome {
        match self.messages.try_send(message) {
            Ok(()) => Outcome::Taken,
            Err(TrySendError::Disconnected(_)) => Outcome::Gone,
            Err(TrySendError::Full(_)) => Outcome::Stuck,
        }
    }

    fn permit_now(&self) -> Outcome {
        match self.permits.try_send(()) {
            Ok(()) => Outcome::Taken,
            Err(TrySendError::Full(())) => Outcome::Dropped,
            Err(TrySendError::Disconnected(())) => Outcome::Gone,
        }
    }

    fn permit_within(&self, patience: Duration) -> Option<Outcome> {
        match self.permits.send_timeout((), patience) {
            Ok(()) => Some(Outcome::Taken),
            Err(SendTimeoutError::Disconnected(())) => Some(Outcome::Gone),
            Err(SendTimeoutError::Timeout(())) => None,
        }
    }
}

/// Tries again and again, but not for ever once a signal has asked for the end.
fn wait(shutdown: &Shutdown, mut attempt: impl FnMut() -> Option<Outcome>) -> Outcome {
    loop {
        if let Some(outcome) = attempt() {
            return outcome;
        }
        if shutdown.since_signal().is_some_and(|since| since > DRAIN) {
            return Outcome::Stuck;
        }
    }
}

/// A sink, what it takes its messages from, and whom it tells.
pub(super) struct Driver {
    sink: Box<dyn Sink>,
    inbox: Inbox,
    reports: Sender<Report>,
    stats: Arc<RunStats>,
    shutdown: Shutdown,
    /// Sources that have begun and not ended.
    open: Vec<usize>,
    times: SinkTimes,
    is_sound: bool,
    /// Whether it fails for a while.
    is_failing: bool,
    ticked_at: Instant,
}

impl Driver {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        inbox: Inbox,
        reports: Sender<Report>,
        stats: Arc<RunStats>,
        shutdown: Shutdown,
    ) -> Self {
        let times = SinkTimes::default();
        Self {
            sink,
            inbox,
            reports,
            stats,
            shutdown,
            open: Vec::new(),
            times,
            is_sound: true,
            is_failing: false,
            ticked_at: Instant::now(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.sink.name()
    }

    pub(super) fn needs_main_thread(&self) -> bool {
        self.sink.needs_main_thread()
    }

    /// Serves the sink until the last message or its own end, then completes what it has begun.
    pub(super) fn run(mut self) -> SinkTimes {
        while self.step(TICK) {}
        self.finish()
    }

    /// Serves the sink with one message, for which it waits no longer than `patience`. False at the end.
    pub(super) fn step(&mut self, patience: Duration) -> bool {
        self.is_sound = match self.inbox.messages.recv_timeout(patience) {
            Ok(message) => self.take(message),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        if self.is_sound && self.ticked_at.elapsed() >= TICK {
            self.ticked_at = Instant::now();
            self.is_sound = self.accept(|sink| sink.tick());
        }
        if self.sink.wants_to_stop() {
            self.shutdown.request();
        }
        self.is_sound
    }

    /// Completes what the sink has begun, as far as it can be.
    pub(super) fn finish(mut self) -> SinkTimes {
        for source in std::mem::take(&mut self.open) {
            self.is_sound = self.is_sound && self.accept(|sink| sink.close(source));
        }
        if !self.is_sound {
            self.sink.abandon();
        }
        for written in self.sink.written() {
            self.tell(Report::Written(written));
        }
        self.times
    }

    /// Whether the sink goes on.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Open { source, info } => {
                if !self.open.contains(&source) {
                    self.open.push(source);
                }
                self.accept(|sink| sink.open(SourceContext { source, info: &info }))
            }
            Message::Close(source) => {
                self.open.retain(|&other| other != source);
                self.accept(|sink| sink.close(source))
            }
            Message::Notice(notice) => self.accept(|sink| sink.notice(&notice)),
            Message::Frame(finding) => {
                let started = Instant::now();
                let is_sound = self.accept(|sink| sink.write(&finding));
                let drawing = finding.claim_drawing_time();
                self.times.draw += drawing;
                self.times.write += started.elapsed().saturating_sub(drawing);
                self.stats.latency(finding.source, self.sink.name(), finding.frame.read_started.elapsed());
                // The frame is done with only now: a permit stands for one that the sink keeps waiting.
                drop(finding);
                self.inbox.permits.try_recv().expect("the frame came with a permit");
                is_sound
            }
        }
    }

    fn accept(&mut self, act: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>) -> bool {
        let (accepted, name) = (act(&mut *self.sink), self.sink.name());
        let is_over = accepted.as_ref().is_err_and(SinkError::ends_sink);
        let was_failing = std::mem::replace(&mut self.is_failing, self.sink.is_failing());
        match accepted {
            Ok(()) if was_failing && !self.is_failing => self.stats.sink_recovered(name),
            Ok(()) => {}
            Err(error) => {
                if is_over || self.is_failing {
                    self.stats.sink_failed(name, &error);
                }
                self.tell(Report::Problem(Problem::from(error)));
            }
        }
        !is_over
    }

    fn tell(&self, report: Report) {
        // Without a listener the run is over, and so is the interest in it.
        let _ = self.reports.send(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::SourceState;
    use crate::sinks::{Happening, Origin, testing};

    const SIZE: (u32, u32) = (8, 6);

    fn finding(index: u64) -> Shared<Finding> {
        testing::finding(index, SIZE, Duration::from_millis(index))
    }

    fn next(inbox: &Inbox) -> Message {
        inbox.messages.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn a_slow_sink_loses_live_frames_but_no_beginning_and_no_end() {
        let (delivery, inbox) = queue("slow");
        let shutdown = Shutdown::default();
        assert_eq!(delivery.send(Message::Open { source: 0, info: testing::live_source(SIZE) }), Outcome::Taken);
        let outcomes: Vec<_> = (0..20).map(|index| delivery.frame(finding(index), true, &shutdown)).collect();
        let taken = outcomes.iter().filter(|outcome| **outcome == Outcome::Taken).count();
        assert_eq!((taken, outcomes[FRAMES..].contains(&Outcome::Taken)), (FRAMES, false));
        assert_eq!(delivery.send(Message::Close(0)), Outcome::Taken);
        assert!(matches!(next(&inbox), Message::Open { source: 0, .. }));
        for index in 0..FRAMES as u64 {
            assert!(matches!(next(&inbox), Message::Frame(finding) if finding.frame.index == index));
        }
        assert!(matches!(next(&inbox), Message::Close(0)));
    }

    #[test]
    fn a_recorded_frame_waits_for_its_place() {
        let (delivery, inbox) = queue("slow");
        let shutdown = Shutdown::default();
        std::thread::scope(|scope| {
            let sender = scope
                .spawn(move || (0..50).all(|index| delivery.frame(finding(index), false, &shutdown) == Outcome::Taken));
            for index in 0..50 {
                assert!(inbox.messages.len() <= FRAMES);
                assert!(matches!(next(&inbox), Message::Frame(finding) if finding.frame.index == index));
                inbox.permits.recv().unwrap();
            }
            assert!(sender.join().unwrap());
        });
    }

    #[test]
    fn a_sink_that_is_gone_or_takes_nothing_is_given_up() {
        let shutdown = Shutdown::default();
        let (gone, inbox) = queue("gone");
        drop(inbox);
        assert_eq!(gone.frame(finding(0), true, &shutdown), Outcome::Gone);
        assert_eq!(gone.frame(finding(0), false, &shutdown), Outcome::Gone);
        let (dead, _inbox) = queue("dead");
        let places = FRAMES + NOTICES + OTHERS;
        let outcomes: Vec<_> = (0..=places).map(|source| dead.send(Message::Close(source))).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Stuck).count(), 1, "memory is bounded");
    }

    fn notice() -> Arc<Notice> {
        let origin = Arc::new(Origin { classes: Arc::from(["mask".to_owned()]), model: "a".to_owned() });
        let (name, time) = ("door".into(), std::time::SystemTime::UNIX_EPOCH);
        Arc::new(Notice {
            source: 0,
            name,
            time,
            happening: Happening::State(SourceState::Live),
            origin,
            finding: None,
        })
    }

    #[test]
    fn a_flood_of_notices_waits_or_goes_missing_but_ends_no_sink() {
        let shutdown = Shutdown::default();
        let (live, inbox) = queue("slow");
        let outcomes: Vec<_> = (0..200).map(|_| live.notice(&notice(), true, &shutdown)).collect();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Taken).count(), FRAMES + NOTICES);
        assert!(!outcomes.contains(&Outcome::Gone) && !outcomes.contains(&Outcome::Stuck));
        assert_eq!(live.send(Message::Close(0)), Outcome::Taken, "an end is told whatever was missed");
        drop(inbox);

        let (recorded, inbox) = queue("slow");
        std::thread::scope(|scope| {
            let sender =
                scope.spawn(move || (0..200).all(|_| recorded.notice(&notice(), false, &shutdown) == Outcome::Taken));
            for _ in 0..200 {
                assert!(matches!(next(&inbox), Message::Notice(_)));
            }
            assert!(sender.join().unwrap(), "a recording loses none");
        });
    }

    #[test]
    fn a_picture_is_drawn_once_and_its_time_counted_once() {
        let finding = finding(0);
        assert_eq!(finding.claim_drawing_time(), Duration::ZERO, "nobody wanted it yet");
        assert!(std::ptr::eq(finding.annotated(), finding.annotated()));
        assert!(finding.claim_drawing_time() > Duration::ZERO);
        assert_eq!(finding.claim_drawing_time(), Duration::ZERO);
    }
}
