//! The label of a track: it changes on evidence over time, not with every detection.
//!
//! With p the probabilities of a detection and t the time for which it stands (since the sighting before, within bounds):
//!
//! - **change**: each class c has a balance B_c <- max(0, B_c + t (p_c - p_label - allowance)), the cumulative sum of Page
//!   (1954). The first to reach (1 - allowance) `change_after` becomes the label, and what was seen before is forgotten. A
//!   flicker is taken back by the frames after it.
//! - **uncertain**: each class has evidence E_c <- E_c 2^(-elapsed / half-life) + t p_c, and its lead is its share of all
//!   evidence minus the largest share of another class. The label becomes uncertain when its lead is below `split_below`
//!   while no class has a quarter of the balance that would make it the label, and is decided again when a class leads by
//!   at least `clear_from`.
//!
//! Until the track appears, its label is the leading class, or uncertain below `split_below`.
//!
//! How often 20 % of wrong labels, independent from frame to frame, change the label by chance falls quickly with the frame
//! rate: in a simulation of 80 minutes, never at 10 frames a second and above, once in 3 minutes at 5, twice a minute at 3.
//! No filter that follows a true change within a second does much better there: that second has few frames. Flicker at
//! regular distances never changes it.

use std::time::Duration;

use super::settings::LabelSettings;

/// What a track is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// Index of a class.
    Class(usize),
    /// The evidence is split.
    Uncertain,
}

/// What uncertain labels are called.
pub const UNCERTAIN: &str = "uncertain";

/// Time for which the first detection of a track stands, as nothing is known of the time before it: about a frame.
const FIRST_STEP: Duration = Duration::from_millis(100);
/// Share of the balance needed for a change from which a split counts as that change on its way.
const CHANGING_FROM: f64 = 0.25;
/// Seconds by which sums of frame times may fall short of what they are by rights.
const ROUNDING_SECS: f64 = 1e-6;

impl Label {
    /// Its name in events and pictures.
    pub fn name(self, classes: &[String]) -> &str {
        match self {
            Self::Class(class) => &classes[class],
            Self::Uncertain => UNCERTAIN,
        }
    }
}

/// Evidence for the label of one track.
#[derive(Debug, Clone)]
pub struct LabelFilter {
    settings: LabelSettings,
    label: Label,
    /// Whether the label was shown, so that only a change by the rules may follow.
    settled: bool,
    /// Seconds for each class, decaying.
    evidence: Vec<f64>,
    /// Seconds by which each class was seen more than the label.
    balance: Vec<f64>,
}

impl LabelFilter {
    /// Knows nothing yet.
    pub fn new(settings: LabelSettings, classes: usize) -> Self {
        let nothing = vec![0.0; classes];
        Self { settings, label: Label::Uncertain, settled: false, evidence: nothing.clone(), balance: nothing }
    }

    /// The label by what was seen so far.
    pub fn label(&self) -> Label {
        self.label
    }

    /// From now on the label keeps, unless the evidence changes it.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Takes a detection: probabilities that sum to 1, and the time since the one before, none for the first. Returns the
    /// label before, if a settled label has changed.
    pub fn see(&mut self, probabilities: &[f64], since_last: Option<Duration>) -> Option<Label> {
        let step = since_last.map_or(FIRST_STEP, |since| since.min(self.settings.longest_step)).as_secs_f64();
        let elapsed = since_last.unwrap_or_default().as_secs_f64();
        let kept = (-elapsed / self.settings.half_life.as_secs_f64()).exp2();
        for (evidence, probability) in self.evidence.iter_mut().zip(probabilities) {
            *evidence = *evidence * kept + step * probability;
        }
        let before = self.label;
        self.label = match before {
            _ if !self.settled => self.leading_from(self.settings.split_below),
            Label::Uncertain => self.leading_from(self.settings.clear_from),
            Label::Class(current) => self.challenged(current, probabilities, step),
        };
        let changed = self.settled && self.label != before;
        if changed {
            self.balance.fill(0.0);
        }
        changed.then_some(before)
    }

    /// The leading class if it leads by at least `lead` of the evidence.
    fn leading_from(&self, lead: f64) -> Label {
        let (class, _) = largest(&self.evidence);
        if self.lead_of(class) >= lead { Label::Class(class) } else { Label::Uncertain }
    }

    /// The label after a detection, of a track that is called `current`.
    fn challenged(&mut self, current: usize, probabilities: &[f64], step: f64) -> Label {
        let needed = (1.0 - self.settings.allowance) * self.settings.change_after.as_secs_f64();
        for (balance, probability) in self.balance.iter_mut().zip(probabilities) {
            let gain = probability - probabilities[current] - self.settings.allowance;
            *balance = (*balance + step * gain).max(0.0);
        }
        let (challenger, highest) = largest(&self.balance);
        if highest >= needed - ROUNDING_SECS {
            self.evidence.fill(0.0);
            self.evidence[challenger] = self.settings.change_after.as_secs_f64();
            return Label::Class(challenger);
        }
        if self.lead_of(current) < self.settings.split_below && highest < CHANGING_FROM * needed {
            return Label::Uncertain;
        }
        Label::Class(current)
    }

    /// Share of the evidence by which a class leads the others, in [-1, 1].
    fn lead_of(&self, class: usize) -> f64 {
        let others = self.evidence.iter().enumerate().filter(|&(other, _)| other != class);
        let best_other = others.map(|(_, &evidence)| evidence).fold(0.0, f64::max);
        (self.evidence[class] - best_other) / self.evidence.iter().sum::<f64>()
    }
}

/// Place and value of the largest; the first of equals.
fn largest(values: &[f64]) -> (usize, f64) {
    let mut largest = (0, f64::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > largest.1 {
            largest = (index, value);
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const MASK: [f64; 3] = [1.0, 0.0, 0.0];
    const NO_MASK: [f64; 3] = [0.0, 1.0, 0.0];

    /// Feeds a settled label of `mask` that was seen for a second and returns (seconds since then, label) of each change.
    fn changes(fps: u32, seen: impl IntoIterator<Item = [f64; 3]>) -> Vec<(f64, Label)> {
        let step = Duration::from_secs(1) / fps;
        let mut filter = LabelFilter::new(LabelSettings::default(), 3);
        filter.see(&MASK, None);
        filter.settle();
        for _ in 0..fps {
            filter.see(&MASK, Some(step));
        }
        let mut changes = Vec::new();
        for (frame, probabilities) in (1..).zip(seen) {
            if filter.see(&probabilities, Some(step)).is_some() {
                changes.push((f64::from(frame) / f64::from(fps), filter.label()));
            }
        }
        changes
    }

    #[test]
    fn a_true_change_shows_after_its_time_at_every_frame_rate() {
        for fps in [3, 5, 10, 15, 30] {
            let changes = changes(fps, std::iter::repeat_n(NO_MASK, 10 * fps as usize));
            let [(at, Label::Class(1))] = changes[..] else { panic!("{fps}: {changes:?}") };
            assert!((0.9 - 1e-6..0.9 + 1.0 / f64::from(fps)).contains(&at), "{fps} frames a second: after {at} s");
        }
    }

    #[test]
    fn a_noisy_change_shows_too() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut delays: Vec<f64> = Vec::new();
        for _ in 0..100 {
            let seen: Vec<_> = (0..150).map(|_| if rng.random_bool(0.2) { MASK } else { NO_MASK }).collect();
            let changes = changes(15, seen);
            delays.push(changes.iter().find(|(_, label)| *label == Label::Class(1)).expect("a change").0);
        }
        delays.sort_by(f64::total_cmp);
        assert!(delays[50] < 2.0 && delays[90] < 3.5, "median {}, 90 % {}", delays[50], delays[90]);
    }

    #[test]
    fn flicker_never_changes_the_label() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        for fps in [10, 15, 30] {
            let seen = (0..600 * fps).map(|_| if rng.random_bool(0.2) { NO_MASK } else { MASK });
            assert_eq!(changes(fps, seen), [], "{fps} frames a second");
        }
        for fps in [3, 5] {
            let seen = (0..600 * fps).map(|frame| if frame % 5 == 0 { NO_MASK } else { MASK });
            assert_eq!(changes(fps, seen), [], "{fps} frames a second");
        }
        // Half a second of nothing but wrong labels, again and again.
        let seen = (0..600 * 30).map(|frame| if frame % 90 < 15 { NO_MASK } else { MASK });
        assert_eq!(changes(30, seen), []);
    }

    #[test]
    fn split_evidence_becomes_uncertain_and_clear_evidence_decides() {
        for fps in [5, 10, 30] {
            let half = std::iter::repeat_n([0.5, 0.5, 0.0], 10 * fps as usize);
            let clear = std::iter::repeat_n(NO_MASK, 5 * fps as usize);
            let changes = changes(fps, half.chain(clear));
            let [(split, Label::Uncertain), (decided, Label::Class(1))] = changes[..] else {
                panic!("{fps}: {changes:?}")
            };
            // The lead is the share of what was seen at first: 1.1 s at t = 0, decaying against a total that grows to
            // 2 s / ln 2; the reverse for the decision.
            assert!((3.0..6.0).contains(&split) && (1.0..2.0).contains(&(decided - 10.0)), "{changes:?}");
        }
        let alternating = (0..1200).map(|frame| if frame % 2 == 0 { NO_MASK } else { MASK });
        let changes = changes(10, alternating);
        assert!(matches!(changes[..], [(_, Label::Uncertain)]), "{changes:?}");
    }

    #[test]
    fn a_label_that_is_not_the_likeliest_does_not_stay() {
        for other in [0.53, 0.57, 0.61, 0.65] {
            let changes = changes(10, std::iter::repeat_n([1.0 - other, other, 0.0], 1000));
            assert!(matches!(changes[..], [(_, Label::Uncertain | Label::Class(1)), ..]), "{other}: {changes:?}");
        }
    }

    #[test]
    fn a_slight_majority_is_neither_a_change_nor_uncertain() {
        assert_eq!(changes(10, std::iter::repeat_n([0.6, 0.4, 0.0], 1000)), []);
    }

    #[test]
    fn the_first_label_follows_what_was_seen_until_it_is_shown() {
        let mut filter = LabelFilter::new(LabelSettings::default(), 3);
        assert_eq!(filter.see(&NO_MASK, None), None);
        assert_eq!(filter.label(), Label::Class(1));
        assert_eq!(filter.see(&MASK, Some(Duration::from_millis(300))), None);
        assert_eq!(filter.label(), Label::Class(0));
        filter.settle();
        assert_eq!(filter.see(&NO_MASK, Some(Duration::from_millis(300))), None);
        assert_eq!(filter.label(), Label::Class(0));
    }

    #[test]
    fn a_sighting_after_a_long_time_changes_nothing_by_itself() {
        let mut filter = LabelFilter::new(LabelSettings::default(), 3);
        filter.see(&MASK, None);
        filter.settle();
        for seconds in [0, 1, 60, 3600] {
            assert_eq!(filter.see(&MASK, Some(Duration::from_secs(seconds))), None);
            assert_eq!(filter.see(&NO_MASK, Some(Duration::from_secs(seconds))), None);
        }
    }

    #[test]
    fn a_still_is_never_uncertain() {
        let mut filter = LabelFilter::new(super::super::TrackSettings::still().label, 3);
        filter.see(&[0.4, 0.4, 0.2], None);
        assert_eq!(filter.label(), Label::Class(0));
    }
}
