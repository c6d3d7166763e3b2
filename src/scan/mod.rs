//! The dense scan: a classifier run fully convolutionally over a frame, whose faces are small and may be many.
//!
//! ```text
//! frame ─► resized (size) ─► layer4 ─┬─► class by position ──┬─► map a class (maps) ─► regions ─► settle ─► detections
//!                                    └─► PCA of positions ───┘
//! ```
//!
//! Each position of `layer4` is classified by itself, and HayCAM's basis is fitted to all positions of the frame, or of an
//! earlier one of the same source ([`crate::pca::cache`]). The
//! posterior says what is at a place, HayCAM where it ends: a posterior's region is as large as the receptive field. Maps
//! are absolute: nothing is stretched to the hottest place of a frame, so that a frame without faces has cold maps. What is
//! [`near`] is looked for in a second, smaller view.

pub mod extent;
pub mod folded;
pub mod maps;
pub mod near;
pub mod regions;
pub mod settings;
pub mod settle;
pub mod size;

use std::time::Duration;

use image::RgbImage;
use ndarray::{Array1, Array2, ArrayView2};

use crate::boxes::Detection;
use crate::explain::normalise::enlarge;
use crate::explain::{ExplainError, Reduction};
use crate::labels::BACKGROUND;
use crate::model::ModelError;
use crate::model::device_layer::DeviceLayer;
use crate::model::engine::Engine;
use crate::model::picture::Picture;
use crate::pca::cache::{Activations, KeptBasis};
use crate::pca::{self, Basis, Components, PcaError};
use crate::stopwatch::Stopwatch;

pub use settings::{ScanMap, ScanSettings};

use folded::FoldedHead;
pub use near::{Distance, NearView, Peak};

use maps::{Head, Reading};
use regions::Region;
use size::scan_size;

/// Side of the cells in which regions are found, in pixels of the resized frame: an eighth of the network's stride.
const CELL_PX: u32 = 4;

/// A model and the way it scans.
#[derive(Debug)]
pub struct Scanner {
    engine: Engine,
    settings: ScanSettings,
    background: Option<usize>,
}

/// What a scan found.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Faces, by falling score.
    pub detections: Vec<Detection>,
    /// Where each detection's map is highest, in the order of the detections.
    pub peaks: Vec<Peak>,
    /// A map a class in [0, 1], (rows, columns) of the grid; zeros for `background`.
    pub maps: Vec<Array2<f32>>,
    /// Probability of each class at each position, (positions, classes); positions run row by row through the grid.
    pub posteriors: Array2<f32>,
    /// What a second, smaller view shows, if there was one.
    pub near: Option<NearView>,
    /// The principal components behind the maps.
    pub reduction: Reduction,
    /// How the frame was resized.
    pub size: ScanSize,
    /// How long it took.
    pub times: ScanTimes,
}

/// The size at which a frame was scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanSize {
    /// The short side that was asked for, in pixels.
    pub short_side: u32,
    /// What the network saw, in pixels.
    pub width: u32,
    /// What the network saw, in pixels.
    pub height: u32,
}

/// How a frame is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanView {
    /// Width and height of the frame, in pixels.
    pub frame: (u32, u32),
    /// How it is resized.
    pub size: ScanSize,
}

/// A frame as the network will see it.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// For what is far.
    pub far: (Picture<'a>, ScanView),
    /// Smaller, for what is near, if that is worth its cost.
    pub near: Option<(Picture<'a>, ScanView)>,
}

/// Durations of the steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanTimes {
    /// Resizing; on a GPU, which does it on its own, until it is told to.
    pub prepare: Duration,
    /// The forward pass.
    pub infer: Duration,
    /// The principal components.
    pub reduce: Duration,
    /// Posteriors and maps.
    pub maps: Duration,
    /// Regions, and which of them are kept.
    pub regions: Duration,
}

impl std::ops::AddAssign for ScanTimes {
    fn add_assign(&mut self, other: Self) {
        self.prepare += other.prepare;
        self.infer += other.infer;
        self.reduce += other.reduce;
        self.maps += other.maps;
        self.regions += other.regions;
    }
}

impl Scanner {
    /// Scans with a loaded model, at the engine's resolution.
    pub fn new(engine: Engine, settings: ScanSettings) -> Self {
        let background = engine.description().classes.iter().position(|class| class == BACKGROUND);
        Self { engine, settings, background }
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Class names, in the order of the posteriors.
    pub fn classes(&self) -> &[String] {
        &self.engine.description().classes
    }

    /// Index of the class that says that nobody is there, if the model has it.
    pub fn background(&self) -> Option<usize> {
        self.background
    }

    /// How many principal components are kept.
    pub fn components(&self) -> Components {
        self.settings.components
    }

    /// Scans a picture, with a basis of its own.
    ///
    /// # Errors
    ///
    /// When the picture has no pixels, libtorch fails, or the activations are not finite, which a damaged model causes.
    pub fn scan(&self, picture: &RgbImage) -> Result<Scan, ExplainError> {
        let mut watch = Stopwatch::start();
        let Prepared { far: (far, view), near } = self.prepare(picture)?;
        let prepare = watch.lap();
        let mut answers = self.infer(std::slice::from_ref(&far))?;
        let layer4 = answers.pop().expect("one answer for one picture").to_host()?;
        let infer = watch.lap();
        let activations = layer4.activations.view();
        let basis = self.fit(activations)?;
        let reduce = watch.lap();
        let folded = self.fold(&basis);
        let reading = folded.read_activations(activations, &basis.mean);
        let scan = self.find(reading, layer4.grid, view, Reduction::from(&basis));
        let scan = Scan { times: ScanTimes { prepare, infer, reduce, ..scan.times }, ..scan };
        let Some((near, near_view)) = near else { return Ok(scan) };
        watch.lap();
        let mut answers = self.infer(std::slice::from_ref(&near))?;
        let layer4 = answers.pop().expect("one answer for one picture");
        let infer = watch.lap();
        let reading = folded.read_layer(&layer4)?;
        let near = self.find(reading, layer4.grid(), near_view, scan.reduction);
        let near = Scan { times: ScanTimes { infer, ..near.times }, ..near };
        Ok(near::join(scan, near, view))
    }

    /// Hands a picture to the network's device, once, and resizes it there.
    ///
    /// # Errors
    ///
    /// When it has no pixels, or libtorch refuses.
    pub fn prepare<'a>(&self, picture: &'a RgbImage) -> Result<Prepared<'a>, ExplainError> {
        let frame = picture.dimensions();
        if frame.0 == 0 || frame.1 == 0 {
            return Err(ExplainError::EmptyPicture);
        }
        let picture = self.engine.take(picture);
        let at = |short_side: u32| {
            let (width, height) = scan_size(frame, short_side);
            let view = ScanView { frame, size: ScanSize { short_side, width, height } };
            Ok::<_, ExplainError>((picture.resized((width, height))?, view))
        };
        let short_side = self.settings.short_side_of(frame);
        let near_side = self.settings.near_side.filter(|&near| near::is_worthwhile(near, short_side));
        Ok(Prepared { far: at(short_side)?, near: near_side.map(at).transpose()? })
    }

    /// Sends prepared pictures, all of one size, through the network.
    ///
    /// # Errors
    ///
    /// When libtorch fails or an activation is not finite, which a damaged model causes.
    pub fn infer(&self, prepared: &[Picture]) -> Result<Vec<DeviceLayer>, ModelError> {
        self.engine.layer4(prepared)
    }

    /// The basis of activations (positions, filters).
    ///
    /// # Errors
    ///
    /// When one is not finite, which a damaged model causes.
    pub fn fit(&self, activations: ArrayView2<f32>) -> Result<Basis, PcaError> {
        pca::fit_truncated(activations, self.settings.components)
    }

    /// The network's last layer under a basis, which reads activations.
    pub fn fold(&self, basis: &Basis) -> FoldedHead {
        let head = Head {
            weights: self.engine.class_weights(),
            biases: self.engine.class_biases(),
            background: self.background,
        };
        FoldedHead::new(head, basis, self.settings.centred)
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
        let mut found = Vec::new();
        for (label, map) in maps.iter().enumerate().filter(|(label, _)| Some(*label) != self.background) {
            let regions = regions::find(&enlarge(map, cells.0, cells.1), &self.settings);
            found.extend(regions.into_iter().map(|Region { rect, peak, score }| {
                let rect = self.settings.extent_of_faces.face(rect, CELL_PX, (size.width, size.height), frame);
                let (row, column) = (peak.0 * grid.0 / cells.0, peak.1 * grid.1 / cells.1);
                (score, Detection { rect, score, label }, Peak { distance: Distance::Far, row, column })
            }));
        }
        let (detections, peaks) = settle::settle(found).into_iter().unzip();
        let times = ScanTimes { maps: maps_time, regions: watch.lap(), ..ScanTimes::default() };
        Scan { detections, peaks, maps, posteriors: reading.posteriors, near: None, reduction, size, times }
    }

    /// Settles what the two views of a frame show, of which the far one is `view`.
    pub fn join(&self, far: Scan, near: Scan, view: ScanView) -> Scan {
        near::join(far, near, view)
    }
}

impl Activations for DeviceLayer {
    type Error = ExplainError;

    fn grid(&self) -> (usize, usize) {
        Self::grid(self)
    }

    fn mean(&self) -> &Array1<f64> {
        Self::mean(self)
    }

    fn sums_of_squares(&self, kept: &KeptBasis) -> Result<(f64, f64), ExplainError> {
        Ok(Self::sums_of_squares(self, kept.mean(), kept.directions())?)
    }
}

impl Scan {
    /// Leaves out detections whose score is below the threshold of their class.
    ///
    /// # Panics
    ///
    /// When there are fewer thresholds than classes.
    pub fn keep_from(&mut self, thresholds: &[f32]) {
        let counts: Vec<bool> = self.detections.iter().map(|found| found.score >= thresholds[found.label]).collect();
        let mut counting = counts.iter();
        self.detections.retain(|_| counting.next() == Some(&true));
        let mut counting = counts.iter();
        self.peaks.retain(|_| counting.next() == Some(&true));
    }

    /// Rows and columns of the far view's grid.
    pub fn grid(&self) -> (usize, usize) {
        self.maps.first().map_or((0, 0), Array2::dim)
    }

    /// Probability of each class at a peak.
    pub fn posterior_at(&self, peak: Peak) -> Array1<f32> {
        let (posteriors, maps) = match (&self.near, peak.distance) {
            (Some(near), Distance::Near) => (&near.posteriors, &near.maps),
            _ => (&self.posteriors, &self.maps),
        };
        let columns = maps.first().map_or(0, Array2::ncols);
        posteriors.row(peak.row * columns + peak.column).to_owned()
    }
}
