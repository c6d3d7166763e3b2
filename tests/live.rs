//! Live sources against a real RTSP server: whatever happens to it, they come back, and nothing is left behind.
//!
//! Most tests drive the supervisor and its decoding process without a network behind them, which would only cost time.

mod common;
#[path = "common/rtsp.rs"]
mod rtsp;

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::*;
use maskwatch::capture::supervise::clock::SystemClock;
use maskwatch::capture::supervise::process::ProcessOpener;
use maskwatch::capture::{LiveEvent, LiveSettings, SourceSpec, SourceState, Supervisor};
use maskwatch::shutdown::Shutdown;
use rtsp::{Camera, Fault, kill, proxy, url};

/// Long enough for a busy machine, and seldom used up.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Seen {
    State(SourceState),
    Frame { index: u64, pts: Duration, size: (u32, u32), captured: Instant },
}

/// A supervised source on a thread of its own.
struct Watched {
    seen: Receiver<Seen>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
    states: Vec<SourceState>,
}

fn impatient() -> LiveSettings {
    LiveSettings {
        // On a busy machine the decoding process takes a while to start.
        open_timeout: Duration::from_secs(8),
        progress_timeout: Duration::from_millis(1500),
        frozen_after: Duration::from_millis(1500),
        decoder: env!("CARGO_BIN_EXE_maskwatch").into(),
        ..LiveSettings::default()
    }
}

fn watch(address: &str, settings: LiveSettings) -> Watched {
    let shutdown = Shutdown::default();
    let spec = SourceSpec::parse(address).unwrap().remove(0);
    let stop = shutdown.clone();
    let (sender, seen) = channel();
    let work = move || {
        let opener = Box::new(ProcessOpener::new(spec, settings.clone(), false, &stop));
        let clock = Box::new(SystemClock::new(&stop));
        let mut supervisor = Supervisor::new("door", settings, opener, clock, &stop, 3);
        loop {
            let seen = match supervisor.next_event().expect("it is tried for ever") {
                LiveEvent::State(state) => Seen::State(state),
                LiveEvent::Frame { info, frame, .. } => {
                    assert_eq!(frame.image.dimensions(), (info.width, info.height));
                    Seen::Frame {
                        index: frame.index,
                        pts: frame.pts,
                        size: frame.image.dimensions(),
                        captured: frame.read_started,
                    }
                }
                LiveEvent::Ended => return,
            };
            if sender.send(seen).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(work).unwrap();
    Watched { seen, shutdown, thread: Some(thread), states: Vec::new() }
}

impl Watched {
    /// Waits until something is seen that `wanted` makes something of.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.seen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(seen) => {
                    let result = wanted(&seen);
                    if let Seen::State(state) = seen {
                        self.states.push(state);
                    }
                    if let Some(result) = result {
                        return result;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("waited in vain for {what}; {:?}", self.states),
                Err(RecvTimeoutError::Disconnected) => panic!("the supervisor failed; {:?}", self.states),
            }
        }
    }

    /// Waits for so many frames; gives index, timestamp and the moment of capture of the last.
    fn frames(&mut self, count: usize) -> (u64, Duration, Instant) {
        let mut left = count;
        self.until("frames", |seen| match seen {
            Seen::Frame { index, pts, captured, .. } => {
                left -= 1;
                (left == 0).then_some((*index, *pts, *captured))
            }
            Seen::State(_) => None,
        })
    }

    fn state(&mut self, name: &str) -> SourceState {
        self.until(name, |seen| match seen {
            Seen::State(state) if state.name() == name => Some(state.clone()),
            _ => None,
        })
    }

    fn disconnected(&mut self) -> String {
        match self.state("disconnected") {
            SourceState::Disconnected { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Ends it, and asserts that this is quick.
    fn end(mut self) {
        let asked = Instant::now();
        self.shutdown.request();
        self.thread.take().unwrap().join().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

#[test]
fn a_server_that_is_stopped_and_restarted() {
    let camera = Camera::start(0, &[]);
    let port = camera.port;
    let mut door = watch(&camera.url("camera"), impatient());
    let (index, pts, _) = door.frames(10);
    drop(camera);
    door.disconnected();
    let camera = Camera::start(port, &[]);
    let (later, later_pts, captured) = door.frames(1);
    assert!(later > index && later_pts > pts, "one count and one time for all connections");
    assert!(captured.elapsed() < Duration::from_secs(2), "the frame is of now");
    door.frames(5);
    door.end();
    drop(camera);
}

#[test]
fn a_server_that_is_connected_but_silent() {
    let camera = Camera::start(0, &[]);
    let mut door = watch(&camera.url("camera"), impatient());
    door.frames(10);
    camera.signal("-STOP");
    let stopped = Instant::now();
    let mut last = stopped;
    let reason = door.until("silence", |seen| match seen {
        Seen::Frame { captured, .. } => {
            last = *captured;
            None
        }
        Seen::State(SourceState::Disconnected { reason, .. }) => Some(reason.clone()),
        Seen::State(_) => None,
    });
    assert!(reason.contains("gave no answer for 1.5 s"), "{reason}");
    // What was on its way may still come, but nothing after that, and no frame of before as if it were new.
    assert!(last < stopped + Duration::from_millis(500), "{:?}", last - stopped);
    camera.signal("-CONT");
    let (_, _, captured) = door.frames(1);
    assert!(captured.elapsed() < Duration::from_secs(2));
    door.frames(5);
    door.end();
}

#[test]
fn connections_that_are_cut_or_scrambled() {
    let camera = Camera::start(0, &[]);
    // Amid the conversation before the first frame, which the client may mend by itself; in the middle of a frame; bytes
    // flipped, headers and lengths among them.
    let faults = [Fault::CutAfter(300), Fault::CutAfter(500_000), Fault::FlipFrom(30_000, 1009)];
    let port = proxy(camera.port, &faults);
    let mut door = watch(&url(port, "camera"), impatient());
    door.frames(3);
    door.disconnected();
    // Some of it can still be decoded; if nothing could, the fourth connection is sound.
    door.frames(40);
    door.end();
}

#[test]
fn streams_without_video_with_broken_pictures_and_with_changing_sizes() {
    let camera = Camera::start(0, &[]);
    let mut audio = watch(&camera.url("audio"), impatient());
    let mut corrupt = watch(&camera.url("corrupt"), impatient());
    let mut resolution = watch(&camera.url("resolution"), impatient());
    let reason = audio.disconnected();
    assert!(reason.contains("offers no video"), "{reason}");
    audio.disconnected();
    let (index, ..) = corrupt.frames(40);
    assert!(index >= 39);
    let mut sizes = HashSet::new();
    resolution.until("both sizes", |seen| {
        if let Seen::Frame { size, .. } = seen {
            sizes.insert(*size);
        }
        (sizes.len() == 2).then_some(())
    });
    assert_eq!(sizes, [(320, 240), (160, 120)].into());
    resolution.frames(5);
    [audio, corrupt, resolution].into_iter().for_each(Watched::end);
}

#[test]
fn pictures_that_are_frozen_or_black() {
    let camera = Camera::start(0, &[]);
    let mut frozen = watch(&camera.url("frozen"), impatient());
    let mut black = watch(&camera.url("black"), impatient());
    frozen.frames(3);
    assert_eq!(frozen.state("frozen").name(), "frozen");
    black.state("uniform");
    // Delivered all the same: whether to believe them is for others to say.
    frozen.frames(5);
    black.frames(5);
    [frozen, black].into_iter().for_each(Watched::end);
}

/// A run of the program, killed when dropped.
struct Run(Child);

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let mut command = program();
        command.arg("run").args(arguments).args(["--scan", "96", "--headless", "--threads", "1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn children(&self) -> Vec<u32> {
        children_of(self.0.id())
    }

    /// Signals it, and gives its exit code and what it wrote to standard error.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let children = self.children();
        let asked = Instant::now();
        kill(self.0.id(), signal);
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        let code = self.0.wait().unwrap().code();
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?} to end", asked.elapsed());
        for child in children {
            wait_for("the end of a decoder", || (!is_running(child)).then_some(()));
        }
        (code, text)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Gone already, mostly.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T: Debug>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_running(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let processes = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    processes.filter(|process| stat(*process).is_some_and(|(_, own)| own == parent)).collect()
}

/// Events of each source so far.
fn counts(log: &std::path::Path, sources: &[&str]) -> Vec<usize> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    sources.iter().map(|source| text.matches(&format!("\"source\":\"{source}\"")).count()).collect()
}

#[test]
fn four_sources_of_which_one_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("events.jsonl");
    let camera = Camera::start(0, &["--credentials", "admin:hunter2"]);
    let port = camera.port;
    let address = format!("rtsp://admin:hunter2@127.0.0.1:{port}");
    let named = |name: &str| format!("{name}={address}/camera");
    let (first, second, third) = (named("first"), named("second"), format!("third={address}/resolution"));
    let dead = "dead=rtsp://admin:hunter2@127.0.0.1:1/camera";
    let run =
        Run::start(&[&first, dead, &second, &third, "--events", log.to_str().unwrap(), "--progress-timeout", "1500ms"]);
    let alive = ["first", "second", "third"];
    let more = |than: &[usize], by: usize| {
        wait_for("events of all that live", || {
            let now = counts(&log, &alive);
            now.iter().zip(than).all(|(now, before)| *now >= before + by).then_some(now)
        })
    };
    let before = more(&[0; 3], 5);
    let resources = |run: &Run| {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", run.0.id())).unwrap().count();
        // The thread that renews bases begins with the first that is due, whenever that is.
        let names = std::fs::read_dir(format!("/proc/{}/task", run.0.id()))
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let threads = names.filter(|name| name.trim_end() != "basis").count();
        (count("fd"), threads, run.children().len())
    };
    // The dead one may be just trying: then it has a process and its pipes, too.
    let idle = wait_for("three decoders", || Some(resources(&run)).filter(|(_, _, children)| *children == 3));
    for child in run.children() {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{child}/{what}")).unwrap();
        assert!(read("cmdline").contains("capture-source") && !read("cmdline").contains("hunter2"));
    }

    // A decoder that crashes concerns its own source alone, and is replaced.
    let children = run.children();
    kill(children[0], "-KILL");
    wait_for("another decoder", || {
        let now = run.children();
        (now.len() == 3 && !now.contains(&children[0])).then_some(())
    });
    let before = more(&before, 20);

    drop(camera);
    wait_for("the end of all decoders", || run.children().is_empty().then_some(()));
    let _camera = Camera::start(port, &["--credentials", "admin:hunter2"]);
    more(&before, 5);
    wait_for("as few files, threads and processes as before", || (resources(&run) == idle).then_some(()));

    let (code, text) = run.end("-INT");
    assert_eq!(code, Some(130), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("admin"), "{text}");
    let complaints = |name: &str| text.lines().filter(|line| line.contains(&format!("{name}: disconnected"))).count();
    assert_eq!(complaints("dead"), 1, "one reason is told once, however many attempts fail:\n{text}");
    assert!(complaints("first") >= 1 && text.contains("first: live again after"), "{text}");
    assert!(!std::fs::read_to_string(&log).unwrap().contains("hunter2"));
}

#[test]
fn a_run_that_is_killed_or_ends_while_it_connects_leaves_no_process() {
    let camera = Camera::start(0, &[]);
    let killed = Run::start(&[&camera.url("camera"), "--progress-timeout", "60s"]);
    let child = wait_for("a decoder", || killed.children().first().copied());
    std::thread::sleep(Duration::from_millis(1500));
    kill(killed.0.id(), "-KILL");
    wait_for("the end of the decoder", || (!is_running(child)).then_some(()));

    // It accepts the connection and says nothing: the decoder blocks within FFmpeg.
    camera.signal("-STOP");
    let connecting = Run::start(&[&camera.url("camera"), "--open-timeout", "60s"]);
    wait_for("a decoder", || connecting.children().first().copied());
    std::thread::sleep(Duration::from_millis(1500));
    let (code, text) = connecting.end("-TERM");
    assert_eq!(code, Some(130), "{text}");
    camera.signal("-CONT");
}

#[test]
fn a_source_that_is_given_up_is_named_and_leaves_an_interruption_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("events.jsonl");
    let camera = Camera::start(0, &[]);
    let alive = format!("alive={}", camera.url("camera"));
    let dead = "dead=rtsp://127.0.0.1:1/camera";
    let run = Run::start(&[&alive, dead, "--retries", "0", "--events", log.to_str().unwrap()]);
    wait_for("the end of one and frames of the other", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.contains("given_up") && text.contains("\"source\":\"alive\",\"frame\"")).then_some(())
    });
    let (code, text) = run.end("-TERM");
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("ERROR dead: rtsp://127.0.0.1:1/camera cannot be opened"), "{text}");
}

#[test]
fn the_decoder_is_not_for_people() {
    maskwatch(["capture-source"]).fails(1, "is started by maskwatch itself");
    assert!(!maskwatch(["--help"]).ok().stdout.contains("capture-source"));
}
