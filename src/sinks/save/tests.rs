//! Segments of live sources.

use std::time::Duration;

use crate::capture::packets::first_presentation_time;
use crate::sinks::testing::{finding, live_source};

use super::*;

const SIZE: (u32, u32) = (64, 48);

fn save(target: SaveTarget, length: Duration) -> Save {
    let camera = SourceSpec::parse("rtsp://camera/x").unwrap();
    Save::create(target, camera, length).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(save: &mut Save, size: (u32, u32), millis: impl IntoIterator<Item = u64>) {
    for (index, millis) in (0..).zip(millis) {
        save.write(&finding(index, size, Duration::from_millis(millis))).unwrap();
    }
}

#[test]
fn a_live_source_is_saved_in_segments_each_of_which_plays() {
    let folder = tempfile::tempdir().unwrap();
    let mut save = save(SaveTarget::Folder(folder.path().to_owned()), Duration::from_secs(2));
    save.open(SourceContext { source: 0, info: &live_source(SIZE) }).unwrap();
    write(&mut save, SIZE, (0..50).map(|frame| frame * 100));
    let complete: Vec<Written> = save.written();
    assert_eq!(complete.len(), 2, "the third is under way: {complete:?}");
    assert!(complete.iter().all(|written| written.what.starts_with("20 frames, 2.0 s")), "{complete:?}");
    save.close(0).unwrap();
    let expected = ["door-19700101T000000Z.mp4", "door-19700101T000002Z.mp4", "door-19700101T000004Z.mp4"];
    assert_eq!(names(folder.path()), expected);
    for name in expected {
        assert_eq!(first_presentation_time(&folder.path().join(name)), Some(Duration::ZERO), "{name}");
    }
}

#[test]
fn another_size_and_a_clock_that_goes_back_begin_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.mp4");
    let mut save = save(SaveTarget::File(file), Duration::from_secs(600));
    save.open(SourceContext { source: 0, info: &live_source(SIZE) }).unwrap();
    write(&mut save, SIZE, [0, 100, 200]);
    write(&mut save, (80, 60), [300, 400]);
    write(&mut save, (80, 60), [0, 100]);
    save.close(0).unwrap();
    let frames: Vec<String> = save.written().into_iter().map(|written| written.what[..8].to_owned()).collect();
    assert_eq!(frames, ["3 frames", "2 frames", "2 frames"]);
    let expected = ["all-19700101T000000Z-2.mp4", "all-19700101T000000Z-3.mp4", "all-19700101T000000Z.mp4"];
    assert_eq!(names(folder.path()), expected, "no file replaces another");
}

#[test]
fn a_recording_whose_size_changes_keeps_what_was_saved_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.mp4");
    let recording = vec![SourceSpec::VideoFile("recording.mp4".into())];
    let mut save = Save::create(SaveTarget::File(file.clone()), recording, Duration::MAX).unwrap();
    let open = |save: &mut Save, size| save.open(SourceContext { source: 0, info: &live_source(size) }).unwrap();
    open(&mut save, SIZE);
    write(&mut save, SIZE, [0, 100, 200]);
    open(&mut save, (80, 60));
    let error = save.write(&finding(3, (80, 60), Duration::from_millis(300))).unwrap_err().to_string();
    assert!(error.contains("64x48") && error.contains("80x60"), "{error}");
    // And back.
    open(&mut save, SIZE);
    write(&mut save, SIZE, [400]);
    save.close(0).unwrap();
    let written = save.written();
    assert!(written.len() == 1 && written[0].what.starts_with("3 frames"), "{written:?}");
    assert_eq!(first_presentation_time(&file), Some(Duration::ZERO));
}

#[test]
fn a_segment_ends_in_time_even_if_no_frame_comes() {
    let folder = tempfile::tempdir().unwrap();
    let mut save = save(SaveTarget::Folder(folder.path().to_owned()), Duration::from_millis(1));
    save.open(SourceContext { source: 0, info: &live_source(SIZE) }).unwrap();
    write(&mut save, SIZE, [0]);
    std::thread::sleep(Duration::from_millis(2));
    save.tick().unwrap();
    assert_eq!(save.written().len(), 1);
    save.tick().unwrap();
    save.close(0).unwrap();
    assert_eq!(save.written().len(), 1, "and no other begins");
}

#[test]
fn what_is_under_way_is_completed_and_told_when_a_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let mut save = save(SaveTarget::Folder(folder.path().to_owned()), Duration::from_secs(600));
    save.open(SourceContext { source: 0, info: &live_source(SIZE) }).unwrap();
    write(&mut save, SIZE, (0..50).map(|frame| frame * 100));
    save.abandon();
    let written = save.written();
    assert_eq!(written.len(), 1);
    assert!(written[0].path.is_file() && written[0].what.starts_with("50 frames, 5.0 s"), "{written:?}");
}
