//! When the pictures of a video file are shown, by GStreamer's demuxers: for the frames of which OpenCV does not tell
//! (see `timeline`). Nothing is decoded.

use std::path::Path;
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSink;

/// Longest time to read a file for its timestamps; a very long video on a slow disk then keeps estimates.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// Packets among which the first picture shown is, however the encoder reorders them.
const REORDERED_AT_MOST: usize = 32;

/// Presentation timestamps of all pictures of a file, in the order in which they are shown, counted from the first;
/// `None` where GStreamer cannot tell.
#[cfg(feature = "opencv")]
pub(super) fn presentation_times(path: &Path) -> Option<Vec<Duration>> {
    let times = read(path, usize::MAX)?;
    let first = *times.first()?;
    Some(times.into_iter().map(|time| (time - first).into()).collect())
}

/// When the first picture of a file is shown, on the timeline that its audio shares; `None` where GStreamer cannot tell.
pub(crate) fn first_presentation_time(path: &Path) -> Option<Duration> {
    read(path, REORDERED_AT_MOST)?.first().map(|&time| time.into())
}

/// Times of the first `count` packets, sorted.
fn read(path: &Path, count: usize) -> Option<Vec<gst::ClockTime>> {
    let (pipeline, packets) =
        build(path).inspect_err(|error| tracing::debug!("no timestamps from {}: {error}", path.display())).ok()?;
    let times = pipeline.set_state(gst::State::Playing).ok().and_then(|_| pull(&pipeline, &packets, count));
    if let Err(error) = pipeline.set_state(gst::State::Null) {
        tracing::debug!("the demuxer does not stop: {error}");
    }
    let mut times = times?;
    times.sort();
    Some(times)
}

fn build(path: &Path) -> Result<(gst::Pipeline, AppSink), Box<dyn std::error::Error>> {
    gst::init()?;
    let pipeline = gst::Pipeline::new();
    let file = gst::ElementFactory::make("filesrc").property("location", path).build()?;
    let parse = gst::ElementFactory::make("parsebin").build()?;
    let packets = AppSink::builder().max_buffers(64).sync(false).build();
    pipeline.add_many([&file, &parse, packets.upcast_ref()])?;
    file.link(&parse)?;
    let sink = packets.static_pad("sink").ok_or("the sink has no pad")?;
    parse.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_video = caps.structure(0).is_some_and(|format| format.name().starts_with("video/"));
        if is_video
            && !sink.is_linked()
            && let Err(error) = pad.link(&sink)
        {
            tracing::debug!("the video stream cannot be read: {error}");
        }
    });
    Ok((pipeline, packets))
}

fn pull(pipeline: &gst::Pipeline, packets: &AppSink, count: usize) -> Option<Vec<gst::ClockTime>> {
    let started = Instant::now();
    let bus = pipeline.bus()?;
    let mut times = Vec::new();
    while times.len() < count {
        if let Some(sample) = packets.try_pull_sample(POLL) {
            // What lies before the first instant is decoded, but not shown.
            times.extend(running_time(&sample));
        } else if packets.is_eos() {
            break;
        } else if bus.pop_filtered(&[gst::MessageType::Error]).is_some() || started.elapsed() > PATIENCE {
            return None;
        }
    }
    Some(times)
}

/// Where a packet lies on the timeline of its file: since the first instant of it, edit lists applied; `None` if it lies
/// before.
pub(crate) fn running_time(sample: &gst::Sample) -> Option<gst::ClockTime> {
    let pts = sample.buffer()?.pts()?;
    match sample.segment()?.downcast_ref::<gst::ClockTime>()?.to_running_time_full(pts)? {
        gst::Signed::Positive(time) => Some(time),
        gst::Signed::Negative(_) => None,
    }
}
