//! What happens to tracks, each once: it appears, changes its label, ends.
//!
//! ```json
//! {"event":"track_appeared","track":3,"pts_ms":1200.0,"label":"mask","first_seen_ms":1100.0,"box":{"x":12,"y":34,"width":56,"height":70}}
//! {"event":"track_label_changed","track":3,"pts_ms":5300.0,"from":"mask","to":"no_mask","box":{...}}
//! {"event":"track_ended","track":3,"pts_ms":9400.0,"label":"no_mask","last_seen_ms":8300.0,"duration_ms":7200.0,"box":{...}}
//! ```

use std::time::Duration;

use serde::Serialize;

use super::label::Label;
use crate::geometry::Rect;

/// Something that happened to a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackEvent {
    /// Of which track.
    pub track: u64,
    /// Presentation time of the frame after which it was noticed.
    pub pts: Duration,
    /// Where the track is; of an end, where it was seen last, in pixels of that frame.
    pub rect: Rect,
    /// What happened.
    pub change: TrackChange,
}

/// What can happen to a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrackChange {
    /// It was seen for long enough to be believed.
    Appeared {
        /// What it is called.
        label: Label,
        /// Presentation time of its first sighting.
        first_seen: Duration,
    },
    /// The evidence has changed its label.
    LabelChanged {
        /// The label before.
        from: Label,
        /// The label from now on.
        to: Label,
    },
    /// It was not seen for too long, or its source is over.
    Ended {
        /// What it was called at the end.
        label: Label,
        /// Presentation time of its last sighting.
        last_seen: Duration,
        /// From its first sighting to its last, by the time that passed on the source.
        duration: Duration,
    },
}

/// An event with names in place of numbers, as it is written; times are in milliseconds of the source.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrackRecord<'a> {
    /// A track has appeared.
    TrackAppeared {
        /// Its id.
        track: u64,
        /// Presentation time of the frame.
        pts_ms: f64,
        /// A class or `uncertain`.
        label: &'a str,
        /// Presentation time of the first sighting.
        first_seen_ms: f64,
        /// Where it is.
        #[serde(rename = "box")]
        rect: Rect,
    },
    /// A track has another label.
    TrackLabelChanged {
        /// Its id.
        track: u64,
        /// Presentation time of the frame.
        pts_ms: f64,
        /// A class or `uncertain`.
        from: &'a str,
        /// A class or `uncertain`.
        to: &'a str,
        /// Where it is.
        #[serde(rename = "box")]
        rect: Rect,
    },
    /// A track is over.
    TrackEnded {
        /// Its id.
        track: u64,
        /// Presentation time of the frame.
        pts_ms: f64,
        /// A class or `uncertain`.
        label: &'a str,
        /// Presentation time of the last sighting.
        last_seen_ms: f64,
        /// From the first sighting to the last.
        duration_ms: f64,
        /// Where it was seen last.
        #[serde(rename = "box")]
        rect: Rect,
    },
}

impl TrackEvent {
    /// The event as it is written. `classes` are the tracker's.
    pub fn record<'a>(&self, classes: &'a [String]) -> TrackRecord<'a> {
        let (track, pts_ms, rect) = (self.track, millis(self.pts), self.rect);
        match self.change {
            TrackChange::Appeared { label, first_seen } => TrackRecord::TrackAppeared {
                track,
                pts_ms,
                label: label.name(classes),
                first_seen_ms: millis(first_seen),
                rect,
            },
            TrackChange::LabelChanged { from, to } => {
                TrackRecord::TrackLabelChanged { track, pts_ms, from: from.name(classes), to: to.name(classes), rect }
            }
            TrackChange::Ended { label, last_seen, duration } => TrackRecord::TrackEnded {
                track,
                pts_ms,
                label: label.name(classes),
                last_seen_ms: millis(last_seen),
                duration_ms: millis(duration),
                rect,
            },
        }
    }
}

/// Milliseconds to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_is_documented() {
        let classes = ["mask", "no_mask"].map(str::to_owned);
        let rect = Rect { x: 12, y: 34, width: 56, height: 70 };
        let event = |change| TrackEvent { track: 3, pts: Duration::from_micros(1_200_123), rect, change };
        let written = |change| serde_json::to_string(&event(change).record(&classes)).unwrap();
        let place = r#""box":{"x":12,"y":34,"width":56,"height":70}}"#;
        let second = Duration::from_secs(1);
        assert_eq!(
            written(TrackChange::Appeared { label: Label::Class(0), first_seen: second }),
            format!(
                r#"{{"event":"track_appeared","track":3,"pts_ms":1200.123,"label":"mask","first_seen_ms":1000.0,{place}"#
            )
        );
        assert_eq!(
            written(TrackChange::LabelChanged { from: Label::Uncertain, to: Label::Class(1) }),
            format!(
                r#"{{"event":"track_label_changed","track":3,"pts_ms":1200.123,"from":"uncertain","to":"no_mask",{place}"#
            )
        );
        assert_eq!(
            written(TrackChange::Ended { label: Label::Class(1), last_seen: second, duration: second / 2 }),
            format!(
                r#"{{"event":"track_ended","track":3,"pts_ms":1200.123,"label":"no_mask","last_seen_ms":1000.0,"duration_ms":500.0,{place}"#
            )
        );
    }
}
