//! One picture through classification, explanation and boxes, step by step against the whole.

use std::path::Path;
use std::time::Duration;

use maskwatch::analyse::{
    Analyser, AnalysisSettings, BasisSettings, BatchLimit, FrameRequest, ScanAnalysisSettings, View,
};
use maskwatch::boxes::{Threshold, default_threshold};
use maskwatch::capture::stills::read_image;
use maskwatch::config::shipped_model;
use maskwatch::explain::haycam_refined::AUTO_COMPONENTS;
use maskwatch::explain::normalise::{enlarge, normalise};
use maskwatch::explain::{Evidence, GradientSource, HayCamRefined, Method, MethodSettings, ReadAt};
use maskwatch::model::engine::{Engine, Tap};
use maskwatch::model::picture::Picture;
use maskwatch::model::preprocess::squeeze;
use maskwatch::model::resnet::Resolution;
use maskwatch::scan::ScanSettings;
use tch::Device;

/// What `run` does unless something else is asked for.
const RUN: HayCamRefined =
    HayCamRefined { read_at: ReadAt::Layer4, non_negative: true, components: AUTO_COMPONENTS, centred: false };

#[test]
fn a_cpu_sends_pictures_together_that_are_small_and_can_wait() {
    let batch = |view: View, can_wait| {
        Analyser::new(Engine::load(&shipped_model(), Device::Cpu).unwrap(), view).suitable_batch(can_wait)
    };
    let whole = |method, read_at| {
        let refined = HayCamRefined { read_at, ..RUN };
        View::Whole(AnalysisSettings {
            method,
            method_settings: MethodSettings { components: None, refined },
            threshold: Threshold::Share(0.3),
            all_boxes: false,
            basis: None,
        })
    };
    let one = BatchLimit::of_frames(1);
    for method in [Method::HayCam, Method::HayCamRefined, Method::EigenCam] {
        assert_eq!(batch(whole(method, ReadAt::Layer4), true).frames, 8, "{method}");
        assert_eq!(batch(whole(method, ReadAt::Layer4), false), one, "{method}");
    }
    for view in [whole(Method::HayCamRefined, ReadAt::Both), whole(Method::ScoreCam, ReadAt::Layer4)] {
        assert_eq!(batch(view, true), one, "further passes take their time");
    }
    let basis = BasisSettings::default();
    let scan = ScanAnalysisSettings { scan: ScanSettings::default(), threshold: None, basis };
    assert_eq!(batch(View::Scan(scan), true), one);
}

#[test]
fn the_map_is_that_of_the_class_that_was_found() {
    let method_settings = MethodSettings { components: None, refined: RUN };
    // Non-negative weights light the face up whatever the class, so that such maps differ less.
    for (method, least_difference) in [(Method::HayCam, 0.05), (Method::HayCamRefined, 0.01)] {
        let settings = AnalysisSettings {
            method,
            method_settings,
            threshold: default_threshold(method, &method_settings, Resolution::Native),
            all_boxes: false,
            basis: None,
        };
        let load = || Engine::load(&shipped_model(), Device::Cpu).unwrap();
        let (mut analyser, engine) = (Analyser::new(load(), settings), load());
        for (name, expected) in [("collins_surgical.jpg", "mask"), ("collins_no_mask.jpg", "no_mask")] {
            let picture = read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap();
            let request = FrameRequest { source: 0, image: &picture, live: false, pts: Duration::ZERO };
            let analysis = analyser.analyse_batch(&[request]).remove(0).unwrap();
            assert_eq!(analyser.classes()[analysis.label], expected);

            let prepared = Picture::from(squeeze(&picture, None, 224));
            let inference = engine.infer(std::slice::from_ref(&prepared), Tap::Layer4).unwrap().remove(0);
            let heat_of = |class: usize| {
                let evidence = Evidence {
                    network: &engine,
                    picture: &prepared,
                    inference: &inference,
                    class,
                    gradient_source: GradientSource::ClosedForm,
                };
                let map = method.explainer(method_settings).explain(&evidence).unwrap();
                enlarge(&normalise(&map.values), 224, 224)
            };
            let difference =
                |class| (&*heat_of(class) - &*analysis.heat).mapv(f32::abs).sum() / analysis.heat.len() as f32;
            assert!(difference(analysis.label) < 1e-4);
            let to_other = difference((analysis.label + 1) % 2);
            assert!(to_other > least_difference, "{method}: the other class has another map: {to_other}");

            let [found] = &analysis.boxes[..] else { panic!("one box is wanted: {:?}", analysis.boxes) };
            // The face is in the middle of these portraits.
            let (x, y) = (picture.width() / 2, picture.height() / 2);
            let rect = found.rect;
            assert!(
                (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y),
                "{method}, {name}: {rect:?}"
            );
        }
    }
}
