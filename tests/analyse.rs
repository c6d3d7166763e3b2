//! One picture through classification, explanation and boxes, step by step against the whole.

use std::path::Path;

use maskwatch::analyse::{Analyser, AnalysisSettings};
use maskwatch::boxes::default_threshold;
use maskwatch::capture::stills::read_image;
use maskwatch::config::shipped_model;
use maskwatch::explain::normalise::{enlarge, normalise};
use maskwatch::explain::{Evidence, GradientSource, Method, MethodSettings};
use maskwatch::model::engine::{Engine, Tap};
use maskwatch::model::preprocess::squeeze;
use maskwatch::model::resnet::Resolution;
use tch::Device;

#[test]
fn the_map_is_that_of_the_class_that_was_found() {
    let method = Method::HayCamRefined;
    let settings = AnalysisSettings {
        method,
        method_settings: MethodSettings::default(),
        threshold: default_threshold(method, &MethodSettings::default(), Resolution::Native),
        all_boxes: false,
    };
    let load = || Engine::load(&shipped_model(), Device::Cpu).unwrap();
    let (analyser, engine) = (Analyser::new(load(), settings), load());
    for (name, expected) in [("collins_surgical.jpg", "mask"), ("collins_no_mask.jpg", "no_mask")] {
        let picture = read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap();
        let analysis = analyser.analyse(&picture).unwrap();
        assert_eq!(analyser.classes()[analysis.label], expected);

        let prepared = squeeze(&picture, None, 224);
        let inference = engine.infer(std::slice::from_ref(&prepared), Tap::Layer3).unwrap().remove(0);
        let heat_of = |class: usize| {
            let evidence = Evidence {
                network: &engine,
                picture: &prepared,
                inference: &inference,
                class,
                gradient_source: GradientSource::ClosedForm,
            };
            let map = method.explainer(MethodSettings::default()).explain(&evidence).unwrap();
            enlarge(&normalise(&map.values), 224, 224)
        };
        let difference = |class| (&heat_of(class) - &analysis.heat).mapv(f32::abs).sum() / analysis.heat.len() as f32;
        assert!(difference(analysis.label) < 1e-4);
        assert!(difference((analysis.label + 1) % 2) > 0.01, "the other class has another map");

        let [found] = &analysis.boxes[..] else { panic!("one box is wanted: {:?}", analysis.boxes) };
        // The face is in the middle of these portraits.
        let is_central =
            |start: u32, length: u32, whole: u32| (whole / 4..=whole * 3 / 4).contains(&(start + length / 2));
        let rect = found.rect;
        assert!(is_central(rect.x, rect.width, picture.width()), "{rect:?}");
        assert!(is_central(rect.y, rect.height, picture.height()), "{rect:?}");
    }
}
