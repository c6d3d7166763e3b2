//! Findings without a model, for tests of what becomes of them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;
use maskwatch::analyse::{Analysis, CamSummary, Detection};
use maskwatch::boxes::PerBox;
use maskwatch::capture::{Policy, SourceInfo};
use maskwatch::draw::Annotator;
use maskwatch::explain::Method;
use maskwatch::frame::Frame;
use maskwatch::geometry::Rect;
use maskwatch::shared::Shared;
use maskwatch::sinks::Finding;

/// A picture in which a face with a mask was found.
pub fn finding(source: usize, name: &str, index: u64, image: RgbImage, annotator: &Arc<Annotator>) -> Shared<Finding> {
    let name: Arc<str> = name.into();
    let (width, height) = image.dimensions();
    let info =
        SourceInfo { name: name.to_string(), width, height, frame_count: None, frame_rate: None, policy: Policy::Live };
    let frame = Frame {
        source: name,
        index,
        pts: Duration::from_millis(40 * index),
        captured_at: SystemTime::now(),
        read_started: Instant::now(),
        decode_time: Duration::ZERO,
        image: image.into(),
    };
    let rect = Rect { x: 2, y: 3, width: 20, height: 24 };
    let analysis = Analysis {
        label: 0,
        confidence: 0.9,
        probabilities: ndarray::arr1(&[0.9, 0.1]).into(),
        heat: ndarray::Array2::zeros((4, 4)).into(),
        boxes: PerBox::from_iter([Detection { rect, score: 0.8, label: 0 }]),
        box_probabilities: PerBox::new(),
        cam: CamSummary { method: Method::Cam, reduction: None, basis: None },
        scan: None,
        times: Default::default(),
        kept_for: None,
    };
    let classes = Arc::from(["mask".to_owned(), "no_mask".to_owned()]);
    Finding::new(source, Arc::new(info), frame, analysis, PerBox::new(), classes, Arc::clone(annotator)).into()
}
