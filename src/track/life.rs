//! One track: somebody who was seen, from the first sighting to the end.

use std::time::Duration;

use super::event::{TrackChange, TrackEvent};
use super::label::{Label, LabelFilter};
use super::motion::Motion;
use super::settings::TrackSettings;
use super::{Seen, TrackedBox};
use crate::geometry::Rect;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moment {
    /// By the time stamps of the source, which may jump back.
    pub(super) pts: Duration,
    /// Time that has passed since the first frame: never back.
    pub(super) clock: Duration,
}

#[derive(Debug)]
pub(super) struct Track {
    id: Option<u64>,
    pub(super) motion: Motion,
    label: LabelFilter,
    /// Clock since which it has been called so.
    labelled_at: Duration,
    /// The label before, if it changed in this frame.
    changed_from: Option<Label>,
    first: Moment,
    last: Moment,
    /// In this frame.
    seen: Option<Seen>,
    last_rect: Rect,
    /// Whether a detection was strong enough to be believed at once.
    sure: bool,
}

impl Track {
    pub(super) fn new(settings: &TrackSettings, seen: Seen, probabilities: &[f64], now: Moment) -> Self {
        let mut label = LabelFilter::new(settings.label, probabilities.len());
        label.see(probabilities, None);
        Self {
            id: None,
            motion: Motion::new(seen.detection.rect.into()),
            label,
            labelled_at: now.clock,
            changed_from: None,
            first: now,
            last: now,
            seen: Some(seen),
            last_rect: seen.detection.rect,
            sure: seen.detection.score >= settings.sure_score,
        }
    }

    pub(super) fn has_appeared(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn unseen_for(&self, now: Moment) -> Duration {
        now.clock - self.last.clock
    }

    /// A new frame, in which it is not seen yet.
    pub(super) fn move_on(&mut self, elapsed: Duration) {
        self.motion.predict(elapsed);
        self.seen = None;
    }

    pub(super) fn see(&mut self, settings: &TrackSettings, seen: Seen, probabilities: &[f64], now: Moment) {
        self.motion.correct(seen.detection.rect.into());
        self.changed_from = self.label.see(probabilities, Some(self.unseen_for(now)));
        if self.changed_from.is_some() {
            self.labelled_at = now.clock;
        }
        self.last = now;
        self.seen = Some(seen);
        self.last_rect = seen.detection.rect;
        self.sure |= seen.detection.score >= settings.sure_score;
    }

    /// The event of this frame, if any. A track that appears takes the next id.
    pub(super) fn announce(
        &mut self,
        settings: &TrackSettings,
        next_id: &mut u64,
        now: Moment,
        frame_size: (u32, u32),
    ) -> Option<TrackEvent> {
        let change = match (self.id, self.changed_from.take()) {
            (Some(_), Some(from)) => TrackChange::LabelChanged { from, to: self.label.label() },
            (Some(_), None) => return None,
            (None, _) if self.sure || self.last.clock - self.first.clock >= settings.confirm_after => {
                self.id = Some(*next_id);
                *next_id += 1;
                self.label.settle();
                self.labelled_at = now.clock;
                TrackChange::Appeared { label: self.label.label(), first_seen: self.first.pts }
            }
            (None, _) => return None,
        };
        let track = self.id?;
        Some(TrackEvent { track, pts: now.pts, rect: self.motion.now().in_frame(frame_size), change })
    }

    /// Its end, if it ever appeared.
    pub(super) fn ended(&self, pts: Duration) -> Option<TrackEvent> {
        let change = TrackChange::Ended {
            label: self.label.label(),
            last_seen: self.last.pts,
            duration: self.last.clock - self.first.clock,
        };
        Some(TrackEvent { track: self.id?, pts, rect: self.last_rect, change })
    }

    pub(super) fn tracked_box(&self, now: Moment, frame_size: (u32, u32)) -> TrackedBox {
        TrackedBox {
            id: self.id,
            rect: self.motion.now().in_frame(frame_size),
            label: self.label.label(),
            labelled_for: if self.has_appeared() { now.clock - self.labelled_at } else { Duration::ZERO },
            seen: self.seen,
            age: now.clock - self.first.clock,
            unseen_for: self.unseen_for(now),
        }
    }
}
