//! The frames that stages are measured on: those of the source one after another, again from the beginning where it ends.

use super::BenchError;
use crate::capture::{OpenOptions, Source, SourceSpec};
use crate::frame::Frame;

/// An open source that begins anew at its end.
pub(super) struct Frames {
    spec: SourceSpec,
    source: Box<dyn Source>,
}

impl Frames {
    /// Opens the source.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(super) fn open(spec: SourceSpec) -> Result<Self, BenchError> {
        let source = spec.open(&OpenOptions::default())?;
        Ok(Self { spec, source })
    }

    /// Width and height of the frames.
    pub(super) fn size(&self) -> (u32, u32) {
        let info = self.source.info();
        (info.width, info.height)
    }

    /// The next frames, all of one size.
    ///
    /// # Errors
    ///
    /// When one cannot be read or has another size.
    pub(super) fn next(&mut self, count: usize) -> Result<Vec<Frame>, BenchError> {
        let from = self.size();
        let mut frames = Vec::with_capacity(count);
        while frames.len() < count {
            match self.source.read()? {
                Some(frame) if frame.image.dimensions() != from => {
                    let (name, to) = (self.spec.name(), frame.image.dimensions());
                    return Err(BenchError::FrameSize { name, from, to });
                }
                Some(frame) => frames.push(frame),
                // It has at least one frame, or it would not have opened.
                None => self.source = self.spec.open(&OpenOptions::default())?,
            }
        }
        Ok(frames)
    }
}
