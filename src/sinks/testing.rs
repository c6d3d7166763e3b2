//! Findings for tests of sinks and of what feeds them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;
use ndarray::{Array1, Array2};

use super::Finding;
use crate::analyse::{Analysis, CamSummary};
use crate::boxes::PerBox;
use crate::capture::{Policy, SourceInfo};
use crate::draw::Annotator;
use crate::explain::Method;
use crate::frame::Frame;
use crate::shared::Shared;

/// What is known of a live source named `door`, the first of its run, with frames of (width, height).
pub(crate) fn live_source((width, height): (u32, u32)) -> Arc<SourceInfo> {
    let name = "door".to_owned();
    let (frame_count, frame_rate) = (None, None);
    Arc::new(SourceInfo { name, width, height, frame_count, frame_rate, policy: Policy::Live })
}

/// A frame of that source without faces, at a time since its first.
pub(crate) fn finding(index: u64, size: (u32, u32), pts: Duration) -> Shared<Finding> {
    let frame = Frame {
        source: "door".into(),
        index,
        pts,
        captured_at: SystemTime::UNIX_EPOCH + pts,
        read_started: Instant::now(),
        decode_time: Duration::ZERO,
        image: RgbImage::from_pixel(size.0, size.1, image::Rgb([90, 120, 150])).into(),
    };
    let analysis = Analysis {
        label: 0,
        confidence: 1.0,
        probabilities: Array1::ones(1).into(),
        heat: Array2::zeros((2, 2)).into(),
        boxes: PerBox::new(),
        box_probabilities: PerBox::new(),
        cam: CamSummary { method: Method::Cam, reduction: None, basis: None },
        scan: None,
        times: Default::default(),
        kept_for: None,
    };
    let classes = Arc::from(["background".to_owned()]);
    let annotator = Arc::new(Annotator::new().expect("the bundled font is sound"));
    Finding::new(0, live_source(size), frame, analysis, PerBox::new(), classes, annotator).into()
}
