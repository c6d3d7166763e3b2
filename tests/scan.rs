//! The dense scan with a real network.

use std::path::Path;

use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};
use maskwatch::capture::stills::read_image;
use maskwatch::config::scenes_model;
use maskwatch::model::engine::Engine;
use maskwatch::model::resnet::Resolution;
use maskwatch::scan::settings::{NO_MASK_THRESHOLD, default_threshold};
use maskwatch::scan::{Distance, ScanSettings, Scanner};
use tch::Device;

fn scanner(settings: ScanSettings, resolution: Resolution) -> Scanner {
    Scanner::new(Engine::load(&scenes_model(), Device::Cpu).unwrap().with_resolution(resolution).unwrap(), settings)
}

fn sample(name: &str) -> RgbImage {
    read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap()
}

fn portrait() -> RgbImage {
    sample("collins_no_mask.jpg")
}

#[test]
fn pictures_of_any_size_have_their_boxes_inside() {
    let scanner = scanner(ScanSettings { short_side: 96, ..ScanSettings::default() }, Resolution::Native);
    for (width, height) in [(1, 1), (1, 300), (4000, 10), (33, 77), (641, 479)] {
        let picture = resize(&portrait(), width, height, FilterType::Triangle);
        let scan = scanner.scan(&picture).unwrap();
        assert_eq!(scan.detections.len(), scan.peaks.len());
        assert!(scan.detections.iter().rev().map(|found| found.score).is_sorted());
        for found in &scan.detections {
            assert!(found.score > 0.0 && found.score <= 1.0, "{}", found.score);
            let rect = found.rect;
            assert!(rect.width > 0 && rect.x + rect.width <= width, "{width}x{height}: {rect:?}");
            assert!(rect.height > 0 && rect.y + rect.height <= height, "{width}x{height}: {rect:?}");
        }
        let (rows, columns) = scan.grid();
        assert_eq!((rows * 32, columns * 32), (scan.size.height as usize, scan.size.width as usize));
        assert_eq!(scan.reading.posteriors().dim(), (rows * columns, scanner.classes().len()));
    }
}

#[test]
fn each_of_several_faces_is_found_where_it_is() {
    let mut frame = RgbImage::from_pixel(1280, 720, image::Rgb([110; 3]));
    let face = resize(&portrait(), 320, 240, FilterType::Triangle);
    let places = [(60, 60), (860, 400)];
    for (x, y) in places {
        overlay(&mut frame, &face, x, y);
    }
    for resolution in [Resolution::Native, Resolution::Atrous] {
        let scanner = scanner(ScanSettings::default(), resolution);
        let scan = scanner.scan(&frame).unwrap();
        let scores = scan.detections.iter().map(|found| found.score);
        assert_eq!(
            scores.filter(|score| *score >= NO_MASK_THRESHOLD).count(),
            2,
            "{resolution:?}: {:?}",
            scan.detections
        );
        for (x, y) in places {
            // The face is in the middle of the portrait.
            let (x, y) = (x as u32 + 160, y as u32 + 120);
            let holds = |start: u32, length: u32, place: u32| (start..start + length).contains(&place);
            let found = scan.detections[..2]
                .iter()
                .any(|found| holds(found.rect.x, found.rect.width, x) && holds(found.rect.y, found.rect.height, y));
            assert!(found, "{resolution:?}: nothing at {x} {y} among {:?}", scan.detections);
            assert!(scan.detections[..2].iter().all(|found| scanner.classes()[found.label] == "no_mask"));
        }
    }
}

#[test]
fn a_face_that_fills_the_picture_is_one_face() {
    let settings = ScanSettings::default();
    let twice = scanner(settings, Resolution::Native);
    let pictures = [
        ("collins_no_mask.jpg", "no_mask"),
        ("collins_surgical.jpg", "mask"),
        ("collins_cloth.jpg", "mask"),
        ("hopper_no_mask.jpg", "no_mask"),
        ("hopper_ffp2.jpg", "mask"),
    ];
    let thresholds: Vec<f32> = twice.classes().iter().map(|class| default_threshold(class)).collect();
    let found = |scanner: &Scanner, name: &str| {
        let mut scan = scanner.scan(&sample(name)).unwrap();
        scan.keep_from(&thresholds);
        scan
    };
    for (name, label) in pictures {
        let scan = found(&twice, name);
        let [only] = &scan.detections[..] else { panic!("{name}: {:?}", scan.detections) };
        let named = twice.classes()[only.label].as_str();
        assert_eq!((named, scan.peaks[0].distance), (label, Distance::Near), "{name}");
    }
    let once = scanner(ScanSettings { near_side: None, ..settings }, Resolution::Native);
    let wrong = pictures.iter().filter(|(name, _)| found(&once, name).detections.len() != 1).count();
    assert!(wrong > 0, "the near view would not be needed");
}

#[test]
fn nobody_is_found_where_nobody_is() {
    let scanner = scanner(ScanSettings::default(), Resolution::Native);
    let frame = RgbImage::from_fn(640, 480, |x, y| image::Rgb([(x / 4) as u8, (y / 4) as u8, ((x + y) / 8) as u8]));
    assert!(scanner.scan(&frame).unwrap().detections.iter().all(|found| found.score < NO_MASK_THRESHOLD));
}

#[test]
fn equal_pictures_have_equal_scans() {
    let scanner = scanner(ScanSettings::default(), Resolution::Native);
    let [one, other] = [0, 1].map(|_| scanner.scan(&portrait()).unwrap());
    assert_eq!((one.detections, one.maps), (other.detections, other.maps));
}
