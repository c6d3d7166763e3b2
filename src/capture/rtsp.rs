//! RTSP cameras through GStreamer, for the process that decodes them.
//!
//! OpenCV is not fit for this: 4.6 goes on converting frames with the size that the stream had when it was opened, so that
//! after a change of resolution it reads beyond them; each of its decoding threads, one a core, holds a frame back; opening
//! takes as long as FFmpeg wants to analyse; and the times that it reports start with every connection. GStreamer follows
//! the size, holds nothing back from a live source, opens with the first key frame, and tells when each frame arrived.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer::prelude::*;
use gstreamer::{
    Caps, ClockTime, Element, FlowError, FlowSuccess, MessageView, PadProbeReturn, PadProbeType, Pipeline,
};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use image::RgbImage;

use super::error::one_line;
use super::{CaptureError, RtspTransport, StreamUrl};
use crate::recycled::room;

/// How long packets may wait for those before them. Within a connection they come in order.
const UDP_REORDER_MILLIS: u32 = 100;
/// A frame that seems older has wrong timestamps.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// What happens on the way, told from threads of GStreamer's.
pub(super) trait Listener: Send + Sync + 'static {
    /// The camera sends video.
    fn opened(&self);
    /// Whether a frame that is there now is wanted; if not, it is passed over.
    fn wants_frame(&self) -> bool;
    /// A frame that was wanted.
    fn frame(&self, frame: RtspFrame);
}

/// A decoded frame.
pub(super) struct RtspFrame {
    /// The picture.
    pub image: RgbImage,
    /// Time since its first packet arrived.
    pub delay: Duration,
    /// The camera's own time of it.
    pub stream_time: Option<Duration>,
}

/// Plays a camera until it fails.
///
/// # Errors
///
/// Always, in the end: the camera refuses, sends no video, or hangs up. Silence is no end.
pub(super) fn play(url: &StreamUrl, transport: RtspTransport, listener: Arc<dyn Listener>) -> CaptureError {
    let broken = |reason: String| CaptureError::Decoder {
        message: format!("{}: GStreamer failed ({reason}): run maskwatch doctor", url.host()),
        fault: super::Fault::Running,
        retryable: false,
    };
    let had_frames = Arc::new(AtomicBool::new(false));
    match start(url, transport, listener, Arc::clone(&had_frames)) {
        Ok(pipeline) => {
            let error = watch(url, &pipeline, &had_frames);
            // The process ends next: what does not stop now is killed with it.
            let _ = pipeline.set_state(gstreamer::State::Null);
            error
        }
        Err(reason) => broken(one_line(&reason.to_string())),
    }
}

type Failed = Box<dyn std::error::Error>;

fn start(
    url: &StreamUrl,
    transport: RtspTransport,
    listener: Arc<dyn Listener>,
    had_frames: Arc<AtomicBool>,
) -> Result<Pipeline, Failed> {
    gstreamer::init()?;
    let description = "rtspsrc name=source ! application/x-rtp,media=video ! decodebin ! videoconvert \
                       ! video/x-raw,format=RGB ! appsink name=out sync=false max-buffers=1 drop=true";
    let pipeline = gstreamer::parse::launch(description)?.downcast::<Pipeline>().map_err(|_| "no pipeline")?;
    let source = pipeline.by_name("source").ok_or("no source")?;
    source.set_property("location", url.secret());
    source.set_property_from_str("protocols", transport.name());
    let latency = if transport == RtspTransport::Udp { UDP_REORDER_MILLIS } else { 0 };
    source.set_property("latency", latency);
    // Sound is not asked for at all.
    source.connect("select-stream", false, |arguments| {
        let caps = arguments.get(2).and_then(|caps| caps.get::<Caps>().ok());
        Some(caps.is_some_and(|caps| is_video(&caps)).to_value())
    });
    let times = Arc::new(RtpTimes::default());
    let (listening, counting) = (Arc::clone(&listener), Arc::clone(&times));
    source.connect_pad_added(move |_: &Element, pad| {
        listening.opened();
        let times = Arc::clone(&counting);
        pad.add_probe(PadProbeType::BUFFER | PadProbeType::BUFFER_LIST, move |pad, info| {
            let first = || info.buffer_list().and_then(|list| list.get(0));
            let buffer = info.buffer().map(|buffer| buffer.as_ref()).or_else(first);
            let rate = pad.current_caps().and_then(|caps| caps.structure(0)?.get::<i32>("clock-rate").ok());
            if let (Some(rate), Some(packet)) = (rate, buffer.and_then(|buffer| buffer.map_readable().ok())) {
                times.note(&packet, rate);
            }
            PadProbeReturn::Ok
        });
    });
    let out = pipeline.by_name("out").and_then(|out| out.downcast::<AppSink>().ok()).ok_or("no output")?;
    let clocked = pipeline.downgrade();
    let new_sample = move |out: &AppSink| {
        let sample = out.pull_sample().map_err(|_| FlowError::Eos)?;
        had_frames.store(true, Ordering::Relaxed);
        if !listener.wants_frame() {
            return Ok(FlowSuccess::Ok);
        }
        let delay = clocked.upgrade().and_then(|pipeline| delay(&pipeline, &sample)).unwrap_or_default();
        let image = picture(&sample).ok_or(FlowError::Error)?;
        listener.frame(RtspFrame { image, delay, stream_time: times.latest() });
        Ok(FlowSuccess::Ok)
    };
    out.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
    pipeline.set_state(gstreamer::State::Playing)?;
    Ok(pipeline)
}

fn is_video(caps: &Caps) -> bool {
    caps.structure(0).is_some_and(|caps| caps.get::<&str>("media").is_ok_and(|media| media == "video"))
}

/// How long ago a frame arrived: its timestamp is the moment at which its first packet did, as far as the camera's own
/// clock and the network's moods can be told apart.
fn delay(pipeline: &Pipeline, sample: &gstreamer::Sample) -> Option<Duration> {
    let now = pipeline.current_running_time()?;
    let segment = sample.segment()?.downcast_ref::<ClockTime>()?;
    let arrived = segment.to_running_time(sample.buffer()?.pts()?)?;
    Some(Duration::from(now.saturating_sub(arrived))).filter(|delay| *delay < MAX_DELAY)
}

fn picture(sample: &gstreamer::Sample) -> Option<RgbImage> {
    let caps = sample.caps()?.structure(0)?;
    let side = |name: &str| caps.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    let (width, height) = (side("width")?, side("height")?);
    let bytes = sample.buffer()?.map_readable().ok()?;
    // Rows begin at multiples of four bytes.
    let (row, stride) = (width as usize * 3, (width as usize * 3).next_multiple_of(4));
    let mut pixels = room::<RgbImage>(row * height as usize);
    bytes.chunks(stride).take(height as usize).filter_map(|line| line.get(..row)).for_each(|line| pixels.extend(line));
    RgbImage::from_raw(width, height, pixels)
}

/// Waits for the end, and says what it was.
fn watch(url: &StreamUrl, pipeline: &Pipeline, had_frames: &AtomicBool) -> CaptureError {
    let ends = [gstreamer::MessageType::Error, gstreamer::MessageType::Eos];
    let message = pipeline.bus().and_then(|bus| bus.timed_pop_filtered(ClockTime::NONE, &ends));
    let refused = |why: &str| CaptureError::Stream { url: url.to_string(), why: why.to_owned() };
    match message.as_ref().map(|message| message.view()) {
        Some(MessageView::Error(error)) => {
            let error = error.error();
            if error.matches(gstreamer::ResourceError::NotAuthorized) {
                refused("the host refuses it; check user and password")
            } else if error.matches(gstreamer::ResourceError::NotFound) {
                refused("the host has no such stream; check the path")
            } else if had_frames.load(Ordering::Relaxed) {
                CaptureError::Disconnected { name: url.host() }
            } else {
                super::video::diagnose(url)
            }
        }
        _ => CaptureError::Disconnected { name: url.host() },
    }
}

/// The times in the packets' headers (RFC 3550, section 5.1), before GStreamer makes them fit for playing.
#[derive(Default)]
struct RtpTimes {
    /// As it came, and as it would be had it more than 32 bits, which last 13 hours at 90 kHz.
    counter: Mutex<Option<(u32, i64)>>,
    latest_nanos: AtomicU64,
}

impl RtpTimes {
    fn note(&self, packet: &[u8], clock_rate: i32) {
        let Some(time) = packet.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
            return;
        };
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        // Begins well above zero, so that going back shows.
        let (before, extended) = counter.unwrap_or((time, i64::from(u32::MAX)));
        let extended = extended + i64::from(time.wrapping_sub(before).cast_signed());
        *counter = Some((time, extended));
        let nanos =
            u128::try_from(extended).unwrap_or(0) * 1_000_000_000 / u128::from(clock_rate.max(1).unsigned_abs());
        self.latest_nanos.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn latest(&self) -> Option<Duration> {
        Some(self.latest_nanos.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_packets_go_on_when_their_counter_runs_over_and_show_when_they_do_not() {
        let times = RtpTimes::default();
        let note = |time: u32| {
            times.note(&[&[0x80, 96, 0, 0], &time.to_be_bytes()[..], &[0; 4]].concat(), 90_000);
            times.latest().unwrap()
        };
        let first = note(u32::MAX - 89_999);
        assert_eq!(note(0) - first, Duration::from_secs(1));
        assert_eq!(note(90_000) - first, Duration::from_secs(2));
        assert_eq!(first - note((-180_000_i32).cast_unsigned()), Duration::from_secs(1), "it went back");
        times.note(&[0x80, 96], 90_000);
    }
}
