//! Cameras and network streams: frames as they come, timed by their arrival.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use super::video::Decoder;
use super::{CaptureError, Policy, Source, SourceInfo};
use crate::frame::Frame;

/// A source without an end.
pub(super) struct Live {
    info: SourceInfo,
    name: Arc<str>,
    decoder: Decoder,
    /// How long the back-end waits for a frame before it fails.
    patience: Duration,
    first_arrival: Option<Instant>,
    delivered: u64,
}

impl Live {
    /// Takes an open camera or stream whose back-end gives up after `patience`.
    pub(super) fn new(decoder: Decoder, patience: Duration) -> Self {
        let info = SourceInfo { frame_count: None, ..decoder.info(Policy::Live) };
        Self { name: info.name.as_str().into(), info, decoder, patience, first_arrival: None, delivered: 0 }
    }
}

impl Live {
    /// Waits for the next frame without decoding it.
    ///
    /// # Errors
    ///
    /// The source fell silent or hung up.
    pub(super) fn grab(&mut self) -> Result<(), CaptureError> {
        let asked = Instant::now();
        if self.decoder.grab(self.patience)?.is_some() {
            return Ok(());
        }
        let waited = asked.elapsed();
        Err(if waited >= self.patience {
            self.silent(waited)
        } else {
            CaptureError::Disconnected { name: self.info.name.clone() }
        })
    }

    /// The frame grabbed last.
    pub(super) fn retrieve(&mut self) -> Result<RgbImage, CaptureError> {
        self.decoder.retrieve()
    }

    /// The time that the stream gives the frame grabbed last, if it gives any.
    pub(super) fn stream_time(&self) -> Option<Duration> {
        // A missing time is reported as 0, and as nonsense.
        Some(self.decoder.reported_millis())
            .filter(|millis| (1e-3..1e15).contains(millis))
            .map(|millis| Duration::from_secs_f64(millis / 1e3))
    }

    /// The error that it gave nothing for so long.
    pub(super) fn silent(&self, waited: Duration) -> CaptureError {
        CaptureError::Silent { name: self.info.name.clone(), waited, opened: true }
    }
}

impl Source for Live {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self) -> Result<Option<Frame>, CaptureError> {
        self.grab()?;
        // Waiting for the camera is no latency: the clock starts when the frame is there.
        let arrived = Instant::now();
        let captured_at = SystemTime::now();
        let image = self.retrieve()?;
        let index = self.delivered;
        self.delivered += 1;
        Ok(Some(Frame {
            source: Arc::clone(&self.name),
            index,
            pts: arrived.duration_since(*self.first_arrival.get_or_insert(arrived)),
            captured_at,
            read_started: arrived,
            decode_time: arrived.elapsed(),
            image: image.into(),
        }))
    }
}
