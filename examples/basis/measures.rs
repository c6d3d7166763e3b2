//! The numbers of the tables.

use maskwatch::boxes::Detection;
use ndarray::ArrayView1;

use crate::replay::{Clip, Played};

/// IoU from which boxes of consecutive frames are taken for one.
const SAME_BOX: f64 = 0.3;

/// How a kept basis compares with one a frame.
pub struct Exactness {
    correlations: Vec<f64>,
    relative_l2: Vec<f64>,
    ious: Vec<f64>,
    unmatched: usize,
    refits: [u64; 4],
    frames: usize,
}

impl Exactness {
    pub const HEADER: [&str; 7] = [
        "correlation (5th percentile)",
        "relative L2 (95th percentile)",
        "IoU of boxes (5th percentile)",
        "boxes",
        "unmatched",
        "refitted",
        "drift / cut / age",
    ];

    /// Over pairs of exact and kept.
    pub fn of(pairs: &[(&Played, &Played)]) -> Self {
        let mut all = Self {
            correlations: Vec::new(),
            relative_l2: Vec::new(),
            ious: Vec::new(),
            unmatched: 0,
            refits: [0; 4],
            frames: 0,
        };
        for (exact, kept) in pairs {
            for (exact, kept) in exact.frames.iter().zip(&kept.frames) {
                for (exact, kept) in exact.evidence.columns().into_iter().zip(kept.evidence.columns()) {
                    all.correlations.extend(correlation(exact, kept));
                    all.relative_l2.extend(relative_l2(exact, kept));
                }
                let (ious, unmatched) = matched(&exact.boxes, &kept.boxes, f64::MIN_POSITIVE);
                all.ious.extend(ious);
                all.unmatched += unmatched;
            }
            let counts = kept.counts;
            for (sum, count) in all.refits.iter_mut().zip([counts.drift, counts.scene_cut, counts.age, counts.total()])
            {
                *sum += count;
            }
            all.frames += kept.frames.len();
        }
        all
    }

    pub fn cells(&self) -> Vec<String> {
        let [drift, cut, age, total] = self.refits;
        vec![
            format!("{:.4} ({:.4})", mean(&self.correlations), percentile(&self.correlations, 5.0)),
            format!("{:.3} ({:.3})", mean(&self.relative_l2), percentile(&self.relative_l2, 95.0)),
            format!("{:.3} ({:.3})", mean(&self.ious), percentile(&self.ious, 5.0)),
            self.ious.len().to_string(),
            self.unmatched.to_string(),
            format!("{:.1} %", 100.0 * total as f64 / self.frames as f64),
            format!("{drift} / {cut} / {age}"),
        ]
    }
}

/// How much maps and boxes move from one frame to the next.
pub struct Flicker {
    /// Share of positions that stand still.
    still: f64,
    /// Sum of |m(t + 1) - m(t)| over still positions, classes and frames, by the sum of (m(t + 1) + m(t)) / 2.
    map: f64,
    ious: Vec<f64>,
    /// Share of the boxes of consecutive frames that have no match.
    blinking: f64,
}

impl Flicker {
    pub const HEADER: [&str; 4] = ["still positions", "map", "IoU of consecutive boxes", "boxes without a successor"];

    pub fn of(clip: &Clip, played: &Played) -> Self {
        let (mut change, mut height, mut still, mut positions) = (0.0, 0.0, 0usize, 0usize);
        let (mut ious, mut unmatched, mut boxes) = (Vec::new(), 0, 0);
        for ((seen, now), before) in clip.frames.iter().zip(&played.frames).skip(1).zip(&played.frames) {
            positions += seen.still.len();
            for position in (0..seen.still.len()).filter(|&position| seen.still[position]) {
                still += 1;
                for (now, before) in now.evidence.row(position).iter().zip(before.evidence.row(position)) {
                    change += f64::from((now - before).abs());
                    height += f64::from(now + before) / 2.0;
                }
            }
            let (same, others) = matched(&before.boxes, &now.boxes, SAME_BOX);
            ious.extend(same);
            unmatched += others;
            boxes += before.boxes.len() + now.boxes.len();
        }
        Self {
            still: still as f64 / positions as f64,
            map: change / height,
            ious,
            blinking: unmatched as f64 / boxes as f64,
        }
    }

    pub fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.0} %", 100.0 * self.still),
            format!("{:.2} %", 100.0 * self.map),
            format!("{:.4}", mean(&self.ious)),
            format!("{:.2} %", 100.0 * self.blinking),
        ]
    }
}

/// Nothing where one is flat.
fn correlation(one: ArrayView1<f32>, other: ArrayView1<f32>) -> Option<f64> {
    let centred = |values: ArrayView1<f32>| {
        let values = values.mapv(f64::from);
        let mean = values.mean().unwrap_or(0.0);
        values - mean
    };
    let (one, other) = (centred(one), centred(other));
    let norms = (one.dot(&one) * other.dot(&other)).sqrt();
    (norms > 0.0).then(|| one.dot(&other) / norms)
}

/// Nothing where the exact map is cold.
fn relative_l2(exact: ArrayView1<f32>, kept: ArrayView1<f32>) -> Option<f64> {
    let (exact, kept) = (exact.mapv(f64::from), kept.mapv(f64::from));
    let difference = &kept - &exact;
    let norm = exact.dot(&exact).sqrt();
    (norm > 0.0).then(|| difference.dot(&difference).sqrt() / norm)
}

/// IoU of boxes that are matched one to one, by falling IoU from `least` on, and how many on both sides are left.
fn matched(one: &[Detection], other: &[Detection], least: f64) -> (Vec<f64>, usize) {
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (first, a) in one.iter().enumerate() {
        for (second, b) in other.iter().enumerate() {
            let iou = a.rect.iou(b.rect);
            if a.label == b.label && iou >= least {
                pairs.push((iou, first, second));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut taken_one, mut taken_other) = (vec![false; one.len()], vec![false; other.len()]);
    let mut ious = Vec::new();
    for (iou, first, second) in pairs {
        if !taken_one[first] && !taken_other[second] {
            (taken_one[first], taken_other[second]) = (true, true);
            ious.push(iou);
        }
    }
    let unmatched = one.len() + other.len() - 2 * ious.len();
    (ious, unmatched)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// By the nearest rank.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(rank).copied().unwrap_or(f64::NAN)
}
