//! Faces that are near: a second, smaller view of the frame.
//!
//! The network was trained on faces of up to 200 pixels. In a view that is large enough for small faces, a near face is larger
//! than that, and breaks up into its parts. So the frame is looked at twice, and what is found in both views is settled
//! together: the near view has a say about large faces only, where it sees them at a size that it knows.

use ndarray::Array2;

use super::maps::{Maps, Reading};
use super::settle::settle;
use super::{Scan, ScanView};
use crate::boxes::Detection;
use crate::explain::normalise::enlarge;
use crate::recycled::Recycled;

/// Short side of the near view: that of the pictures that the network was trained on.
pub const NEAR_SIDE: u32 = 224;
/// The far view must be so many times as large for a second one to be worth its cost.
const LEAST_RATIO: f64 = 1.5;
/// Shorter side, in pixels of the far view, from which a face is near.
const NEAR_FROM_PX: f64 = 130.0;
/// Shorter side, in pixels of the far view, beyond which the far view does not know faces...
const UNKNOWN_FROM_PX: f64 = 200.0;
/// ... and how much better the near view's score counts there.
const PREFERENCE: f32 = 1.3;

/// In which view something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// The large view.
    Far,
    /// The small one.
    Near,
}

/// Where a map is highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// The view of the map.
    pub distance: Distance,
    /// Row of the view's grid.
    pub row: usize,
    /// Column of the view's grid.
    pub column: usize,
}

/// What the near view shows.
#[derive(Debug, Clone)]
pub struct NearView {
    /// As [`Scan::maps`].
    pub maps: Maps,
    /// As [`Scan::reading`].
    pub reading: Reading,
}

/// Whether a second view of so short a side is worth its cost beside one of `far`.
pub(super) fn is_worthwhile(near: u32, far: u32) -> bool {
    f64::from(far) >= LEAST_RATIO * f64::from(near)
}

/// Settles what two views of a frame show; `view` is the far one's. Times are added up.
pub fn join(far: Scan, near: Scan, view: ScanView) -> Scan {
    let side = |found: &Detection| {
        let across = f64::from(view.size.width) / f64::from(view.frame.0);
        let down = f64::from(view.size.height) / f64::from(view.frame.1);
        (f64::from(found.rect.width) * across).min(f64::from(found.rect.height) * down)
    };
    let of_far = far.detections.into_iter().zip(far.peaks).map(|(found, peak)| (found.score, found, peak));
    let of_near = near.detections.into_iter().zip(near.peaks).filter(|(found, _)| side(found) >= NEAR_FROM_PX);
    let of_near = of_near.map(|(found, peak)| {
        let rank = if side(&found) >= UNKNOWN_FROM_PX { PREFERENCE * found.score } else { found.score };
        (rank, found, Peak { distance: Distance::Near, ..peak })
    });
    let mut kept = settle(of_far.chain(of_near).collect());
    kept.sort_by(|(one, _), (other, _)| other.score.total_cmp(&one.score));
    let (detections, peaks) = kept.into_iter().unzip();
    let mut times = far.times;
    times += near.times;
    let near = Some(NearView { maps: near.maps, reading: near.reading });
    Scan { detections, peaks, near, times, ..far }
}

impl Scan {
    /// The map that made a detection, told by its place.
    ///
    /// # Panics
    ///
    /// When there is no such detection.
    pub fn map_of(&self, detection: usize) -> &Array2<f32> {
        let label = self.detections[detection].label;
        match (&self.near, self.peaks[detection].distance) {
            (Some(near), Distance::Near) => &near.maps[label],
            _ => &self.maps[label],
        }
    }

    /// The hottest of the classes' maps at each place of the far view's grid, in [0, 1]. The near view's maps count where a face
    /// was found in it.
    pub fn heat(&self) -> Recycled<Array2<f32>> {
        let (rows, columns) = self.grid();
        let mut heat = Recycled::<Array2<f32>>::filled((rows, columns), 0.0);
        let mut heat_up =
            |map: &Array2<f32>| heat.zip_mut_with(map, |hottest: &mut f32, value| *hottest = hottest.max(*value));
        self.maps.iter().for_each(|map| heat_up(map));
        if let Some(near) = &self.near
            && self.peaks.iter().any(|peak| peak.distance == Distance::Near)
        {
            near.maps.iter().for_each(|map| heat_up(&enlarge(map, rows, columns)));
        }
        heat
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::boxes::PerBox;
    use crate::explain::Reduction;
    use crate::geometry::Rect;
    use crate::scan::{ScanSize, ScanTimes};

    const VIEW: ScanView =
        ScanView { frame: (1024, 1024), size: ScanSize { short_side: 512, width: 512, height: 512 } };

    fn scan(found: &[(u32, u32, f32)], heat: f32) -> Scan {
        let detection = |&(x, side, score): &(u32, u32, f32)| Detection {
            rect: Rect { x, y: 10, width: side, height: side },
            score,
            label: 0,
        };
        Scan {
            detections: found.iter().map(detection).collect(),
            peaks: PerBox::from_elem(Peak { distance: Distance::Far, row: 0, column: 0 }, found.len()),
            maps: [Array2::from_elem((4, 4), heat).into()].into_iter().collect(),
            reading: Reading::of(Array2::ones((16, 2)).into()),
            near: None,
            reduction: Reduction { components: 1, captured_variance: 1.0 },
            size: VIEW.size,
            times: ScanTimes::default(),
        }
    }

    /// Sides in the frame and scores of what is kept, of these (left, side, score) of either view.
    fn kept(far: &[(u32, u32, f32)], near: &[(u32, u32, f32)]) -> Vec<(u32, f32)> {
        let joined = join(scan(far, 0.1), scan(near, 0.2), VIEW);
        joined.detections.iter().map(|found| (found.rect.width, found.score)).collect()
    }

    #[test]
    fn the_near_view_has_a_say_about_large_faces_only() {
        // The frame is twice as large as the far view: 130 pixels there are 260 here.
        assert_eq!(kept(&[], &[(0, 250, 0.9), (300, 262, 0.8)]), [(262, 0.8)]);
        assert_eq!(kept(&[(0, 100, 0.7)], &[(500, 300, 0.8)]), [(300, 0.8), (100, 0.7)]);
    }

    #[test]
    fn of_one_face_the_surer_view_is_kept_and_of_a_very_large_one_rather_the_near_one() {
        assert_eq!(kept(&[(0, 300, 0.7)], &[(10, 300, 0.6)]), [(300, 0.7)]);
        assert_eq!(kept(&[(0, 300, 0.7)], &[(10, 310, 0.8)]), [(310, 0.8)]);
        let parts = [(50, 150, 0.7), (300, 150, 0.65)];
        assert_eq!(kept(&parts, &[(0, 500, 0.6)]), [(500, 0.6)], "the parts of a face go with it");
        assert_eq!(kept(&parts, &[(0, 500, 0.5)]), [(150, 0.7), (150, 0.65)]);
    }

    #[test]
    fn each_detection_leads_to_the_map_that_made_it() {
        let joined = join(scan(&[(0, 100, 0.9)], 0.1), scan(&[(500, 300, 0.8)], 0.2), VIEW);
        assert_eq!([joined.map_of(0)[[0, 0]], joined.map_of(1)[[0, 0]]], [0.1, 0.2]);
        assert_eq!(*joined.heat(), Array2::from_elem((4, 4), 0.2));
        let without = join(scan(&[(0, 100, 0.9)], 0.1), scan(&[], 0.2), VIEW);
        assert_eq!(*without.heat(), Array2::from_elem((4, 4), 0.1), "what found nothing warms nothing");
    }
}
