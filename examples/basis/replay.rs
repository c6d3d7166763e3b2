//! Clips as activations, and what is read from them with one basis or another.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use image::RgbImage;
use maskwatch::boxes::Detection;
use maskwatch::capture::{OpenOptions, SourceSpec};
use maskwatch::explain::{ExplainError, Reduction};
use maskwatch::model::device_layer::DeviceLayer;
use maskwatch::pca::cache::{FitNeed, KeptBasis};
use maskwatch::pca::{Basis, BasisCache, CacheSettings, RefitCounts};
use maskwatch::scan::folded::FoldedHead;
use maskwatch::scan::settings::default_threshold;
use maskwatch::scan::{ScanView, Scanner};
use ndarray::{Array1, Array2, Axis};

/// Side of the pixels that a position stands for.
const POSITION_PX: u32 = 32;
/// Mean difference in levels up to which a position stands still.
const STILL: f64 = 2.0;

/// A clip that has been through the network.
pub struct Clip {
    pub name: String,
    pub frames: Vec<Seen>,
}

/// A frame of it.
pub struct Seen {
    layer: DeviceLayer,
    view: ScanView,
    pts: Duration,
    /// Which positions show what they did in the frame before; none at the first.
    pub still: Vec<bool>,
}

/// What was read from a clip.
pub struct Played {
    pub frames: Vec<Findings>,
    pub counts: RefitCounts,
}

/// What was read from a frame.
pub struct Findings {
    /// (positions, classes but background), cut at zero.
    pub evidence: Array2<f32>,
    pub boxes: Vec<Detection>,
}

impl Clip {
    pub fn read(scanner: &Scanner, video: &Path, step: usize, most: usize) -> anyhow::Result<Self> {
        let spec = SourceSpec::parse(&video.to_string_lossy())?.pop().context("no source")?;
        let mut source = spec.open(&OpenOptions::default())?;
        let mut frames: Vec<Seen> = Vec::new();
        let mut before: Option<RgbImage> = None;
        let mut index = 0;
        while let Some(frame) = source.read()? {
            index += 1;
            if (index - 1) % step != 0 {
                continue;
            }
            let (picture, view) = scanner.prepare(&frame.image)?.far;
            let layer = scanner.engine().layer4(&[picture.another().into()])?.pop().context("no answer")?;
            let picture = picture.on_host()?.into_owned();
            let still = before.map_or_else(Vec::new, |before| still_positions(&before, &picture));
            before = Some(picture);
            frames.push(Seen { layer, view, pts: frame.pts, still });
            if frames.len() == most {
                break;
            }
        }
        Ok(Self { name: spec.name(), frames })
    }

    /// With a basis a frame.
    pub fn exact(&self, scanner: &Scanner) -> Result<Played, ExplainError> {
        let read = |seen: &Seen| {
            let basis = scanner.folding().fit(seen.layer.activations()?.view())?;
            find(scanner, seen, &scanner.folding().fold(&basis))
        };
        let frames = self.frames.iter().map(read).collect::<Result<_, ExplainError>>()?;
        Ok(Played { frames, counts: RefitCounts::default() })
    }

    /// With a basis that keeps everything, which is none.
    pub fn without_basis(&self, scanner: &Scanner) -> Result<Played, ExplainError> {
        let filters = self.frames.first().map_or(0, |seen| seen.layer.mean().len());
        let everything = Basis {
            mean: Array1::zeros(filters),
            directions: Array2::eye(filters),
            variances: Array1::zeros(filters),
            total_variance: 0.0,
        };
        let folded = scanner.folding().fold(&everything);
        let frames = self.frames.iter().map(|seen| find(scanner, seen, &folded)).collect::<Result<_, _>>()?;
        Ok(Played { frames, counts: RefitCounts::default() })
    }

    /// With a basis that is kept.
    pub fn kept(&self, scanner: &Scanner, settings: CacheSettings, live: bool) -> Result<Played, ExplainError> {
        let mut cache = BasisCache::new(settings);
        let mut folded: Option<FoldedHead> = None;
        let mut ready: Option<KeptBasis> = None;
        let mut frames = Vec::with_capacity(self.frames.len());
        for seen in &self.frames {
            if let Some(kept) = ready.take() {
                folded = Some(scanner.folding().fold(kept.basis()));
                assert!(cache.end(kept), "nothing overtakes a refit here");
            }
            let look = cache.see(&seen.layer, seen.pts)?;
            let fit = || {
                let basis = scanner.folding().fit(seen.layer.activations()?.view())?;
                Ok::<_, ExplainError>(KeptBasis::new(basis, look.stamp))
            };
            match look.need {
                FitNeed::Nothing => {}
                FitNeed::Soon(reason) if live => {
                    cache.begin(look.stamp, reason);
                    ready = Some(fit()?);
                }
                FitNeed::Soon(reason) => {
                    cache.keep(fit()?, Some(reason));
                    folded = None;
                }
                FitNeed::Now(reason) => {
                    cache.keep(fit()?, reason);
                    folded = None;
                }
            }
            let kept = cache.kept().expect("the first frame is fitted");
            let folded = folded.get_or_insert_with(|| scanner.folding().fold(kept.basis()));
            frames.push(find(scanner, seen, folded)?);
        }
        Ok(Played { frames, counts: cache.counts() })
    }
}

fn find(scanner: &Scanner, seen: &Seen, folded: &FoldedHead) -> Result<Findings, ExplainError> {
    let reading = folded.read_layer(&seen.layer)?;
    let shown: Vec<usize> =
        (0..scanner.classes().len()).filter(|&class| Some(class) != scanner.finder().background()).collect();
    let evidence = reading.evidence().select(Axis(1), &shown).mapv(|value| value.max(0.0));
    let mut scan = scanner.finder().find(
        reading,
        seen.layer.grid(),
        seen.view,
        Reduction { components: 0, captured_variance: 1.0 },
    );
    let thresholds: Vec<f32> = scanner.classes().iter().map(|class| default_threshold(class)).collect();
    scan.keep_from(&thresholds);
    Ok(Findings { evidence, boxes: scan.detections.into_vec() })
}

fn still_positions(before: &RgbImage, now: &RgbImage) -> Vec<bool> {
    let (width, height) = now.dimensions();
    let mut still = Vec::new();
    for top in (0..height).step_by(POSITION_PX as usize) {
        for left in (0..width).step_by(POSITION_PX as usize) {
            let mut difference = 0u64;
            for y in top..top + POSITION_PX {
                for x in left..left + POSITION_PX {
                    let (before, now) = (before.get_pixel(x, y).0, now.get_pixel(x, y).0);
                    difference +=
                        before.iter().zip(now).map(|(&one, other)| u64::from(one.abs_diff(other))).sum::<u64>();
                }
            }
            still.push(difference as f64 / f64::from(3 * POSITION_PX * POSITION_PX) <= STILL);
        }
    }
    still
}
