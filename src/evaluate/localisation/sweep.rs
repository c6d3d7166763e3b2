//! The boxes of a map at many thresholds, in one pass.
//!
//! From the hottest place down, each place joins the regions that it touches (union-find), so the regions at a threshold are
//! those there are when its places have joined. The boxes are those of [`boxes::find`](crate::boxes::find) at each threshold.

use ndarray::Array2;

use crate::evaluate::overlap::best_iou;
use crate::geometry::Rect;

/// Thresholds that are swept: 0.01, 0.02, ..., 0.99.
pub const THRESHOLDS: usize = 99;

/// The threshold of an index, in (0, 1): a share of the hottest value.
pub fn threshold(index: usize) -> f32 {
    (index + 1) as f32 / 100.0
}

/// How well the boxes of a map fit at each threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// IoU of the box around the region that holds the peak, by index of the threshold.
    pub peak: Vec<f32>,
    /// IoU of the best of all boxes, by index of the threshold.
    pub best: Vec<f32>,
}

/// The boxes of `heat`, scaled to a picture of (width, height), against the annotated ones: of a box counts the best IoU with
/// one of these. A map that is cold everywhere has 0 throughout.
pub fn sweep(heat: &Array2<f32>, annotated: &[Rect], picture: (u32, u32)) -> Sweep {
    let mut sweep = Sweep { peak: vec![0.0; THRESHOLDS], best: vec![0.0; THRESHOLDS] };
    let highest = heat.iter().copied().fold(0.0, f32::max);
    if highest <= 0.0 {
        return sweep;
    }
    let (rows, columns) = heat.dim();
    let values: Vec<f32> = heat.iter().copied().collect();
    let mut by_heat: Vec<usize> = (0..values.len()).collect();
    by_heat.retain(|&place| values[place] >= threshold(0) * highest);
    // Stable: of equally hot places the first comes first, which makes it the peak.
    by_heat.sort_by(|&one, &other| values[other].total_cmp(&values[one]));
    let peak = by_heat[0];

    let mut regions = Regions::new(rows, columns);
    let scaled = |rect: Rect| rect.scaled((columns as u32, rows as u32), picture);
    let mut pending = by_heat.into_iter().peekable();
    for index in (0..THRESHOLDS).rev() {
        let floor = threshold(index) * highest;
        while let Some(place) = pending.next_if(|&place| values[place] >= floor) {
            regions.add(place);
        }
        sweep.peak[index] = best_iou(scaled(regions.of(peak)), annotated) as f32;
        let all = regions.roots.iter().map(|&root| best_iou(scaled(regions.boxes[root].rect()), annotated));
        sweep.best[index] = all.fold(0.0, f64::max) as f32;
    }
    sweep
}

/// The regions so far. Places are numbered row by row.
struct Regions {
    rows: usize,
    columns: usize,
    /// A place of the same region, nearer to its root; the root leads to itself. `None`: the place is in no region yet.
    parents: Vec<Option<usize>>,
    /// Valid for roots.
    boxes: Vec<Extent>,
    /// One place a region.
    roots: Vec<usize>,
}

/// First and last row and column.
#[derive(Clone, Copy, Default)]
struct Extent {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Extent {
    fn joined(self, other: Self) -> Self {
        Self {
            top: self.top.min(other.top),
            bottom: self.bottom.max(other.bottom),
            left: self.left.min(other.left),
            right: self.right.max(other.right),
        }
    }

    fn rect(self) -> Rect {
        Rect {
            x: self.left as u32,
            y: self.top as u32,
            width: (self.right - self.left + 1) as u32,
            height: (self.bottom - self.top + 1) as u32,
        }
    }
}

impl Regions {
    fn new(rows: usize, columns: usize) -> Self {
        let places = rows * columns;
        Self { rows, columns, parents: vec![None; places], boxes: vec![Extent::default(); places], roots: Vec::new() }
    }

    /// Adds a place and joins the regions that it touches at an edge or a corner.
    fn add(&mut self, place: usize) {
        let (row, column) = (place / self.columns, place % self.columns);
        self.parents[place] = Some(place);
        self.boxes[place] = Extent { top: row, bottom: row, left: column, right: column };
        self.roots.push(place);
        for neighbour_row in row.saturating_sub(1)..=(row + 1).min(self.rows - 1) {
            for neighbour_column in column.saturating_sub(1)..=(column + 1).min(self.columns - 1) {
                let neighbour = neighbour_row * self.columns + neighbour_column;
                if self.parents[neighbour].is_some() {
                    self.join(neighbour, place);
                }
            }
        }
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if one != other {
            self.parents[other] = Some(one);
            self.boxes[one] = self.boxes[one].joined(self.boxes[other]);
            self.roots.retain(|&root| root != other);
        }
    }

    /// The root of a place that is in a region; the way to it is halved, so that it stays short.
    fn root(&mut self, mut place: usize) -> usize {
        while let Some(parent) = self.parents[place].filter(|&parent| parent != place) {
            self.parents[place] = self.parents[parent];
            place = parent;
        }
        place
    }

    fn of(&mut self, place: usize) -> Rect {
        let root = self.root(place);
        self.boxes[root].rect()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::boxes::{self, Threshold};
    use crate::explain::normalise::{enlarge, normalise};

    const PICTURE: (u32, u32) = (331, 77);

    fn random_heat(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let map = Array2::from_shape_simple_fn((rows, columns), || random.random_range(-1.0..1.0f32));
        enlarge(&normalise(&map), 64, 48).take()
    }

    /// The same by finding the boxes anew at each threshold.
    fn one_by_one(heat: &Array2<f32>, annotated: &[Rect]) -> Sweep {
        let mut expected = Sweep { peak: vec![], best: vec![] };
        for index in 0..THRESHOLDS {
            let found = boxes::find(heat, Threshold::Share(threshold(index)));
            let iou = |found: &boxes::HotBox| best_iou(found.rect.scaled((48, 64), PICTURE), annotated);
            expected.peak.push(found.iter().find(|found| found.holds_peak).map_or(0.0, iou) as f32);
            expected.best.push(found.iter().map(iou).fold(0.0, f64::max) as f32);
        }
        expected
    }

    #[test]
    fn it_finds_what_each_threshold_finds() {
        let annotated = [Rect { x: 100, y: 20, width: 90, height: 40 }, Rect { x: 0, y: 50, width: 40, height: 27 }];
        for (seed, (rows, columns)) in (0..).zip([(7, 7), (14, 14), (3, 5), (1, 1), (30, 20), (64, 48)]) {
            let heat = random_heat(rows, columns, seed);
            assert_eq!(sweep(&heat, &annotated, PICTURE), one_by_one(&heat, &annotated), "{rows} x {columns}");
        }
    }

    #[test]
    fn plateaus_and_cold_maps_are_no_trouble() {
        let annotated = [Rect { x: 0, y: 0, width: 331, height: 77 }];
        let cold = sweep(&Array2::zeros((64, 48)), &annotated, PICTURE);
        assert!(cold.peak.iter().chain(&cold.best).all(|&iou| iou == 0.0));
        let even = Array2::from_elem((64, 48), 0.3);
        assert!(sweep(&even, &annotated, PICTURE).peak.iter().all(|&iou| iou == 1.0));
        let mut steps = Array2::from_elem((64, 48), 0.5);
        steps[[3, 3]] = 1.0;
        steps[[60, 40]] = 1.0;
        assert_eq!(sweep(&steps, &annotated, PICTURE), one_by_one(&steps, &annotated));
    }
}
