//! From boxes of single frames to people: who is who from frame to frame, what each is called, and for how long.
//!
//! ```text
//! detections ─► predict (motion) ─► pair (assignment) ─► label ─► tracks and events ─► alarm
//! ```
//!
//! A tracker in the manner of SORT (Bewley et al. 2016): each track predicts where its box is now, detections are paired
//! with predictions so that the affinities sum to the most, what is left begins new tracks. Everything counts in seconds of
//! the source and in sizes of the box, so that 5 frames a second are tracked as 30 are. There is one [`Tracker`] a source;
//! it is plain data, and its only time is the presentation time of the frames.

pub mod alarm;
pub mod assignment;
pub mod box_px;
pub mod event;
pub mod label;
mod life;
pub mod motion;
pub mod settings;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ndarray::Array2;

use crate::boxes::{Detection, PerBox};
use crate::geometry::Rect;
use crate::labels::{BACKGROUND, PerClass};
use crate::recycled::Recycled;

pub use alarm::{Alarm, Alarms};
pub use event::{TrackChange, TrackEvent};
pub use label::Label;
pub use settings::TrackSettings;

use box_px::BoxPx;
use life::{Moment, Track};

/// A detection, and how probable each class is there.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The detection, in pixels of the frame.
    pub detection: Detection,
    /// Probability of each class at the place of the detection; without it, its label is taken for certain.
    pub posterior: Option<&'a [f32]>,
}

/// Tracks the detections of one source.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackSettings,
    classes: usize,
    background: Option<usize>,
    /// Oldest first.
    tracks: Vec<Track>,
    next_id: u64,
    now: Moment,
    /// (width, height); none before the first frame.
    frame_size: Option<(u32, u32)>,
}

/// What is known after a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackUpdate {
    /// Presentation time of the frame.
    pub pts: Duration,
    /// All tracks, oldest first, those that are not seen in this frame included.
    pub tracks: PerBox<TrackedBox>,
    /// What happened, in this order: ends, then appearances and changes by track.
    pub events: Vec<TrackEvent>,
}

/// A track after a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackedBox {
    /// From 1, never reused in a run of the source; none until the track has appeared.
    pub id: Option<u64>,
    /// Where it is by all that was seen, in pixels of the frame, inside it: steadier than the detection.
    pub rect: Rect,
    /// What it is called.
    pub label: Label,
    /// For how long it has been called so since it appeared.
    pub labelled_for: Duration,
    /// The detection in this frame; none while it is only predicted.
    pub seen: Option<Seen>,
    /// Time since its first sighting.
    pub age: Duration,
    /// Time since its last sighting.
    pub unseen_for: Duration,
}

/// A detection that continues a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Its place among the sightings of the frame.
    pub index: usize,
    /// The detection.
    pub detection: Detection,
}

impl Tracker {
    /// A tracker for detections of these classes.
    pub fn new(settings: TrackSettings, classes: &[String]) -> Self {
        Self {
            settings,
            classes: classes.len(),
            background: classes.iter().position(|class| class == BACKGROUND),
            tracks: Vec::new(),
            next_id: 1,
            now: Moment::default(),
            frame_size: None,
        }
    }

    /// Takes the detections of a frame of (width, height).
    ///
    /// Frames come in the order of their times. Where a time lies before the last one (a camera that restarts its clock),
    /// no time has passed, and it counts from there. A frame of another size than the last one shows the same scene.
    ///
    /// # Panics
    ///
    /// When a label is no class, or a posterior has another length than there are classes.
    pub fn update(&mut self, pts: Duration, frame_size: (u32, u32), sightings: &[Sighting]) -> TrackUpdate {
        let elapsed = match self.frame_size {
            Some(_) => pts.saturating_sub(self.now.pts),
            None => Duration::ZERO,
        };
        self.now = Moment { pts, clock: self.now.clock + elapsed };
        self.resize(frame_size);
        let mut events = self.end_unseen();
        for track in &mut self.tracks {
            track.move_on(elapsed);
        }
        let assigned = self.pair(sightings);
        for (sighting, track) in assigned {
            let probabilities = self.probabilities(&sightings[sighting]);
            let seen = Seen { index: sighting, detection: sightings[sighting].detection };
            match track {
                Some(track) => self.tracks[track].see(&self.settings, seen, &probabilities, self.now),
                None => self.tracks.push(Track::new(&self.settings, seen, &probabilities, self.now)),
            }
        }
        for track in &mut self.tracks {
            events.extend(track.announce(&self.settings, &mut self.next_id, self.now, frame_size));
        }
        let tracks = self.tracks.iter().map(|track| track.tracked_box(self.now, frame_size)).collect();
        TrackUpdate { pts, tracks, events }
    }

    /// Ends all tracks: the source is over, or was gone for so long that nobody can be known again. Ids go on.
    pub fn end(&mut self) -> TrackUpdate {
        let events = self.tracks.drain(..).filter_map(|track| track.ended(self.now.pts)).collect();
        TrackUpdate { pts: self.now.pts, tracks: PerBox::new(), events }
    }

    fn resize(&mut self, size: (u32, u32)) {
        if let Some(before) = self.frame_size.replace(size)
            && before != size
        {
            let across = f64::from(size.0) / f64::from(before.0);
            let down = f64::from(size.1) / f64::from(before.1);
            for track in &mut self.tracks {
                track.motion.scale(across, down);
            }
        }
    }

    /// Drops the tracks that were not seen for too long. It comes before the pairing, so that whoever comes back later is
    /// somebody new, however few frames lie between.
    fn end_unseen(&mut self) -> Vec<TrackEvent> {
        let (settings, now) = (self.settings, self.now);
        let ended = self.tracks.extract_if(.., |track| {
            let longest = if track.has_appeared() { settings.coast } else { settings.confirm_within };
            track.unseen_for(now) > longest
        });
        ended.filter_map(|track| track.ended(now.pts)).collect()
    }

    /// All sightings, each with its track or none, in an order that does not depend on theirs.
    fn pair(&self, sightings: &[Sighting]) -> PerBox<(usize, Option<usize>)> {
        let mut order: PerBox<usize> = (0..sightings.len()).collect();
        order.sort_by(|&one, &other| {
            let [one, other] = [one, other].map(|index| sightings[index].detection);
            let place =
                |found: Detection| (found.rect.x, found.rect.y, found.rect.width, found.rect.height, found.label);
            other.score.total_cmp(&one.score).then(place(one).cmp(&place(other)))
        });
        let predicted: PerBox<_> =
            self.tracks.iter().map(|track| (track.motion.now(), track.unseen_for(self.now))).collect();
        let affinities = order.iter().flat_map(|&sighting| {
            let seen = sightings[sighting].detection.rect.into();
            predicted.iter().map(move |&(predicted, unseen)| self.affinity(predicted, unseen, seen))
        });
        let affinities = Recycled::<Array2<f64>>::of((order.len(), predicted.len()), affinities);
        order.into_iter().zip(assignment::assign(&affinities)).collect()
    }

    /// How well a box continues a track, in [0, 1]: the mean of their overlap and their closeness, 0 outside the gate.
    ///
    /// Closeness counts from the largest reach for every track, or one that was not seen for a while and may have gone
    /// further would draw detections from one that was seen just now.
    fn affinity(&self, predicted: BoxPx, unseen: Duration, seen: BoxPx) -> f64 {
        let gate = &self.settings.gate;
        let (iou, distance) = (predicted.iou(seen), predicted.distance_in_sides(seen));
        let near = distance <= gate.reach_after(unseen) && predicted.side_ratio(seen) <= gate.max_side_ratio;
        if iou < gate.min_iou && !near {
            return 0.0;
        }
        let closeness = (1.0 - distance / gate.max_reach).max(0.0);
        f64::midpoint(iou, closeness)
    }

    /// Probabilities over the classes, without background: it is nothing that a face can be called.
    fn probabilities(&self, sighting: &Sighting) -> PerClass<f64> {
        let label = sighting.detection.label;
        assert!(label < self.classes, "label {label} of {} classes", self.classes);
        let certain = || (0..self.classes).map(|class| f64::from(u8::from(class == label))).collect();
        let Some(posterior) = sighting.posterior else { return certain() };
        assert_eq!(posterior.len(), self.classes, "one probability a class");
        let share = |class| if Some(class) == self.background { 0.0 } else { f64::from(posterior[class]) };
        let sum: f64 = (0..self.classes).map(share).sum();
        // Nothing, or not a number.
        if sum > 0.0 && sum.is_finite() {
            (0..self.classes).map(|class| share(class) / sum).collect()
        } else {
            certain()
        }
    }
}
