//! Files written here are read back through GStreamer's own demuxers and decoders.

use std::path::{Path, PathBuf};

use gstreamer_app::AppSink;
use image::Rgb;
use tempfile::TempDir;

use super::*;

/// Times of all samples of the first stream of `media` ("video" or "audio"), decoded, and the
/// first decoded sample.
fn read_back(path: &Path, media: &str) -> (Vec<Duration>, Option<gst::Sample>) {
    gst::init().unwrap();
    let convert = if media == "video" { "videoconvert ! video/x-raw,format=RGB" } else { "identity" };
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! qtdemux name=demux demux.{media}_0 ! queue ! decodebin ! {convert} \
         ! appsink name=out sync=false",
        path.display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut times, mut first) = (Vec::new(), None);
    while let Some(sample) = out.try_pull_sample(gst::ClockTime::from_seconds(10)) {
        let pts = sample.buffer().unwrap().pts().unwrap();
        times.push(Duration::from_nanos(pts.nseconds()));
        first.get_or_insert(sample);
    }
    let complete = out.is_eos();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(complete, "{} is readable to its end", path.display());
    (times, first)
}

fn settings(dir: &TempDir, width: u32, height: u32) -> VideoSettings {
    VideoSettings::new(dir.path().join("out.mp4"), width, height)
}

fn write_all(settings: &VideoSettings, times: &[Duration]) -> VideoSummary {
    let mut writer = VideoWriter::create(settings).unwrap();
    for (index, pts) in times.iter().enumerate() {
        let shade = (index * 20 % 256) as u8;
        let image = RgbImage::from_pixel(settings.width, settings.height, Rgb([200, shade, 40]));
        writer.write(&image, *pts).unwrap();
    }
    writer.finish().unwrap()
}

fn millis(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
    times.into_iter().map(Duration::from_millis).collect()
}

fn assert_times(actual: &[Duration], expected: &[Duration]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(actual.abs_diff(*expected) < Duration::from_micros(20), "{actual:?} {expected:?}");
    }
}

/// A file with sound in packets of 21 ms.
fn sound(dir: &TempDir, source_options: &str, encoder_and_muxer: &str) -> PathBuf {
    gst::init().unwrap();
    let path = dir.path().join("sound");
    let pipeline = gst::parse::launch(&format!(
        "audiotestsrc samplesperbuffer=1024 {source_options} \
         ! audio/x-raw,rate=48000,channels=2 ! {encoder_and_muxer} ! filesink location={}",
        path.display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let awaited = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(STALL_TIMEOUT, &awaited).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    path
}

#[test]
fn every_frame_comes_back_at_its_time() {
    // Irregular, not starting at zero, and longer than several fragments and key frame intervals.
    let deltas = [33, 1, 67, 40, 333, 2500, 20, 41];
    let mut times = millis([5040]);
    for delta in deltas.iter().cycle().take(40) {
        times.push(times[times.len() - 1] + Duration::from_millis(*delta));
    }
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir, 64, 48);
    let summary = write_all(&settings, &times);
    assert_eq!((summary.frames, summary.padded, summary.audio), (41, false, AudioOutcome::None));
    assert_eq!(summary.bytes, settings.path.metadata().unwrap().len());
    assert_eq!(summary.duration, times[40] - times[0] + Duration::from_millis(41));
    assert_times(&read_back(&settings.path, "video").0, &times);
}

#[test]
fn one_and_two_frames_are_enough() {
    for times in [millis([0]), millis([0, 100])] {
        let dir = TempDir::new().unwrap();
        let settings = settings(&dir, 64, 48);
        assert_eq!(write_all(&settings, &times).frames, times.len() as u64);
        assert_times(&read_back(&settings.path, "video").0, &times);
    }
}

#[test]
fn odd_sizes_are_padded_and_colours_survive() {
    for (width, height) in [(101, 77), (102, 76), (64, 49)] {
        let dir = TempDir::new().unwrap();
        let settings = settings(&dir, width, height);
        let summary = write_all(&settings, &millis([0, 40, 80]));
        assert_eq!(summary.padded, width % 2 + height % 2 > 0);
        let (times, first) = read_back(&settings.path, "video");
        assert_eq!(times.len(), 3);
        let first = first.unwrap();
        let format = first.caps().unwrap().structure(0).unwrap();
        let even = |name| u32::try_from(format.get::<i32>(name).unwrap()).unwrap();
        let size = (even("width"), even("height"));
        assert_eq!(size, (width.next_multiple_of(2), height.next_multiple_of(2)));
        // One colour up to the very edge.
        let bytes = first.buffer().unwrap().map_readable().unwrap();
        let stride = (size.0 as usize * 3).next_multiple_of(4);
        for row in bytes.chunks_exact(stride) {
            for pixel in row[..size.0 as usize * 3].chunks_exact(3) {
                let close = pixel.iter().zip([200, 0, 40]).all(|(a, b)| a.abs_diff(b) <= 8);
                assert!(close, "{width}x{height}: {pixel:?}");
            }
        }
    }
}

#[test]
fn audio_is_copied_and_ends_with_the_video() {
    let dir = TempDir::new().unwrap();
    let audio = sound(&dir, "num-buffers=234", "avenc_aac ! aacparse ! mp4mux");
    for (times, expected_end_millis) in
        [(millis((0..50).map(|index| index * 40)), 2000), (millis([500, 4000, 9000]), 5000)]
    {
        let settings = VideoSettings { audio_from: Some(audio.clone()), ..settings(&dir, 64, 48) };
        let summary = write_all(&settings, &times);
        assert!(matches!(summary.audio, AudioOutcome::Copied { packets: 90.., .. }));
        assert_times(&read_back(&settings.path, "video").0, &times);
        let sound_times = read_back(&settings.path, "audio").0;
        assert!(sound_times[0] < Duration::from_millis(22));
        let last_millis = sound_times[sound_times.len() - 1].as_millis();
        assert!((expected_end_millis - 50..expected_end_millis).contains(&last_millis));
    }
}

#[test]
fn audio_that_starts_late_keeps_its_distance() {
    let dir = TempDir::new().unwrap();
    let audio = sound(
        &dir,
        "num-buffers=90 timestamp-offset=300000000",
        "avenc_aac ! aacparse ! mp4mux name=mux videotestsrc num-buffers=60 \
         ! video/x-raw,width=64,height=48,framerate=30/1 ! x264enc ! mux. mux.",
    );
    let settings = VideoSettings { audio_from: Some(audio), ..settings(&dir, 64, 48) };
    write_all(&settings, &millis((0..30).map(|index| 100 + index * 40)));
    assert_times(&read_back(&settings.path, "video").0[..1], &millis([100]));
    let first_millis = read_back(&settings.path, "audio").0[0].as_millis();
    assert!((250..=301).contains(&first_millis), "{first_millis}");
}

#[test]
fn audio_that_cannot_be_copied_does_not_stop_the_video() {
    let dir = TempDir::new().unwrap();
    let vorbis = sound(&dir, "num-buffers=50", "audioconvert ! vorbisenc ! oggmux");
    let outcome = |audio: &Path| {
        let audio_from = Some(audio.to_owned());
        let settings = VideoSettings { audio_from, ..settings(&dir, 64, 48) };
        let summary = write_all(&settings, &millis([0, 40]));
        assert_eq!(read_back(&settings.path, "video").0.len(), 2);
        summary.audio
    };
    assert_eq!(outcome(&vorbis), AudioOutcome::Dropped { codec: "Vorbis".into() });
    let silent = dir.path().join("silent.mp4");
    write_all(&VideoSettings::new(&silent, 64, 48), &millis([0, 40]));
    assert_eq!(outcome(&silent), AudioOutcome::None);
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, [7; 5000]).unwrap();
    assert!(matches!(outcome(&garbage), AudioOutcome::Damaged { packets: 0, .. }));
}

#[test]
fn bad_frames_are_left_out() {
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir, 64, 48);
    let mut writer = VideoWriter::create(&settings).unwrap();
    let mut write = |width, pts| writer.write(&RgbImage::new(width, 48), Duration::from_millis(pts));
    write(64, 40).unwrap();
    assert!(matches!(write(62, 80), Err(VideoError::FrameSize { actual: (62, 48), .. })));
    assert!(matches!(write(64, 40), Err(VideoError::Timestamp { .. })));
    write(64, 80).unwrap();
    assert_eq!(writer.finish().unwrap().frames, 2);
    assert_times(&read_back(&settings.path, "video").0, &millis([40, 80]));
}

#[test]
fn a_path_that_cannot_be_written_fails_at_once() {
    let dir = TempDir::new().unwrap();
    for path in [dir.path().join("absent").join("out.mp4"), dir.path().to_owned()] {
        let result = VideoWriter::create(&VideoSettings::new(path, 64, 48));
        assert!(matches!(result, Err(VideoError::NotWritable { .. })));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_the_video_without_a_hang() {
    let mut writer = VideoWriter::create(&VideoSettings::new("/dev/full", 64, 48)).unwrap();
    let error =
        (0..1000).find_map(|index| writer.write(&RgbImage::new(64, 48), Duration::from_millis(index * 40)).err());
    assert!(matches!(error, Some(VideoError::DiskFull { .. })), "{error:?}");
    let again = writer.write(&RgbImage::new(64, 48), Duration::from_secs(100));
    assert!(matches!(again, Err(VideoError::GivenUp)));
    assert!(matches!(writer.finish(), Err(VideoError::GivenUp)));
}

#[test]
fn an_unfinished_file_plays_up_to_its_last_fragment() {
    let dir = TempDir::new().unwrap();
    let settings = settings(&dir, 64, 48);
    let mut writer = VideoWriter::create(&settings).unwrap();
    for index in 0..100 {
        writer.write(&RgbImage::new(64, 48), Duration::from_millis(index * 40)).unwrap();
    }
    drop(writer);
    let frames = read_back(&settings.path, "video").0.len();
    assert!((50..=100).contains(&frames), "{frames}");
}
