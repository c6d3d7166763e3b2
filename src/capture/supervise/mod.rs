//! Live sources that nothing can stop: deadlines, reconnection, and the state that a source is in.
//!
//! A camera or stream is decoded by a process of its own (`decoder`, started by [`process`]), because nothing else
//! can be relied on: OpenCV's time-outs do not cover every wait, a V4L2 driver may hang, and a decoder that meets broken
//! packets may crash. Whatever happens there, the supervisor here notices that nothing comes, kills the process, and tries
//! again after a wait ([`backoff`]), or as soon as a host that was gone accepts connections again, for ever unless told
//! otherwise. Frames come through a pipe ([`wire`]), the newest only.
//! [`health`] tells pictures and timestamps that are not what they seem, [`SourceState`] is what others get to know.
//!
//! [`Supervisor`] decides, and does nothing else: time ([`Clock`]) and the opening of a source ([`Opener`]) are given to it,
//! so that its tests simulate hours of outages in milliseconds.

pub mod backoff;
pub mod clock;
#[cfg(feature = "opencv")]
pub mod decoder;
pub mod health;
pub mod process;
mod settings;
mod state;
#[cfg(test)]
mod tests;
pub(super) mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use super::{CaptureError, Policy, SourceInfo};
use crate::frame::Frame;
use crate::shutdown::Shutdown;
use backoff::Backoff;
use clock::Clock;
use health::Health;

pub use settings::{LiveSettings, RtspTransport};
pub use state::SourceState;

/// A source that has been live for so long is tried again at once when it fails, not after the wait of its last outage.
const STEADY: Duration = Duration::from_secs(5);

/// How often a source that is gone is looked for between two attempts. A look is one packet; an attempt costs camera and
/// machine much more.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Opens a source.
pub trait Opener: Send {
    /// Begins to open; does not wait for the source. `attempt` counts from 1 since the source was last live.
    ///
    /// # Errors
    ///
    /// When it is clear at once that there is nothing to open.
    fn open(&mut self, attempt: u64) -> Result<Box<dyn Connection>, CaptureError>;

    /// Looks, without waiting for more than a second, whether there is anything to open; `None` if that takes an attempt.
    fn is_there(&mut self) -> Option<bool>;
}

/// A source being opened or open. Dropped, it leaves nothing behind.
pub trait Connection: Send {
    /// Waits for what comes next, but no longer than `patience`, nor when the end of the run is asked for.
    fn next(&mut self, patience: Duration) -> Next;
}

/// What came.
#[derive(Debug)]
pub enum Next {
    /// The source is open.
    Opened(SourceInfo),
    /// A frame.
    Frame(Arrived),
    /// A recorded source is over.
    Ended,
    /// The source failed.
    Failed(CaptureError),
    /// Nothing, for as long as was waited.
    Nothing,
}

/// A frame as it arrives.
#[derive(Debug)]
pub struct Arrived {
    /// The picture.
    pub image: RgbImage,
    /// When it was there.
    pub captured: Instant,
    /// The same, on the wall clock.
    pub captured_at: SystemTime,
    /// How long decoding took.
    pub decode_time: Duration,
    /// The time that the stream gives the frame; for a recorded source its timestamp.
    pub stream_time: Option<Duration>,
    /// Frames since the one before that were passed over.
    pub skipped: u64,
}

/// What a supervised source has to tell.
#[derive(Debug)]
pub enum LiveEvent {
    /// Its state has changed.
    State(SourceState),
    /// A frame, and what is known of its source now: a camera may change its resolution.
    Frame {
        /// The source.
        info: Arc<SourceInfo>,
        /// The frame. Indices count from 0 without gaps, and timestamps go on, across all connections.
        frame: Box<Frame>,
        /// Frames since the one before that were passed over because a newer one was there.
        skipped: u64,
    },
    /// Nothing more comes: the source was recorded after all, or the end of the run was asked for.
    Ended,
}

/// Keeps one live source going.
pub struct Supervisor {
    name: Arc<str>,
    settings: LiveSettings,
    opener: Box<dyn Opener>,
    clock: Box<dyn Clock>,
    shutdown: Shutdown,
    backoff: Backoff,
    phase: Phase,
    pending: VecDeque<Result<LiveEvent, CaptureError>>,
    /// Failed attempts since the source was last live.
    failures: u64,
    /// Whether the outage that lasts was logged.
    logged: bool,
    outage_began: Option<Duration>,
    /// Whether it has ever been live.
    was_live: bool,
    delivered: u64,
    first_captured: Option<Instant>,
}

enum Phase {
    Waiting {
        until: Duration,
        /// Whether nobody was there when it was looked last.
        absent: bool,
    },
    Opening {
        connection: Box<dyn Connection>,
        deadline: Duration,
    },
    Streaming(Box<Stream>),
    Over,
}

struct Stream {
    connection: Box<dyn Connection>,
    info: Arc<SourceInfo>,
    health: Health,
    /// Once the first frame was there: since when, and the state that was told last.
    live: Option<(Duration, SourceState)>,
}

impl Supervisor {
    /// A source that will be called `name`, not yet opened. `seed` scatters its waits.
    pub fn new(
        name: &str,
        settings: LiveSettings,
        opener: Box<dyn Opener>,
        clock: Box<dyn Clock>,
        shutdown: &Shutdown,
        seed: u64,
    ) -> Self {
        Self {
            name: name.into(),
            settings,
            opener,
            phase: Phase::Waiting { until: clock.now(), absent: false },
            clock,
            shutdown: shutdown.clone(),
            backoff: Backoff::new(seed),
            pending: VecDeque::new(),
            failures: 0,
            logged: false,
            outage_began: None,
            was_live: false,
            delivered: 0,
            first_captured: None,
        }
    }

    /// Waits for what the source has to tell next; [`LiveEvent::Ended`] lasts.
    ///
    /// # Errors
    ///
    /// When the source failed, and trying again is pointless or not wanted any more. Then it is over.
    pub fn next_event(&mut self) -> Result<LiveEvent, CaptureError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if self.shutdown.is_requested() {
                self.phase = Phase::Over;
            }
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Waiting { until, absent } => self.wait(until, absent),
                Phase::Opening { connection, deadline } => self.finish_opening(connection, deadline),
                Phase::Streaming(stream) => self.stream(stream),
                Phase::Over => return Ok(LiveEvent::Ended),
            }
        }
    }

    fn wait(&mut self, until: Duration, was_absent: bool) {
        let now = self.clock.now();
        if now < until {
            self.clock.sleep((until - now).min(LOOK_EVERY));
            let there = self.opener.is_there();
            let came_back = was_absent && there == Some(true);
            if came_back {
                // Whatever the waits have grown to was for its absence.
                self.backoff.reset();
            }
            self.phase = Phase::Waiting { until: if came_back { now } else { until }, absent: there == Some(false) };
            return;
        }
        let attempt = self.failures + 1;
        tracing::debug!("{}: connecting, attempt {attempt}", self.name);
        self.announce(SourceState::Connecting { attempt });
        match self.opener.open(attempt) {
            Ok(connection) => {
                self.phase = Phase::Opening { connection, deadline: now + self.settings.open_timeout };
            }
            Err(error) => {
                let nobody_there = matches!(error, CaptureError::Camera { .. } | CaptureError::Stream { .. });
                self.fail(error, nobody_there);
            }
        }
    }

    fn finish_opening(&mut self, mut connection: Box<dyn Connection>, deadline: Duration) {
        let now = self.clock.now();
        match connection.next(deadline.saturating_sub(now)) {
            Next::Opened(info) => {
                self.phase = Phase::Streaming(Box::new(Stream {
                    connection,
                    info: Arc::new(SourceInfo { name: self.name.to_string(), ..info }),
                    health: Health::new(self.settings.frozen_after),
                    live: None,
                }));
            }
            Next::Failed(error) => self.end(connection, error),
            Next::Nothing => self.end(connection, self.silent(self.settings.open_timeout, false)),
            // Nothing that a decoder of ours would do.
            Next::Frame(_) | Next::Ended => {
                self.end(connection, CaptureError::Disconnected { name: self.name.to_string() })
            }
        }
    }

    fn stream(&mut self, mut stream: Box<Stream>) {
        let recorded = stream.info.policy == Policy::Recorded;
        let is_live = stream.live.is_some();
        // Counts from now: the frame before may have waited long to be taken, which is not the source's fault.
        let patience = if is_live { self.settings.progress_timeout } else { self.settings.first_frame_timeout };
        match stream.connection.next(patience) {
            Next::Frame(arrived) => {
                self.deliver(&mut stream, arrived);
                self.phase = Phase::Streaming(stream);
            }
            Next::Ended if recorded => {}
            // Tried again, a recording would begin from its start.
            Next::Failed(error) if recorded && is_live => self.pending.push_back(Err(error)),
            Next::Nothing if recorded && is_live => self.pending.push_back(Err(self.silent(patience, true))),
            Next::Failed(error) => self.end(stream.connection, error),
            Next::Nothing => self.end(stream.connection, self.silent(patience, true)),
            Next::Ended | Next::Opened(_) => {
                self.end(stream.connection, CaptureError::Disconnected { name: self.name.to_string() })
            }
        }
    }

    fn deliver(&mut self, stream: &mut Stream, arrived: Arrived) {
        let now = self.clock.now();
        let (width, height) = arrived.image.dimensions();
        if (stream.info.width, stream.info.height) != (width, height) {
            stream.info = Arc::new(SourceInfo { width, height, ..SourceInfo::clone(&stream.info) });
        }
        let recorded = stream.info.policy == Policy::Recorded;
        let state =
            if recorded { SourceState::Live } else { stream.health.judge(now, &arrived.image, arrived.stream_time) };
        self.tell(stream, now, state);

        let first = *self.first_captured.get_or_insert(arrived.captured);
        let since_first = arrived.captured.saturating_duration_since(first);
        let frame = Frame {
            source: Arc::clone(&self.name),
            index: self.delivered,
            pts: arrived.stream_time.filter(|_| recorded).unwrap_or(since_first),
            captured_at: arrived.captured_at,
            read_started: arrived.captured,
            decode_time: arrived.decode_time,
            image: arrived.image.into(),
        };
        self.delivered += 1;
        self.pending.push_back(Ok(LiveEvent::Frame {
            info: Arc::clone(&stream.info),
            frame: Box::new(frame),
            skipped: arrived.skipped,
        }));
    }

    /// Passes on a state that is another than the one before; logs it once.
    fn tell(&mut self, stream: &mut Stream, now: Duration, state: SourceState) {
        let Some((since, told)) = &mut stream.live else {
            self.log_live(&stream.info, now);
            self.failures = 0;
            stream.live = Some((now, state.clone()));
            self.announce(state);
            return;
        };
        if now.saturating_sub(*since) >= STEADY {
            self.backoff.reset();
        }
        if told.name() == state.name() {
            return;
        }
        match &state {
            SourceState::Frozen { for_ms } => tracing::warn!(
                "{}: the picture has been the same for {} s; restart the camera if that should not be",
                self.name,
                for_ms / 1000
            ),
            SourceState::Uniform => tracing::warn!(
                "{}: the picture has a single colour; check the lens, the light and the signal of the camera",
                self.name
            ),
            SourceState::TimestampsBackwards { by_ms } => {
                tracing::warn!("{}: the timestamps of the stream went back by {by_ms} ms", self.name);
            }
            SourceState::TimestampsJumped { by_ms } => {
                tracing::warn!("{}: the timestamps of the stream leapt ahead by {by_ms} ms", self.name);
            }
            _ => tracing::info!("{}: live again after it was {}", self.name, told.name().replace('_', " ")),
        }
        *told = state.clone();
        self.announce(state);
    }

    fn log_live(&mut self, info: &SourceInfo, now: Duration) {
        let (width, height) = (info.width, info.height);
        self.logged = false;
        match self.outage_began.take() {
            Some(began) => tracing::info!(
                "{}: live{} after {:.1} s and {} failed attempt{}, {width}x{height}",
                self.name,
                if self.was_live { " again" } else { "" },
                now.saturating_sub(began).as_secs_f64(),
                self.failures,
                if self.failures == 1 { "" } else { "s" },
            ),
            None => tracing::info!("{}: live, {width}x{height}", self.name),
        }
        self.was_live = true;
    }

    fn silent(&self, waited: Duration, opened: bool) -> CaptureError {
        CaptureError::Silent { name: self.name.to_string(), waited, opened }
    }

    /// Gives a connection up. That kills its process, before anything else is tried.
    fn end(&mut self, connection: Box<dyn Connection>, error: CaptureError) {
        drop(connection);
        self.fail(error, false);
    }

    fn fail(&mut self, error: CaptureError, absent: bool) {
        if self.shutdown.is_requested() {
            // What breaks while the user waits for the end is no news.
            tracing::debug!("{error}");
            return;
        }
        self.failures += 1;
        if !error.retryable() || self.settings.retries.is_some_and(|retries| self.failures > retries) {
            self.pending.push_back(Err(error));
            return;
        }
        let now = self.clock.now();
        self.outage_began.get_or_insert(now);
        let wait = self.backoff.next_wait();
        let reason = error.to_string();
        // Once, however many attempts it takes.
        if self.logged {
            tracing::debug!("{}: attempt {} failed, the next in {wait:.1?}: {reason}", self.name, self.failures);
        } else {
            let attempts = match self.settings.retries {
                None => "until it answers".to_owned(),
                Some(1) => "once".to_owned(),
                Some(retries) => format!("{retries} times at most"),
            };
            tracing::warn!("{}: disconnected, to be tried again {attempts}: {reason}", self.name);
            self.logged = true;
        }
        self.phase = Phase::Waiting { until: now + wait, absent };
        self.announce(SourceState::Disconnected {
            reason,
            attempts: self.failures,
            retry_in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        });
    }

    fn announce(&mut self, state: SourceState) {
        self.pending.push_back(Ok(LiveEvent::State(state)));
    }
}
