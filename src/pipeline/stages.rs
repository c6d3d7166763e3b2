//! What capture threads do, and what passes between the stages.

use std::sync::Arc;
use std::time::Instant;

use super::feed::{Closed, FeedSender};
use super::{NamedSource, Problem};
use crate::analyse::Analysis;
use crate::capture::{CaptureError, OpenOptions, Policy, SourceInfo};
use crate::frame::Frame;
use crate::shutdown::Shutdown;

/// A source of a run: its place in the order that the user gave, and what it is.
pub(super) type NumberedSource<'a> = (usize, &'a NamedSource);

/// From capture to inference.
pub(super) enum Captured {
    Frame { source: usize, info: Arc<SourceInfo>, frame: Box<Frame> },
    Closed { source: usize, error: Option<CaptureError> },
}

/// From inference to the findings.
pub(super) enum Analysed {
    Frame { source: usize, info: Arc<SourceInfo>, frame: Box<Frame>, analysis: Box<Analysis> },
    Closed { source: usize, error: Option<CaptureError> },
}

#[derive(Clone, Copy)]
pub(super) struct CaptureSettings<'a> {
    /// Overrides the policy that suits the source.
    pub policy: Option<Policy>,
    pub limit: Option<u64>,
    pub open_options: &'a OpenOptions,
    pub shutdown: &'a Shutdown,
}

/// Reads sources one after another until the last ends, nobody takes frames any more, or the shutdown is requested.
pub(super) fn capture(
    sources: &[NumberedSource],
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Option<Problem> {
    for &(source, named) in sources {
        if settings.shutdown.is_requested() {
            break;
        }
        let span = tracing::debug_span!("capture", source = named.name);
        let _entered = span.enter();
        let error = match capture_one(source, named, sender, settings) {
            Ok(Ok(())) => None,
            // What breaks while the user waits for the end is no news.
            Ok(Err(error)) if settings.shutdown.is_requested() => {
                tracing::debug!("{error}");
                None
            }
            Ok(Err(error)) => Some(error),
            Err(Closed) => return None,
        };
        if sender.send_waiting(Captured::Closed { source, error }).is_err() {
            return None;
        }
    }
    None
}

/// The outer error says that nobody takes frames any more, the inner one that the source failed.
fn capture_one(
    source: usize,
    named: &NamedSource,
    sender: &FeedSender<Captured>,
    settings: CaptureSettings,
) -> Result<Result<(), CaptureError>, Closed> {
    let mut opened = match named.spec.open(settings.open_options) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let info = Arc::new(SourceInfo { name: named.name.clone(), ..opened.info().clone() });
    let name: Arc<str> = named.name.as_str().into();
    tracing::debug!(width = info.width, height = info.height, frames = info.frame_count, "open");
    let first = Instant::now();
    let live = settings.policy.unwrap_or(info.policy) == Policy::Live;
    for _ in 0..settings.limit.unwrap_or(u64::MAX) {
        if settings.shutdown.is_requested() {
            break;
        }
        match opened.read() {
            Ok(Some(mut frame)) => {
                frame.source = name.clone();
                // A recording played live is delivered at its own speed, as a camera would.
                if live && info.policy == Policy::Recorded {
                    settings.shutdown.sleep(frame.pts.saturating_sub(first.elapsed()));
                }
                let frame = Captured::Frame { source, info: info.clone(), frame: Box::new(frame) };
                if live { sender.send_newest(frame)? } else { sender.send_waiting(frame)? }
            }
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}
