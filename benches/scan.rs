//! What a scan costs beyond the forward pass: the principal components, exact and truncated, the maps and the regions, on
//! activations of the shipped model for 49 positions (224x224), 240 (640x384) and 960 (the same, atrous); and what a basis
//! that is kept from frame to frame saves, for 448 positions (896x512).

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use maskwatch::capture::stills::read_image;
use maskwatch::config::shipped_model;
use maskwatch::explain::normalise::enlarge;
use maskwatch::model::engine::{Engine, Tap};
use maskwatch::model::layer::Layer;
use maskwatch::model::picture::Picture;
use maskwatch::model::preprocess::resize;
use maskwatch::model::resnet::Resolution;
use maskwatch::pca::cache::{Activations, FrameStamp, KeptBasis};
use maskwatch::pca::{BasisCache, CacheSettings, Components, fit, fit_truncated};
use maskwatch::scan::folded::Folding;
use maskwatch::scan::maps::Head;
use maskwatch::scan::{ScanSettings, regions};
use maskwatch::threads;
use tch::Device;

const KEPT: Components = Components::Count(19);

fn load() -> Engine {
    Engine::load(&shipped_model(), Device::Cpu).expect("the shipped model")
}

fn prepared(size: (u32, u32)) -> Picture<'static> {
    let picture = read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/collins_surgical.jpg"));
    resize(&picture.expect("a bundled picture"), None, size).into()
}

fn layer4(engine: &Engine, size: (u32, u32)) -> Layer {
    engine.infer(&[prepared(size)], Tap::Layer4).expect("an answer").remove(0).layer4
}

fn principal_components(criterion: &mut Criterion) {
    threads::size_pools(None);
    let native = load();
    let atrous = load().with_resolution(Resolution::Atrous).expect("packed weights");
    let mut group = criterion.benchmark_group("principal components");
    for layer in [layer4(&native, (224, 224)), layer4(&native, (640, 384)), layer4(&atrous, (640, 384))] {
        let activations = layer.activations.view();
        let positions = activations.nrows();
        let captured = |basis: maskwatch::pca::Basis| basis.captured_variance();
        let (exact, truncated) = (fit(activations, KEPT), fit_truncated(activations, KEPT));
        let (exact, truncated) = (exact.map(captured), truncated.map(captured));
        println!("{positions} positions: captured variance {exact:?} exact, {truncated:?} truncated");
        group.bench_with_input(BenchmarkId::new("exact", positions), &activations, |bencher, activations| {
            bencher.iter(|| fit(black_box(*activations), KEPT));
        });
        group.bench_with_input(BenchmarkId::new("truncated", positions), &activations, |bencher, activations| {
            bencher.iter(|| fit_truncated(black_box(*activations), KEPT));
        });
    }
    group.finish();
}

fn after_the_forward_pass(criterion: &mut Criterion) {
    let engine = load();
    let layer = layer4(&engine, (640, 384));
    let activations = layer.activations.view();
    let settings = ScanSettings::default();
    let basis = fit(activations, KEPT).expect("sound activations");
    let head = Head { weights: engine.class_weights(), biases: engine.class_biases(), background: Some(2) };
    let maps = || {
        Folding::of_scan(head, &settings).fold(&basis).read(activations, &basis.mean).maps(
            Some(2),
            layer.grid,
            &settings,
        )
    };
    criterion.bench_function("maps", |bencher| bencher.iter(maps));
    let maps = maps();
    criterion.bench_function("regions", |bencher| {
        bencher.iter(|| {
            for map in &maps[..2] {
                black_box(regions::find(&enlarge(map, 96, 160), &settings));
            }
        });
    });
}

/// A name, and the work.
type Way<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// What the maps add to posteriors, which a detector without HayCAM would need as well: with a kept basis, and with one a
/// frame. The ways take turns, so that whatever else the machine does weighs on all of them.
fn maps_beside_posteriors(criterion: &mut Criterion) {
    let engine = load();
    let layer = engine.layer4(&[prepared((896, 512)).into()]).expect("an answer").remove(0);
    let activations = layer.activations().expect("activations");
    let activations = activations.view();
    let settings = ScanSettings::default();
    let basis = fit_truncated(activations, KEPT).expect("sound activations");
    let head = Head { weights: engine.class_weights(), biases: engine.class_biases(), background: Some(2) };
    let folded = Folding::of_scan(head, &settings).fold(&basis);
    // No sample falls due.
    let mut cache =
        BasisCache::new(CacheSettings { sample_every: u64::MAX, max_age: Duration::MAX, ..CacheSettings::default() });
    let stamp = FrameStamp { frame: 0, pts: Duration::ZERO, grid: layer.grid() };
    let kept = KeptBasis::new(basis, stamp);
    cache.keep(kept.clone(), None);

    let mut ways: [Way; 6] = [
        ("posteriors alone", Box::new(|| drop(black_box(head.posteriors(activations))))),
        ("posteriors and maps, kept basis", Box::new(|| drop(black_box(folded.read(activations, layer.mean()))))),
        (
            "the same as in a run, with a look at the basis",
            Box::new(|| {
                cache.see(&layer, Duration::ZERO).expect("sound activations");
                black_box(folded.read_layer(&layer).expect("the head's filters"));
            }),
        ),
        (
            "posteriors and maps, basis a frame",
            Box::new(|| {
                let basis = fit_truncated(activations, KEPT).expect("sound activations");
                let folded = Folding::of_scan(head, &settings).fold(&basis);
                black_box(folded.read(activations, &basis.mean));
            }),
        ),
        (
            "captured variance of a frame",
            Box::new(|| {
                black_box(Activations::sums_of_squares(&layer, &kept).expect("sound activations"));
            }),
        ),
        (
            "making a basis ready for being kept",
            Box::new(|| {
                let kept = KeptBasis::new(kept.basis().clone(), stamp);
                black_box(Folding::of_scan(head, &settings).fold(kept.basis()));
            }),
        ),
    ];
    let mut group = criterion.benchmark_group(format!("{} positions", activations.nrows()));
    for index in 0..ways.len() {
        group.bench_function(ways[index].0, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut time = Duration::ZERO;
                for _ in 0..rounds {
                    for (other, (_, way)) in ways.iter_mut().enumerate() {
                        let started = Instant::now();
                        way();
                        time += if other == index { started.elapsed() } else { Duration::ZERO };
                    }
                }
                time
            });
        });
    }
    group.finish();
}

criterion_group!(benches, principal_components, after_the_forward_pass, maps_beside_posteriors);
criterion_main!(benches);
