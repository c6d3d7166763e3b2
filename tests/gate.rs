//! The motion gate with a real network: somebody who comes in slowly is not found later than without it by more than a second.

use std::path::Path;
use std::time::Duration;

use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};
use maskwatch::analyse::{Analyser, BasisSettings, FrameRequest, ScanAnalysisSettings};
use maskwatch::capture::stills::read_image;
use maskwatch::config::scenes_model;
use maskwatch::gate::{Gate, GateSettings, Verdict};
use maskwatch::model::engine::Engine;
use maskwatch::scan::ScanSettings;
use tch::Device;

const INTERVAL: Duration = Duration::from_millis(100);
const EMPTY: i64 = 20;
const FRAMES: i64 = 160;

fn sample(name: &str) -> RgbImage {
    read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap()
}

/// An empty room for two seconds; then somebody, of whom one half can be seen, slides further in, a pixel in two frames of 100 ms.
fn frames() -> Vec<RgbImage> {
    let room = resize(&sample("empty_studio.jpg"), 480, 360, FilterType::Triangle);
    let portrait = sample("collins_no_mask.jpg");
    let height = 300;
    let width = portrait.width() * height / portrait.height();
    let portrait = resize(&portrait, width, height, FilterType::Triangle);
    let picture = |frame: i64| {
        let mut picture = room.clone();
        if frame >= EMPTY {
            overlay(&mut picture, &portrait, -i64::from(width) / 2 + (frame - EMPTY) / 2, 60);
        }
        picture
    };
    (0..FRAMES).map(picture).collect()
}

#[test]
fn somebody_who_comes_in_slowly_is_found_within_a_second() {
    let scan = ScanSettings { short_side: 256, near_side: None, ..ScanSettings::default() };
    let engine = Engine::load(&scenes_model(), Device::Cpu).unwrap();
    let settings = ScanAnalysisSettings { scan, threshold: None, basis: BasisSettings::PER_FRAME };
    let mut analyser = Analyser::new(engine, settings);
    let mut gate = Gate::new(GateSettings { live: true, recorded: false });
    let (mut found, mut found_with_gate, mut analysed) = (None, None, 0i64);
    for (index, image) in (0..).zip(&frames()) {
        let pts = INTERVAL * index;
        let request = FrameRequest { source: 0, image, live: true, pts };
        let exact = analyser.analyse_batch(&[request]).remove(0).unwrap();
        let gated = match gate.look(&request) {
            Verdict::Same(analysis) => *analysis,
            Verdict::Changed(appearance) => {
                analysed += 1;
                gate.keep(0, pts, appearance, &exact);
                exact.clone()
            }
        };
        if !exact.boxes.is_empty() {
            found = found.or(Some(pts));
        }
        if !gated.boxes.is_empty() {
            found_with_gate = found_with_gate.or(Some(pts));
        }
    }
    let (found, found_with_gate) = (found.expect("a face"), found_with_gate.expect("a face"));
    assert!(!found.is_zero(), "the face is not there from the beginning");
    assert!(found_with_gate - found < Duration::from_secs(1), "{found_with_gate:?}, not {found:?}");
    assert!(analysed < FRAMES - EMPTY / 2, "{analysed} frames");
}
