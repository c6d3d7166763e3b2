//! A frame scanned for faces, and what it is called as a whole for those who want one label.

use image::RgbImage;
use ndarray::Array1;

use super::{Analysis, AnalysisTimes, CamSummary, ScanAnalysisSettings};
use crate::explain::{ExplainError, Method};
use crate::labels::argmax;
use crate::model::engine::Engine;
use crate::scan::{Scan, Scanner};

/// A scanner and what counts.
#[derive(Debug)]
pub(super) struct Scanned {
    scanner: Scanner,
    /// Score from which each class counts.
    thresholds: Vec<f32>,
}

impl Scanned {
    pub(super) fn new(engine: Engine, settings: ScanAnalysisSettings) -> Self {
        let scanner = Scanner::new(engine, settings.scan);
        let thresholds = settings.thresholds(scanner.classes());
        Self { scanner, thresholds }
    }

    pub(super) fn classes(&self) -> &[String] {
        self.scanner.classes()
    }

    pub(super) fn analyse(&self, picture: &RgbImage) -> Result<Analysis, ExplainError> {
        let mut scan = self.scanner.scan(picture)?;
        scan.keep_from(&self.thresholds);
        let heat = scan.heat();
        let (label, probabilities) = match (scan.detections.first(), scan.peaks.first()) {
            (Some(strongest), Some(&peak)) => (strongest.label, scan.posterior_at(peak)),
            _ => {
                let probabilities = self.most_like_a_face(&scan);
                (self.scanner.background().unwrap_or_else(|| argmax(&probabilities)), probabilities)
            }
        };
        Ok(Analysis {
            label,
            confidence: probabilities[label],
            probabilities,
            heat,
            boxes: scan.detections,
            cam: CamSummary { method: Method::HayCam, reduction: Some(scan.reduction) },
            scan: Some(scan.size),
            times: AnalysisTimes {
                prepare: scan.times.prepare,
                infer: scan.times.infer,
                explain: scan.times.reduce + scan.times.maps,
                boxes: scan.times.regions,
            },
        })
    }

    /// Probabilities at the position that is least probably background or, of a model that does not know it, surest of
    /// anything.
    fn most_like_a_face(&self, scan: &Scan) -> Array1<f32> {
        let face = |position: usize| {
            let probabilities = scan.posteriors.row(position);
            match self.scanner.background() {
                Some(background) => 1.0 - probabilities[background],
                None => probabilities.iter().copied().fold(0.0, f32::max),
            }
        };
        let likeliest = (0..scan.posteriors.nrows()).max_by(|&one, &other| face(one).total_cmp(&face(other)));
        scan.posteriors.row(likeliest.unwrap_or(0)).to_owned()
    }
}
