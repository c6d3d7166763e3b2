//! The process that decodes a live source, from its own side: open, read, pass on the newest frame.
//!
//! It ends when its supervisor does, whatever it is doing: the system kills it (`PR_SET_PDEATHSIG`, which also ends a read
//! that blocks for ever), and a thread ends it when its standard input does. One thread reads the source, so that nothing
//! ever piles up there; another one writes. A frame that comes while the other is still busy is passed over.

use std::fs::File;
use std::io::{BufRead, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
#[cfg(feature = "gstreamer")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use image::RgbImage;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::process::monotonic_nanos;
use super::wire::{Failure, FrameHeader, Report, Request, write_report};
use crate::capture::live::Live;
use crate::capture::video::{self, Opened};
use crate::capture::{CaptureError, OpenOptions, Source, SourceSpec};
#[cfg(feature = "gstreamer")]
use crate::capture::{Policy, SourceInfo, rtsp};
use crate::recycled::Recycled;

/// OpenCV's own time-outs only come to bear where those of the supervisor should have.
const MARGIN: Duration = Duration::from_secs(5);
/// Longest time for a source to reach the present after it was opened.
const MAX_CATCH_UP: Duration = Duration::from_secs(2);
/// Half the interval between frames where the source does not tell its rate.
const DEFAULT_HALF_INTERVAL: Duration = Duration::from_millis(20);

/// Why a decoder could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// Somebody else than a supervisor started it.
    #[error("capture-source is started by maskwatch itself, for each live source; use maskwatch run SOURCE")]
    NotAsked,
    /// The system refuses something.
    #[error("the decoding process cannot begin ({0}): check the limits on processes and files")]
    System(#[from] std::io::Error),
}

/// Reads a request from standard input and serves it on standard output until the source or the supervisor ends.
///
/// # Errors
///
/// When there is no request. What goes wrong with the source is reported to the supervisor.
pub fn serve() -> Result<(), DecoderError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line).map_err(|_| DecoderError::NotAsked)?;
    end_with_supervisor(request.parent)?;
    let (output, writer) = Output::start(private_stdout()?)?;

    let outcome = request.spec().and_then(|spec| decode(&spec, &request, &output));
    output.send(match outcome {
        Ok(()) => Report::Ended,
        Err(error) => Report::Failed(Failure::new(&error, &request.secrets())),
    });
    drop(output);
    // It has nothing to say: a writer that cannot write ends the process.
    let _ = writer.join();
    Ok(())
}

fn end_with_supervisor(supervisor: u32) -> Result<(), DecoderError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    // It may have gone before the line above.
    if std::os::unix::process::parent_id() != supervisor {
        return Err(DecoderError::NotAsked);
    }
    std::thread::Builder::new().name("supervisor-watch".to_owned()).spawn(|| {
        let mut byte = [0];
        while std::io::stdin().lock().read(&mut byte).is_ok_and(|read| read > 0) {}
        std::process::exit(0);
    })?;
    Ok(())
}

/// Standard output as a file of ours alone: what a library prints there goes to standard error.
fn private_stdout() -> Result<File, DecoderError> {
    let own = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr()).map_err(std::io::Error::from)?;
    Ok(own.into())
}

/// The writing thread, from the side of those that read.
#[derive(Clone)]
struct Output {
    to_writer: Sender<(Report, Option<Recycled<RgbImage>>)>,
    /// Whether the writer has nothing to do.
    idle: Arc<AtomicBool>,
}

impl Output {
    fn start(mut out: File) -> Result<(Self, JoinHandle<()>), DecoderError> {
        let (to_writer, reports) = bounded::<(Report, Option<Recycled<RgbImage>>)>(1);
        let idle = Arc::new(AtomicBool::new(true));
        let is_idle = Arc::clone(&idle);
        let writer = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
            for (report, image) in reports {
                let pixels = image.as_ref().map_or(&[][..], |image| image.as_raw());
                if write_report(&mut out, &report, pixels).is_err() {
                    // Nobody reads any more.
                    std::process::exit(0);
                }
                is_idle.store(true, Ordering::Release);
            }
        })?;
        Ok((Self { to_writer, idle }, writer))
    }

    fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    fn send(&self, report: Report) {
        self.put(report, None);
    }

    fn send_frame(&self, header: FrameHeader, image: Recycled<RgbImage>) {
        self.put(Report::Frame(header), Some(image));
    }

    fn put(&self, report: Report, image: Option<Recycled<RgbImage>>) {
        self.idle.store(false, Ordering::Release);
        // A writer that is gone takes the process with it.
        let _ = self.to_writer.send((report, image));
    }
}

fn decode(spec: &SourceSpec, request: &Request, output: &Output) -> Result<(), CaptureError> {
    #[cfg(feature = "gstreamer")]
    if let SourceSpec::Stream(url) = spec
        && url.scheme().starts_with("rtsp")
    {
        let camera = Arc::new(Camera {
            output: output.clone(),
            every_frame: request.every_frame,
            skipped: AtomicU64::new(0),
            name: spec.name(),
        });
        return Err(rtsp::play(url, request.rtsp_transport, camera));
    }
    let options = OpenOptions {
        open_timeout: request.open_timeout.saturating_add(MARGIN),
        read_timeout: request.progress_timeout.saturating_add(MARGIN),
    };
    match video::open(spec, &options)? {
        Opened::Recorded(mut source) => {
            output.send(Report::Opened(source.info().clone()));
            while let Some(frame) = source.read()? {
                let header = FrameHeader {
                    width: frame.image.width(),
                    height: frame.image.height(),
                    captured_nanos: monotonic_nanos(),
                    decode_time: frame.decode_time,
                    stream_time: Some(frame.pts),
                    skipped: 0,
                };
                // Nobody else has it.
                output.send_frame(header, frame.image.unwrap_or_clone());
            }
            Ok(())
        }
        Opened::Live(mut source) => {
            output.send(Report::Opened(source.info().clone()));
            pass_on(&mut source, request, output)
        }
    }
}

/// Passes on what an RTSP camera sends.
#[cfg(feature = "gstreamer")]
struct Camera {
    name: String,
    output: Output,
    every_frame: bool,
    skipped: AtomicU64,
}

#[cfg(feature = "gstreamer")]
impl rtsp::Listener for Camera {
    fn opened(&self) {
        self.output.send(Report::Opened(SourceInfo {
            name: self.name.clone(),
            // Known with the first frame.
            width: 0,
            height: 0,
            frame_count: None,
            frame_rate: None,
            policy: Policy::Live,
        }));
    }

    fn wants_frame(&self) -> bool {
        let wanted = self.every_frame || self.output.is_idle();
        self.skipped.fetch_add(u64::from(!wanted), Ordering::Relaxed);
        wanted
    }

    fn frame(&self, frame: rtsp::RtspFrame) {
        let delay = u64::try_from(frame.delay.as_nanos()).unwrap_or(0);
        let header = FrameHeader {
            width: frame.image.width(),
            height: frame.image.height(),
            captured_nanos: monotonic_nanos().saturating_sub(delay),
            decode_time: frame.delay,
            stream_time: frame.stream_time,
            skipped: self.skipped.swap(0, Ordering::Relaxed),
        };
        self.output.send_frame(header, frame.image.into());
    }
}

/// Ends with an error only.
fn pass_on(source: &mut Live, request: &Request, output: &Output) -> Result<(), CaptureError> {
    let half_interval =
        source.info().frame_rate.map_or(DEFAULT_HALF_INTERVAL, |rate| Duration::from_secs_f64(0.5 / rate.max(1.0)));
    let opened = Instant::now();
    let mut in_the_present = request.every_frame;
    let mut skipped = 0;
    loop {
        let asked = Instant::now();
        source.grab()?;
        let captured_nanos = monotonic_nanos();
        let waited = asked.elapsed();
        // OpenCV hands out a frame of before when its time-out strikes, as if all were well.
        if waited > request.progress_timeout {
            return Err(source.silent(waited));
        }
        // What a stream sends while it is being opened piles up. The first frame that had to be waited for is of now.
        in_the_present |= waited >= half_interval || opened.elapsed() > MAX_CATCH_UP;
        if !in_the_present || !(request.every_frame || output.is_idle()) {
            skipped += 1;
            continue;
        }
        let stream_time = source.stream_time();
        let decoding = Instant::now();
        let Ok(image) = source.retrieve() else {
            // One broken picture is no broken source; if no other comes, the supervisor notices.
            skipped += 1;
            continue;
        };
        let header = FrameHeader {
            width: image.width(),
            height: image.height(),
            captured_nanos,
            decode_time: decoding.elapsed(),
            stream_time,
            skipped: std::mem::take(&mut skipped),
        };
        output.send_frame(header, image.into());
    }
}
