//! What a frame costs in memory that is asked for anew, once a run is under way: the Rust side of the pipeline, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maskwatch::analyse::{Analyser, AnalysisSettings, BasisSettings, ScanAnalysisSettings, View};
use maskwatch::boxes::Threshold;
use maskwatch::capture::{LiveSettings, Policy, SourceInfo, SourceSpec};
use maskwatch::config::{scenes_model, shipped_model};
use maskwatch::draw::Annotator;
use maskwatch::explain::{HayCamRefined, Method, MethodSettings, ReadAt};
use maskwatch::gate::GateSettings;
use maskwatch::model::engine::Engine;
use maskwatch::pca::CacheSettings;
use maskwatch::pipeline::{NamedSource, Observer, Problem, RunSettings, run};
use maskwatch::scan::ScanSettings;
use maskwatch::shutdown::Shutdown;
use maskwatch::stats::RunStats;

/// From this size on, an allocation holds pixels or activations.
const LARGE: usize = 64 * 1024;
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;

/// The system's, which counts.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGE_COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGE_BYTES: AtomicUsize = AtomicUsize::new(0);

fn note(size: usize) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    if size >= LARGE {
        LARGE_COUNT.fetch_add(1, Ordering::Relaxed);
        LARGE_BYTES.fetch_add(size, Ordering::Relaxed);
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Silent;

impl Observer for Silent {
    fn opened(&mut self, _: usize, _: &SourceInfo) {}
    fn frame(&mut self, _: usize, _: u64) {}
    fn closed(&mut self, _: usize) {}
    fn problem(&mut self, problem: &Problem) {
        panic!("{problem:?}");
    }
}

/// Allocations, large ones, and bytes of these, of a run of so many made-up frames.
fn counted(analyser: &mut Analyser, frames: u64) -> [usize; 3] {
    let spec = SourceSpec::Synthetic { width: WIDTH, height: HEIGHT };
    let settings = RunSettings {
        sources: vec![NamedSource { name: "synthetic".to_owned(), spec }],
        policy: Some(Policy::Recorded),
        limit: Some(frames),
        batch: analyser.suitable_batch(true),
        gate: GateSettings { live: false, recorded: false },
        alarm_after: Duration::from_secs(3600),
        model: String::new(),
        live: LiveSettings::default(),
    };
    let counters = || [&COUNT, &LARGE_COUNT, &LARGE_BYTES].map(|counter| counter.load(Ordering::Relaxed));
    let before = counters();
    let stats = Arc::new(RunStats::new(["synthetic".to_owned()]));
    let annotator = Annotator::new().unwrap();
    run(&settings, analyser, annotator, Vec::new(), &stats, &mut Silent, &Shutdown::default());
    let after = counters();
    std::array::from_fn(|index| after[index] - before[index])
}

/// Per frame, from the difference of a longer and a shorter run.
fn a_frame(engine: Engine, view: View) -> [f64; 3] {
    const FRAMES: u64 = 8;
    let mut analyser = Analyser::new(engine, view);
    // Memory is laid out.
    counted(&mut analyser, FRAMES);
    let (short, long) = (counted(&mut analyser, FRAMES), counted(&mut analyser, 3 * FRAMES));
    std::array::from_fn(|index| (long[index] as f64 - short[index] as f64) / (2 * FRAMES) as f64)
}

#[test]
fn a_frame_takes_few_large_allocations() {
    let engine = |path: std::path::PathBuf| Engine::load(&path, tch::Device::Cpu).unwrap();
    // As `run --scan whole` has it.
    let refined = HayCamRefined { read_at: ReadAt::Layer4, ..HayCamRefined::default() };
    let settings = AnalysisSettings {
        method: Method::HayCamRefined,
        method_settings: MethodSettings { refined, ..MethodSettings::default() },
        threshold: Threshold::Share(0.3),
        all_boxes: false,
        basis: Some(CacheSettings::default()),
    };
    let whole = a_frame(engine(shipped_model()), View::Whole(settings));
    let basis = BasisSettings { live: None, recorded: Some(CacheSettings::default()) };
    let scan = ScanAnalysisSettings { scan: ScanSettings::default(), threshold: None, basis };
    let scanned = a_frame(engine(scenes_model()), View::Scan(scan));
    println!("allocations, large ones, bytes of these: whole {whole:?}, scanned {scanned:?}");
    assert!(whole[1] <= 1.6 && scanned[1] <= 0.5, "whole {whole:?}, scanned {scanned:?}");
    // But for what the resizing library asks for: a table a row and a column of the smaller picture.
    let (side, scan) = (2.0 * 224.0, (896.0 + 512.0) + (384.0 + 224.0));
    let ours = [whole[0] - side, scanned[0] - scan];
    assert!(ours[0] <= 60.0 && ours[1] <= 120.0, "whole {}, scanned {}", ours[0], ours[1]);
}
