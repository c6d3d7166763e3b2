//! What makes a track: all times in seconds of the source, all distances in sizes of the box, so that nothing depends on
//! frame rate or resolution.

use std::time::Duration;

/// Settings of a tracker. The defaults suit 3 to 30 analysed frames a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackSettings {
    /// Which detections may continue a track.
    pub gate: GateSettings,
    /// A track appears once it was seen for this long; 0 is at first sight. Long enough that a blip of one analysed frame
    /// makes no track.
    pub confirm_after: Duration,
    /// Somebody who has not appeared yet is forgotten when unseen for longer than this.
    pub confirm_within: Duration,
    /// A detection of at least this score is believed at once: its track appears at first sight. Above 1 there is none.
    pub sure_score: f32,
    /// A track that is not seen goes on as predicted, and ends when unseen for longer than this. It must exceed the time
    /// between two analysed frames.
    pub coast: Duration,
    /// How the label of a track follows those of its detections.
    pub label: LabelSettings,
}

/// Which detections may continue a track: those that overlap its predicted box, or lie near enough for its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateSettings {
    /// Smallest IoU with the predicted box, in (0, 1].
    pub min_iou: f64,
    /// Distance of the centres that is allowed at once, in sides of the larger box.
    pub reach: f64,
    /// By how much the reach grows with the time for which the track was not seen, in sides a second: a person walks 5 to 7
    /// of their face's sides in one, and the prediction knows most of that after two sightings.
    pub reach_per_second: f64,
    /// Largest reach, in sides: beyond it stands somebody else.
    pub max_reach: f64,
    /// Largest ratio of the sides of two boxes that do not overlap as much as `min_iou`.
    pub max_side_ratio: f64,
}

/// How much evidence changes a label. Probabilities are of one detection, over the classes without `background`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelSettings {
    /// Time after which another class takes over if every detection is certain of it. Detections that are wrong one time in
    /// five make it about twice as long.
    pub change_after: Duration,
    /// By how much another class must be more probable than the current one before it gains at all, in [0, 1).
    pub allowance: f64,
    /// Time after which evidence weighs half.
    pub half_life: Duration,
    /// The label becomes uncertain when the first class leads the second by less than this share of the evidence, in
    /// [0, 1]; at 0 it never does.
    pub split_below: f64,
    /// An uncertain label is decided again when the first class leads by at least this share, above `split_below`.
    pub clear_from: f64,
    /// The longest time for which a single detection may stand, however long nothing was seen before it.
    pub longest_step: Duration,
}

impl Default for TrackSettings {
    fn default() -> Self {
        Self {
            gate: GateSettings::default(),
            confirm_after: Duration::from_millis(100),
            confirm_within: Duration::from_millis(500),
            sure_score: 0.8,
            coast: Duration::from_secs(1),
            label: LabelSettings::default(),
        }
    }
}

impl TrackSettings {
    /// For a source of a single picture: what is seen has appeared, and has the label of its detection.
    pub fn still() -> Self {
        let label = LabelSettings { split_below: 0.0, clear_from: 0.0, ..LabelSettings::default() };
        Self { confirm_after: Duration::ZERO, label, ..Self::default() }
    }
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { min_iou: 0.2, reach: 0.5, reach_per_second: 5.0, max_reach: 2.0, max_side_ratio: 2.0 }
    }
}

impl GateSettings {
    /// Distance that is allowed to a track that was seen last so long ago, in sides.
    pub fn reach_after(&self, unseen: Duration) -> f64 {
        (self.reach + self.reach_per_second * unseen.as_secs_f64()).min(self.max_reach)
    }
}

impl Default for LabelSettings {
    fn default() -> Self {
        Self {
            change_after: Duration::from_millis(900),
            allowance: 0.2,
            half_life: Duration::from_secs(2),
            split_below: 0.15,
            clear_from: 0.4,
            // Three frames a second still count fully.
            longest_step: Duration::from_millis(350),
        }
    }
}
