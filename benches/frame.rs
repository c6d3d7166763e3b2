//! What every frame goes through, one function at a time: resizing, the gate, the forward pass at the sizes that `run` sees,
//! finding boxes, drawing (the heat map, a box and a label). On a frame of 1280x720.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use image::RgbImage;
use maskwatch::analyse::{Analyser, AnalysisSettings, FrameRequest};
use maskwatch::boxes::{self, Threshold};
use maskwatch::capture::stills::read_image;
use maskwatch::config::{scenes_model, shipped_model};
use maskwatch::draw::Annotator;
use maskwatch::explain::normalise::enlarge;
use maskwatch::explain::{Method, MethodSettings};
use maskwatch::gate::{Gate, GateSettings, Verdict};
use maskwatch::model::engine::Engine;
use maskwatch::model::forward::ForwardRequest;
use maskwatch::model::preprocess::resize;
use maskwatch::model::resnet::Resolution;
use maskwatch::threads;
use tch::Device;

const FRAME: (u32, u32) = (1280, 720);

fn frame() -> RgbImage {
    let picture = read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/collins_surgical.jpg"));
    resize(&picture.expect("a bundled picture"), None, FRAME)
}

fn request(image: &RgbImage) -> FrameRequest<'_> {
    FrameRequest { source: 0, image, live: false, pts: Duration::ZERO }
}

fn before_the_network(criterion: &mut Criterion) {
    let frame = frame();
    let mut group = criterion.benchmark_group("resize");
    for size in [(224, 224), (384, 224), (896, 512)] {
        let name = format!("{}x{}", size.0, size.1);
        group.bench_function(name, |bencher| bencher.iter(|| resize(black_box(&frame), None, size)));
    }
    group.finish();
}

fn forward_pass(criterion: &mut Criterion) {
    let frame = frame();
    for threads in [1, 2] {
        threads::size_pools(Some(threads));
        let load = || Engine::load(&scenes_model(), Device::Cpu).expect("the shipped model");
        let atrous = load().with_resolution(Resolution::Atrous).expect("packed weights");
        let native = load();
        let mut group = criterion.benchmark_group(format!("forward, {threads} threads"));
        group.sample_size(20);
        for (engine, name, size) in [
            (&native, "224x224", (224, 224)),
            (&native, "640x384", (640, 384)),
            (&native, "896x512", (896, 512)),
            (&atrous, "640x384 atrous", (640, 384)),
        ] {
            let request = ForwardRequest::from(engine.take(&frame).resized(size).expect("a picture on the host"));
            group.bench_with_input(BenchmarkId::from_parameter(name), &request, |bencher, request| {
                bencher.iter(|| engine.layer4(std::slice::from_ref(request)).expect("activations"));
            });
        }
        group.finish();
    }
}

fn after_the_network(criterion: &mut Criterion) {
    threads::size_pools(None);
    let frame = frame();
    let engine = Engine::load(&shipped_model(), Device::Cpu).expect("the shipped model");
    let settings = AnalysisSettings {
        method: Method::HayCam,
        method_settings: MethodSettings::default(),
        threshold: Threshold::Share(0.3),
        all_boxes: false,
        basis: None,
    };
    let mut analyser = Analyser::new(engine, settings);
    let analysis = analyser.analyse_batch(&[request(&frame)]).remove(0).expect("an answer");
    let heat = enlarge(&analysis.heat, 224, 224);
    criterion.bench_function("boxes", |bencher| bencher.iter(|| boxes::find(black_box(&heat), settings.threshold)));
    let annotator = Annotator::new().expect("the bundled font");
    let classes = analyser.classes().to_vec();
    criterion.bench_function("draw", |bencher| {
        bencher.iter(|| annotator.annotated(black_box(&frame), &analysis, &[], &classes));
    });
    let mut gate = Gate::new(GateSettings { live: true, recorded: true });
    let Verdict::Changed(appearance) = gate.look(&request(&frame)) else { panic!("nothing is kept yet") };
    gate.keep(0, Duration::ZERO, appearance, &analysis);
    criterion.bench_function("gate, unchanged", |bencher| bencher.iter(|| gate.look(&request(black_box(&frame)))));
}

criterion_group!(benches, before_the_network, forward_pass, after_the_network);
criterion_main!(benches);
