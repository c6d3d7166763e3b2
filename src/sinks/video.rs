//! Writes frames as H.264 video in MP4, with the audio of their source copied beside it.
//!
//! ```text
//! RGB ─► planes ─► appsrc (I420) ! x264enc ! mp4mux (fragmented) ! filesink
//!                  appsrc (audio packets)  ! /
//! ```
//!
//! What makes the file hold up:
//!
//! - **Interruption.** MP4 is written in fragments of a second, each complete in itself
//!   (`dash-or-mss`). After a kill, a full disk or a size limit the file plays up to its last
//!   fragment, and memory stays constant however long it gets. The other mode of `mp4mux` 1.22,
//!   `first-moov-then-finalise`, ends in a classic index but erases the old one before it writes
//!   the new: a size limit that struck in between left files that FFmpeg could not open.
//! - **Time.** Each frame keeps its timestamp to 1/90000 s, at any frame rate. Without B-frames and
//!   look-ahead each frame leaves the encoder at once. There is no `h264parse`: at a variable frame
//!   rate it sets the duration of the last frame to nothing, and readers then drop that frame.
//! - **Colour.** The matrix is BT.601 at every size, and the stream says so. Players that honour
//!   the label are right, and so are those that ignore it and assume BT.601, as OpenCV does.
//! - **Errors.** A full queue is polled together with the bus, so that no frame waits for a dead pipeline. Only ending one waits for
//!   its disk, if that does not answer.

mod audio;
mod error;
mod fragment;
mod left;
mod planes;
mod settings;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSrc;
use image::RgbImage;

pub use audio::AudioOutcome;
use audio::AudioReader;
pub use error::VideoError;
use fragment::FirstTicks;
pub use left::Left;
pub(super) use planes::Planes;
pub use settings::{Preset, VideoSettings};

/// The elements we need, with the Debian package that has each.
const ELEMENTS: [(&str, &str); 4] = [
    ("filesink", "libgstreamer1.0-0"),
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("mp4mux", "gstreamer1.0-plugins-good"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
];
/// Limited range, BT.601 matrix, BT.709 transfer and primaries (sRGB's), in GStreamer's notation.
pub(super) const COLORIMETRY: &str = "2:4:5:1";
/// Timescale of both tracks; every common frame rate divides it.
const TICKS_PER_SECOND: u64 = 90_000;
/// The smallest width and height that x264 takes.
pub(super) const SMALLEST_PX: u32 = 16;
/// Raw frames between the caller and the encoder: as many as it encodes while a full queue is not looked at.
const QUEUED_FRAMES: u64 = 2;
/// How often a full queue and the bus are looked at; far below what the queued frames take.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(2);
/// How long the encoder and the disk may make no progress.
const STALL_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(30);
/// Players seek to key frames.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(2);
/// How long a frame is shown that has no other before it.
const LONE_FRAME_DURATION: Duration = Duration::from_millis(40);

/// What a finished file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoSummary {
    /// Frames in the file. A file without any cannot be opened by players.
    pub frames: u64,
    /// Size of the file.
    pub bytes: u64,
    /// From the first timestamp to the end of the last frame, which is shown as long as the one
    /// before it.
    pub duration: Duration,
    /// Whether a line or column was repeated at the edge, because H.264 needs even sizes.
    pub padded: bool,
    /// What became of the audio.
    pub audio: AudioOutcome,
}

/// A video file being written. Dropped without [`VideoWriter::finish`], it plays up to its last
/// complete fragment.
pub struct VideoWriter {
    settings: VideoSettings,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    video: AppSrc,
    planes: Planes,
    audio: Option<AudioTrack>,
    audio_outcome: AudioOutcome,
    /// Set before the first sample of a track is pushed.
    first_ticks: FirstTicks,
    frames: u64,
    first_pts: Duration,
    last_pts: Option<Duration>,
    frame_duration: Duration,
    last_keyframe: Option<Duration>,
    given_up: bool,
    /// Whether the file is as it is to stay.
    is_settled: bool,
}

/// Audio on its way from one file to the other.
struct AudioTrack {
    source: AppSrc,
    reader: AudioReader,
    /// Time of the last packet passed on; beyond all video once there are no more.
    reached: Option<gst::ClockTime>,
}

/// Whether GStreamer has what the writer needs.
///
/// # Errors
///
/// [`VideoError::MissingElement`] if it lacks a plugin, [`VideoError::Encoder`] if it does not start.
pub fn check_encoder() -> Result<(), VideoError> {
    gst::init().map_err(VideoError::encoder)?;
    match ELEMENTS.into_iter().find(|(name, _)| gst::ElementFactory::find(name).is_none()) {
        None => Ok(()),
        Some((name, debian_package)) => Err(VideoError::MissingElement { name, debian_package }),
    }
}

impl VideoWriter {
    /// Creates the file, replacing what is there.
    ///
    /// # Errors
    ///
    /// [`VideoError::NotWritable`] if the file cannot be created, [`VideoError::MissingElement`] if
    /// GStreamer lacks a plugin, [`VideoError::Encoder`] if it does not start. Audio that cannot be
    /// read is no error.
    pub fn create(settings: &VideoSettings) -> Result<Self, VideoError> {
        if settings.width.min(settings.height) < SMALLEST_PX {
            let VideoSettings { width, height, .. } = *settings;
            return Err(VideoError::TooSmall { path: settings.path.clone(), width, height });
        }
        check_encoder()?;
        // GStreamer would notice too, but not say why.
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&settings.path);
        file.map_err(|source| VideoError::NotWritable { path: settings.path.clone(), source })?;

        let (reader, audio_outcome) =
            match settings.audio_from.as_deref().map(|path| AudioReader::open(path, settings.audio_offset)) {
                None => (None, AudioOutcome::None),
                Some(Ok(reader)) => (Some(reader), AudioOutcome::None),
                Some(Err(outcome)) => (None, outcome),
            };
        let pipeline = build_pipeline(settings, reader.is_some())?;
        let video = app_source(&pipeline, "video")?;
        let planes = Planes::new((settings.width, settings.height))?;
        video.set_caps(Some(planes.caps()));
        let audio = match reader {
            None => None,
            Some(reader) => {
                let source = app_source(&pipeline, "audio")?;
                source.set_caps(Some(reader.caps()));
                Some(AudioTrack { source, reader, reached: None })
            }
        };
        let first_ticks = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        fragment::correct(&element(&pipeline, "mux")?, Arc::clone(&first_ticks));
        let mut writer = Self {
            settings: settings.clone(),
            bus: pipeline.bus().ok_or_else(|| VideoError::encoder("the pipeline has no bus"))?,
            pipeline,
            video,
            planes,
            audio,
            audio_outcome,
            first_ticks,
            frames: 0,
            first_pts: Duration::ZERO,
            last_pts: None,
            frame_duration: LONE_FRAME_DURATION,
            last_keyframe: None,
            given_up: false,
            is_settled: false,
        };
        match writer.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(writer),
            Err(error) => {
                let reason = writer.error_on_bus(gst::ClockTime::ZERO);
                Err(reason.unwrap_or_else(|| VideoError::encoder(error)))
            }
        }
    }

    /// Appends a picture that is shown from `pts` on. Waits for the encoder, 30 s at most, and for
    /// an audio packet, 5 s at most.
    ///
    /// # Errors
    ///
    /// [`VideoError::FrameSize`] and [`VideoError::Timestamp`] leave the frame out; any other error
    /// ends the video. As frames are under way for a while, errors of encoder and disk show at a
    /// later call or in [`VideoWriter::finish`].
    pub fn write(&mut self, image: &RgbImage, pts: Duration) -> Result<(), VideoError> {
        if self.given_up {
            return Err(VideoError::GivenUp);
        }
        let expected = (self.settings.width, self.settings.height);
        if image.dimensions() != expected {
            return Err(VideoError::FrameSize {
                path: self.settings.path.clone(),
                expected,
                actual: image.dimensions(),
            });
        }
        if let Some(previous) = self.last_pts.filter(|previous| pts <= *previous) {
            return Err(VideoError::Timestamp { path: self.settings.path.clone(), pts, previous });
        }
        let result = self.wait_for_room().and_then(|()| self.push(image, pts));
        self.given_up = result.is_err();
        result
    }

    fn wait_for_room(&mut self) -> Result<(), VideoError> {
        let since = Instant::now();
        // The source could block by itself, but then for ever if the pipeline dies meanwhile.
        while self.video.property::<u64>("current-level-buffers") >= QUEUED_FRAMES {
            if let Some(error) = self.error_on_bus(POLL) {
                return Err(error);
            }
            if since.elapsed() > Duration::from(STALL_TIMEOUT) {
                return Err(VideoError::Stalled);
            }
        }
        Ok(())
    }

    fn push(&mut self, image: &RgbImage, pts: Duration) -> Result<(), VideoError> {
        let time = clock_time(pts);
        match self.last_pts {
            None => {
                self.first_pts = pts;
                self.first_ticks[0].store(ticks(time), Ordering::Release);
            }
            Some(previous) => self.frame_duration = pts - previous,
        }
        // The first frame is one without being asked for.
        if pts - *self.last_keyframe.get_or_insert(pts) >= KEYFRAME_INTERVAL {
            self.last_keyframe = Some(pts);
            self.video.send_event(keyframe_request(time));
        }
        let mut buffer = self.planes.buffer(image)?;
        if let Some(stamped) = buffer.get_mut() {
            stamped.set_pts(time);
            stamped.set_duration(clock_time(self.frame_duration));
        }
        let pushed = self.video.push_buffer(buffer);
        if let Some(error) = self.error_on_bus(gst::ClockTime::ZERO) {
            return Err(error);
        }
        pushed.map_err(VideoError::encoder)?;
        self.last_pts = Some(pts);
        self.frames += 1;
        if let Some(audio) = &mut self.audio {
            // The muxer takes the earlier of two streams, so it needs one packet after the frame.
            while audio.reached.is_none_or(|reached| reached <= time) {
                audio.pass_on(gst::ClockTime::MAX, &self.first_ticks[1]);
            }
        }
        Ok(())
    }

    /// Writes what is still under way and completes the file. Waits 30 s at most.
    ///
    /// # Errors
    ///
    /// Any error of encoder or disk that no call has returned yet; the file then plays up to its
    /// last complete fragment.
    pub fn finish(mut self) -> Result<VideoSummary, VideoError> {
        if self.given_up {
            return Err(VideoError::GivenUp);
        }
        let end = self.last_pts.map_or(self.first_pts, |last| last + self.frame_duration);
        if let Some(audio) = &mut self.audio {
            while audio.reached != Some(gst::ClockTime::MAX) {
                audio.pass_on(clock_time(end), &self.first_ticks[1]);
            }
            self.audio_outcome = audio.reader.outcome();
        }
        // A pipeline that refuses the end has said why on the bus.
        let _ = self.video.end_of_stream();
        let awaited = [gst::MessageType::Eos, gst::MessageType::Error];
        match self.bus.timed_pop_filtered(STALL_TIMEOUT, &awaited) {
            None => return Err(VideoError::Stalled),
            Some(message) if message.type_() == gst::MessageType::Error => {
                return Err(self.broken_off(&message));
            }
            Some(_) => self.is_settled = true,
        }
        let VideoSettings { path, width, height, .. } = &self.settings;
        Ok(VideoSummary {
            frames: self.frames,
            bytes: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            duration: end - self.first_pts,
            padded: width % 2 + height % 2 > 0,
            audio: self.audio_outcome.clone(),
        })
    }

    fn error_on_bus(&mut self, wait: gst::ClockTime) -> Option<VideoError> {
        let message = self.bus.timed_pop_filtered(wait, &[gst::MessageType::Error])?;
        Some(self.broken_off(&message))
    }

    /// Tidies up after an error, so that it can tell what is left.
    fn broken_off(&mut self, message: &gst::Message) -> VideoError {
        // Or the muxer might still write. Going to NULL does not fail.
        let _ = self.pipeline.set_state(gst::State::Null);
        self.is_settled = true;
        let path = &self.settings.path;
        VideoError::from_message(message, path, Left::tidy(path))
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        // A pipeline must not be disposed of while it runs. Going to NULL does not fail.
        let _ = self.pipeline.set_state(gst::State::Null);
        if !self.is_settled {
            let path = &self.settings.path;
            let left = Left::tidy(path);
            tracing::warn!("{} was broken off; {left}", path.display());
        }
    }
}

impl AudioTrack {
    /// Passes on the next packet before `limit`, or the end. A pipeline that refuses tells the bus.
    fn pass_on(&mut self, limit: gst::ClockTime, first_ticks: &AtomicU64) {
        let Some(packet) = self.reader.next_packet(limit) else {
            self.reached = Some(gst::ClockTime::MAX);
            let _ = self.source.end_of_stream();
            return;
        };
        if self.reached.is_none() {
            first_ticks.store(packet.pts().map_or(0, ticks), Ordering::Release);
        }
        self.reached = packet.pts();
        let _ = self.source.push_buffer(packet);
    }
}

fn build_pipeline(settings: &VideoSettings, has_audio: bool) -> Result<gst::Pipeline, VideoError> {
    let VideoSettings { quality, threads, .. } = settings;
    let preset = settings.preset.name();
    // The encoder's rate buffer has to be off: left alone it holds constant quality below 2 Mbit/s.
    // The audio queue has no limit of its own, as it gets no more than the video has reached.
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=video format=time max-bytes=0 max-buffers={QUEUED_FRAMES} \
         ! x264enc speed-preset={preset} pass=qual quantizer={quality} vbv-buf-capacity=0 \
           threads={threads} bframes=0 rc-lookahead=0 sync-lookahead=0 mb-tree=false \
         ! mux.video_0 mp4mux name=mux fragment-mode=dash-or-mss fragment-duration=1000 \
           trak-timescale={TICKS_PER_SECOND} movie-timescale={TICKS_PER_SECOND} \
         ! filesink name=file buffer-mode=unbuffered {}",
        if has_audio { "appsrc name=audio format=time max-bytes=0 ! mux.audio_0" } else { "" },
    ));
    let pipeline = pipeline.map_err(VideoError::encoder)?.downcast::<gst::Pipeline>();
    let pipeline = pipeline.map_err(|_| VideoError::encoder("GStreamer built no pipeline"))?;
    element(&pipeline, "file")?.set_property("location", &settings.path);
    Ok(pipeline)
}

fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element, VideoError> {
    pipeline.by_name(name).ok_or_else(|| VideoError::encoder("GStreamer's pipeline is incomplete"))
}

fn app_source(pipeline: &gst::Pipeline, name: &str) -> Result<AppSrc, VideoError> {
    let source = element(pipeline, name)?.downcast();
    source.map_err(|_| VideoError::encoder("GStreamer's appsrc is of an unknown kind"))
}

fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::MAX)
}

fn ticks(time: gst::ClockTime) -> u64 {
    let second = gst::ClockTime::SECOND.nseconds();
    time.nseconds().mul_div_round(TICKS_PER_SECOND, second).unwrap_or(0)
}

/// Asks the encoder for a key frame, as `gst_video_event_new_downstream_force_key_unit` does. An
/// interval counted in frames would grow with the time between frames.
pub(super) fn keyframe_request(time: gst::ClockTime) -> gst::Event {
    let request = gst::Structure::builder("GstForceKeyUnit")
        .field("timestamp", time)
        .field("stream-time", time)
        .field("running-time", time)
        .field("all-headers", false)
        .field("count", 0u32);
    gst::event::CustomDownstream::new(request.build())
}
