//! An analysed frame as all sinks share it. It is drawn once, by the first sink that wants the picture, or never.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::analyse::Analysis;
use crate::boxes::PerBox;
use crate::capture::SourceInfo;
use crate::draw::Annotator;
use crate::frame::{Frame, SharedImage};
use crate::track::TrackedBox;

/// An analysed frame.
pub struct Finding {
    /// Place of its source in the order that the user gave.
    pub source: usize,
    /// What is known of the source.
    pub info: Arc<SourceInfo>,
    /// The frame as it was captured.
    pub frame: Frame,
    /// What was found in it.
    pub analysis: Analysis,
    /// Who is in sight, by all that was seen until now.
    pub tracks: PerBox<TrackedBox>,
    /// Names of the classes.
    pub classes: Arc<[String]>,
    annotator: Arc<Annotator>,
    annotated: OnceLock<(SharedImage, Duration)>,
    is_drawing_counted: AtomicBool,
}

impl Finding {
    /// What was found in a frame; nothing is drawn yet.
    pub fn new(
        source: usize,
        info: Arc<SourceInfo>,
        frame: Frame,
        analysis: Analysis,
        tracks: PerBox<TrackedBox>,
        classes: Arc<[String]>,
        annotator: Arc<Annotator>,
    ) -> Self {
        Self {
            source,
            info,
            frame,
            analysis,
            tracks,
            classes,
            annotator,
            annotated: OnceLock::new(),
            is_drawing_counted: AtomicBool::new(false),
        }
    }

    /// The frame with what was found drawn onto it.
    pub fn annotated(&self) -> &SharedImage {
        let draw = || {
            let started = Instant::now();
            let picture = self.annotator.annotated(&self.frame.image, &self.analysis, &self.tracks, &self.classes);
            (picture.into(), started.elapsed())
        };
        &self.annotated.get_or_init(draw).0
    }

    /// The track of each box of the analysis, in their order; none for boxes that no track has appeared for yet.
    pub fn tracks_of_boxes(&self) -> PerBox<Option<&TrackedBox>> {
        let mut tracks = PerBox::from_elem(None, self.analysis.boxes.len());
        for track in self.tracks.iter().filter(|track| track.id.is_some()) {
            if let Some(place) = track.seen.and_then(|seen| tracks.get_mut(seen.index)) {
                *place = Some(track);
            }
        }
        tracks
    }

    /// How long drawing took, to whoever asks first once it is drawn; nothing to anybody else.
    pub fn claim_drawing_time(&self) -> Duration {
        match self.annotated.get() {
            Some((_, time)) if !self.is_drawing_counted.swap(true, Ordering::Relaxed) => *time,
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finding")
            .field("source", &self.info.name)
            .field("frame", &self.frame.index)
            .field("boxes", &self.analysis.boxes)
            .finish_non_exhaustive()
    }
}
