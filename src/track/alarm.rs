//! The alarm: somebody was called `no_mask`, say, for too long. It fires once a track, and says why.
//!
//! A track raises its alarm at the first sighting at which it has had the label without a break for at least the time that
//! was set; being uncertain is a break, not being seen for a moment is none. It fires at a sighting, so that the picture of that
//! moment shows who is meant.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::event::{TrackChange, millis};
use super::label::Label;
use super::{TrackUpdate, TrackedBox};
use crate::geometry::Rect;

/// Labels of a track that are remembered: the newest of them tell why it fired.
const LONGEST_HISTORY: usize = 32;

/// Watches the tracks of one source.
#[derive(Debug)]
pub struct Alarms {
    after: Duration,
    class: usize,
    watched: BTreeMap<u64, Watched>,
}

/// What is known of a track that appeared and did not end.
#[derive(Debug, Default)]
struct Watched {
    history: VecDeque<Labelled>,
    /// Older labels that the history does not hold any more.
    forgotten: u64,
    strongest: Option<Strongest>,
    raised: bool,
}

/// A label and when it began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// Presentation time.
    pub since: Duration,
    /// The label from then on.
    pub label: Label,
}

/// The detection with the highest score; the first of equals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strongest {
    /// Presentation time of its frame.
    pub pts: Duration,
    /// In pixels of that frame.
    pub rect: Rect,
    /// In (0, 1].
    pub score: f32,
}

/// Somebody has had the label for too long.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Which track.
    pub track: u64,
    /// The label.
    pub label: Label,
    /// Presentation time of the frame at which it fired; the track is seen in it.
    pub pts: Duration,
    /// Where the track is in that frame.
    pub rect: Rect,
    /// Presentation time since which the track has had the label.
    pub began: Duration,
    /// For how long it has had the label, by the time that passed on the source.
    pub lasted: Duration,
    /// The labels of the track, oldest first, the current one last; at most 32.
    pub history: Vec<Labelled>,
    /// How many older labels are left out.
    pub history_left_out: u64,
    /// The strongest detection of this class since it began; none if only other classes were detected since.
    pub strongest: Option<Strongest>,
}

impl Alarms {
    /// For tracks that are labelled `class`, an index, for at least `after`.
    pub fn new(after: Duration, class: usize) -> Self {
        Self { after, class, watched: BTreeMap::new() }
    }

    /// Takes what a tracker has found; every update of it, in order.
    pub fn update(&mut self, update: &TrackUpdate) -> Vec<Alarm> {
        for event in &update.events {
            match event.change {
                TrackChange::Appeared { label, .. } => self.label(event.track, event.pts, label),
                TrackChange::LabelChanged { to, .. } => self.label(event.track, event.pts, to),
                TrackChange::Ended { .. } => {
                    self.watched.remove(&event.track);
                }
            }
        }
        update.tracks.iter().filter_map(|track| self.look(update.pts, track)).collect()
    }

    fn label(&mut self, track: u64, since: Duration, label: Label) {
        let watched = self.watched.entry(track).or_default();
        if watched.history.len() == LONGEST_HISTORY {
            watched.history.pop_front();
            watched.forgotten += 1;
        }
        watched.history.push_back(Labelled { since, label });
        watched.strongest = None;
    }

    fn look(&mut self, pts: Duration, track: &TrackedBox) -> Option<Alarm> {
        let (id, seen) = (track.id?, track.seen?);
        let watched = self.watched.get_mut(&id)?;
        if track.label != Label::Class(self.class) || watched.raised {
            return None;
        }
        let detection = seen.detection;
        let stronger = watched.strongest.is_none_or(|strongest| detection.score > strongest.score);
        if detection.label == self.class && stronger {
            watched.strongest = Some(Strongest { pts, rect: detection.rect, score: detection.score });
        }
        if track.labelled_for < self.after {
            return None;
        }
        watched.raised = true;
        Some(Alarm {
            track: id,
            label: track.label,
            pts,
            rect: track.rect,
            began: watched.history.back()?.since,
            lasted: track.labelled_for,
            history: watched.history.iter().copied().collect(),
            history_left_out: watched.forgotten,
            strongest: watched.strongest,
        })
    }
}

/// An alarm with names in place of numbers, as it is written; times are in milliseconds of the source.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename = "alarm")]
pub struct AlarmRecord<'a> {
    /// Id of the track.
    track: u64,
    /// Presentation time of the frame.
    pts_ms: f64,
    label: &'a str,
    began_ms: f64,
    lasted_ms: f64,
    #[serde(rename = "box")]
    rect: Rect,
    strongest: Option<StrongestRecord>,
    history: Vec<LabelledRecord<'a>>,
    history_left_out: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct StrongestRecord {
    pts_ms: f64,
    score: f64,
    #[serde(rename = "box")]
    rect: Rect,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct LabelledRecord<'a> {
    since_ms: f64,
    label: &'a str,
}

impl Alarm {
    /// The alarm as it is written. `classes` are the tracker's.
    pub fn record<'a>(&self, classes: &'a [String]) -> AlarmRecord<'a> {
        AlarmRecord {
            track: self.track,
            pts_ms: millis(self.pts),
            label: self.label.name(classes),
            began_ms: millis(self.began),
            lasted_ms: millis(self.lasted),
            rect: self.rect,
            strongest: self.strongest.map(|strongest| StrongestRecord {
                pts_ms: millis(strongest.pts),
                score: (f64::from(strongest.score) * 1e4).round() / 1e4,
                rect: strongest.rect,
            }),
            history: self
                .history
                .iter()
                .map(|labelled| LabelledRecord {
                    since_ms: millis(labelled.since),
                    label: labelled.label.name(classes),
                })
                .collect(),
            history_left_out: self.history_left_out,
        }
    }
}
