//! JSON lines: one object a frame, one line an object, each written in one piece and at once.

use std::io::{Stdout, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::rotation::{RotatedLines, RotationLimits};
use super::{Finding, Notice, Sink, SinkError, SourceContext, Written};
use crate::analyse::Detection;
use crate::geometry::Rect;
use crate::scan::ScanSize;
use crate::shared::Shared;

/// Writes events to a file or to standard output.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    output: Output,
    lines: u64,
    /// Whether whoever read standard output has seen enough.
    reader_gone: bool,
    /// The line under construction; kept for its capacity.
    line: Vec<u8>,
}

#[derive(Debug)]
enum Output {
    File(RotatedLines),
    Standard(Stdout),
}

impl Events {
    /// Opens the file: with limits to append to, and to set aside when it is full, without to replace what is there. `-` is
    /// standard output.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn create(path: &Path, rotation: Option<RotationLimits>) -> Result<Self, SinkError> {
        let output = if path == Path::new("-") {
            Output::Standard(std::io::stdout())
        } else {
            let lines = match rotation {
                Some(limits) => RotatedLines::append(path, limits),
                None => RotatedLines::create(path, RotationLimits { bytes: u64::MAX, kept: 0 }),
            };
            Output::File(lines.map_err(|reason| SinkError::file(path, reason))?)
        };
        Ok(Self { path: path.to_owned(), output, lines: 0, reader_gone: false, line: Vec::new() })
    }

    fn append(&mut self, event: &impl Serialize) -> Result<(), SinkError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event).map_err(|error| SinkError::file(&self.path, error))?;
        self.line.push(b'\n');
        let written = match &mut self.output {
            Output::File(lines) => lines.write(&self.line),
            Output::Standard(stdout) => stdout.write_all(&self.line).and_then(|()| stdout.flush()),
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => self.reader_gone = true,
            other => other.map_err(|reason| SinkError::file(&self.path, reason))?,
        }
        self.lines += 1;
        Ok(())
    }
}

impl Sink for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    fn wants_notices(&self) -> bool {
        true
    }

    fn open(&mut self, _: SourceContext) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        self.append(&Event::new(finding))
    }

    fn notice(&mut self, notice: &Notice) -> Result<(), SinkError> {
        self.append(&notice.record())
    }

    fn close(&mut self, _: usize) -> Result<(), SinkError> {
        Ok(())
    }

    fn wants_to_stop(&self) -> bool {
        self.reader_gone
    }

    fn written(&self) -> Vec<Written> {
        match self.output {
            Output::File(_) => vec![Written { path: self.path.clone(), what: format!("{} events", self.lines) }],
            Output::Standard(_) => Vec::new(),
        }
    }
}

/// One line.
#[derive(Serialize)]
pub(super) struct Event<'a> {
    source: &'a str,
    frame: u64,
    pts_ms: f64,
    time: String,
    label: &'a str,
    confidence: f64,
    probabilities: Probabilities<'a>,
    boxes: Vec<TrackedBoxEvent<'a>>,
    cam: CamEvent,
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<ScanEvent>,
    /// How old the analysis is, where the picture has not changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_ms: Option<f64>,
    latency_ms: LatencyEvent,
}

pub(super) struct Probabilities<'a>(pub(super) &'a [String], pub(super) &'a ndarray::Array1<f32>);

#[derive(Serialize)]
pub(super) struct BoxEvent<'a> {
    #[serde(flatten)]
    rect: Rect,
    score: f64,
    label: &'a str,
}

/// A box and whose it is, once somebody has appeared there.
#[derive(Serialize)]
struct TrackedBoxEvent<'a> {
    #[serde(flatten)]
    found: BoxEvent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<u64>,
    /// What the track is called by all that was seen of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    track_label: Option<&'a str>,
}

#[derive(Serialize)]
struct CamEvent {
    method: &'static str,
    #[serde(flatten)]
    reduction: Option<ReductionEvent>,
}

/// Of methods with principal components.
#[derive(Serialize)]
struct ReductionEvent {
    components: usize,
    captured_variance: f64,
    /// 0 where the basis is fitted to each frame.
    basis_age_frames: u64,
    /// Which of the bases that are kept from frame to frame it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<String>,
}

/// Of scanned frames.
#[derive(Serialize)]
pub(super) struct ScanEvent {
    short_side: u32,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct LatencyEvent {
    decode: f64,
    infer: f64,
    explain: f64,
    /// From the beginning of reading to the writing of this line.
    total: f64,
}

impl From<ScanSize> for ScanEvent {
    fn from(ScanSize { short_side, width, height }: ScanSize) -> Self {
        Self { short_side, width, height }
    }
}

impl<'a> BoxEvent<'a> {
    pub(super) fn new(found: &Detection, classes: &'a [String]) -> Self {
        Self { rect: found.rect, score: rounded(f64::from(found.score), 4), label: &classes[found.label] }
    }
}

impl<'a> Event<'a> {
    pub(super) fn new(finding: &'a Finding) -> Self {
        let Finding { frame, analysis, classes, .. } = finding;
        let tracked = analysis.boxes.iter().zip(finding.tracks_of_boxes());
        let boxes = tracked.map(|(found, track)| TrackedBoxEvent {
            found: BoxEvent::new(found, classes),
            track: track.and_then(|track| track.id),
            track_label: track.map(|track| track.label.name(classes)),
        });
        Self {
            source: &frame.source,
            frame: frame.index,
            pts_ms: rounded(frame.pts.as_secs_f64() * 1e3, 3),
            time: humantime::format_rfc3339_millis(frame.captured_at).to_string(),
            label: &classes[analysis.label],
            confidence: rounded(f64::from(analysis.confidence), 4),
            probabilities: Probabilities(classes, &analysis.probabilities),
            boxes: boxes.collect(),
            cam: CamEvent {
                method: analysis.cam.method.name(),
                reduction: analysis.cam.reduction.map(|reduction| ReductionEvent {
                    components: reduction.components,
                    captured_variance: rounded(reduction.captured_variance, 4),
                    basis_age_frames: analysis.cam.basis.map_or(0, |basis| basis.age_frames),
                    basis: analysis.cam.basis.map(|basis| basis.id.to_string()),
                }),
            },
            scan: analysis.scan.map(ScanEvent::from),
            kept_ms: analysis.kept_for.map(|age| rounded(age.as_secs_f64() * 1e3, 2)),
            latency_ms: LatencyEvent {
                decode: millis(frame.decode_time),
                infer: millis(analysis.times.prepare + analysis.times.infer),
                explain: millis(analysis.times.explain + analysis.times.boxes),
                total: millis(frame.read_started.elapsed()),
            },
        }
    }
}

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (class, &probability) in self.0.iter().zip(self.1) {
            map.serialize_entry(class, &rounded(f64::from(probability), 4))?;
        }
        map.end()
    }
}

pub(super) fn millis(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 2)
}

pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
