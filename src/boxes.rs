//! From heat to boxes: threshold, connected components, bounding rectangles.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use ndarray::Array2;
use smallvec::SmallVec;

use crate::explain::{Method, MethodSettings, ReadAt};
use crate::geometry::Rect;
use crate::model::resnet::Resolution;

/// What counts as hot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// At least this share of the hottest value, in (0, 1).
    Share(f32),
    /// Chosen per map so that hot and cold differ most (Otsu 1979).
    Otsu,
}

/// One for each box of a frame, and what it became: as many as most frames have lie where the list itself does, so that none asks for
/// memory.
pub type PerBox<T> = SmallVec<[T; 8]>;

/// A rectangle around a connected hot region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HotBox {
    /// In pixels of the heat map.
    pub rect: Rect,
    /// Mean heat of the region, in (0, 1].
    pub score: f32,
    /// Whether the region holds the hottest place of the map.
    pub holds_peak: bool,
}

/// A box with its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// In pixels of the frame.
    pub rect: Rect,
    /// In (0, 1]: mean heat inside where the picture was seen as a whole, the peak of the map where it was scanned.
    pub score: f32,
    /// Index of its class.
    pub label: usize,
}

impl Detection {
    /// A box found in the heat map of a picture of a size (width, height), in that picture.
    pub fn in_picture(found: HotBox, heat: &Array2<f32>, size: (u32, u32), label: usize) -> Self {
        let heat_size = (heat.ncols() as u32, heat.nrows() as u32);
        Self { rect: found.rect.scaled(heat_size, size), score: found.score, label }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "otsu" {
            return Ok(Self::Otsu);
        }
        match text.parse() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Self::Share(share)),
            _ => Err("expected a number between 0 and 1, or otsu".to_owned()),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}"),
            Self::Otsu => f.write_str("otsu"),
        }
    }
}

/// The threshold of a method's maps with which its boxes fit best on the validation set of 187 faces, of 0.05 to 0.95 in
/// steps of 0.05, for the shipped model and the map of the annotated class. Those of Occlusion and
/// ScoreCAM are the best for 19 of these faces at atrous resolution; at native resolution nobody measured them.
pub fn default_threshold(method: Method, settings: &MethodSettings, resolution: Resolution) -> Threshold {
    let (native, atrous) = match method {
        Method::Cam | Method::GradCam | Method::XGradCam => (0.4, 0.4),
        Method::GradCamPlusPlus => (0.45, 0.45),
        Method::LayerCam => (0.5, 0.45),
        Method::LayerCamLayer3 => (0.15, 0.15),
        Method::EigenCam => (0.3, 0.35),
        Method::ScoreCam => (0.4, 0.5),
        Method::AblationCam => (0.45, 0.4),
        Method::Occlusion => (0.4, 0.25),
        Method::HayCam => (0.3, 0.3),
        Method::HayCamFilters => (0.45, 0.4),
        Method::HayCamLoadings => (0.45, 0.4),
        Method::HayCamRefined => match settings.refined.read_at {
            ReadAt::Layer3 => (0.2, 0.2),
            ReadAt::Layer4 => (0.45, 0.45),
            ReadAt::Both => (0.3, 0.3),
        },
    };
    Threshold::Share(match resolution {
        Resolution::Native => native,
        Resolution::Atrous => atrous,
    })
}

thread_local! {
    /// Maps are searched one after another in the same memory.
    static FLOOD: RefCell<Flood> = RefCell::default();
}

/// Boxes around the hot regions of a map with values in [0, 1], hottest place first, then from top to bottom.
///
/// Places that touch at an edge or a corner belong together. A map that is cold everywhere has no boxes.
pub fn find(heat: &Array2<f32>, threshold: Threshold) -> PerBox<HotBox> {
    let Some((peak, highest)) = hottest(heat) else { return PerBox::new() };
    let floor = match threshold {
        Threshold::Share(share) => share * highest,
        Threshold::Otsu => otsu(heat),
    };
    let heat = heat.as_standard_layout();
    let values = heat.as_slice().expect("the layout is standard");
    let mut boxes = FLOOD.with_borrow_mut(|flood| flood.regions(values, heat.ncols(), floor, peak));
    boxes.sort_by_key(|found| !found.holds_peak);
    boxes
}

/// What finds regions, and keeps its memory.
#[derive(Default)]
struct Flood {
    /// Hot places that belong to no region yet, within a border of cold ones, so that no neighbour is beyond it.
    unvisited: Vec<bool>,
    /// Places whose neighbours are to be looked at; within the border, too. In 32 bits, as there may be many.
    pending: Vec<u32>,
}

impl Flood {
    /// Connected places of at least `floor`, from top to bottom.
    fn regions(&mut self, values: &[f32], columns: usize, floor: f32, peak: (usize, usize)) -> PerBox<HotBox> {
        let Self { unvisited, pending } = self;
        pending.clear();
        let stride = columns + 2;
        unvisited.clear();
        unvisited.resize(stride, false);
        for values in values.chunks_exact(columns) {
            unvisited.push(false);
            unvisited.extend(values.iter().map(|&value| value >= floor));
            unvisited.push(false);
        }
        unvisited.resize(unvisited.len() + stride, false);
        let mut remaining = unvisited.iter().filter(|&&is_hot| is_hot).count();
        let mut boxes = PerBox::new();
        let mut next = 0;
        while remaining > 0 {
            next += unvisited[next..].iter().position(|&is_hot| is_hot).expect("some remain");
            let start = (next / stride - 1, next % stride - 1);
            let (mut top, mut bottom, mut left, mut right) = (start.0, start.0, start.1, start.1);
            let (mut sum, mut places, mut holds_peak) = (0.0, 0, false);
            unvisited[next] = false;
            pending.push(next as u32);
            while let Some(place) = pending.pop() {
                let (row, column) = (place as usize / stride - 1, place as usize % stride - 1);
                (top, bottom, left, right) = (top.min(row), bottom.max(row), left.min(column), right.max(column));
                sum += values[row * columns + column];
                places += 1;
                holds_peak |= (row, column) == peak;
                for down in 0..3 {
                    let first = (row + down) * stride + column;
                    let neighbours = &mut unvisited[first..][..3];
                    // Most have been visited: nine times, all but once in vain, is every place looked at.
                    if neighbours == [false; 3] {
                        continue;
                    }
                    for (along, neighbour) in neighbours.iter_mut().enumerate() {
                        if std::mem::take(neighbour) {
                            // Of the border nothing is hot.
                            pending.push((first + along) as u32);
                        }
                    }
                }
            }
            remaining -= places;
            let (width, height) = ((right - left + 1) as u32, (bottom - top + 1) as u32);
            let rect = Rect { x: left as u32, y: top as u32, width, height };
            boxes.push(HotBox { rect, score: sum / places as f32, holds_peak });
        }
        boxes
    }
}

/// The box around the region that holds the hottest place; none on a map that is cold everywhere.
pub fn find_hottest(heat: &Array2<f32>, threshold: Threshold) -> Option<HotBox> {
    find(heat, threshold).into_iter().find(|found| found.holds_peak)
}

/// Place and value of the largest heat above zero, the first of equal ones.
pub fn hottest(heat: &Array2<f32>) -> Option<((usize, usize), f32)> {
    const LANES: usize = 16;
    let heat = heat.as_standard_layout();
    let values = heat.as_slice().expect("the layout is standard");
    let (vectors, rest) = values.as_chunks::<LANES>();
    // Value first, place second: many values are compared at once where their places do not count.
    let larger = |highest: f32, value: f32| if value > highest { value } else { highest };
    let highest = vectors
        .iter()
        .fold([0.0; LANES], |highest, vector| std::array::from_fn(|lane| larger(highest[lane], vector[lane])));
    let highest = highest.into_iter().chain(rest.iter().copied()).fold(0.0, larger);
    let place = values.iter().position(|&value| value == highest && value > 0.0)?;
    Some(((place / heat.ncols(), place % heat.ncols()), highest))
}

/// The threshold that maximises the variance between what lies above and below it (Otsu 1979, equation 14), to a
/// 256th of the range [0, 1].
fn otsu(heat: &Array2<f32>) -> f32 {
    const BINS: usize = 256;
    let mut histogram = [0u32; BINS];
    for &value in heat {
        histogram[((value * BINS as f32) as usize).min(BINS - 1)] += 1;
    }
    let all = heat.len() as f64;
    let total: f64 = histogram.iter().enumerate().map(|(bin, &count)| bin as f64 * f64::from(count)).sum();
    let (mut below, mut sum_below, mut best, mut best_bin) = (0.0, 0.0, -1.0, 0);
    for (bin, &count) in histogram.iter().enumerate().take(BINS - 1) {
        below += f64::from(count);
        sum_below += bin as f64 * f64::from(count);
        let above = all - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let difference = sum_below / below - (total - sum_below) / above;
        let between = below * above * difference * difference;
        if between > best {
            (best, best_bin) = (between, bin + 1);
        }
    }
    best_bin as f32 / BINS as f32
}

#[cfg(test)]
mod tests {
    use ndarray::{array, s};

    use super::*;

    fn two_blobs() -> Array2<f32> {
        let mut heat = Array2::zeros((20, 30));
        heat.slice_mut(s![2..6, 3..10]).fill(0.6);
        heat.slice_mut(s![10..18, 20..30]).fill(0.5);
        heat[[12, 25]] = 1.0;
        heat
    }

    #[test]
    fn each_region_has_its_box_and_the_peak_comes_first() {
        let boxes = find(&two_blobs(), Threshold::Share(0.4));
        assert_eq!(boxes[0].rect, Rect { x: 20, y: 10, width: 10, height: 8 });
        assert_eq!(boxes[1].rect, Rect { x: 3, y: 2, width: 7, height: 4 });
        assert!(boxes[0].holds_peak && !boxes[1].holds_peak && boxes.len() == 2);
        assert!((boxes[1].score - 0.6).abs() < 1e-6 && (boxes[0].score - (79.0 * 0.5 + 1.0) / 80.0).abs() < 1e-6);
    }

    #[test]
    fn a_higher_threshold_leaves_the_peak_alone() {
        let boxes = find(&two_blobs(), Threshold::Share(0.9));
        assert_eq!(
            boxes.iter().map(|found| found.rect).collect::<Vec<_>>(),
            [Rect { x: 25, y: 12, width: 1, height: 1 }]
        );
    }

    #[test]
    fn corners_connect_and_cold_maps_have_no_boxes() {
        assert_eq!(find(&array![[1.0, 0.0], [0.0, 1.0]], Threshold::Share(0.5)).len(), 1);
        assert!(find(&Array2::zeros((7, 7)), Threshold::Share(0.3)).is_empty());
        assert!(find(&Array2::zeros((7, 7)), Threshold::Otsu).is_empty());
        assert_eq!(find(&array![[1.0]], Threshold::Share(0.3))[0].rect, Rect { x: 0, y: 0, width: 1, height: 1 });
    }

    #[test]
    fn otsu_separates_two_levels() {
        let mut heat = two_blobs();
        heat.mapv_inplace(|value| value + 0.05 * f32::from(value == 0.0));
        let threshold = otsu(&heat);
        assert!((0.0501..=0.5).contains(&threshold), "{threshold}");
    }

    #[test]
    fn thresholds_are_checked() {
        assert_eq!("0.3".parse(), Ok(Threshold::Share(0.3)));
        assert_eq!("otsu".parse(), Ok(Threshold::Otsu));
        for text in ["0", "1", "-1", "nan", "x", ""] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
