//! The supervisor on simulated time and scripted sources: hours of outages in milliseconds.

use std::sync::{Arc, Mutex};

use image::Rgb;

use super::backoff::{LONGEST, SHORTEST};
use super::*;
use crate::capture::Fault;

/// Time that passes when somebody waits.
#[derive(Clone, Default)]
struct Simulated(Arc<Mutex<Duration>>);

impl Simulated {
    fn pass(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

impl Clock for Simulated {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        self.pass(duration);
    }
}

/// What a source does: so much later, this.
type Script = Vec<(Duration, Step)>;

enum Step {
    Open,
    /// So many frames, each different from the one before, at this interval.
    Frames(u32, Duration),
    /// The same frame so many times.
    Still(u32, Duration),
    End,
    Fail,
}

/// Sources that follow scripts, one after another; when those are used up, there is nobody.
struct Scripted {
    /// From when on there is somebody, if that can be seen.
    there_from: Option<Duration>,
    clock: Simulated,
    scripts: Vec<Script>,
    /// When each attempt was made.
    attempts: Arc<Mutex<Vec<Duration>>>,
    policy: Policy,
    open_connections: Arc<Mutex<i32>>,
}

struct ScriptedConnection {
    clock: Simulated,
    script: std::vec::IntoIter<(Duration, Step)>,
    frames: u32,
    policy: Policy,
    current: Option<(Duration, Step)>,
    open_connections: Arc<Mutex<i32>>,
}

impl Opener for Scripted {
    fn open(&mut self, _: u64) -> Result<Box<dyn Connection>, CaptureError> {
        self.attempts.lock().unwrap().push(self.clock.now());
        if self.scripts.is_empty() || self.is_there() == Some(false) {
            return Err(CaptureError::Stream { url: "rtsp://cam".into(), why: "nobody there".into() });
        }
        *self.open_connections.lock().unwrap() += 1;
        assert_eq!(*self.open_connections.lock().unwrap(), 1, "the one before must be closed first");
        Ok(Box::new(ScriptedConnection {
            clock: self.clock.clone(),
            script: self.scripts.remove(0).into_iter(),
            frames: 0,
            policy: self.policy,
            current: None,
            open_connections: Arc::clone(&self.open_connections),
        }))
    }

    fn is_there(&mut self) -> Option<bool> {
        self.there_from.map(|from| self.clock.now() >= from)
    }
}

impl Drop for ScriptedConnection {
    fn drop(&mut self) {
        *self.open_connections.lock().unwrap() -= 1;
    }
}

impl ScriptedConnection {
    fn frame(&mut self, changes: bool) -> Next {
        self.frames += u32::from(changes);
        let shade = self.frames;
        let image = RgbImage::from_fn(32, 24, |x, y| Rgb([(x * 8 + shade) as u8, (y * 9) as u8, (x * y) as u8]));
        Next::Frame(Arrived {
            image,
            captured: Instant::now(),
            captured_at: SystemTime::now(),
            decode_time: Duration::ZERO,
            stream_time: None,
            skipped: 0,
        })
    }
}

impl Connection for ScriptedConnection {
    fn next(&mut self, patience: Duration) -> Next {
        let Some((delay, step)) = self.current.take().or_else(|| self.script.next()) else {
            self.clock.pass(patience);
            return Next::Nothing;
        };
        if delay > patience {
            self.clock.pass(patience);
            return Next::Nothing;
        }
        self.clock.pass(delay);
        match step {
            Step::Open => Next::Opened(SourceInfo {
                name: "cam".into(),
                width: 32,
                height: 24,
                frame_count: None,
                frame_rate: None,
                policy: self.policy,
            }),
            Step::Frames(0, _) | Step::Still(0, _) => self.next(patience - delay),
            Step::Frames(count, interval) => {
                self.current = Some((interval, Step::Frames(count - 1, interval)));
                self.frame(true)
            }
            Step::Still(count, interval) => {
                self.current = Some((interval, Step::Still(count - 1, interval)));
                self.frame(false)
            }
            Step::End => Next::Ended,
            Step::Fail => Next::Failed(CaptureError::Disconnected { name: "cam".into() }),
        }
    }
}

const FRAME: Duration = Duration::from_millis(40);
const SECOND: Duration = Duration::from_secs(1);

struct Trial {
    clock: Simulated,
    attempts: Arc<Mutex<Vec<Duration>>>,
    supervisor: Supervisor,
    shutdown: Shutdown,
}

fn trial(settings: LiveSettings, policy: Policy, scripts: Vec<Script>) -> Trial {
    trial_from(None, settings, policy, scripts)
}

fn trial_from(there_from: Option<Duration>, settings: LiveSettings, policy: Policy, scripts: Vec<Script>) -> Trial {
    let clock = Simulated::default();
    let attempts = Arc::default();
    let shutdown = Shutdown::default();
    let opener = Scripted {
        there_from,
        clock: clock.clone(),
        scripts,
        attempts: Arc::clone(&attempts),
        policy,
        open_connections: Arc::default(),
    };
    let supervisor = Supervisor::new("door", settings, Box::new(opener), Box::new(clock.clone()), &shutdown, 5);
    Trial { clock, attempts, supervisor, shutdown }
}

fn live(scripts: Vec<Script>) -> Trial {
    trial(LiveSettings::default(), Policy::Live, scripts)
}

impl Trial {
    /// States with the time at which they were told, until so many were; frames are counted.
    fn states(&mut self, count: usize) -> (Vec<(Duration, SourceState)>, u64) {
        let (mut states, mut frames) = (Vec::new(), 0);
        while states.len() < count {
            match self.supervisor.next_event().unwrap() {
                LiveEvent::State(state) => states.push((self.clock.now(), state)),
                LiveEvent::Frame { frame, .. } => {
                    assert_eq!(frame.index, frames, "indices go on across connections");
                    assert_eq!(&*frame.source, "door");
                    frames += 1;
                }
                LiveEvent::Ended => panic!("it must not end; {states:?}"),
            }
        }
        (states, frames)
    }
}

fn opening() -> (Duration, Step) {
    (SECOND, Step::Open)
}

fn names(states: &[(Duration, SourceState)]) -> Vec<&'static str> {
    states.iter().map(|(_, state)| state.name()).collect()
}

#[test]
fn each_deadline_ends_the_wait_that_it_is_for() {
    let silent_open = vec![];
    let no_frame = vec![opening()];
    let stalled = vec![opening(), (SECOND, Step::Frames(50, FRAME))];
    let mut trial = live(vec![silent_open, no_frame, stalled]);
    let (states, frames) = trial.states(7);
    let expected = ["connecting", "disconnected", "connecting", "disconnected", "connecting", "live", "disconnected"];
    assert_eq!(names(&states), expected);
    let took = |from: usize, to: usize| states[to].0 - states[from].0;
    assert_eq!(took(0, 1), Duration::from_secs(10));
    assert_eq!(took(2, 3), Duration::from_secs(1 + 10));
    // 50 frames, and the interval that the last one is waited for in vain.
    assert_eq!(took(5, 6), FRAME * 49 + FRAME + (Duration::from_secs(5) - FRAME));
    assert_eq!(frames, 50);
    let reason = |index: usize| match &states[index].1 {
        SourceState::Disconnected { reason, .. } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(reason(1).contains("no answer for 10 s") && reason(6).contains("no answer for 5 s"), "{states:?}");
}

#[test]
fn a_dead_source_is_tried_for_ever_with_growing_waits() {
    let mut trial = live(vec![]);
    let (states, _) = trial.states(400);
    let attempts = trial.attempts.lock().unwrap();
    let waits: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.iter().all(|wait| (SHORTEST..=LONGEST).contains(wait)), "{waits:?}");
    assert!(waits[..4].iter().sum::<Duration>() < SECOND * 8 && waits[10..].iter().all(|wait| *wait >= LONGEST / 2));
    assert!(trial.clock.now() > SECOND * 3600, "an hour at least was simulated");
    assert_eq!(states[0].1, SourceState::Connecting { attempt: 1 });
    assert_eq!(states[398].1, SourceState::Connecting { attempt: 200 });
    let SourceState::Disconnected { attempts, retry_in_ms, .. } = &states[399].1 else { panic!("{:?}", states[399]) };
    assert!(*attempts == 200 && *retry_in_ms >= 15_000);
}

#[test]
fn a_source_that_was_steady_is_tried_again_soon_and_one_that_flaps_is_not() {
    let steady = || vec![opening(), (FRAME, Step::Frames(200, FRAME)), (FRAME, Step::Fail)];
    let mut trial = live((0..12).map(|_| steady()).collect());
    trial.states(36);
    let flapping = || vec![(FRAME, Step::Open), (FRAME, Step::Frames(3, FRAME)), (FRAME, Step::Fail)];
    let mut flaps = live((0..12).map(|_| flapping()).collect());
    flaps.states(36);
    let gaps = |trial: &Trial| {
        trial.attempts.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<Duration>>()
    };
    let connected = SECOND + FRAME * 202;
    assert!(gaps(&trial).iter().all(|gap| *gap <= connected + SHORTEST), "{:?}", gaps(&trial));
    assert!(gaps(&flaps)[10] >= LONGEST / 2, "{:?}", gaps(&flaps));
}

#[test]
fn a_source_that_can_be_seen_to_come_back_is_not_kept_waiting() {
    // After an hour the waits have long been half a minute.
    for tenths in 0..300 {
        let back = SECOND * 3600 + SECOND * tenths / 10;
        let script = vec![(FRAME, Step::Open), (FRAME, Step::Frames(10, FRAME))];
        let mut trial = trial_from(Some(back), LiveSettings::default(), Policy::Live, vec![script]);
        while !matches!(trial.supervisor.next_event().unwrap(), LiveEvent::Frame { .. }) {}
        let took = trial.clock.now() - back;
        assert!(took <= LOOK_EVERY + FRAME * 2, "{took:?}");
        let attempts = trial.attempts.lock().unwrap().len();
        assert!((120..260).contains(&attempts), "it is looked for often, but not tried: {attempts} attempts");
    }
}

#[test]
fn a_frozen_picture_is_told_once_and_so_is_its_end() {
    let script = vec![
        opening(),
        (FRAME, Step::Frames(10, FRAME)),
        (FRAME, Step::Still(500, FRAME)),
        (FRAME, Step::Frames(10, FRAME)),
        (FRAME, Step::Fail),
    ];
    let (states, frames) = live(vec![script]).states(5);
    assert_eq!(names(&states), ["connecting", "live", "frozen", "live", "disconnected"]);
    assert_eq!(frames, 520, "frames are delivered all the same");
}

#[test]
fn given_up_after_the_retries_that_were_asked_for() {
    for retries in [0, 3] {
        let settings = LiveSettings { retries: Some(retries), ..LiveSettings::default() };
        let mut trial = trial(settings, Policy::Live, vec![]);
        let error = loop {
            match trial.supervisor.next_event() {
                Ok(LiveEvent::State(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("nobody there") && error.fault() == Fault::Input);
        assert_eq!(trial.attempts.lock().unwrap().len() as u64, retries + 1);
        assert!(matches!(trial.supervisor.next_event(), Ok(LiveEvent::Ended)));
    }
}

#[test]
fn a_recording_behind_an_address_ends_and_is_not_begun_again() {
    let whole = vec![opening(), (FRAME, Step::Frames(5, FRAME)), (FRAME, Step::End)];
    let mut sound = trial(LiveSettings::default(), Policy::Recorded, vec![whole]);
    assert_eq!(sound.states(2).1, 0);
    let rest = std::iter::from_fn(|| match sound.supervisor.next_event().unwrap() {
        LiveEvent::Ended => None,
        event => Some(event),
    });
    assert_eq!(rest.count(), 5);
    let broken = vec![opening(), (FRAME, Step::Frames(5, FRAME)), (FRAME, Step::Fail)];
    let mut broken = trial(LiveSettings::default(), Policy::Recorded, vec![broken]);
    broken.states(2);
    let error = (0..6).find_map(|_| broken.supervisor.next_event().err());
    assert!(matches!(error, Some(CaptureError::Disconnected { .. })), "{error:?}");
}

#[test]
fn a_shutdown_ends_it_whatever_it_is_doing() {
    let mut waiting = live(vec![]);
    waiting.states(2);
    let mut streaming = live(vec![vec![opening(), (FRAME, Step::Frames(1000, FRAME))]]);
    streaming.states(2);
    for mut trial in [waiting, streaming] {
        trial.shutdown.request();
        let events: Vec<LiveEvent> = (0..3).map(|_| trial.supervisor.next_event().unwrap()).collect();
        assert!(matches!(events[..], [.., LiveEvent::Ended, LiveEvent::Ended]), "{events:?}");
    }
}
