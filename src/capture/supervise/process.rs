//! The process that decodes a live source, from the side of its supervisor: start, listen, kill.
//!
//! It is started as a hidden command of this program, in a process group of its own, so that Ctrl-C reaches the
//! supervisor alone. What it shall decode goes to its standard input: credentials stand in no list of processes. Its
//! output is read without ever blocking for longer than a deadline allows, also in the middle of a picture.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::time::{ClockId, clock_gettime};

use super::wire::{FrameHeader, MAX_TEXT, Report, Request};
use super::{Arrived, Connection, LiveSettings, Next, Opener};
use crate::capture::{CaptureError, SourceSpec};
use crate::recycled::room;
use crate::shutdown::Shutdown;

/// The hidden command.
pub const COMMAND: &str = "capture-source";
/// Variable with which OpenCV passes options on to FFmpeg.
const FFMPEG_OPTIONS: &str = "OPENCV_FFMPEG_CAPTURE_OPTIONS";
/// Size of the pipe, bytes: what Linux allows everybody. A picture passes in fewer, larger pieces.
const PIPE_SIZE: usize = 1 << 20;
/// How often somebody who waits looks whether the end was asked for.
const POLL: Duration = Duration::from_millis(100);
/// How long a killed process may take to go. One that hangs in a driver takes as long as the driver does.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time to find out whether a host accepts connections.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts a process for each attempt.
pub struct ProcessOpener {
    spec: SourceSpec,
    settings: LiveSettings,
    every_frame: bool,
    shutdown: Shutdown,
    /// Killed processes that were not gone in time.
    unreaped: Arc<Mutex<Vec<Child>>>,
}

impl ProcessOpener {
    /// For a camera or stream. `every_frame` asks for all of its frames rather than the newest.
    pub fn new(spec: SourceSpec, settings: LiveSettings, every_frame: bool, shutdown: &Shutdown) -> Self {
        Self { spec, settings, every_frame, shutdown: shutdown.clone(), unreaped: Arc::default() }
    }

    fn start(&self) -> Result<DecoderProcess, CaptureError> {
        let failed = |reason: std::io::Error| CaptureError::DecoderStart { name: self.spec.name(), reason };
        let request = Request::new(&self.spec, &self.settings, self.every_frame)
            .ok_or_else(|| failed(std::io::Error::other("a recorded source has none")))?;
        let mut command = Command::new(&self.settings.decoder);
        command.arg0(env!("CARGO_PKG_NAME")).arg(COMMAND).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // It computes nothing: the thread pools of libraries would only take memory.
        command.envs([("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")]);
        // A variable set by the user is left alone, except for what this program itself puts there.
        let chosen_by_user =
            std::env::var_os(FFMPEG_OPTIONS).is_some_and(|value| value != *crate::capture::FFMPEG_DEFAULT);
        if !chosen_by_user {
            command.env(FFMPEG_OPTIONS, format!("rtsp_transport;{}", self.settings.rtsp_transport.name()));
        }
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut process = DecoderProcess {
            name: self.spec.name(),
            child: Some(child),
            stdin,
            stdout: stdout.ok_or_else(|| failed(std::io::Error::other("it has no output")))?,
            shutdown: self.shutdown.clone(),
            unreaped: Arc::clone(&self.unreaped),
        };
        process.send(&request).map_err(failed)?;
        Ok(process)
    }

    /// What can be known without a process, and without waiting for long: whether somebody is there at all. `None` for a
    /// host name, because looking it up may take long.
    fn look(&self) -> Option<Result<(), CaptureError>> {
        match &self.spec {
            SourceSpec::Camera(camera) => {
                let device = camera.device();
                let found = std::fs::symlink_metadata(&device);
                Some(found.map(drop).map_err(|_| CaptureError::no_such_camera(&device)))
            }
            SourceSpec::Stream(url) => {
                let (host, port) = url.endpoint();
                let address = SocketAddr::new(host.parse::<IpAddr>().ok()?, port);
                let connected = TcpStream::connect_timeout(&address, LOOK_TIMEOUT);
                Some(connected.map(drop).map_err(|error| CaptureError::unreachable(url, &error)))
            }
            SourceSpec::VideoFile(_) | SourceSpec::Image(_) | SourceSpec::Synthetic { .. } => None,
        }
    }
}

impl Opener for ProcessOpener {
    fn open(&mut self, attempt: u64) -> Result<Box<dyn Connection>, CaptureError> {
        let mut unreaped = self.unreaped.lock().unwrap_or_else(PoisonError::into_inner);
        unreaped.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        drop(unreaped);
        if cfg!(not(feature = "opencv")) {
            return Err(CaptureError::NoVideoSupport { name: self.spec.name() });
        }
        // The attempts of a dead source cost no process.
        if attempt > 1
            && let Some(Err(error)) = self.look()
        {
            return Err(error);
        }
        Ok(Box::new(self.start()?))
    }

    fn is_there(&mut self) -> Option<bool> {
        self.look().map(|found| found.is_ok())
    }
}

/// A running decoder. Dropped, it is killed and reaped.
struct DecoderProcess {
    name: String,
    /// Taken when it is reaped.
    child: Option<Child>,
    /// Kept open: its end tells the process to end.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    shutdown: Shutdown,
    unreaped: Arc<Mutex<Vec<Child>>>,
}

/// Why nothing could be read.
enum Unread {
    TimedOut,
    Closed,
    Failed(String),
}

impl DecoderProcess {
    fn send(&mut self, request: &Request) -> std::io::Result<()> {
        let flags = fcntl_getfl(&self.stdout)?;
        fcntl_setfl(&self.stdout, flags | OFlags::NONBLOCK)?;
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&self.stdout, PIPE_SIZE) {
            tracing::debug!(%error, "the pipe from a decoder keeps its size");
        }
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        match &mut self.stdin {
            // Far less than what a pipe holds: never blocks.
            Some(stdin) => stdin.write_all(&line),
            None => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Next, Unread> {
        let length = self.read_bytes(Vec::with_capacity(4), 4, deadline)?;
        let length = u32::from_le_bytes(length.try_into().expect("four bytes were read")) as usize;
        if length > MAX_TEXT {
            return Err(Unread::Failed(format!("a report of {length} bytes")));
        }
        let text = self.read_bytes(Vec::with_capacity(length), length, deadline)?;
        let report =
            serde_json::from_slice(&text).map_err(|error| Unread::Failed(format!("a malformed report: {error}")))?;
        Ok(match report {
            Report::Opened(info) => Next::Opened(info),
            Report::Ended => Next::Ended,
            Report::Failed(failure) => Next::Failed(failure.into()),
            Report::Frame(header) => Next::Frame(self.receive_frame(&header, deadline)?),
        })
    }

    fn receive_frame(&mut self, header: &FrameHeader, deadline: Instant) -> Result<Arrived, Unread> {
        let impossible = || Unread::Failed(format!("a picture of {}x{} pixels", header.width, header.height));
        let bytes = header.pixel_bytes().ok_or_else(impossible)?;
        let pixels = self.read_bytes(room::<RgbImage>(bytes), bytes, deadline)?;
        let image = RgbImage::from_raw(header.width, header.height, pixels).ok_or_else(impossible)?;
        let age = Duration::from_nanos(monotonic_nanos().saturating_sub(header.captured_nanos));
        let now = Instant::now();
        Ok(Arrived {
            image,
            captured: now.checked_sub(age).unwrap_or(now),
            captured_at: SystemTime::now() - age,
            decode_time: header.decode_time,
            stream_time: header.stream_time,
            skipped: header.skipped,
        })
    }

    /// Fills empty memory with so many bytes, unless the deadline passes, the process closes its output, or the end of the run is
    /// asked for. It is not cleared before: that would take longer than reading them.
    fn read_bytes(&mut self, mut bytes: Vec<u8>, length: usize, deadline: Instant) -> Result<Vec<u8>, Unread> {
        while bytes.len() < length {
            let missing = (length - bytes.len()) as u64;
            // What was read before an error is kept.
            match self.stdout.by_ref().take(missing).read_to_end(&mut bytes) {
                Ok(_) if bytes.len() < length => return Err(Unread::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_output(deadline)?,
                Err(error) => return Err(Unread::Failed(error.to_string())),
            }
        }
        Ok(bytes)
    }

    fn wait_for_output(&self, deadline: Instant) -> Result<(), Unread> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.shutdown.is_requested() {
            return Err(Unread::TimedOut);
        }
        let left = left.min(POLL);
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.as_nanos().try_into().unwrap_or(0) };
        match poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Unread::Failed(error.to_string())),
        }
    }

    /// Kills the process and waits until it is gone, so that the camera is free again.
    fn reap(&mut self) -> Option<ExitStatus> {
        self.stdin = None;
        let mut child = self.child.take()?;
        // One that has ended by itself, but was not waited for, can be killed without harm.
        if let Err(error) = child.kill() {
            tracing::debug!(%error, "a decoder could not be killed");
        }
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if started.elapsed() < REAP_TIMEOUT => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => {
                    tracing::warn!("{}: its decoder hangs in the system and goes when that lets it", self.name);
                    self.unreaped.lock().unwrap_or_else(PoisonError::into_inner).push(child);
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, "a decoder could not be waited for");
                    return None;
                }
            }
        }
    }

    fn crashed(&mut self) -> CaptureError {
        // Closing its output is the last thing that a process does: usually it is gone now.
        let ended_by_itself = |child: &mut Child| {
            (0..50).find_map(|_| match child.try_wait() {
                Ok(None) => {
                    std::thread::sleep(Duration::from_millis(2));
                    None
                }
                Ok(status) => Some(status),
                Err(_) => Some(None),
            })
        };
        let status = self.child.as_mut().and_then(ended_by_itself).flatten();
        let how = match status.map(|status| (status.signal(), status.code())) {
            Some((Some(signal), _)) => format!("signal {signal}"),
            Some((None, Some(code))) => format!("exit code {code}"),
            _ => "it closed its output".to_owned(),
        };
        CaptureError::DecoderEnded { name: self.name.clone(), how }
    }
}

impl Connection for DecoderProcess {
    fn next(&mut self, patience: Duration) -> Next {
        match self.receive(Instant::now() + patience) {
            Ok(next) => next,
            Err(Unread::TimedOut) => Next::Nothing,
            Err(Unread::Closed) => Next::Failed(self.crashed()),
            Err(Unread::Failed(how)) => Next::Failed(CaptureError::DecoderEnded { name: self.name.clone(), how }),
        }
    }
}

impl Drop for DecoderProcess {
    fn drop(&mut self) {
        self.reap();
    }
}

/// `CLOCK_MONOTONIC`, which all processes share.
pub(super) fn monotonic_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
