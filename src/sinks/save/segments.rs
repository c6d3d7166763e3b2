//! The endless video of a live source, in files of limited length: each is complete when the next begins, so that at most the
//! last one suffers from whatever happens to the machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::complete;
use crate::shared::Shared;
use crate::sinks::video::{Preset, VideoError, VideoSettings, VideoWriter};
use crate::sinks::{Finding, Written};

/// Segments of one source.
pub(super) struct Segments {
    folder: PathBuf,
    /// What the names of the files begin with.
    stem: String,
    /// Longest duration of a segment.
    length: Duration,
    preset: Preset,
    current: Option<Segment>,
}

/// A file being written.
struct Segment {
    path: PathBuf,
    writer: VideoWriter,
    size: (u32, u32),
    /// Presentation time of its first frame.
    first_pts: Duration,
    last_pts: Duration,
    begun: Instant,
}

impl Segments {
    /// No segment has begun.
    pub(super) fn new(folder: PathBuf, stem: String, length: Duration, preset: Preset) -> Self {
        Self { folder, stem, length, preset, current: None }
    }

    /// Appends a frame, to a new segment where the current one is long enough, has frames of another size, or lies later on
    /// the source's clock. What that completes or breaks off is added to `written`.
    pub(super) fn write(&mut self, finding: &Shared<Finding>, written: &mut Vec<Written>) -> Result<(), VideoError> {
        let (picture, pts) = (finding.annotated(), finding.frame.pts);
        let size = picture.dimensions();
        let is_due = self.current.as_ref().is_some_and(|segment| {
            segment.size != size || pts <= segment.last_pts || pts - segment.first_pts >= self.length
        });
        if is_due {
            self.finish(written)?;
        }
        let segment = match &mut self.current {
            Some(segment) => segment,
            None => {
                let path = self.path_for(finding.frame.captured_at);
                let settings = VideoSettings { preset: self.preset, ..VideoSettings::new(&path, size.0, size.1) };
                let writer = VideoWriter::create(&settings)?;
                let begun = Instant::now();
                self.current.insert(Segment { path, writer, size, first_pts: pts, last_pts: pts, begun })
            }
        };
        segment.last_pts = pts;
        if let Err(error) = segment.writer.write(picture, pts - segment.first_pts) {
            // It says less than the error that made it necessary.
            let _ = self.finish(written);
            return Err(error);
        }
        Ok(())
    }

    /// Completes the current segment if its time is over, whether or not frames come.
    pub(super) fn finish_if_over(&mut self, written: &mut Vec<Written>) -> Result<(), VideoError> {
        match &self.current {
            Some(segment) if segment.begun.elapsed() >= self.length => self.finish(written),
            _ => Ok(()),
        }
    }

    /// Completes the current segment, and adds it to `written` if it holds something.
    pub(super) fn finish(&mut self, written: &mut Vec<Written>) -> Result<(), VideoError> {
        let Some(Segment { path, writer, .. }) = self.current.take() else { return Ok(()) };
        complete(path, writer, written)
    }

    /// A name that says when the segment begins, and that no file has.
    fn path_for(&self, begin: SystemTime) -> PathBuf {
        let time = humantime::format_rfc3339_seconds(begin).to_string().replace(['-', ':'], "");
        let named = |number: u32| {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            self.folder.join(format!("{}-{time}{suffix}.mp4", self.stem))
        };
        (1..).map(named).find(|path| !Path::exists(path)).expect("some number is free")
    }
}
