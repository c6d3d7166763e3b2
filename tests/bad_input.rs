//! Whatever is wrong, it is said in one line, with the right exit code, and nothing already written is lost.

mod common;

use std::path::{Path, PathBuf};

use common::*;

struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn sample_bytes() -> Vec<u8> {
    std::fs::read(sample("mask_on_off.mp4")).unwrap()
}

/// The boxes at the top of an MP4: kind and bytes.
fn mp4_boxes(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let mut boxes = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 8 {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (this, after) = rest.split_at(size);
        boxes.push((String::from_utf8_lossy(&this[4..8]).into_owned(), this));
        rest = after;
    }
    boxes
}

fn without(bytes: &[u8], kind: &str) -> Vec<u8> {
    mp4_boxes(bytes).into_iter().filter(|(name, _)| name != kind).flat_map(|(_, content)| content.to_vec()).collect()
}

#[test]
fn a_missing_path() {
    maskwatch(["run", "/nonexistent/clip.mp4"]).fails(3, "/nonexistent/clip.mp4 does not exist: check the path");
}

#[test]
fn a_folder_without_images() {
    let fixture = Fixture::new();
    fixture.file("notes.txt", "no picture");
    maskwatch(["run", fixture.0.path().to_str().unwrap()]).fails(3, "holds no image or video");
}

#[test]
fn a_text_file_named_mp4() {
    let fixture = Fixture::new();
    maskwatch(["run", &fixture.file("text.mp4", "this is not a video\n")])
        .fails(3, "is not a video that can be decoded");
}

#[test]
fn a_truncated_mp4_with_its_index_at_the_end() {
    let fixture = Fixture::new();
    let mut bytes = without(&sample_bytes(), "moov");
    bytes.truncate(bytes.len() / 2);
    maskwatch(["run", &fixture.file("cut.mp4", bytes)]).fails(3, "its index (moov) is missing");
}

#[test]
fn a_truncated_mp4_with_its_index_in_front_keeps_what_could_be_decoded() {
    let fixture = Fixture::new();
    let mut bytes = sample_bytes();
    bytes.truncate(bytes.len() / 8);
    let source = fixture.file("cut.mp4", bytes);
    let (saved, log) = (fixture.path("out.mp4"), fixture.path("events.jsonl"));
    let arguments =
        ["run", &source, "--scan", "96", "--save", saved.to_str().unwrap(), "--events", log.to_str().unwrap()];
    let run = maskwatch(arguments).fails(3, "is cut short");
    assert!(run.stderr.contains("of 240 could be decoded"), "{}", run.stderr);
    let frames = decode_sound(&saved).len();
    assert!(frames > 5 && frames == events(&log).len(), "{frames}");
    assert!(run.stdout.contains(&format!("{frames} frames in")), "{}", run.stdout);
}

#[test]
fn videos_without_frames() {
    let fixture = Fixture::new();
    maskwatch(["run", &fixture.file("empty.mp4", "")]).fails(3, "is empty (0 bytes)");
    // An index that promises frames, and no frame.
    let bytes = sample_bytes();
    let head: Vec<u8> = mp4_boxes(&bytes)
        .into_iter()
        .filter(|(kind, _)| kind == "ftyp" || kind == "moov")
        .flat_map(|(_, content)| content.to_vec())
        .collect();
    maskwatch(["run", &fixture.file("head.mp4", head)]).fails(3, "holds no video frame");
    // A container with nothing in it at all.
    let ftyp = mp4_boxes(&bytes)[0].1.to_vec();
    let nothing = [ftyp, b"\0\0\0\x08moov".to_vec(), b"\0\0\0\x08mdat".to_vec()].concat();
    maskwatch(["run", &fixture.file("nothing.mp4", nothing)]).fails(3, "is not a video that can be decoded");
}

#[test]
fn an_unreachable_stream() {
    let run =
        maskwatch(["run", "rtsp://user:secret@127.0.0.1:1/stream", "--retries", "0"]).fails(3, "cannot be opened");
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);
}

#[test]
fn an_absent_camera() {
    maskwatch(["run", "/dev/video97", "--retries", "0"]).fails(3, "/dev/video97");
}

#[test]
fn files_that_are_no_model() {
    let fixture = Fixture::new();
    let video = sample_video();
    let text = fixture.file("model.safetensors", "not a model");
    maskwatch(["run", &video, "--model", &text]).fails(3, "damaged or not in the safetensors format");
    maskwatch(["run", &video, "--model", "/nonexistent/model"]).fails(3, "cannot read the model /nonexistent/model");
    let header = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let other = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    maskwatch(["run", &video, "--model", &fixture.file("other.safetensors", other)])
        .fails(3, "no description of its classes");
}

#[test]
fn a_broken_picture_does_not_stop_the_others() {
    let fixture = Fixture::new();
    fixture.file("a.jpg", "not a picture");
    let mut cut = std::fs::read(sample("collins_no_mask.jpg")).unwrap();
    cut.truncate(cut.len() / 2);
    fixture.file("b.jpg", cut);
    std::fs::copy(sample("collins_surgical.jpg"), fixture.path("c.jpg")).unwrap();
    let out = fixture.path("out");
    let run = maskwatch(["run", fixture.0.path().to_str().unwrap(), "--save", out.to_str().unwrap()]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let errors: Vec<&str> = run.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(
        errors.len() == 2
            && errors[0].contains("ERROR a: ")
            && errors[0].contains("a.jpg is not an image")
            && errors[1].contains("ERROR b: "),
        "{errors:?}"
    );
    assert!(out.join("c.jpg").exists() && run.stdout.contains("1 frame in"), "{}", run.stdout);
}

#[test]
fn places_that_cannot_be_written() {
    let fixture = Fixture::new();
    let video = sample_video();
    let file = fixture.file("file", "");
    let below = |name: &str| format!("{file}/{name}");
    maskwatch(["run", &video, "--limit", "2", "--save", &below("out.mp4")]).fails(1, "out.mp4: Not a directory");
    maskwatch(["run", &video, "--limit", "2", "--save", "/nonexistent/out.mp4"]).fails(1, "make the folder first");
    maskwatch(["run", &video, "--limit", "2", "--save", &below("folder")]).fails(1, "cannot write");
    maskwatch(["run", &video, "--limit", "2", "--events", &below("events.jsonl")]).fails(1, "cannot write");
    maskwatch(["run", &video, "--limit", "2", "--events", "/nonexistent/events.jsonl"])
        .fails(1, "make the folder first");
}

#[test]
fn a_full_disk_while_saving_leaves_a_video_that_plays() {
    let fixture = Fixture::new();
    let [saved, log, stats] = ["out.mp4", "events.jsonl", "stats.json"].map(|name| fixture.path(name));
    let video = sample_video();
    let arguments = [
        "run",
        &video,
        "--scan=96",
        "--save",
        saved.to_str().unwrap(),
        "--events",
        log.to_str().unwrap(),
        "--stats",
        stats.to_str().unwrap(),
        "--limit=90",
        "--alarm-after=1h",
    ];
    let run = maskwatch_with_file_limit(200, &arguments).fails(1, "out.mp4");
    assert!(run.stderr.contains("complete seconds in it play"), "{}", run.stderr);
    assert!(std::fs::metadata(&saved).unwrap().len() <= 200 * 1024);
    assert!(decode_sound(&saved).len() >= 10);
    assert_eq!(events(&log).len(), 90, "the other output goes on to the end");
    assert!(run.stdout.contains(&format!("wrote {} (broken off, ", saved.display())), "{}", run.stdout);
    assert!(run.stdout.contains("save failed: cannot go on writing video"), "{}", run.stdout);
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
    let states: Vec<_> = figures["sinks"].as_array().unwrap().iter().map(|sink| &sink["state"]).collect();
    assert_eq!(states, ["failed", "running", "running"]);
    assert!(figures["sinks"][0]["reason"].as_str().unwrap().contains("out.mp4"), "{figures}");

    // Too little even for one second: then there is no file that looks like a video.
    let arguments = ["run", &video, "--scan=96", "--save", saved.to_str().unwrap(), "--limit=90", "--alarm-after=1h"];
    let run = maskwatch_with_file_limit(20, &arguments).fails(1, "so it was removed");
    assert!(!saved.exists() && !run.stdout.contains("wrote"), "{}", run.stdout);
}

#[test]
fn a_full_disk_while_writing_events_leaves_whole_lines() {
    let fixture = Fixture::new();
    let log = fixture.path("events.jsonl");
    let arguments = ["run", &sample_video(), "--events", log.to_str().unwrap(), "--limit=60", "--alarm-after=1h"];
    let run = maskwatch_with_file_limit(4, &arguments).fails(1, "events.jsonl");
    assert!(run.stderr.contains("ulimit -f"), "{}", run.stderr);
    assert!((2..60).contains(&events(&log).len()));
}

#[test]
fn command_lines_that_make_no_sense() {
    let video = sample_video();
    maskwatch(["run", &video, "--show"]).fails(2, "--show needs a display: DISPLAY is not set");
    let wrong = program().args(["run", &video, "--show"]).env("DISPLAY", ":4711").output().unwrap();
    finished(wrong).fails(2, "the X display that DISPLAY names does not answer");
    maskwatch(["run", &video, "--save", "x.avi"]).fails(2, "a video is saved as .mp4");
    maskwatch(["run", &video, "--save", &video]).fails(2, "would overwrite a source");
    maskwatch(["run", "ftp://host/clip.mp4"]).fails(2, "is not a source");
    for arguments in [
        &["run"][..],
        &["run", &video, "--components", "0"],
        &["run", &video, "--threshold", "2"],
        &["run", &video, "--device", "tpu"],
        &["frobnicate"],
    ] {
        let run = maskwatch(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn a_gpu_that_is_not_there_is_said_so() {
    let run = maskwatch(["run", &sample_video(), "--limit", "1", "--device", "cuda:77"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

#[test]
fn training_data_that_is_not_there() {
    let fixture = Fixture::new();
    let data = fixture.0.path().to_str().unwrap().to_owned();
    let train = |data: &str| maskwatch(["train", data, "--out", fixture.path("m.safetensors").to_str().unwrap()]);
    train("/nonexistent").fails(3, "cannot list /nonexistent/train");
    std::fs::create_dir_all(fixture.path("train/mask")).unwrap();
    train(&data).fails(3, "has 1 class folder, and two are needed");
    std::fs::create_dir_all(fixture.path("train/no_mask")).unwrap();
    train(&data).fails(3, "mask holds no images");
    assert!(!Path::new(&fixture.path("m.safetensors")).exists());
    maskwatch(["evaluate", &data]).fails(3, "has no folder named after a class of the model");
}
