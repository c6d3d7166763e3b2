//! What is timed.

use std::fmt;

use crate::explain::Method;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading a frame of the video and decoding it.
    Decode,
    /// Resizing to the network's input.
    Prepare,
    /// The forward pass of the engine, on pictures that are prepared.
    Forward,
    /// HayCAM over a scan, its basis fitted to the frame.
    ExplainExact,
    /// HayCAM with the basis of an earlier frame and a look at whether it still suits.
    ExplainCached,
    /// The map of a method.
    Explain(Method),
    /// From maps to boxes, settled.
    Boxes,
    /// Drawing onto a copy of the frame.
    Draw,
    /// H.264 into a file.
    Encode,
    /// A frame through the pipeline, nothing drawn or saved.
    Analysis,
    /// A frame through the pipeline, drawn and saved.
    Whole,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Decode => f.write_str("decode"),
            Self::Prepare => f.write_str("prepare"),
            Self::Forward => f.write_str("forward"),
            Self::ExplainExact => f.write_str("explain exact"),
            Self::ExplainCached => f.write_str("explain cached"),
            Self::Explain(method) => write!(f, "explain {method}"),
            Self::Boxes => f.write_str("boxes"),
            Self::Draw => f.write_str("draw"),
            Self::Encode => f.write_str("encode"),
            Self::Analysis => f.write_str("analysis"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

impl Stage {
    /// Whether it comprises others, so that frames a second say something.
    pub fn has_rate(self) -> bool {
        matches!(self, Self::Forward | Self::Analysis | Self::Whole)
    }
}
