//! The pipeline when a part of it breaks: the rest goes on, everybody is told, nothing hangs.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::sample;
use maskwatch::analyse::{Analyser, AnalysisSettings, BatchLimit};
use maskwatch::boxes::Threshold;
use maskwatch::capture::{CameraId, LiveSettings, Policy, SourceInfo, SourceSpec};
use maskwatch::config::shipped_model;
use maskwatch::draw::Annotator;
use maskwatch::exit_code::ExitCode;
use maskwatch::explain::{Method, MethodSettings};
use maskwatch::gate::GateSettings;
use maskwatch::model::engine::Engine;
use maskwatch::pipeline::summary::Summary;
use maskwatch::pipeline::{NamedSource, Observer, Problem, RunSettings, run};
use maskwatch::shared::Shared;
use maskwatch::shutdown::Shutdown;
use maskwatch::sinks::{Finding, Sink, SinkError, SourceContext, Written};
use maskwatch::stats::RunStats;

struct Silent;

impl Observer for Silent {
    fn opened(&mut self, _: usize, _: &SourceInfo) {}
    fn frame(&mut self, _: usize, _: u64) {}
    fn closed(&mut self, _: usize) {}
    fn problem(&mut self, _: &Problem) {}
}

/// Takes so many frames before it breaks, and notes what it was told.
struct Fragile {
    breaks_after: u64,
    seen: u64,
    panics: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Sink for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }

    fn open(&mut self, source: SourceContext) -> Result<(), SinkError> {
        self.log.lock().unwrap().push(format!("open {}", source.info.name));
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        self.seen += 1;
        if self.seen > self.breaks_after {
            assert!(!self.panics, "broken on purpose");
            return Err(SinkError::Window("broken on purpose".to_owned()));
        }
        self.log.lock().unwrap().push(format!("frame {}", finding.frame.index));
        Ok(())
    }

    fn close(&mut self, source: usize) -> Result<(), SinkError> {
        self.log.lock().unwrap().push(format!("close {source}"));
        Ok(())
    }

    fn written(&self) -> Vec<Written> {
        Vec::new()
    }
}

fn run_with(policy: Policy, limit: u64, sinks: Vec<Box<dyn Sink>>) -> Summary {
    run_gated(policy, limit, sinks, GateSettings { live: true, recorded: true }, 1)
}

fn settings_of(specs: Vec<SourceSpec>, policy: Option<Policy>, gate: GateSettings) -> RunSettings {
    RunSettings {
        sources: specs.into_iter().map(|spec| NamedSource { name: "sample".to_owned(), spec }).collect(),
        policy,
        limit: None,
        batch: BatchLimit::of_frames(1),
        gate,
        alarm_after: Duration::from_secs(3),
        model: "shipped".to_owned(),
        live: LiveSettings::default(),
    }
}

fn run_gated(policy: Policy, limit: u64, sinks: Vec<Box<dyn Sink>>, gate: GateSettings, batch: usize) -> Summary {
    let file = SourceSpec::VideoFile(sample("mask_on_off.mp4"));
    let settings = RunSettings {
        limit: Some(limit),
        batch: BatchLimit::of_frames(batch),
        ..settings_of(vec![file], Some(policy), gate)
    };
    let analysis = AnalysisSettings {
        method: Method::HayCam,
        method_settings: MethodSettings::default(),
        threshold: Threshold::Share(0.3),
        all_boxes: false,
        basis: None,
    };
    let engine = Engine::load(&shipped_model(), tch::Device::Cpu).unwrap();
    let mut analyser = Analyser::new(engine, analysis);
    let stats = Arc::new(RunStats::new(["sample".to_owned()]));
    run(&settings, &mut analyser, Annotator::new().unwrap(), sinks, &stats, &mut Silent, &Shutdown::default())
}

fn fragile(breaks_after: u64, panics: bool) -> (Box<dyn Sink>, Arc<Mutex<Vec<String>>>) {
    let log = Arc::default();
    (Box::new(Fragile { breaks_after, seen: 0, panics, log: Arc::clone(&log) }), log)
}

#[test]
fn a_sink_that_fails_leaves_the_others_running() {
    let (broken, _) = fragile(2, false);
    let (sound, log) = fragile(u64::MAX, false);
    let summary = run_with(Policy::Recorded, 8, vec![broken, sound]);
    assert_eq!(summary.frames(), 8);
    assert!(matches!(summary.problems[..], [Problem::Sink(_)]), "{:?}", summary.problems);
    assert_eq!(summary.exit_code(), ExitCode::Failed);
    assert!(summary.to_string().contains("fragile failed: the window failed: broken on purpose"), "{summary}");
    let log = log.lock().unwrap();
    assert_eq!((log[0].as_str(), log[1].as_str(), log[8].as_str()), ("open sample", "frame 0", "frame 7"));
    assert!(log[9..].iter().all(|line| line == "close 0") && log.len() > 9, "{log:?}");
}

#[test]
fn frames_come_in_their_order_whether_the_gate_compares_them_or_not() {
    for recorded in [true, false] {
        for batch in [1, 3] {
            let (sound, log) = fragile(u64::MAX, false);
            let gate = GateSettings { live: true, recorded };
            let summary = run_gated(Policy::Recorded, 10, vec![sound], gate, batch);
            assert!(summary.problems.is_empty() && summary.frames() == 10, "{:?}", summary.problems);
            let expected = (0..10).map(|frame| format!("frame {frame}"));
            let expected: Vec<String> = std::iter::once("open sample".to_owned()).chain(expected).collect();
            let log = log.lock().unwrap();
            assert_eq!((&log[..11], log.last().unwrap().as_str()), (&expected[..], "close 0"));
        }
    }
}

#[test]
fn frames_can_wait_unless_one_is_live_or_compared_with_the_one_before() {
    let file = || SourceSpec::VideoFile(sample("mask_on_off.mp4"));
    let camera = || SourceSpec::Camera(CameraId::Index(0));
    let off = GateSettings { live: true, recorded: false };
    for (specs, policy, gate, can_wait) in [
        (vec![file()], None, off, true),
        (vec![file(), file()], Some(Policy::Recorded), off, true),
        (vec![file()], Some(Policy::Live), off, false),
        (vec![file(), camera()], None, off, false),
        (vec![camera()], Some(Policy::Recorded), off, true),
        (vec![file()], None, GateSettings { live: true, recorded: true }, false),
    ] {
        let told = format!("{specs:?} {policy:?} {gate:?}");
        assert_eq!(settings_of(specs, policy, gate).frames_can_wait(), can_wait, "{told}");
    }
}

#[test]
fn a_run_ends_when_its_last_sink_has_failed() {
    let (broken, log) = fragile(1, false);
    let summary = run_with(Policy::Recorded, 200, vec![broken]);
    assert!(!summary.interrupted && summary.frames() < 100, "{}", summary.frames());
    assert_eq!(summary.exit_code(), ExitCode::Failed);
    assert_eq!(*log.lock().unwrap(), ["open sample", "frame 0"]);
}

#[test]
fn a_stage_that_panics_is_named_and_the_rest_ends() {
    // Live, too: its capture thread waits for nobody, so it has to be told.
    for policy in [Policy::Recorded, Policy::Live] {
        let (broken, _) = fragile(0, true);
        let summary = run_with(policy, 30, vec![broken]);
        let [Problem::Panic { stage, message }] = &summary.problems[..] else { panic!("{:?}", summary.problems) };
        assert_eq!(stage, "fragile");
        assert!(message.contains("broken on purpose"), "{message}");
        assert!(summary.to_string().contains("fragile failed: the fragile stage failed"), "{summary}");
        assert_eq!(summary.stats.sources[0].state, "ended");
        assert_eq!(summary.exit_code(), ExitCode::Failed);
    }
}
