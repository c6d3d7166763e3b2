//! `maskwatch run` on sound input: what goes in comes out, annotated.

mod common;

use std::path::Path;
use std::time::Duration;

use common::*;
use image::RgbImage;
use maskwatch::sinks::video::{VideoSettings, VideoWriter};
use opencv::prelude::*;

/// True label of the sample video at a time.
fn phase_at(seconds: f64) -> String {
    let mut phases = csv::Reader::from_path(sample("phases.csv")).unwrap();
    let rows = phases.deserialize::<(f64, f64, String)>().map(Result::unwrap);
    rows.into_iter().find(|(start, end, _)| (*start..*end).contains(&seconds)).unwrap().2
}

#[test]
fn the_sample_is_annotated_frame_by_frame_and_its_phases_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, log) = (folder.path().join("annotated.mp4"), folder.path().join("events.jsonl"));
    let outputs = ["--save", saved.to_str().unwrap(), "--events", log.to_str().unwrap()];
    let run = maskwatch([&["run", &sample_video(), "--scan", "whole"], &outputs[..]].concat()).ok();
    assert!(run.stdout.contains("240 frames in"), "{}", run.stdout);
    assert!(run.stdout.contains("audio copied"), "{}", run.stdout);

    let original = decode_sound(&sample("mask_on_off.mp4"));
    let annotated = decode_sound(&saved);
    assert_same_timestamps(&timestamps(&annotated), &timestamps(&original));
    assert_eq!(annotated[0].1.dimensions(), original[0].1.dimensions());
    let changed =
        original[30].1.pixels().zip(annotated[30].1.pixels()).filter(|(a, b)| a.0[0].abs_diff(b.0[0]) > 30).count();
    assert!(changed > 5000, "heat map, box and label must be seen: {changed} pixels changed");

    let events = events(&log);
    assert_eq!(events.len(), original.len());
    let mut wrong = Vec::new();
    for (index, (event, pts)) in events.iter().zip(timestamps(&original)).enumerate() {
        assert_eq!(event["frame"], index);
        assert!((event["pts_ms"].as_f64().unwrap() - pts.as_secs_f64() * 1e3).abs() < 0.01);
        let label = event["label"].as_str().unwrap();
        if label != phase_at(pts.as_secs_f64()) {
            wrong.push(format!("{pts:?} {label}"));
        }
        let sum: f64 = event["probabilities"].as_object().unwrap().values().map(|value| value.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-3);
        let boxes = event["boxes"].as_array().unwrap();
        assert_eq!(boxes.len(), usize::from(label != "background"));
        for found in boxes {
            let edge = |name: &str| found[name].as_u64().unwrap();
            assert!(edge("x") + edge("width") <= 640 && edge("y") + edge("height") <= 480 && edge("width") > 0);
        }
        assert!(event.get("scan").is_none());
        assert_eq!(event["cam"]["method"], "haycam-refined");
        // A basis is fitted to capture 0.7, and given up when it has lost more than 0.05 of that.
        let least = if event["cam"]["basis_age_frames"] == 0 { 0.7 } else { 0.65 };
        assert!(event["cam"]["captured_variance"].as_f64().unwrap() >= least, "{}", event["cam"]);
    }
    assert!(wrong.len() <= events.len() / 50, "{} frames are wrong: {wrong:?}", wrong.len());
}

#[test]
fn pictures_are_saved_beside_each_other_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let samples = sample("");
    let run = maskwatch([
        "run",
        &format!("{}/*.jpg", samples.display()),
        "--scan",
        "whole",
        "--save",
        folder.path().to_str().unwrap(),
        "--events",
        "-",
    ]);
    let run = run.ok();
    let events = parse_events(&run.stdout);
    assert!(
        run.stderr.contains("6 frames in"),
        "with events on standard output, the summary goes elsewhere: {}",
        run.stderr
    );
    assert_eq!(events.len(), 6);
    for event in &events {
        let source = event["source"].as_str().unwrap();
        let expected = match source {
            name if name.ends_with("no_mask") => "no_mask",
            name if name.starts_with("empty") => "background",
            _ => "mask",
        };
        assert_eq!(event["label"], expected, "{source}");
        let saved = image::open(folder.path().join(format!("{source}.jpg"))).unwrap();
        let original = image::open(sample(&format!("{source}.jpg"))).unwrap();
        assert_eq!((saved.width(), saved.height()), (original.width(), original.height()));
    }
    let single = folder.path().join("one.png");
    maskwatch(["run", sample("collins_surgical.jpg").to_str().unwrap(), "--save", single.to_str().unwrap()]).ok();
    assert!(image::open(single).is_ok());
}

#[test]
fn events_tell_how_their_maps_were_made() {
    let cam = |options: &[&str]| {
        let video = sample_video();
        let arguments = [&["run", &video, "--scan", "whole", "--limit", "2", "--events", "-"], options].concat();
        let events = parse_events(&maskwatch(arguments).ok().stdout);
        assert_eq!(events.len(), 2);
        events[1]["cam"].clone()
    };
    let haycam = cam(&["--method", "haycam"]);
    assert_eq!((&haycam["method"], &haycam["components"]), (&"haycam".into(), &19.into()));
    let refined = cam(&["--layer", "both", "--resolution", "atrous", "--components", "7"]);
    assert_eq!((&refined["method"], &refined["components"]), (&"haycam-refined".into(), &7.into()));
    assert_eq!(cam(&["--method", "gradcam++"]), serde_json::json!({"method": "gradcam++"}));
}

#[test]
fn a_scan_of_the_sample_finds_its_faces_and_nobody_else() {
    let events = parse_events(&maskwatch(["run", &sample_video(), "--scan", "224", "--events", "-"]).ok().stdout);
    assert_eq!(events.len(), 240);
    for event in &events {
        let phase = phase_at(event["pts_ms"].as_f64().unwrap() / 1e3);
        let labels: Vec<&str> =
            event["boxes"].as_array().unwrap().iter().map(|found| found["label"].as_str().unwrap()).collect();
        let expected = if phase == "background" { Vec::new() } else { vec![phase.as_str()] };
        assert_eq!((labels, &event["label"]), (expected, &phase.as_str().into()), "{event}");
    }
}

#[test]
fn scanned_frames_tell_how_they_were_scanned() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("annotated.mp4");
    let scan = |options: &[&str]| {
        let video = sample_video();
        let arguments = [&["run", &video, "--limit", "2", "--events", "-"], options].concat();
        let events = parse_events(&maskwatch(arguments).ok().stdout);
        assert_eq!(events.len(), 2);
        let event = &events[1];
        assert_eq!((&event["cam"]["method"], event["label"].is_string()), (&"haycam".into(), true));
        let scores: Vec<f64> =
            event["boxes"].as_array().unwrap().iter().map(|found| found["score"].as_f64().unwrap()).collect();
        assert!(scores.iter().rev().is_sorted() && scores.iter().all(|score| *score > 0.0 && *score <= 1.0));
        let strongest = event["boxes"].get(0).map_or(&event["label"], |found| &found["label"]);
        assert_eq!(&event["label"], strongest);
        events[1].clone()
    };
    let size =
        |short_side, width, height| serde_json::json!({"short_side": short_side, "width": width, "height": height});
    assert_eq!(scan(&["--save", saved.to_str().unwrap()])["scan"], size(512, 672, 512));
    assert_eq!(decode_sound(&saved).len(), 2);
    assert_eq!(scan(&["--scan", "200"])["scan"], size(200, 256, 192));
    // The sample has 480 lines.
    assert_eq!(scan(&["--min-face", "80"])["scan"], size(384, 512, 384));
    assert!(scan(&["--threshold", "0.999999"])["boxes"].as_array().unwrap().len() <= 1);
}

#[test]
fn events_tell_which_basis_their_maps_were_made_with() {
    let cams = |basis: &str| -> Vec<serde_json::Value> {
        let arguments = ["run", &sample_video(), "--scan", "96", "--limit", "3", "--basis", basis, "--events", "-"];
        parse_events(&maskwatch(arguments).ok().stdout).into_iter().map(|event| event["cam"].clone()).collect()
    };
    let ages = |cams: &[serde_json::Value]| -> Vec<u64> {
        cams.iter().map(|cam| cam["basis_age_frames"].as_u64().unwrap()).collect()
    };
    let kept = cams("cached");
    assert_eq!(ages(&kept), [0, 1, 2]);
    assert!(kept[0]["basis"].as_str().unwrap().len() == 16 && kept[0]["basis"] == kept[2]["basis"]);
    let exact = cams("per-frame");
    assert_eq!(ages(&exact), [0, 0, 0]);
    assert!(exact[0].get("basis").is_none());
    assert_eq!(exact[0]["captured_variance"], kept[0]["captured_variance"], "the first basis is the frame's own");
}

#[test]
fn two_runs_are_equal() {
    let run = || {
        let arguments = ["run", &sample_video(), "--limit", "12", "--events", "-"];
        let mut events = parse_events(&maskwatch(arguments).ok().stdout);
        for event in &mut events {
            let event = event.as_object_mut().unwrap();
            event.remove("time");
            event.remove("latency_ms");
        }
        events
    };
    assert_eq!(run(), run());
}

#[test]
fn variable_frame_rates_and_limits_keep_their_timestamps() {
    let folder = tempfile::tempdir().unwrap();
    let (source, saved) = (folder.path().join("vfr.mp4"), folder.path().join("out.mp4"));
    let times: Vec<Duration> = [0, 40, 55, 200, 233, 900, 940, 1500, 1501, 2750].map(Duration::from_millis).to_vec();
    write_with_b_frames(&source, &times);
    maskwatch(["run", source.to_str().unwrap(), "--save", saved.to_str().unwrap()]).ok();
    assert_same_timestamps(&timestamps(&decode_sound(&saved)), &times);
    maskwatch(["run", source.to_str().unwrap(), "--save", saved.to_str().unwrap(), "--limit", "4"]).ok();
    assert_same_timestamps(&timestamps(&decode_sound(&saved)), &times[..4]);
}

/// A video of which the decoder holds frames back, as those of phones and editors are.
fn write_with_b_frames(path: &Path, times: &[Duration]) {
    use gstreamer::prelude::*;
    gstreamer::init().unwrap();
    let description = format!(
        "appsrc name=source format=time caps=video/x-raw,format=RGB,width=320,height=240,framerate=0/1 ! videoconvert \
         ! x264enc bframes=3 b-adapt=false ! mp4mux trak-timescale=90000 ! filesink location=\"{}\"",
        path.display()
    );
    let pipeline = gstreamer::parse::launch(&description).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let source = pipeline.by_name("source").unwrap().downcast::<gstreamer_app::AppSrc>().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    for (index, &time) in times.iter().enumerate() {
        let mut buffer = gstreamer::Buffer::from_slice(vec![index as u8 * 20; 320 * 240 * 3]);
        let end = times.get(index + 1).copied().unwrap_or(time + Duration::from_millis(40));
        let stamped = buffer.get_mut().unwrap();
        stamped.set_pts(gstreamer::ClockTime::try_from(time).unwrap());
        stamped.set_duration(gstreamer::ClockTime::try_from(end - time).unwrap());
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let ends = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gstreamer::ClockTime::from_seconds(20), &ends).unwrap();
    assert_eq!(message.type_(), gstreamer::MessageType::Eos, "{message:?}");
    pipeline.set_state(gstreamer::State::Null).unwrap();
}

#[test]
fn odd_sizes_are_padded_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (source, saved) = (folder.path().join("odd.avi"), folder.path().join("out.mp4"));
    write_motion_jpeg(&source, 101, 77, 5);
    let run = maskwatch(["run", source.to_str().unwrap(), "--save", saved.to_str().unwrap()]).ok();
    assert!(run.stdout.contains("one pixel added because H.264 needs even sizes"), "{}", run.stdout);
    let frames = decode_sound(&saved);
    assert_eq!((frames.len(), frames[0].1.dimensions()), (5, (102, 78)));
}

fn write_motion_jpeg(path: &Path, width: i32, height: i32, frames: i32) {
    use opencv::core::{Mat, Scalar, Size};
    use opencv::videoio::VideoWriter;
    let codec = VideoWriter::fourcc('M', 'J', 'P', 'G').unwrap();
    // OpenCV's own writer: FFmpeg's would round the size.
    let own = opencv::videoio::CAP_OPENCV_MJPEG;
    let mut writer =
        VideoWriter::new_with_backend(path.to_str().unwrap(), own, codec, 25.0, Size::new(width, height), true)
            .unwrap();
    for frame in 0..frames {
        let grey = Scalar::all(f64::from(frame) * 20.0);
        writer.write(&Mat::new_rows_cols_with_default(height, width, opencv::core::CV_8UC3, grey).unwrap()).unwrap();
    }
    writer.release().unwrap();
}

#[test]
fn rotation_metadata_is_honoured() {
    let folder = tempfile::tempdir().unwrap();
    let (source, saved) = (folder.path().join("rotated.mp4"), folder.path().join("out.mp4"));
    // Left half red, right half blue; turned by 90 degrees clockwise, red must be above blue.
    let picture = RgbImage::from_fn(160, 96, |x, _| image::Rgb(if x < 80 { [200, 0, 0] } else { [0, 0, 200] }));
    let mut writer = VideoWriter::create(&VideoSettings::new(&source, 160, 96)).unwrap();
    for frame in 0..5 {
        writer.write(&picture, Duration::from_millis(frame * 40)).unwrap();
    }
    writer.finish().unwrap();
    turn_clockwise(&source);
    maskwatch(["run", source.to_str().unwrap(), "--save", saved.to_str().unwrap()]).ok();
    let frames = decode_sound(&saved);
    assert_eq!((frames.len(), frames[0].1.dimensions()), (5, (96, 160)));
    let (above, below) = (frames[2].1.get_pixel(90, 40).0, frames[2].1.get_pixel(90, 140).0);
    assert!(above[0] > above[2] && below[2] > below[0], "{above:?} {below:?}");
}

/// Replaces the identity in the header of the video track by a turn of 90 degrees (ISO 14496-12, 8.3.2).
fn turn_clockwise(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let header = bytes.windows(4).position(|window| window == b"tkhd").unwrap();
    let matrix = header + 4 + 40;
    let fixed = |value: i32, shift: u32| (value << shift).to_be_bytes();
    let turned = [fixed(0, 16), fixed(1, 16), fixed(0, 30), fixed(-1, 16), fixed(0, 16), fixed(0, 30)];
    assert_eq!(bytes[matrix..matrix + 4], fixed(1, 16), "this is not where the matrix is");
    bytes[matrix..matrix + 24].copy_from_slice(&turned.concat());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn an_interrupted_run_completes_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, log) = (folder.path().join("out.mp4"), folder.path().join("events.jsonl"));
    let child = program()
        .args(["run", &sample_video(), "--save", saved.to_str().unwrap(), "--events", log.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    let started = std::time::Instant::now();
    while lines() < 20 {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let run = finished(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(run.stdout.contains("frames in"), "{}", run.stdout);
    let frames = decode_sound(&saved).len();
    assert!((20..240).contains(&frames) && frames == events(&log).len(), "{frames}");
}

#[test]
fn live_policy_plays_a_file_at_its_own_speed_and_drops_what_is_late() {
    let started = std::time::Instant::now();
    let run = maskwatch(["run", &sample_video(), "--policy", "live", "--limit", "46", "--events", "-"]).ok();
    let events = parse_events(&run.stdout);
    // 46 frames at 15 frames a second; how many of them are dropped depends on the machine.
    assert!(started.elapsed() >= Duration::from_secs(3));
    assert!(!events.is_empty() && events.len() <= 46);
    assert!(events.iter().map(|event| event["frame"].as_u64().unwrap()).is_sorted());
}

#[test]
fn several_sources_go_to_a_folder_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let video = sample_video();
    let picture = sample("hopper_no_mask.jpg");
    let out = folder.path().join("new/folder");
    let arguments = ["run", &video, &video, picture.to_str().unwrap(), "--limit", "3", "--save", out.to_str().unwrap()];
    let run = maskwatch(arguments).ok();
    assert!(run.stdout.contains("7 frames in"), "{}", run.stdout);
    assert_eq!(decode_sound(&out.join("mask_on_off.mp4")).len(), 3);
    assert_eq!(decode_sound(&out.join("mask_on_off-2.mp4")).len(), 3);
    assert!(out.join("hopper_no_mask.jpg").exists());
}

#[test]
fn log_lines_begin_with_a_time_unless_the_journal_adds_one() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let logged = |journal: Option<(u64, u64)>| {
        let file = std::fs::File::create(&path).unwrap();
        let own = file.metadata().unwrap();
        let (device, inode) = journal.unwrap_or((own.dev(), own.ino()));
        let mut command = program();
        command.args(["run", "/nonexistent.mp4"]).env("JOURNAL_STREAM", format!("{device}:{inode}"));
        assert_eq!(command.stderr(file).status().unwrap().code(), Some(3));
        std::fs::read_to_string(&path).unwrap()
    };
    assert!(logged(None).starts_with("ERROR /nonexistent.mp4"), "{}", logged(None));
    // The journal is somewhere else.
    let line = logged(Some((1, 2)));
    let (time, message) = line.split_once(' ').unwrap();
    assert!(time.len() == "2026-01-02T03:04:05.678Z".len() && humantime::parse_rfc3339(time).is_ok(), "{line}");
    assert!(message.starts_with("ERROR /nonexistent.mp4"), "{line}");
}
