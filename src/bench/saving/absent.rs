//! What a build without GStreamer has instead: nothing is encoded or saved.

use super::Saving;
use crate::bench::BenchError;
use crate::bench::laps::Laps;
use crate::frame::SharedImage;
use crate::sinks::Sink;

impl Saving {
    /// There is nothing to time.
    pub(in crate::bench) fn encode(&self, _: &[SharedImage], _: &mut Laps) -> Result<(), BenchError> {
        Ok(())
    }

    /// There is no such output.
    pub(in crate::bench) fn sink(&self) -> Result<Option<Box<dyn Sink>>, BenchError> {
        Ok(None)
    }

    /// There is no encoder.
    pub(in crate::bench) fn preset_name(&self) -> Option<&'static str> {
        None
    }
}
