//! One source as RTSP stream: encoded only while somebody is connected, once for all who are.
//!
//! ```text
//! appsrc (newest frame only, I420) ! videoscale ! x264enc ! rtph264pay
//! ```
//!
//! The size of the first frame is that of the stream for as long as somebody is connected: later frames of another size are
//! fitted into it, since not all players take a change in the middle of a stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSrc;
use gstreamer_rtsp_server::prelude::*;
use gstreamer_rtsp_server::{RTSPMedia, RTSPMediaFactory, RTSPSuspendMode, gst_rtsp::RTSPLowerTrans};

use crate::shared::Shared;
use crate::sinks::Finding;
use crate::sinks::video::{COLORIMETRY, Planes, SMALLEST_PX, VideoError, keyframe_request};

/// A player that joins has a picture after this time. A number of frames would take longer the slower the source is.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// How often a picture is sent again while no other comes.
const REPEAT: Duration = Duration::from_millis(900);

/// What is shared between the sink and the server.
#[derive(Debug, Default)]
pub(super) struct Mount {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// For who connects while the source is slow.
    newest: Option<Shared<Finding>>,
    /// One for all who are connected; more where their addresses differ behind the path, and while one takes the place of
    /// another.
    media: Vec<Media>,
}

/// The pipeline behind the connected players.
#[derive(Debug)]
struct Media {
    source: AppSrc,
    /// For frames of the size that the last one had.
    planes: Option<Planes>,
    /// Holds the size of the stream once it is known.
    size: gst::Element,
    last_keyframe: Option<Instant>,
    last_push: Option<Instant>,
}

impl Mount {
    /// What the server makes the stream with.
    pub(super) fn factory(self: &Arc<Self>) -> RTSPMediaFactory {
        let factory = RTSPMediaFactory::new();
        // One thread, because without delay x264 gives each thread a slice of the picture, and FFmpeg takes the slices of
        // the first picture for pictures of their own. The encoder's rate buffer would hold constant quality below
        // 2 Mbit/s.
        factory.set_launch(
            "( appsrc name=frames is-live=true do-timestamp=true format=time max-bytes=0 max-buffers=1 \
                 leaky-type=downstream \
             ! videoscale add-borders=true ! capsfilter name=size \
             ! x264enc tune=zerolatency speed-preset=veryfast pass=qual quantizer=25 vbv-buf-capacity=0 bframes=0 \
                 key-int-max=100 threads=1 \
             ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96 config-interval=-1 )",
        );
        factory.set_shared(true);
        factory.set_suspend_mode(RTSPSuspendMode::None);
        factory.set_protocols(RTSPLowerTrans::TCP | RTSPLowerTrans::UDP);
        let mount = Arc::clone(self);
        factory.connect_media_configure(move |_, media| mount.connect(media));
        factory
    }

    /// Sends a frame to those who are connected, if anybody is.
    pub(super) fn show(&self, finding: &Shared<Finding>) {
        let mut state = self.lock();
        state.newest = Some(finding.clone());
        state.media.iter_mut().for_each(|media| media.push(finding));
    }

    /// Sends the newest frame to those who have got none for a while: players open no stream that does not move.
    pub(super) fn repeat(&self) {
        let mut state = self.lock();
        let State { newest: Some(newest), media } = &mut *state else { return };
        for media in media.iter_mut().filter(|media| media.last_push.is_none_or(|last| last.elapsed() >= REPEAT)) {
            media.push(newest);
        }
    }

    fn connect(self: &Arc<Self>, media: &RTSPMedia) {
        let element = |name| media.element().downcast::<gst::Bin>().ok()?.by_name(name);
        let source = element("frames").and_then(|source| source.downcast::<AppSrc>().ok());
        let (Some(source), Some(size)) = (source, element("size")) else {
            tracing::error!("GStreamer built an incomplete RTSP stream; it will show nothing");
            return;
        };
        let own = source.clone();
        self.lock().media.push(Media { source, planes: None, size, last_keyframe: None, last_push: None });
        let mount = Arc::downgrade(self);
        media.connect_unprepared(move |_| {
            if let Some(mount) = mount.upgrade() {
                mount.lock().media.retain(|media| media.source != own);
            }
        });
    }

    /// What is behind it stays valid when a thread panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Media {
    fn planes(&mut self, size: (u32, u32)) -> Result<&Planes, VideoError> {
        let planes = match self.planes.take() {
            Some(planes) if planes.fit(size) => planes,
            _ => Planes::new(size)?,
        };
        Ok(self.planes.insert(planes))
    }

    fn push(&mut self, finding: &Finding) {
        let picture = finding.annotated();
        let even = |pixels: u32| pixels.next_multiple_of(2);
        let (width, height) = (even(picture.width()), even(picture.height()));
        let side = |pixels: u32| pixels.cast_signed();
        if self.last_keyframe.is_none() {
            let caps = gst::Caps::builder("video/x-raw")
                .field("format", "I420")
                .field("width", side(width.max(SMALLEST_PX)))
                .field("height", side(height.max(SMALLEST_PX)))
                .field("colorimetry", COLORIMETRY)
                .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
                .build();
            self.size.set_property("caps", caps);
        }
        if self.last_keyframe.is_none_or(|last| last.elapsed() >= KEYFRAME_INTERVAL) {
            // The first frame is one without being asked for.
            if self.last_keyframe.is_some() {
                self.source.send_event(keyframe_request(gst::ClockTime::ZERO));
            }
            self.last_keyframe = Some(Instant::now());
        }
        let sample = match self.planes(picture.dimensions()).and_then(|planes| {
            let buffer = planes.buffer(picture)?;
            Ok(gst::Sample::builder().buffer(&buffer).caps(planes.caps()).build())
        }) {
            Ok(sample) => sample,
            Err(error) => {
                tracing::error!("a frame for RTSP is lost: {error}");
                return;
            }
        };
        match self.source.push_sample(&sample) {
            Ok(_) => self.last_push = Some(Instant::now()),
            // Not begun yet, or ended: there will be another frame, or nobody to see it.
            Err(error) => {
                tracing::trace!("a frame for RTSP was not taken: {error}");
                self.last_keyframe = None;
            }
        }
    }
}
