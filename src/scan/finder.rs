//! From what activations say of each position to faces.

use super::maps::Reading;
use super::near::{Distance, Peak};
use super::regions::{self, Region};
use super::settings::ScanSettings;
use super::{Scan, ScanTimes, ScanView, settle};
use crate::boxes::{Detection, PerBox};
use crate::explain::Reduction;
use crate::stopwatch::Stopwatch;

/// Side of the cells in which regions are found, in pixels of the resized frame: an eighth of the network's stride.
const CELL_PX: u32 = 4;

/// How faces are found. It knows nothing of the network, so that threads can share it.
#[derive(Debug, Clone)]
pub struct Finder {
    pub(super) settings: ScanSettings,
    pub(super) background: Option<usize>,
}

impl Finder {
    /// Index of the class that says that nobody is there, if the model has it.
    pub fn background(&self) -> Option<usize> {
        self.background
    }

    /// What a reading shows. Of the times, those of the steps before are 0.
    ///
    /// # Panics
    ///
    /// When the grid does not have as many places as the reading has positions.
    pub fn find(&self, reading: Reading, grid: (usize, usize), view: ScanView, reduction: Reduction) -> Scan {
        let mut watch = Stopwatch::start();
        let maps = reading.maps(self.background, grid, &self.settings);
        let maps_time = watch.lap();
        let ScanView { frame, size } = view;
        let cells = ((size.height / CELL_PX) as usize, (size.width / CELL_PX) as usize);
        let mut found = PerBox::new();
        for (label, map) in maps.iter().enumerate().filter(|(label, _)| Some(*label) != self.background) {
            let regions = regions::find_enlarged(map, cells, &self.settings);
            found.extend(regions.into_iter().map(|Region { rect, peak, score }| {
                let rect = self.settings.extent_of_faces.face(rect, CELL_PX, (size.width, size.height), frame);
                let (row, column) = (peak.0 * grid.0 / cells.0, peak.1 * grid.1 / cells.1);
                (score, Detection { rect, score, label }, Peak { distance: Distance::Far, row, column })
            }));
        }
        let (detections, peaks) = settle::settle(found).into_iter().unzip();
        let times = ScanTimes { maps: maps_time, regions: watch.lap(), ..ScanTimes::default() };
        Scan { detections, peaks, maps, reading, near: None, reduction, size, times }
    }
}
