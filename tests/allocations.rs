//! What a frame costs in memory that is asked for anew, once a run is under way: the Rust side of the pipeline, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maskwatch::analyse::{Analyser, AnalysisSettings, BasisSettings, ScanAnalysisSettings};
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
use maskwatch::shared::Shared;
use maskwatch::shutdown::Shutdown;
use maskwatch::sinks::{Finding, Sink, SinkError, SourceContext, Written};
use maskwatch::stats::RunStats;

/// Allocations a frame at most: channels without a bound ask for room for 31 messages at a time, and a frame that comes when more are
/// under way than ever before has nobody's memory to take.
const MOST: f64 = 0.25;
/// The same of frames that are drawn, which pass one thread more.
const MOST_DRAWN: f64 = 0.5;
/// Of frames with a face: letters and digits are outlined when they are drawn for the first time, and events are told one by one.
const MOST_WITH_NEW_LETTERS: f64 = 1.5;

/// Frames of a short run; a long one has three times as many.
const FRAMES: u64 = 12;

/// How long the first run keeps its first frame, so that all queues are full behind it.
const HELD_UP: Duration = Duration::from_secs(2);
/// Frames of that run: more than can be under way.
const FRAMES_HELD_UP: u64 = 60;

/// From this size on, an allocation holds pixels or activations.
const LARGE: usize = 64 * 1024;

/// The system's, which counts.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGE_COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Frames that were drawn with a box.
static FACES: AtomicUsize = AtomicUsize::new(0);

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

/// Draws each frame, as outputs do that show it.
struct Drawing {
    /// How long it keeps the first.
    held_up: Duration,
}

impl Sink for Drawing {
    fn name(&self) -> &'static str {
        "drawing"
    }

    fn open(&mut self, _: SourceContext) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        assert_eq!(finding.annotated().dimensions(), finding.frame.image.dimensions());
        FACES.fetch_add(usize::from(!finding.analysis.boxes.is_empty()), Ordering::Relaxed);
        std::thread::sleep(std::mem::take(&mut self.held_up));
        Ok(())
    }

    fn close(&mut self, _: usize) -> Result<(), SinkError> {
        Ok(())
    }

    fn written(&self) -> Vec<Written> {
        Vec::new()
    }
}

/// Allocations, large ones, and bytes of these, of a run of so many frames, with an output or without.
fn counted(analyser: &mut Analyser, spec: &SourceSpec, sink: Option<Drawing>, frames: u64) -> [usize; 3] {
    let settings = RunSettings {
        sources: vec![NamedSource { name: "source".to_owned(), spec: spec.clone() }],
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
    let stats = Arc::new(RunStats::new(["source".to_owned()]));
    let annotator = Annotator::new().unwrap();
    let sinks = sink.into_iter().map(|sink| Box::new(sink) as Box<dyn Sink>).collect();
    run(&settings, analyser, annotator, sinks, &stats, &mut Silent, &Shutdown::default());
    let after = counters();
    std::array::from_fn(|index| after[index] - before[index])
}

/// Per frame, from the difference of a longer and a shorter run: the least of a few, as more frames than before may be under way at
/// once in any of them, whose memory is new.
fn a_frame(analyser: &mut Analyser, spec: &SourceSpec, is_drawn: bool) -> [f64; 3] {
    // Memory is laid out, for as many frames as can be under way at once.
    counted(analyser, spec, Some(Drawing { held_up: HELD_UP }), FRAMES_HELD_UP);
    let sink = || is_drawn.then_some(Drawing { held_up: Duration::ZERO });
    let mut count = |frames| counted(analyser, spec, sink(), frames);
    let differences: Vec<[f64; 3]> = (0..2)
        .map(|_| {
            let (short, long) = (count(FRAMES), count(3 * FRAMES));
            std::array::from_fn(|index| (long[index] as f64 - short[index] as f64) / (2 * FRAMES) as f64)
        })
        .collect();
    std::array::from_fn(|index| differences.iter().map(|difference| difference[index]).fold(f64::INFINITY, f64::min))
}

/// What `run --scan whole` and `run` look at frames with. Bases are sampled, and kept however old they are: a fit takes some fifty
/// allocations, now and then.
fn analysers() -> [(&'static str, Analyser); 2] {
    let engine = |path: PathBuf| Engine::load(&path, tch::Device::Cpu).unwrap();
    let basis =
        Some(CacheSettings { margin: 1.0, cut: f64::INFINITY, max_age: Duration::MAX, ..CacheSettings::default() });
    let refined = HayCamRefined { read_at: ReadAt::Layer4, ..HayCamRefined::default() };
    let whole = AnalysisSettings {
        method: Method::HayCamRefined,
        method_settings: MethodSettings { refined, ..MethodSettings::default() },
        threshold: Threshold::Share(0.3),
        all_boxes: false,
        basis,
    };
    let basis = BasisSettings { live: None, recorded: basis };
    let scan = ScanAnalysisSettings { scan: ScanSettings::default(), threshold: None, basis };
    [("whole", Analyser::new(engine(shipped_model()), whole)), ("scanned", Analyser::new(engine(scenes_model()), scan))]
}

/// One after another, as they share the counters.
#[test]
fn a_frame_takes_no_memory_anew() {
    let made_up = SourceSpec::Synthetic { width: 1280, height: 720 };
    let video = cfg!(feature = "opencv")
        .then(|| SourceSpec::VideoFile(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/mask_on_off.mp4")));
    for (way, mut analyser) in analysers() {
        let plain = a_frame(&mut analyser, &made_up, false);
        let drawn = a_frame(&mut analyser, &made_up, true);
        println!("{way}, allocations, large ones, bytes of these: {plain:?}, drawn {drawn:?}");
        assert!(plain[0] <= MOST && plain[1] <= 0.0, "{way}: {plain:?}");
        assert!(drawn[0] <= MOST_DRAWN && drawn[1] <= 0.0, "{way}, drawn: {drawn:?}");
        if let Some(video) = &video {
            FACES.store(0, Ordering::Relaxed);
            let faces = a_frame(&mut analyser, video, true);
            println!("{way}, a video with a face, drawn: {faces:?}");
            assert!(
                faces[0] <= MOST_WITH_NEW_LETTERS && faces[1] <= 0.0,
                "{way}, a video with a face, drawn: {faces:?}"
            );
            assert!(
                FACES.load(Ordering::Relaxed) > 8 * FRAMES as usize,
                "{way}: most of 13 times as many frames have a box"
            );
        }
    }
}
