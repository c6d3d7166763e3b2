//! H.264 by GStreamer, as the saving sink does it.

use std::time::Duration;

use super::Saving;
use crate::bench::BenchError;
use crate::bench::laps::Laps;
use crate::bench::stage::Stage;
use crate::frame::SharedImage;
use crate::sinks::save::Save;
use crate::sinks::video::{Preset, VideoError, VideoSettings, VideoWriter};
use crate::sinks::{SaveTarget, Sink, SinkError};
use crate::stopwatch::Stopwatch;

/// Frames of a file: enough that its beginning, with a key frame and a thread to start, counts for little.
const FRAMES: usize = 32;
/// Time between two frames of a file, which does not change how long they take.
const INTERVAL: Duration = Duration::from_millis(40);

impl Saving {
    /// Times how long pictures of one size take to become a video, from the first of them until the file is complete. They are
    /// played forth and back.
    ///
    /// # Errors
    ///
    /// When the video cannot be written.
    pub(in crate::bench) fn encode(&self, pictures: &[SharedImage], laps: &mut Laps) -> Result<(), BenchError> {
        let time = self.write(pictures).map_err(SinkError::from)?;
        laps.add(Stage::Encode, time, FRAMES);
        Ok(())
    }

    fn write(&self, pictures: &[SharedImage]) -> Result<Duration, VideoError> {
        let (width, height) = pictures.first().map_or((0, 0), |picture| picture.dimensions());
        let path = self.folder.join("encoded.mp4");
        let settings = VideoSettings { preset: self.preset(), ..VideoSettings::new(path, width, height) };
        let mut writer = VideoWriter::create(&settings)?;
        let mut watch = Stopwatch::start();
        let forth_and_back = pictures.iter().chain(pictures.iter().rev()).cycle().take(FRAMES);
        for (index, picture) in (0u32..).zip(forth_and_back) {
            writer.write(picture, INTERVAL * index)?;
        }
        writer.finish()?;
        Ok(watch.lap())
    }

    /// The output of `run` that saves an annotated video.
    ///
    /// # Errors
    ///
    /// When the folder is not there any more.
    pub(in crate::bench) fn sink(&self) -> Result<Option<Box<dyn Sink>>, BenchError> {
        let (target, sources) = (SaveTarget::Folder(self.folder.clone()), vec![self.source.clone()]);
        Ok(Some(Box::new(Save::create(target, sources, Duration::MAX)?.with_preset(self.preset()))))
    }

    /// The effort of the encoder, as x264 calls it.
    pub(in crate::bench) fn preset_name(&self) -> Option<&'static str> {
        Some(self.preset().name())
    }

    fn preset(&self) -> Preset {
        self.preset.map(Into::into).unwrap_or_default()
    }
}
