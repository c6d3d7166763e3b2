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
pub mod finder;
pub mod folded;
pub mod maps;
pub mod near;
pub mod regions;
pub mod settings;
pub mod settle;
pub mod size;

use std::time::Duration;

use image::RgbImage;
use ndarray::Array1;

use crate::boxes::{Detection, PerBox};
use crate::explain::{ExplainError, Reduction};
use crate::labels::BACKGROUND;
use crate::model::device_layer::DeviceLayer;
use crate::model::engine::Engine;
use crate::model::picture::Picture;
use crate::pca::cache::{Activations, KeptBasis};
use crate::recycled::Recycled;
use crate::stopwatch::Stopwatch;

pub use settings::{ScanMap, ScanSettings};

pub use finder::Finder;
pub use near::{Distance, NearView, Peak};

use folded::Folding;
use maps::{Head, Maps, Reading};
use size::scan_size;

/// A model and the way it scans.
#[derive(Debug)]
pub struct Scanner {
    engine: Engine,
    folding: Folding,
    finder: Finder,
}

/// What a scan found.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Faces, by falling score.
    pub detections: PerBox<Detection>,
    /// Where each detection's map is highest, in the order of the detections.
    pub peaks: PerBox<Peak>,
    /// A map a class in [0, 1], (rows, columns) of the grid; zeros for `background`.
    pub maps: Maps,
    /// What activations say of each position; positions run row by row through the grid.
    pub reading: Reading,
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
        let head = Head { weights: engine.class_weights(), biases: engine.class_biases(), background };
        let folding = Folding::of_scan(head, &settings);
        Self { engine, folding, finder: Finder { settings, background } }
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Class names, in the order of the posteriors.
    pub fn classes(&self) -> &[String] {
        &self.engine.description().classes
    }

    /// How bases are fitted and folded.
    pub fn folding(&self) -> &Folding {
        &self.folding
    }

    /// What finds faces in readings.
    pub fn finder(&self) -> &Finder {
        &self.finder
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
        let mut answers = self.engine.layer4(&[far.into()])?;
        let layer4 = answers.pop().expect("one answer for one picture").into_host()?;
        let infer = watch.lap();
        let activations = layer4.activations.view();
        let basis = self.folding.fit(activations)?;
        let reduce = watch.lap();
        let folded = self.folding.fold(&basis);
        let reading = folded.read(activations, &basis.mean);
        let scan = self.finder.find(reading, layer4.grid, view, Reduction::from(&basis));
        let scan = Scan { times: ScanTimes { prepare, infer, reduce, ..scan.times }, ..scan };
        let Some((near, near_view)) = near else { return Ok(scan) };
        watch.lap();
        let mut answers = self.engine.layer4(&[near.into()])?;
        let layer4 = answers.pop().expect("one answer for one picture");
        let infer = watch.lap();
        let reading = folded.read_layer(&layer4)?;
        let near = self.finder.find(reading, layer4.grid(), near_view, scan.reduction);
        let near = Scan { times: ScanTimes { infer, ..near.times }, ..near };
        Ok(near::join(scan, near, view))
    }

    /// Hands a picture to the network's device, once, and resizes it there.
    ///
    /// # Errors
    ///
    /// When it has no pixels, or libtorch refuses.
    pub fn prepare<'a>(&self, picture: &'a RgbImage) -> Result<Prepared<'a>, ExplainError> {
        self.prepare_taken(&self.engine.take(picture))
    }

    /// As [`Self::prepare`], of a picture that was handed over already.
    ///
    /// # Errors
    ///
    /// As for [`Self::prepare`].
    pub fn prepare_taken<'a>(&self, picture: &Picture<'a>) -> Result<Prepared<'a>, ExplainError> {
        let frame = picture.dimensions();
        if frame.0 == 0 || frame.1 == 0 {
            return Err(ExplainError::EmptyPicture);
        }
        let at = |short_side: u32| {
            let (width, height) = scan_size(frame, short_side);
            let view = ScanView { frame, size: ScanSize { short_side, width, height } };
            Ok::<_, ExplainError>((picture.resized((width, height))?, view))
        };
        let short_side = self.finder.settings.short_side_of(frame);
        let near_side = self.finder.settings.near_side.filter(|&near| near::is_worthwhile(near, short_side));
        Ok(Prepared { far: at(short_side)?, near: near_side.map(at).transpose()? })
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
        let found = std::mem::take(&mut self.detections).into_iter().zip(std::mem::take(&mut self.peaks));
        (self.detections, self.peaks) = found.filter(|(found, _)| found.score >= thresholds[found.label]).unzip();
    }

    /// Rows and columns of the far view's grid.
    pub fn grid(&self) -> (usize, usize) {
        self.maps.first().map_or((0, 0), |map| map.dim())
    }

    /// Probability of each class at a peak.
    pub fn posterior_at(&self, peak: Peak) -> Recycled<Array1<f32>> {
        let (reading, maps) = match (&self.near, peak.distance) {
            (Some(near), Distance::Near) => (&near.reading, &near.maps),
            _ => (&self.reading, &self.maps),
        };
        let columns = maps.first().map_or(0, |map| map.ncols());
        reading.posterior_at(peak.row * columns + peak.column)
    }
}
