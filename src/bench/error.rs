//! What can end a measurement.

use crate::capture::CaptureError;
use crate::draw::LabelError;
use crate::exit_code::ExitCode;
use crate::explain::ExplainError;
use crate::model::ModelError;
use crate::pipeline::Problem;
use crate::sinks::SinkError;

/// Why a measurement ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The video.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The video has too few frames for a rate.
    #[error("{name} has a single frame, but a rate takes two; give a longer video")]
    TooShort {
        /// The video.
        name: String,
    },
    /// The frames of the video have several sizes, and so times that cannot be compared.
    #[error("the frames of {name} change their size, from {}x{} to {}x{}; give another video", from.0, from.1, to.0, to.1)]
    FrameSize {
        /// The video.
        name: String,
        /// Width and height of the first frame.
        from: (u32, u32),
        /// Width and height of another one.
        to: (u32, u32),
    },
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The maps.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// The font.
    #[error(transparent)]
    Font(#[from] LabelError),
    /// A file.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] Problem),
    /// There is no place for the videos that are encoded.
    #[error("cannot make a temporary folder: {0}; set TMPDIR to a folder that you may write to")]
    Temporary(std::io::Error),
}

impl BenchError {
    /// What the process tells its caller when this ends it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Capture(error) => error.fault().into(),
            Self::TooShort { .. } | Self::FrameSize { .. } => ExitCode::Input,
            Self::Model(error) => error.exit_code(),
            Self::Explain(error) => error.exit_code(),
            Self::Pipeline(problem) => problem.exit_code(),
            Self::Font(_) | Self::Sink(_) | Self::Temporary(_) => ExitCode::Failed,
        }
    }
}
