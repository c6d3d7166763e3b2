//! From a map to regions: a watershed from the peaks (after Vincent & Soille 1991), in which shallow boundaries fall.
//!
//! Cells are visited by falling value, as if the water that covers the map sank: each joins the region that it touches, or
//! is the peak of a new one. Where two regions meet, they become one unless the map has fallen far enough below the lower of
//! their peaks. A threshold alone would join faces that stand side by side, or part of a face's own unevenness.

use std::cell::RefCell;
use std::collections::VecDeque;

use ndarray::Array2;

use super::settings::ScanSettings;
use crate::boxes::PerBox;
use crate::explain::normalise::enlarge_from;
use crate::geometry::Rect;

/// A region around a peak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// In cells of the map.
    pub rect: Rect,
    /// Row and column of the peak.
    pub peak: (usize, usize),
    /// Value of the peak, in (0, 1].
    pub score: f32,
}

/// Number of a region that is under construction.
type Label = u32;
/// No region yet.
const NONE: Label = Label::MAX;

thread_local! {
    /// Maps are searched one after another in the same memory.
    static WATERSHED: RefCell<Watershed> = RefCell::default();
}

/// Regions of a map with values in [0, 1], by falling score.
pub fn find(map: &Array2<f32>, settings: &ScanSettings) -> PerBox<Region> {
    let mut regions = WATERSHED.with_borrow_mut(|watershed| {
        watershed.flood(map, settings);
        watershed.regions(map, settings.extent)
    });
    // No two have one peak.
    regions.sort_unstable_by(|one, other| other.score.total_cmp(&one.score).then(one.peak.cmp(&other.peak)));
    regions
}

/// Regions of a map that is enlarged to (rows, columns), of which no more is made than is warm enough for one.
pub fn find_enlarged(map: &Array2<f32>, (rows, columns): (usize, usize), settings: &ScanSettings) -> PerBox<Region> {
    let Some(part) = enlarge_from(map, rows, columns, settings.floor) else { return PerBox::new() };
    let mut regions = find(&part.values, settings);
    for Region { rect, peak, .. } in &mut regions {
        *rect = Rect { x: rect.x + part.left as u32, y: rect.y + part.top as u32, ..*rect };
        *peak = (peak.0 + part.top, peak.1 + part.left);
    }
    regions
}

/// Regions under construction: labels of cells, and what labels have become one (union-find).
#[derive(Default)]
struct Watershed {
    /// Row and column of the warm cells, the warmest first.
    cells: Vec<(u32, u32)>,
    /// A label a cell; row by row.
    labels: Vec<Label>,
    /// By label: the one that it has become part of, or itself.
    parents: Vec<Label>,
    /// By label: the cell where it began, which is its highest.
    peaks: Vec<(usize, usize)>,
    /// Whether a cell was found to be part of what is left of a region; row by row.
    is_taken: Vec<bool>,
    /// Cells of a region whose neighbours are to be looked at.
    pending: VecDeque<(usize, usize)>,
}

impl Watershed {
    /// Gives each warm cell of a map a label. What was known of another map is forgotten.
    fn flood(&mut self, map: &Array2<f32>, settings: &ScanSettings) {
        let is_warm = |value: &f32| *value >= settings.floor && *value > 0.0;
        let at = |(row, column): (u32, u32)| (row as usize, column as usize);
        let warm = map.indexed_iter().filter(|(_, value)| is_warm(value));
        self.cells.clear();
        self.cells.extend(warm.map(|((row, column), _)| (row as u32, column as u32)));
        // Equals by their place, so that the answer is always the same.
        self.cells.sort_unstable_by(|&one, &other| map[at(other)].total_cmp(&map[at(one)]).then(one.cmp(&other)));
        self.labels.clear();
        self.labels.resize(map.len(), NONE);
        self.parents.clear();
        self.peaks.clear();
        for place in 0..self.cells.len() {
            self.visit(map, at(self.cells[place]), settings.prominence);
        }
    }

    fn visit(&mut self, map: &Array2<f32>, cell: (usize, usize), prominence: f32) {
        let mut touched = [NONE; 8];
        let mut count = 0;
        let mut steepest: Option<(f32, Label)> = None;
        for neighbour in neighbours(cell, map.dim()) {
            let label = self.labels[index(map, neighbour)];
            if label == NONE {
                continue;
            }
            let root = root(&mut self.parents, label);
            if steepest.is_none_or(|(value, _)| map[neighbour] > value) {
                steepest = Some((map[neighbour], root));
            }
            if !touched[..count].contains(&root) {
                touched[count] = root;
                count += 1;
            }
        }
        let Some((_, joined)) = steepest else {
            let label = self.parents.len() as Label;
            self.labels[index(map, cell)] = label;
            self.parents.push(label);
            self.peaks.push(cell);
            return;
        };
        self.labels[index(map, cell)] = joined;
        self.merge(map, &touched[..count], map[cell], prominence);
    }

    /// Joins regions that meet at `value` with the highest of them, where it is not far enough below their own peak.
    fn merge(&mut self, map: &Array2<f32>, roots: &[Label], value: f32, prominence: f32) {
        // Labels are given by falling peaks, so the first is the highest.
        let Some(&highest) = roots.iter().min() else { return };
        for &root in roots {
            if root != highest && value >= (1.0 - prominence) * map[self.peaks[root as usize]] {
                self.parents[root as usize] = highest;
            }
        }
    }

    /// What is left of each region within reach of its peak: connected with it, and at least `extent` of its height.
    fn regions(&mut self, map: &Array2<f32>, extent: f32) -> PerBox<Region> {
        let mut regions = PerBox::new();
        self.is_taken.clear();
        self.is_taken.resize(map.len(), false);
        self.pending.clear();
        for label in 0..self.parents.len() as Label {
            if self.parents[label as usize] == label {
                regions.push(self.region(map, label, extent));
            }
        }
        regions
    }

    fn region(&mut self, map: &Array2<f32>, label: Label, extent: f32) -> Region {
        let Self { labels, parents, peaks, is_taken, pending, .. } = self;
        let peak = peaks[label as usize];
        let score = map[peak];
        let (mut top, mut bottom, mut left, mut right) = (peak.0, peak.0, peak.1, peak.1);
        is_taken[index(map, peak)] = true;
        pending.push_back(peak);
        while let Some(cell) = pending.pop_front() {
            (top, bottom, left, right) = (top.min(cell.0), bottom.max(cell.0), left.min(cell.1), right.max(cell.1));
            for neighbour in neighbours(cell, map.dim()) {
                let index = index(map, neighbour);
                if labels[index] == NONE || is_taken[index] || map[neighbour] < extent * score {
                    continue;
                }
                if root(parents, labels[index]) == label {
                    is_taken[index] = true;
                    pending.push_back(neighbour);
                }
            }
        }
        let (width, height) = ((right - left + 1) as u32, (bottom - top + 1) as u32);
        Region { rect: Rect { x: left as u32, y: top as u32, width, height }, peak, score }
    }
}

/// What a label has become part of in the end. Ways there become shorter.
fn root(parents: &mut [Label], label: Label) -> Label {
    let mut root = label as usize;
    while parents[root] as usize != root {
        parents[root] = parents[parents[root] as usize];
        root = parents[root] as usize;
    }
    root as Label
}

/// Place of a cell among all, row by row.
fn index(map: &Array2<f32>, cell: (usize, usize)) -> usize {
    cell.0 * map.ncols() + cell.1
}

/// The up to eight cells around a cell.
fn neighbours(cell: (usize, usize), (rows, columns): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let lines = cell.0.saturating_sub(1)..=(cell.0 + 1).min(rows - 1);
    lines.flat_map(move |row| {
        let places = cell.1.saturating_sub(1)..=(cell.1 + 1).min(columns - 1);
        places.map(move |column| (row, column)).filter(move |&neighbour| neighbour != cell)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::normalise::enlarge;

    const SETTINGS: fn() -> ScanSettings = ScanSettings::default;

    /// Round hills (row, column, height) of the same width on a plain, the highest of them at each cell.
    fn hills(hills: &[(f32, f32, f32)]) -> Array2<f32> {
        Array2::from_shape_fn((60, 90), |(row, column)| {
            let height = |&(top, left, height): &(f32, f32, f32)| {
                let distance = (row as f32 - top).powi(2) + (column as f32 - left).powi(2);
                height * (-distance / (2.0 * 6.0f32.powi(2))).exp()
            };
            hills.iter().map(height).fold(0.0, f32::max)
        })
    }

    #[test]
    fn what_is_cold_has_no_region() {
        for value in [0.0, 0.049] {
            assert!(find(&Array2::from_elem((9, 7), value), &SETTINGS()).is_empty());
        }
        assert!(find(&Array2::zeros((1, 1)), &ScanSettings { floor: 0.0, ..SETTINGS() }).is_empty());
    }

    #[test]
    fn regions_of_the_warm_part_are_those_of_the_whole() {
        for (count, floor) in [(0, 0.05), (1, 0.05), (3, 0.05), (3, 0.3), (9, 0.02)] {
            let places =
                (0..count).map(|hill| ((hill * 37 % 60) as f32, (hill * 53 % 90) as f32, 0.3 + 0.07 * hill as f32));
            let map = hills(&places.collect::<Vec<_>>());
            let settings = ScanSettings { floor, ..SETTINGS() };
            for (rows, columns) in [(120, 180), (60, 90), (97, 201)] {
                let expected = find(&enlarge(&map, rows, columns), &settings);
                assert_eq!(find_enlarged(&map, (rows, columns), &settings), expected);
                assert_eq!(expected.is_empty(), count == 0);
            }
        }
    }

    #[test]
    fn a_plateau_is_one_region() {
        for shape in [(1, 1), (1, 9), (9, 1), (9, 7)] {
            let whole = Rect { x: 0, y: 0, width: shape.1 as u32, height: shape.0 as u32 };
            let regions = find(&Array2::from_elem(shape, 1.0), &SETTINGS());
            assert_eq!(regions[..], [Region { rect: whole, peak: (0, 0), score: 1.0 }], "{shape:?}");
        }
    }

    #[test]
    fn a_saddle_parts_two_peaks_and_a_shallow_one_does_not() {
        // Between hills of width 6 that are 20 apart, the map falls to exp(-100 / 72) = 0.25 of the peaks.
        let apart = find(&hills(&[(30.0, 30.0, 0.8), (30.0, 50.0, 0.6)]), &SETTINGS());
        assert_eq!(apart.iter().map(|found| found.peak).collect::<Vec<_>>(), [(30, 30), (30, 50)]);
        assert_eq!(apart.iter().map(|found| found.score).collect::<Vec<_>>(), [0.8, 0.6]);
        assert_eq!(apart[0].rect.intersection(apart[1].rect), 0);
        // 8 apart, to exp(-16 / 72) = 0.8.
        let map = hills(&[(30.0, 30.0, 0.8), (30.0, 38.0, 0.8)]);
        let together = find(&map, &SETTINGS());
        assert_eq!(together.len(), 1);
        assert!(together[0].rect.width > together[0].rect.height + 6, "it spans both: {:?}", together[0].rect);
        assert_eq!(find(&map, &ScanSettings { prominence: 0.1, ..SETTINGS() }).len(), 2);
    }

    #[test]
    fn a_region_reaches_down_to_its_share_of_the_peak() {
        for extent in [0.9, 0.5, 0.2] {
            let settings = ScanSettings { extent, ..SETTINGS() };
            let Rect { x, y, width, height } = find(&hills(&[(30.0, 40.0, 0.9)]), &settings)[0].rect;
            let radius = (6.0 * (-2.0 * extent.ln()).sqrt()) as u32;
            assert_eq!((x, y, width, height), (40 - radius, 30 - radius, 2 * radius + 1, 2 * radius + 1), "{extent}");
        }
    }

    #[test]
    fn mirrored_maps_have_mirrored_regions() {
        let map = hills(&[(12.0, 20.0, 0.9), (15.0, 41.0, 0.7), (44.0, 60.0, 0.5), (50.0, 66.0, 0.45)]);
        let mirrored = find(&map.slice(ndarray::s![.., ..;-1]).to_owned(), &SETTINGS());
        let expected: Vec<Rect> = find(&map, &SETTINGS())
            .iter()
            .map(|found| Rect { x: 90 - found.rect.x - found.rect.width, ..found.rect })
            .collect();
        assert_eq!(mirrored.iter().map(|found| found.rect).collect::<Vec<_>>(), expected);
        assert!(expected.len() >= 3);
    }
}
