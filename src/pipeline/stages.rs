//! What capture threads do, and what passes between the stages.

use std::sync::Arc;
use std::time::Instant;

use super::feed::{Closed, FeedSender, Message};
use super::{NamedSource, Problem};
use crate::analyse::Analysis;
use crate::capture::supervise::clock::SystemClock;
use crate::capture::supervise::process::ProcessOpener;
use crate::capture::{CaptureError, LiveEvent, LiveSettings, OpenOptions, Policy, SourceInfo, SourceState, Supervisor};
use crate::frame::Frame;
use crate::shutdown::Shutdown;

/// A source of a run: its place in the order that the user gave, and what it is.
pub(super) type NumberedSource<'a> = (usize, &'a NamedSource);

/// From capture to inference.
pub(super) enum Captured {
    Frame {
        source: usize,
        info: Arc<SourceInfo>,
        /// The policy that it is treated by.
        policy: Policy,
        frame: Frame,
    },
    State {
        source: usize,
        state: SourceState,
    },
    Closed {
        source: usize,
        error: Option<CaptureError>,
    },
}

impl Message for Captured {
    fn captured(&self) -> Option<Instant> {
        match self {
            Self::Frame { frame, policy: Policy::Live, .. } => Some(frame.read_started),
            _ => None,
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => frame.image.len(),
            Self::State { .. } | Self::Closed { .. } => 0,
        }
    }
}

/// From inference to the findings.
#[expect(clippy::large_enum_variant, reason = "most messages are frames, and none should ask for memory")]
pub(super) enum Analysed {
    Frame { source: usize, info: Arc<SourceInfo>, policy: Policy, frame: Frame, analysis: Analysis },
    State { source: usize, state: SourceState },
    Closed { source: usize, error: Option<CaptureError> },
}

#[derive(Clone, Copy)]
pub(super) struct CaptureSettings<'a> {
    /// Overrides the policy that suits the source.
    pub policy: Option<Policy>,
    pub limit: Option<u64>,
    pub live: &'a LiveSettings,
    pub shutdown: &'a Shutdown,
}

/// Keeps one live source going until it is given up, nobody takes frames any more, or the shutdown is requested.
pub(super) fn watch(
    (source, named): NumberedSource,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Option<Problem> {
    let span = tracing::debug_span!("capture", source = named.name);
    let _entered = span.enter();
    let every_frame = settings.policy == Some(Policy::Recorded);
    let opener = ProcessOpener::new(named.spec.clone(), settings.live.clone(), every_frame, settings.shutdown);
    let clock = SystemClock::new(settings.shutdown);
    let (opener, clock) = (Box::new(opener), Box::new(clock));
    let supervisor =
        Supervisor::new(&named.name, settings.live.clone(), opener, clock, settings.shutdown, rand::random());
    // Nobody takes frames any more: then nobody wants to know how it ended either.
    let error = watch_one(source, supervisor, sender, settings).ok()?.err();
    if let Some(error) = &error {
        let state = SourceState::GivenUp { reason: error.to_string() };
        let _ = sender.send_state(Captured::State { source, state });
    }
    let _ = sender.send_waiting(Captured::Closed { source, error });
    None
}

/// The outer error says that nobody takes frames any more, the inner one that the source failed.
fn watch_one(
    source: usize,
    mut supervisor: Supervisor,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Result<Result<(), CaptureError>, Closed> {
    let mut pace = Pace::default();
    let limit = settings.limit.unwrap_or(u64::MAX);
    let mut sent = 0u64;
    loop {
        // What was dropped on the way does not count.
        if sent.saturating_sub(sender.lost()) >= limit {
            sender.flush();
            if sent.saturating_sub(sender.lost()) >= limit {
                break;
            }
        }
        match supervisor.next_event() {
            Ok(LiveEvent::State(state)) => sender.send_state(Captured::State { source, state })?,
            Ok(LiveEvent::Frame { info, frame, skipped }) => {
                sent += 1;
                sender.count_skipped(skipped);
                pace.deliver(source, &info, *frame, sender, settings)?;
            }
            Ok(LiveEvent::Ended) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Hands frames on by their policy.
#[derive(Default)]
struct Pace {
    began: Option<Instant>,
}

impl Pace {
    fn deliver(
        &mut self,
        source: usize,
        info: &Arc<SourceInfo>,
        mut frame: Frame,
        sender: &FeedSender<Captured>,
        settings: CaptureSettings,
    ) -> Result<(), Closed> {
        let policy = settings.policy.unwrap_or(info.policy);
        // A recording played live is delivered at its own speed, as a camera would.
        if policy == Policy::Live && info.policy == Policy::Recorded {
            let began = *self.began.get_or_insert_with(Instant::now);
            settings.shutdown.sleep(frame.pts.saturating_sub(began.elapsed()));
            frame.read_started = Instant::now();
        }
        let frame = Captured::Frame { source, info: Arc::clone(info), policy, frame };
        match policy {
            Policy::Live => sender.send_newest(frame),
            Policy::Recorded => sender.send_waiting(frame),
        }
    }
}

/// Reads sources one after another until the last ends, nobody takes frames any more, or the shutdown is requested.
pub(super) fn capture(
    sources: &[NumberedSource],
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Option<Problem> {
    for &(source, named) in sources {
        if settings.shutdown.is_requested() {
            break;
        }
        let span = tracing::debug_span!("capture", source = named.name);
        let _entered = span.enter();
        let error = match capture_one(source, named, sender, settings) {
            Ok(Ok(())) => None,
            // What breaks while the user waits for the end is no news.
            Ok(Err(error)) if settings.shutdown.is_requested() => {
                tracing::debug!("{error}");
                None
            }
            Ok(Err(error)) => Some(error),
            Err(Closed) => return None,
        };
        if sender.send_waiting(Captured::Closed { source, error }).is_err() {
            return None;
        }
        // Or the first frame of the next source would take its place.
        sender.flush();
    }
    None
}

/// The outer error says that nobody takes frames any more, the inner one that the source failed.
fn capture_one(
    source: usize,
    named: &NamedSource,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Result<Result<(), CaptureError>, Closed> {
    let mut opened = match named.spec.open(&OpenOptions::default()) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let info = Arc::new(SourceInfo { name: named.name.clone(), ..opened.info().clone() });
    let name: Arc<str> = named.name.as_str().into();
    tracing::debug!(width = info.width, height = info.height, frames = info.frame_count, "open");
    let mut pace = Pace::default();
    for _ in 0..settings.limit.unwrap_or(u64::MAX) {
        if settings.shutdown.is_requested() {
            break;
        }
        match opened.read() {
            Ok(Some(frame)) => {
                pace.deliver(source, &info, Frame { source: name.clone(), ..frame }, sender, settings)?;
            }
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}
