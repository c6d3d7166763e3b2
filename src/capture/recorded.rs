//! Recorded videos: every frame in order, with the container's timestamps, and no quiet end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::container::Structure;
use super::timeline::Timeline;
use super::video::Decoder;
use super::{CaptureError, Policy, Source, SourceInfo};
use crate::frame::Frame;

/// A video with an end.
pub(super) struct Recorded {
    info: SourceInfo,
    name: Arc<str>,
    /// Longest wait for a frame.
    patience: Duration,
    /// The file, unless it comes from the network.
    path: Option<PathBuf>,
    /// The file or address as shown in errors.
    shown: String,
    decoder: Decoder,
    timeline: Timeline,
    structure: Structure,
    /// The first frame, read when the video was opened.
    first: Option<Frame>,
    /// Frames decoded so far.
    decoded: u64,
    /// Packets that yielded no frame although frames came before and behind them.
    unreadable: u64,
    ended: bool,
}

impl Recorded {
    /// Takes an open video and reads its first frame.
    ///
    /// # Errors
    ///
    /// The video holds no frame.
    pub(super) fn start(
        decoder: Decoder,
        structure: Structure,
        path: Option<PathBuf>,
        shown: String,
        patience: Duration,
    ) -> Result<Self, CaptureError> {
        let info = decoder.info(Policy::Recorded);
        let mut recorded = Self {
            name: info.name.as_str().into(),
            timeline: Timeline::new(info.frame_rate),
            info,
            patience,
            path,
            shown,
            decoder,
            structure,
            first: None,
            decoded: 0,
            unreadable: 0,
            ended: false,
        };
        let Some(first) = recorded.decode()? else {
            return Err(CaptureError::NoFrames { file: recorded.shown });
        };
        // The container's word counts for little against a picture.
        (recorded.info.width, recorded.info.height) = first.image.dimensions();
        recorded.first = Some(first);
        Ok(recorded)
    }

    fn decode(&mut self) -> Result<Option<Frame>, CaptureError> {
        let read_started = Instant::now();
        let Some(skipped) = self.decoder.grab(self.patience)? else {
            return Ok(None);
        };
        let index = self.decoded;
        // A recording may well begin amid frames that refer to what was not recorded.
        if index > 0 {
            self.unreadable += skipped;
        }
        let container_times = || self.path.as_deref().and_then(container_times);
        let pts = self.timeline.next(self.decoder.reported_millis(), container_times);
        let image = self.decoder.retrieve()?;
        self.decoded += 1;
        Ok(Some(Frame {
            source: Arc::clone(&self.name),
            index,
            pts,
            captured_at: SystemTime::now(),
            read_started,
            decode_time: read_started.elapsed(),
            image: image.into(),
        }))
    }

    /// The error, if any, that the video ends in.
    fn verdict(&self) -> Result<(), CaptureError> {
        // Over the network, the structure of the file is not known, and an end may be a broken connection.
        let broke_off = self.path.is_none() && self.info.frame_count.is_some_and(|count| self.decoded < count);
        if self.structure.cut_short || broke_off {
            return Err(CaptureError::Truncated {
                file: self.shown.clone(),
                decoded: self.decoded,
                expected: self.info.frame_count,
            });
        }
        if self.unreadable > 0 {
            return Err(CaptureError::Damaged {
                file: self.shown.clone(),
                decoded: self.decoded,
                unreadable: self.unreadable,
            });
        }
        Ok(())
    }
}

impl Source for Recorded {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self) -> Result<Option<Frame>, CaptureError> {
        if self.first.is_some() {
            return Ok(self.first.take());
        }
        if self.ended {
            return Ok(None);
        }
        let frame = self.decode();
        // After an error of the back-end its state is unknown: do not go on.
        self.ended = !matches!(frame, Ok(Some(_)));
        match frame {
            Ok(None) => self.verdict().map(|()| None),
            other => other,
        }
    }
}

#[cfg(feature = "gstreamer")]
fn container_times(path: &Path) -> Option<Vec<Duration>> {
    super::packets::presentation_times(path)
}

#[cfg(not(feature = "gstreamer"))]
fn container_times(_: &Path) -> Option<Vec<Duration>> {
    None
}
