//! What the stages tell the thread that started the run, which alone speaks to the observer.

use std::sync::Arc;
use std::time::Duration;

use super::Problem;
use super::summary::StageTimes;
use crate::capture::{SourceInfo, SourceState};
use crate::sinks::Written;

/// Something that happened in a stage.
#[derive(Debug)]
pub(super) enum Report {
    /// The first frame of a source has come.
    Opened { source: usize, info: Arc<SourceInfo> },
    /// A live source is in another state.
    State { source: usize, state: SourceState },
    /// So many frames of a source are analysed.
    Frame { source: usize, frames_done: u64 },
    /// A source is over.
    Closed { source: usize },
    /// Something went wrong.
    Problem(Problem),
    /// A sink has completed something.
    Written(Written),
    /// The thread of this number has ended.
    Ended { thread: usize, ending: Ending },
}

/// How a thread ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Capture and inference: perhaps with a problem.
    Stage(Option<Problem>),
    /// The findings, with where the time went.
    Findings(StageTimes),
    /// A sink.
    Sink(SinkTimes),
    /// A panic.
    Panic(String),
}

/// What a sink's thread spent on frames.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SinkTimes {
    /// Drawing, where this sink was the first to want the picture.
    pub(super) draw: Duration,
    /// Everything else.
    pub(super) write: Duration,
}
