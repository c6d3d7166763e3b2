//! OpenCV's `VideoCapture`: opens files, cameras and streams, and yields upright RGB pictures.
//!
//! The back-end is chosen here and never falls through to another: FFmpeg for files and
//! addresses, V4L2 for cameras.
//!
//! One thread decodes 1080p at three times camera rate. A second saves a quarter of the time for
//! a seventh more work, taken from the network that finds the masks, and each thread holds one
//! frame back, which is latency for a stream. So `silence_backends` asks for one. OpenCV 4.6 is
//! deaf to that: it takes as many threads as the machine has cores.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use image::RgbImage;
use opencv::core::{self, Mat, RotateFlags, Vec3b, Vector};
use opencv::imgproc;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use super::container::{self, Structure};
use super::live::Live;
use super::recorded::Recorded;
use super::{CameraId, CaptureError, OpenOptions, Policy, SourceInfo, SourceSpec, StreamUrl};
use crate::recycled::room;

/// Failed reads in a row after which nothing more is to come. One is not enough: FFmpeg's
/// back-end also fails at each packet that cannot be decoded, and goes on behind it.
const MAX_FAILED_READS: u64 = 512;
/// How long OpenCV waits for a camera, with a margin below its 10 s.
const CAMERA_PATIENCE: Duration = Duration::from_secs(9);
/// Longest time to find out why a stream did not open.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);

/// What opening led to.
pub(super) enum Opened {
    /// A video with an end.
    Recorded(Box<Recorded>),
    /// A source without one.
    Live(Live),
}

/// Opens anything but a picture or made-up frames.
///
/// # Errors
///
/// As [`SourceSpec::open`].
///
/// # Panics
///
/// When frames are made up: nothing decodes them.
pub(super) fn open(spec: &SourceSpec, options: &OpenOptions) -> Result<Opened, CaptureError> {
    let name = spec.name();
    match spec {
        SourceSpec::VideoFile(path) | SourceSpec::Image(path) => {
            let (decoder, structure) = open_file(path, name)?;
            let shown = path.display().to_string();
            let recorded = Recorded::start(decoder, structure, Some(path.clone()), shown, Duration::MAX)?;
            Ok(Opened::Recorded(Box::new(recorded)))
        }
        SourceSpec::Camera(camera) => Ok(Opened::Live(Live::new(open_camera(camera, name)?, CAMERA_PATIENCE))),
        SourceSpec::Stream(url) => {
            let decoder = open_stream(url, options, name)?;
            if url.scheme().starts_with("http") && decoder.info(Policy::Live).frame_count.is_some() {
                let (structure, shown) = (Structure::default(), url.to_string());
                let recorded = Recorded::start(decoder, structure, None, shown, options.read_timeout)?;
                return Ok(Opened::Recorded(Box::new(recorded)));
            }
            Ok(Opened::Live(Live::new(decoder, options.read_timeout)))
        }
        SourceSpec::Synthetic { .. } => unreachable!("made-up frames are not decoded"),
    }
}

/// An open capture and the buffers that each frame passes through.
pub(super) struct Decoder {
    name: String,
    capture: VideoCapture,
    turn: Option<RotateFlags>,
    bgr: Mat,
    upright: Mat,
    max_failed_reads: u64,
}

impl Decoder {
    fn new(name: String, mut capture: VideoCapture, max_failed_reads: u64) -> Result<Self, CaptureError> {
        let turn = rotation(&mut capture).map_err(|error| CaptureError::backend(&name, &error))?;
        Ok(Self { name, capture, turn, bgr: Mat::default(), upright: Mat::default(), max_failed_reads })
    }

    /// What the container or device declares.
    pub(super) fn info(&self, policy: Policy) -> SourceInfo {
        let property = |id| self.capture.get(id).unwrap_or(0.0);
        let mut size = [videoio::CAP_PROP_FRAME_WIDTH, videoio::CAP_PROP_FRAME_HEIGHT].map(property);
        if matches!(self.turn, Some(RotateFlags::ROTATE_90_CLOCKWISE | RotateFlags::ROTATE_90_COUNTERCLOCKWISE)) {
            size.reverse();
        }
        // Endless streams and raw files have no duration, which comes out as a negative count.
        let frame_count = property(videoio::CAP_PROP_FRAME_COUNT);
        let frame_rate = property(videoio::CAP_PROP_FPS);
        SourceInfo {
            name: self.name.clone(),
            width: size[0] as u32,
            height: size[1] as u32,
            frame_count: (1.0..1e12).contains(&frame_count).then_some(frame_count as u64),
            frame_rate: (1e-3..1e4).contains(&frame_rate).then_some(frame_rate),
            policy,
        }
    }

    /// Advances to the next frame that can be decoded and returns how many packets could not;
    /// `None` if nothing more comes, or nothing came for as long as `patience`.
    pub(super) fn grab(&mut self, patience: Duration) -> Result<Option<u64>, CaptureError> {
        let started = Instant::now();
        for failed in 0..=self.max_failed_reads {
            if self.capture.grab().map_err(|error| CaptureError::backend(&self.name, &error))? {
                return Ok(Some(failed));
            }
            if started.elapsed() >= patience {
                break;
            }
        }
        Ok(None)
    }

    /// The time that OpenCV reports for the frame grabbed last, in milliseconds; see `timeline`.
    pub(super) fn reported_millis(&self) -> f64 {
        self.capture.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0)
    }

    /// The frame grabbed last, upright.
    pub(super) fn retrieve(&mut self) -> Result<RgbImage, CaptureError> {
        self.retrieve_rgb().map_err(|error| CaptureError::backend(&self.name, &error))
    }

    fn retrieve_rgb(&mut self) -> opencv::Result<RgbImage> {
        if !self.capture.retrieve_def(&mut self.bgr)? {
            return Err(opencv::Error::new(core::StsError, "a frame without picture"));
        }
        let upright = match self.turn {
            None => &self.bgr,
            Some(turn) => {
                core::rotate(&self.bgr, &mut self.upright, turn as i32)?;
                &self.upright
            }
        };
        let code = match upright.channels() {
            1 => imgproc::COLOR_GRAY2RGB, // some infrared cameras
            4 => imgproc::COLOR_BGRA2RGB,
            _ => imgproc::COLOR_BGR2RGB,
        };
        rgb_image(upright, code)
    }
}

/// The pixels, converted straight into the picture's memory. That is not cleared before: of a megabyte and more, jemalloc would
/// have the system clear each page anew, which takes five times as long as the conversion.
fn rgb_image(pixels: &Mat, code: i32) -> opencv::Result<RgbImage> {
    let (rows, columns) = (pixels.rows(), pixels.cols());
    let bytes = pixels.total() * 3;
    let mut image = room::<RgbImage>(bytes);
    // SAFETY: the memory holds rows times columns of three bytes, and stays where it is until `rgb` is gone.
    let mut rgb = unsafe {
        Mat::new_rows_cols_with_data_unsafe_def(rows, columns, Vec3b::opencv_type(), image.as_mut_ptr().cast())
    }?;
    imgproc::cvt_color_def(pixels, &mut rgb, code)?;
    // Size and type fit, so that OpenCV has no reason to allocate another buffer.
    if !std::ptr::eq(rgb.data(), image.as_ptr()) {
        return Err(opencv::Error::new(core::StsError, "the converted picture is elsewhere"));
    }
    drop(rgb);
    // SAFETY: the conversion has written all of them.
    unsafe { image.set_len(bytes) };
    RgbImage::from_raw(columns as u32, rows as u32, image)
        .ok_or_else(|| opencv::Error::new(core::StsError, "a picture of another size"))
}

/// The turn that makes the frames upright; OpenCV is told to leave that to us.
///
/// OpenCV turns videos by its own account, but 4.6 does so in the wrong direction
/// (<https://github.com/opencv/opencv/issues/22088>) and 4.11 not at all. Mirrored videos are rare, and
/// indistinguishable here: they come out turned.
fn rotation(capture: &mut VideoCapture) -> opencv::Result<Option<RotateFlags>> {
    let reported = capture.get(videoio::CAP_PROP_ORIENTATION_META)? as i32;
    if reported == 0 {
        return Ok(None);
    }
    capture.set(videoio::CAP_PROP_ORIENTATION_AUTO, 0.0)?;
    let wrong_way = core::get_version_major() == 4 && core::get_version_minor() == 6;
    let clockwise = if wrong_way { -reported } else { reported };
    Ok(match clockwise.rem_euclid(360) {
        90 => Some(RotateFlags::ROTATE_90_CLOCKWISE),
        180 => Some(RotateFlags::ROTATE_180),
        270 => Some(RotateFlags::ROTATE_90_COUNTERCLOCKWISE),
        _ => None,
    })
}

fn open_file(path: &Path, name: String) -> Result<(Decoder, Structure), CaptureError> {
    let unreadable = |reason| CaptureError::from_io(path, reason);
    let not_video = || CaptureError::NotVideo { path: path.into() };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    let mut structure = Structure::default();
    // Looking into a pipe would swallow its start.
    if meta.is_file() {
        if meta.len() == 0 {
            return Err(CaptureError::EmptyFile { path: path.into() });
        }
        if is_text(path).map_err(unreadable)? {
            return Err(not_video());
        }
        structure = container::inspect(path).map_err(unreadable)?;
    }
    // With its protocol named, no part of a file's name passes for one.
    let mut location = OsString::from("file:");
    location.push(path);
    let capture = VideoCapture::from_file(&location, videoio::CAP_FFMPEG);
    match opened(capture, &name)? {
        Some(capture) => Ok((Decoder::new(name, capture, MAX_FAILED_READS)?, structure)),
        None if structure.index_missing => Err(CaptureError::NoIndex { path: path.into() }),
        None if structure.cut_short => {
            Err(CaptureError::Truncated { file: path.display().to_string(), decoded: 0, expected: None })
        }
        None => Err(not_video()),
    }
}

/// Whether a file is plain text, which FFmpeg would otherwise paint, line by line, as a video.
fn is_text(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    // A raw video with a header in words, whose dark pixels may pass for text as well.
    if start.starts_with(b"YUV4MPEG2") {
        return Ok(false);
    }
    let textual = |byte: &u8| *byte >= b' ' || byte.is_ascii_whitespace();
    // The last character may be cut in two.
    let is_utf8 = std::str::from_utf8(&start).map_or_else(|error| error.error_len().is_none(), |_| true);
    Ok(start.iter().all(textual) && is_utf8)
}

fn open_camera(camera: &CameraId, name: String) -> Result<Decoder, CaptureError> {
    let device = camera.device();
    let failed = |why: &str| CaptureError::Camera { camera: device.display().to_string(), why: why.to_owned() };
    File::open(&device).map_err(|error| match error.kind() {
        ErrorKind::NotFound => CaptureError::no_such_camera(&device),
        ErrorKind::PermissionDenied => failed("permission denied; join the group \"video\""),
        _ => failed(&format!("{error}; check that it is plugged in")),
    })?;
    let capture = VideoCapture::from_file(&device, videoio::CAP_V4L2);
    let capture = opened(capture, &name)?
        .ok_or_else(|| failed("no picture from it; another program may use it, or it is no camera"))?;
    // A camera that fails once has already been waited for.
    Decoder::new(name, capture, 0)
}

fn open_stream(url: &StreamUrl, options: &OpenOptions, name: String) -> Result<Decoder, CaptureError> {
    let millis = |timeout: Duration| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    let params = Vector::from_slice(&[
        videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
        millis(options.open_timeout),
        videoio::CAP_PROP_READ_TIMEOUT_MSEC,
        millis(options.read_timeout),
    ]);
    let started = Instant::now();
    let capture = VideoCapture::from_file_with_params(url.secret(), videoio::CAP_FFMPEG, &params);
    let Some(capture) = opened(capture, &name)? else {
        let waited = started.elapsed();
        return Err(if waited >= options.open_timeout {
            CaptureError::Silent { name: url.to_string(), waited, opened: false }
        } else {
            diagnose(url)
        });
    };
    Decoder::new(name, capture, MAX_FAILED_READS)
}

/// The capture, if it opened.
fn opened(capture: opencv::Result<VideoCapture>, name: &str) -> Result<Option<VideoCapture>, CaptureError> {
    let backend = |error| CaptureError::backend(name, &error);
    let capture = capture.map_err(backend)?;
    Ok(capture.is_opened().map_err(backend)?.then_some(capture))
}

/// OpenCV only says that a stream did not open: a plain connection tells more.
pub(super) fn diagnose(url: &StreamUrl) -> CaptureError {
    let failed = |why: String| CaptureError::Stream { url: url.to_string(), why };
    let (host, port) = url.endpoint();
    let address = (host.as_str(), port).to_socket_addrs().map(|mut found| found.next());
    let Ok(Some(address)) = address else {
        return failed(format!("host {host} is unknown; check the address"));
    };
    match TcpStream::connect_timeout(&address, DIAGNOSIS_TIMEOUT) {
        Ok(_) => failed("the host answers, but offers no video there; check path, user and password".into()),
        Err(error) => CaptureError::unreachable(url, &error),
    }
}
