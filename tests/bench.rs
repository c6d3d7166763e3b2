//! `maskwatch bench`, from outside. Nothing here says how long anything takes.

mod common;

use common::*;
use serde_json::Value;

/// Small and soon done.
const SMALL: [&str; 8] = ["bench", "--scan", "96", "--rounds", "3", "--frames", "16", "--device=cpu"];
const MADE_UP: [&str; 2] = ["--frame-size", "160x120"];

fn measured(more: &[&str]) -> Value {
    let run = maskwatch([&SMALL, more, &["--json", "-"]].concat()).ok();
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

/// Names of the stages, whose figures must make sense.
fn stages(variant: &Value) -> Vec<&str> {
    let name = |row: &'_ Value| {
        let figure = |name: &str| row["ms"][name].as_f64().unwrap();
        assert!(
            figure("p25") >= 0.0 && figure("p25") <= figure("median") && figure("median") <= figure("p75"),
            "{row}"
        );
        assert!(row["of_forward"].as_f64().unwrap() >= 0.0, "{row}");
    };
    let rows = variant["stages"].as_array().unwrap();
    rows.iter().for_each(name);
    rows.iter().map(|row| row["stage"].as_str().unwrap()).collect()
}

/// The stages that follow the network in a scan, and those that a build without an encoder lacks.
fn from_explain_on() -> Vec<&'static str> {
    let with_encoder = |stage| cfg!(feature = "gstreamer").then_some(stage);
    let stages = ["explain exact", "explain cached", "boxes", "draw"].into_iter();
    stages.chain(with_encoder("encode")).chain(["analysis"]).chain(with_encoder("whole")).collect()
}

#[test]
fn made_up_frames_are_measured_stage_by_stage() {
    let report = measured(&MADE_UP);
    assert_eq!((&report["rounds"], &report["interrupted"]), (&Value::from(3), &Value::from(false)));
    assert!(report["machine"]["threads"].as_u64().unwrap() >= 1 && report["version"].is_string());
    let [variant] = &report["variants"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(stages(variant), [&["prepare", "forward"][..], &from_explain_on()].concat());
    let options = &variant["options"];
    assert_eq!((&options["video"], &options["frame_size"]), (&Value::Null, &serde_json::json!([160, 120])));
    assert_eq!((&options["scan"], &options["scan_size"]), (&Value::from("96"), &serde_json::json!([128, 96])));
    assert!(variant["share_of_forward_rate"]["median"].as_f64().unwrap() > 0.0, "{variant}");
    assert_eq!(report["ratios"], serde_json::json!([]));
}

#[test]
fn the_table_has_a_line_a_stage_and_the_file_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.json");
    let run = maskwatch([&SMALL, &MADE_UP[..], &["--json", path.to_str().unwrap()]].concat()).ok();
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for row in report["variants"][0]["stages"].as_array().unwrap() {
        let line = format!("{} ", row["stage"].as_str().unwrap());
        let line = run.stdout.lines().find(|candidate| candidate.starts_with(&line));
        let median = format!(" {:.3} ", row["ms"]["median"].as_f64().unwrap());
        assert!(line.is_some_and(|line| line.contains(&median)), "{row}: {}", run.stdout);
    }
    assert!(run.stdout.contains("of the rate of the forward pass alone"), "{}", run.stdout);
}

#[test]
fn frames_seen_as_a_whole_are_explained_by_each_method() {
    let options = [&MADE_UP[..], &["--scan", "whole", "--methods", "haycam,layercam-layer3", "--batch", "3"]].concat();
    let report = measured(&options);
    let stages = stages(&report["variants"][0]);
    for stage in ["explain haycam", "explain layercam-layer3", "boxes", "draw"] {
        assert!(stages.contains(&stage), "{stages:?}");
    }
    assert!(!stages.contains(&"explain cam") && !stages.contains(&"explain exact"), "{stages:?}");
    assert_eq!(report["variants"][0]["options"]["batch"], 3);
}

#[test]
fn a_second_variant_takes_turns_and_is_compared() {
    let report = measured(&[&MADE_UP[..], &["--threads", "2", "--vs", "--threads 1 --resolution atrous"]].concat());
    let [a, b] = &report["variants"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&a["options"]["threads"], &b["options"]["threads"]), (&Value::from(2), &Value::from(1)));
    assert_eq!((&a["options"]["resolution"], &b["options"]["resolution"]), (&"native".into(), &"atrous".into()));
    let ratios = report["ratios"].as_array().unwrap();
    assert_eq!(ratios.iter().map(|row| row["stage"].as_str().unwrap()).collect::<Vec<_>>(), stages(a));
    assert!(ratios.iter().all(|row| row["median"].as_f64().unwrap() > 0.0), "{ratios:?}");
}

#[cfg(all(feature = "opencv", feature = "gstreamer"))]
#[test]
fn a_video_is_decoded_too_and_may_be_shorter_than_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.mp4");
    maskwatch(["run", &sample_video(), "--limit", "5", "--save", short.to_str().unwrap()]).ok();
    let report = measured(&[short.to_str().unwrap()]);
    let variant = &report["variants"][0];
    assert_eq!(stages(variant), [&["decode", "prepare", "forward"][..], &from_explain_on()].concat());
    assert_eq!(variant["options"]["frame_size"], serde_json::json!([640, 480]));
}

#[cfg(feature = "opencv")]
#[test]
fn a_video_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, "no video").unwrap();
    maskwatch(["bench", broken.to_str().unwrap()]).fails(3, "not a video that can be decoded");
    maskwatch(["bench", "/nonexistent.mp4"]).fails(3, "does not exist");
    maskwatch(["bench", sample("hopper_ffp2.jpg").to_str().unwrap()]).fails(2, "is no video");
}

#[cfg(not(feature = "opencv"))]
#[test]
fn a_build_without_video_support_says_so() {
    maskwatch(["bench", &sample_video()]).fails(2, "needs the feature \"opencv\"");
}

#[test]
fn what_makes_no_sense_is_refused_on_one_line() {
    maskwatch(["bench", "--methods", "cam"]).fails(2, "--methods is for pictures seen as a whole");
    maskwatch(["bench", "--vs", "--speed 3"]).fails(2, "--vs '--speed 3': unexpected argument '--speed'");
    maskwatch(["bench", "--model", "/nonexistent"]).fails(3, "cannot read the model /nonexistent");
    maskwatch(["bench", "--json", "/nonexistent/bench.json"]).fails(1, "cannot write /nonexistent/bench.json");
    for (option, value) in [("--rounds", "0"), ("--frames", "15"), ("--frame-size", "12"), ("--batch", "0")] {
        maskwatch(["bench", option, value]).code_is(2, &format!("invalid value '{value}' for '{option}"));
    }
}

#[test]
fn an_interruption_ends_it_with_what_was_measured() {
    let mut command = program();
    command.args(SMALL).args(MADE_UP).args(["--rounds", "1000000", "--json", "-"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = finished(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    // On a very slow machine no round may be over yet.
    if !run.stdout.is_empty() {
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["interrupted"], true);
        stages(&report["variants"][0]);
    }
}
