//! Cameras and network streams: frames as they come, timed by their arrival.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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

impl Source for Live {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self) -> Result<Option<Frame>, CaptureError> {
        let asked = Instant::now();
        if self.decoder.grab(self.patience)?.is_none() {
            let name = self.info.name.clone();
            let waited = asked.elapsed();
            return Err(if waited >= self.patience {
                CaptureError::Silent { name, waited, opened: true }
            } else {
                CaptureError::Disconnected { name }
            });
        }
        // Waiting for the camera is no latency: the clock starts when the frame is there.
        let arrived = Instant::now();
        let captured_at = SystemTime::now();
        let image = self.decoder.retrieve()?;
        let index = self.delivered;
        self.delivered += 1;
        Ok(Some(Frame {
            source: Arc::clone(&self.name),
            index,
            pts: arrived.duration_since(*self.first_arrival.get_or_insert(arrived)),
            captured_at,
            read_started: arrived,
            decode_time: arrived.elapsed(),
            image,
        }))
    }
}
