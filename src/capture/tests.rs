//! The capture stage from outside: what the user types, what comes out.

#[cfg(feature = "opencv")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "opencv")]
use std::time::Duration;

use super::*;

fn parse_one(arg: &str) -> SourceSpec {
    let mut specs = SourceSpec::parse(arg).unwrap();
    assert_eq!(specs.len(), 1, "{arg}");
    specs.remove(0)
}

/// A directory with empty files of these names.
fn directory(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    directory
}

fn file_names(specs: &[SourceSpec]) -> Vec<String> {
    let path = |spec: &SourceSpec| match spec {
        SourceSpec::VideoFile(path) | SourceSpec::Image(path) => path.clone(),
        other => panic!("{other:?} is no file"),
    };
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    specs.iter().map(|spec| name(path(spec))).collect()
}

#[test]
fn cameras_are_told_by_index_or_device() {
    let camera = parse_one("0");
    assert_eq!(camera, SourceSpec::Camera(CameraId::Index(0)));
    assert_eq!(camera.name(), "camera0");
    assert_eq!(camera.policy(), Policy::Live);
    let device = parse_one("/dev/video2");
    assert_eq!(device, SourceSpec::Camera(CameraId::Device("/dev/video2".into())));
    assert_eq!(device.name(), "video2");
    assert_eq!(SourceSpec::parse("99999999999").unwrap_err().fault(), Fault::Usage);
}

#[test]
fn credentials_are_never_shown() {
    for url in [
        "rtsp://admin:hunter2@cam.local:8554/stream1",
        "rtsp://cam.local:8554/user=admin&password=hunter2&channel=1",
        "rtsp://cam.local:8554/live?password=hunter2",
        "rtsp://hunter2@cam.local:8554/live",
    ] {
        let spec = parse_one(url);
        assert_eq!(spec.name(), "cam.local:8554");
        let SourceSpec::Stream(stream) = &spec else { panic!("{spec:?}") };
        assert_eq!(stream.secret(), url);
        for shown in [spec.name(), format!("{spec:?}"), stream.to_string()] {
            assert!(!shown.contains("hunter2") && !shown.contains("admin"), "{shown}");
        }
    }
    let error = SourceSpec::parse("rtsp://admin:hunter2#1@cam/live").unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn addresses_without_support_are_wrong_usage() {
    for arg in ["", "ftp://host/x", "rtsp://", "http://", "[", "a[*"] {
        let error = SourceSpec::parse(arg).unwrap_err();
        assert!(matches!(error.fault(), Fault::Usage | Fault::Input), "{arg}: {error}");
        assert!(!error.retryable());
    }
    assert_eq!(SourceSpec::parse("ftp://host/x").unwrap_err().fault(), Fault::Usage);
    assert_eq!(parse_one("HTTP://Host/x").name(), "host");
}

#[test]
fn directories_and_patterns_yield_media_in_natural_order() {
    let names = ["10.jpg", "2.JPG", "1.mp4", "notes.txt", ".hidden.png", "noextension"];
    let directory = directory(&names);
    std::fs::create_dir(directory.path().join("inner.jpg")).unwrap();
    let path = directory.path().to_str().unwrap();
    let specs = SourceSpec::parse(path).unwrap();
    assert_eq!(file_names(&specs), ["1.mp4", "2.JPG", "10.jpg"]);
    assert!(matches!(specs[0], SourceSpec::VideoFile(_)) && matches!(specs[1], SourceSpec::Image(_)));
    assert_eq!(specs[2].name(), "10");
    let specs = SourceSpec::parse(&format!("{path}/1*")).unwrap();
    assert_eq!(file_names(&specs), ["1.mp4", "10.jpg"]);
}

#[test]
fn what_holds_nothing_is_an_input_error() {
    let directory = directory(&["notes.txt", "a[1].png"]);
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(file_names(&SourceSpec::parse(&path("a[1].png")).unwrap()), ["a[1].png"]);
    std::fs::remove_file(path("a[1].png")).unwrap();
    for arg in [path(""), path("*.jpg"), path("missing.mp4")] {
        let error = SourceSpec::parse(&arg).unwrap_err();
        assert_eq!(error.fault(), Fault::Input);
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_text_file_is_neither_image_nor_video() {
    let directory = directory(&["empty.jpg", "empty.mp4"]);
    for name in ["text.jpg", "text.mp4", "text.txt", "text"] {
        std::fs::write(directory.path().join(name), "Nothing to see here.\n".repeat(100)).unwrap();
    }
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let spec = parse_one(path.to_str().unwrap());
        if cfg!(not(feature = "opencv")) && matches!(spec, SourceSpec::VideoFile(_)) {
            continue;
        }
        let error = spec.open(&OpenOptions::default()).err().expect("it holds no picture");
        assert_eq!(error.fault(), Fault::Input, "{error}");
        assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()));
    }
}

#[cfg(feature = "opencv")]
#[test]
fn absent_cameras_and_refused_streams_are_worth_a_retry() {
    let options = OpenOptions { open_timeout: Duration::from_secs(2), ..OpenOptions::default() };
    let camera = |device: &str| SourceSpec::Camera(CameraId::Device(device.into()));
    let refused = parse_one("rtsp://user:hunter2@127.0.0.1:1/x");
    for spec in [camera("/dev/video250"), camera("/dev/null"), refused] {
        let error = spec.open(&options).err().expect("nothing is there");
        assert!(error.retryable() && error.fault() == Fault::Input, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// Reads to the end and returns the timestamps, and the error that ended it.
#[cfg(feature = "opencv")]
fn timestamps(path: &Path) -> (SourceInfo, Vec<Duration>, Option<CaptureError>) {
    let spec = SourceSpec::VideoFile(path.to_owned());
    let mut source = spec.open(&OpenOptions::default()).unwrap();
    let info = source.info().clone();
    let mut timestamps = Vec::new();
    loop {
        match source.read() {
            Ok(Some(frame)) => {
                assert_eq!(frame.index, timestamps.len() as u64);
                assert_eq!(frame.image.dimensions(), (info.width, info.height));
                timestamps.push(frame.pts);
            }
            end => {
                assert!(source.read().unwrap().is_none(), "the end lasts");
                return (info, timestamps, end.err());
            }
        }
    }
}

#[cfg(feature = "opencv")]
#[test]
fn a_video_is_read_whole_and_a_cut_one_says_so() {
    let sample = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/mask_on_off.mp4"));
    let (info, complete, error) = timestamps(sample);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(info.policy, Policy::Recorded);
    assert_eq!(info.frame_count, Some(complete.len() as u64));
    assert_eq!(complete[0], Duration::ZERO);
    assert!(complete.windows(2).all(|pair| pair[0] < pair[1]));
    let length = complete.len() as f64 / info.frame_rate.unwrap();
    assert!((complete[complete.len() - 1].as_secs_f64() - length).abs() < 0.5);

    let content = std::fs::read(sample).unwrap();
    let cut = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(cut.path(), &content[..content.len() / 2]).unwrap();
    match SourceSpec::VideoFile(cut.path().to_owned()).open(&OpenOptions::default()) {
        // The index comes first, and so do the frames that are there.
        Ok(_) => {
            let (_, some, error) = timestamps(cut.path());
            assert!(!some.is_empty() && some.len() < complete.len());
            let Some(CaptureError::Truncated { decoded, .. }) = error else { panic!("{error:?}") };
            assert_eq!(decoded, some.len() as u64);
        }
        Err(error) => assert!(matches!(error, CaptureError::NoIndex { .. }), "{error}"),
    }
}
