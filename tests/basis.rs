//! Kept bases with a real network: what they find against bases of each frame, on the spot and beside the frames.

use std::path::Path;
use std::time::{Duration, Instant};

use image::RgbImage;
use image::imageops::{FilterType, resize};
use maskwatch::analyse::{Analyser, Analysis, AnalysisSettings, BasisSettings, FrameRequest, ScanAnalysisSettings};
use maskwatch::boxes::Threshold;
use maskwatch::capture::stills::read_image;
use maskwatch::config::{scenes_model, shipped_model};
use maskwatch::explain::{ExplainError, HayCamRefined, Method, MethodSettings, ReadAt};
use maskwatch::model::engine::Engine;
use maskwatch::pca::{CacheSettings, RefitCounts};
use maskwatch::scan::ScanSettings;
use tch::Device;

const ALWAYS_KEPT: CacheSettings =
    CacheSettings { margin: 1.0, sample_every: 1, max_age: Duration::from_secs(3600), cut: f64::INFINITY };

fn analyser(basis: BasisSettings) -> Analyser {
    let scan = ScanSettings { short_side: 256, ..ScanSettings::default() };
    let engine = Engine::load(&scenes_model(), Device::Cpu).unwrap();
    Analyser::new(engine, ScanAnalysisSettings { scan, threshold: None, basis })
}

fn kept(settings: CacheSettings) -> Analyser {
    analyser(BasisSettings { live: Some(settings), recorded: Some(settings) })
}

fn sample(name: &str) -> RgbImage {
    read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap()
}

/// Frames of somebody who moves a little: the portrait, some pixels further left each time.
fn moving(frames: u32) -> Vec<RgbImage> {
    let portrait = sample("collins_no_mask.jpg");
    let (width, height) = (portrait.width() - 8 * frames, portrait.height() - 8 * frames);
    (0..frames).map(|frame| image::imageops::crop_imm(&portrait, 8 * frame, 0, width, height).to_image()).collect()
}

fn request(source: usize, image: &RgbImage, frame: u64) -> FrameRequest<'_> {
    FrameRequest { source, image, live: false, pts: Duration::from_millis(100 * frame) }
}

fn one(analyser: &mut Analyser, request: FrameRequest) -> Analysis {
    analyser.analyse_batch(&[request]).pop().unwrap().unwrap()
}

fn relative_l2(one: &Analysis, exact: &Analysis) -> f32 {
    let square = |values: ndarray::Array2<f32>| values.iter().map(|value| value * value).sum::<f32>();
    (square(&*one.heat - &*exact.heat) / square(exact.heat.clone().take())).sqrt()
}

#[test]
fn a_kept_basis_finds_what_one_of_each_frame_finds() {
    let (mut kept, mut exact) = (kept(CacheSettings::default()), analyser(BasisSettings::PER_FRAME));
    for (frame, picture) in (0..).zip(&moving(4)) {
        let [kept, exact] = [&mut kept, &mut exact].map(|analyser| one(analyser, request(0, picture, frame)));
        let difference = relative_l2(&kept, &exact);
        if frame == 0 {
            assert!(difference < 1e-6 && kept.boxes == exact.boxes, "the basis is this frame's: {difference}");
        }
        assert!(difference < 0.1, "frame {frame}: {difference}");
        assert_eq!(kept.boxes.len(), exact.boxes.len());
        for (kept, exact) in kept.boxes.iter().zip(&exact.boxes) {
            assert_eq!(kept.label, exact.label);
            assert!(kept.rect.iou(exact.rect) > 0.9, "frame {frame}: {:?} {:?}", kept.rect, exact.rect);
        }
        let basis = kept.cam.basis.unwrap();
        assert_eq!((basis.age_frames, exact.cam.basis), (frame, None));
    }
    assert_eq!(kept.refits(0), Some(RefitCounts::default()));
    assert_eq!(exact.refits(0), None);
}

#[test]
fn recorded_sources_are_refitted_on_the_spot_and_always_alike() {
    let settings = CacheSettings { max_age: Duration::from_millis(200), ..ALWAYS_KEPT };
    let run = || {
        let mut analyser = kept(settings);
        let frames = moving(5);
        let analyses = (0..).zip(&frames).map(|(frame, picture)| one(&mut analyser, request(0, picture, frame)));
        let analyses: Vec<Analysis> = analyses.collect();
        let ages: Vec<u64> = analyses.iter().map(|analysis| analysis.cam.basis.unwrap().age_frames).collect();
        assert_eq!(ages, [0, 1, 0, 1, 0], "every 200 ms");
        assert_eq!(analyser.refits(0), Some(RefitCounts { age: 2, ..RefitCounts::default() }));
        analyses.into_iter().map(|analysis| (analysis.boxes, analysis.heat, analysis.cam)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn live_sources_go_on_with_the_old_basis_until_the_new_one_is_there() {
    let mut analyser = kept(CacheSettings { max_age: Duration::from_secs(1), ..ALWAYS_KEPT });
    let picture = &moving(1)[0];
    let mut see = |pts| {
        let request = FrameRequest { source: 3, image: picture, live: true, pts: Duration::from_secs(pts) };
        one(&mut analyser, request).cam.basis.unwrap()
    };
    let first = see(0);
    let due = see(2);
    assert_eq!((due.age_frames, due.id), (1, first.id), "the frame that finds it out does not wait");
    let started = Instant::now();
    let mut age = due.age_frames;
    loop {
        // However many frames the fit takes, the new basis is younger than the old one.
        let now = see(2).age_frames;
        if now <= age {
            break;
        }
        age = now;
        assert!(started.elapsed() < Duration::from_secs(60), "no new basis");
    }
    assert_eq!(analyser.refits(3), Some(RefitCounts { age: 1, ..RefitCounts::default() }));
}

#[test]
fn each_source_has_its_own_basis_and_a_closed_one_leaves_none() {
    let mut analyser = kept(ALWAYS_KEPT);
    let (here, there) = (sample("collins_no_mask.jpg"), sample("empty_studio.jpg"));
    let there = resize(&there, here.width(), here.height(), FilterType::Triangle);
    let batch = [request(0, &here, 0), request(1, &there, 0), request(0, &here, 1), request(1, &there, 1)];
    let found: Vec<Analysis> = analyser.analyse_batch(&batch).into_iter().map(Result::unwrap).collect();
    let basis: Vec<_> = found.iter().map(|analysis| analysis.cam.basis.unwrap()).collect();
    assert_eq!(basis.iter().map(|basis| basis.age_frames).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert!(basis[0].id == basis[2].id && basis[1].id == basis[3].id && basis[0].id != basis[1].id);

    let small = resize(&here, 200, 200, FilterType::Triangle);
    assert_eq!(one(&mut analyser, request(0, &small, 2)).cam.basis.unwrap().age_frames, 0);
    assert_eq!(analyser.refits(0), Some(RefitCounts { resolution: 1, ..RefitCounts::default() }));

    analyser.forget(0);
    assert_eq!(analyser.refits(0), None);
    let again = one(&mut analyser, request(0, &there, 0)).cam.basis.unwrap();
    assert_eq!((again.age_frames, again.id), (0, basis[1].id), "fitted to what the new source shows");
}

#[test]
fn a_batch_answers_as_single_frames_do_in_their_order() {
    let names = ["collins_no_mask.jpg", "empty_studio.jpg", "collins_surgical.jpg"];
    let pictures: Vec<RgbImage> = names.iter().map(|name| sample(name)).collect();
    let nothing = RgbImage::new(0, 5);
    let small = resize(&pictures[0], 300, 300, FilterType::Triangle);
    let images = [&pictures[0], &nothing, &small, &pictures[1], &pictures[2]];
    let batch: Vec<FrameRequest> = images.iter().enumerate().map(|(source, image)| request(source, image, 0)).collect();
    let mut analyser = analyser(BasisSettings::PER_FRAME);
    let together = analyser.analyse_batch(&batch);
    assert_eq!(together.len(), batch.len());
    for (index, (together, request)) in together.into_iter().zip(&batch).enumerate() {
        let alone = analyser.analyse_batch(std::slice::from_ref(request)).pop().unwrap();
        match (together, alone) {
            (Err(ExplainError::EmptyPicture), Err(ExplainError::EmptyPicture)) => assert_eq!(index, 1),
            (Ok(together), Ok(alone)) => {
                assert_eq!(together.boxes.len(), alone.boxes.len(), "{index}");
                assert!(relative_l2(&together, &alone) < 1e-3, "{index}");
                assert_eq!(together.scan, alone.scan);
            }
            (together, alone) => panic!("{index}: {together:?} {alone:?}"),
        }
    }
}

/// Sees pictures as a whole.
fn whole(method: Method, read_at: ReadAt, basis: Option<CacheSettings>) -> Analyser {
    let refined = HayCamRefined { read_at, ..HayCamRefined::default() };
    let method_settings = MethodSettings { components: None, refined };
    let settings =
        AnalysisSettings { method, method_settings, threshold: Threshold::Share(0.3), all_boxes: false, basis };
    Analyser::new(Engine::load(&shipped_model(), Device::Cpu).unwrap(), settings)
}

#[test]
fn pictures_seen_as_a_whole_are_read_with_a_kept_basis_too() {
    for method in [Method::HayCam, Method::HayCamRefined] {
        let mut kept = whole(method, ReadAt::Layer4, Some(CacheSettings::default()));
        let mut exact = whole(method, ReadAt::Layer4, None);
        for (frame, picture) in (0..).zip(&moving(4)) {
            let [kept, exact] = [&mut kept, &mut exact].map(|analyser| one(analyser, request(0, picture, frame)));
            assert_eq!((kept.label, kept.boxes.len()), (exact.label, exact.boxes.len()), "{method}, frame {frame}");
            assert!((kept.confidence - exact.confidence).abs() < 1e-5);
            let difference = relative_l2(&kept, &exact);
            if frame == 0 {
                assert!(difference < 1e-4, "{method}: the basis is this frame's: {difference}");
            }
            assert!(difference < 0.25, "{method}, frame {frame}: {difference}");
            for (kept, exact) in kept.boxes.iter().zip(&exact.boxes) {
                assert!(kept.rect.iou(exact.rect) > 0.85, "{method}, frame {frame}: {:?} {:?}", kept.rect, exact.rect);
            }
            let (basis, reduction) = (kept.cam.basis.unwrap(), kept.cam.reduction.unwrap());
            assert_eq!((basis.age_frames, exact.cam.basis), (frame, None));
            assert!(reduction.components > 0 && reduction.captured_variance > 0.3, "{reduction:?}");
        }
        assert_eq!((kept.refits(0), exact.refits(0)), (Some(RefitCounts::default()), None));
        kept.forget(0);
        assert_eq!(kept.refits(0), None);
    }
}

#[test]
fn maps_that_are_read_at_layer3_have_a_basis_of_their_own() {
    for (method, read_at) in [(Method::HayCamRefined, ReadAt::Both), (Method::EigenCam, ReadAt::Layer4)] {
        let mut analyser = whole(method, read_at, Some(CacheSettings::default()));
        assert_eq!(one(&mut analyser, request(0, &moving(1)[0], 0)).cam.basis, None);
        assert_eq!(analyser.refits(0), None);
    }
}

#[test]
fn batches_that_are_handed_over_ahead_are_answered_as_those_that_are_not() {
    let settings = CacheSettings { max_age: Duration::from_millis(200), ..ALWAYS_KEPT };
    let analysers = || [kept(settings), whole(Method::HayCam, ReadAt::Layer4, Some(settings))];
    let frames = moving(6);
    let requests: Vec<FrameRequest> = (0..).zip(&frames).map(|(frame, picture)| request(0, picture, frame)).collect();
    let plain = |analysis: Result<Analysis, ExplainError>| {
        let Analysis { label, boxes, heat, cam, .. } = analysis.unwrap();
        (label, boxes, heat, cam)
    };
    for (mut in_turns, mut ahead) in analysers().into_iter().zip(analysers()) {
        let expected: Vec<_> = requests.chunks(2).flat_map(|batch| in_turns.analyse_batch(batch)).map(plain).collect();
        let (mut submission, mut completion) = ahead.sides();
        let pending: Vec<_> = requests.chunks(2).map(|batch| submission.submit(batch, None)).collect();
        let found: Vec<_> = pending.into_iter().flat_map(|batch| completion.complete(batch)).map(plain).collect();
        assert_eq!(found, expected);
    }
}
