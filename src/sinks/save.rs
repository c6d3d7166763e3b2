//! Annotated copies: a video for each video, segments of one for each live source, a picture for each picture.

mod segments;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::{ImageFormat, RgbImage};

use super::video::{AudioOutcome, Preset, VideoError, VideoSettings, VideoSummary, VideoWriter};
use super::{Finding, SaveTarget, Sink, SinkError, SourceContext, Written};
use crate::capture::packets::first_presentation_time;
use crate::capture::{Policy, SourceSpec};
use crate::shared::Shared;
use segments::Segments;

/// Writes annotated copies.
pub struct Save {
    target: SaveTarget,
    sources: Vec<SourceSpec>,
    /// Longest segment of a live source.
    segment_length: Duration,
    /// Effort of the encoder.
    preset: Preset,
    videos: HashMap<usize, (PathBuf, VideoWriter)>,
    /// Recorded sources whose video was begun, whether or not it is still under way.
    begun: HashSet<usize>,
    live: HashMap<usize, Segments>,
    written: Vec<Written>,
    /// Pictures written, by folder.
    pictures: BTreeMap<PathBuf, u64>,
}

impl Save {
    /// Prepares the target: makes its folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or that of a single file is missing.
    pub fn create(target: SaveTarget, sources: Vec<SourceSpec>, segment_length: Duration) -> Result<Self, SinkError> {
        if let SaveTarget::Folder(folder) = &target {
            std::fs::create_dir_all(folder).map_err(|reason| SinkError::file(folder, reason))?;
        }
        // Rather now than when the first frame has been analysed.
        if let SaveTarget::File(path) = &target
            && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            // Of what is no folder, there is no such place in it.
            std::fs::metadata(folder.join(".")).map_err(|reason| SinkError::file(path, reason))?;
        }
        Ok(Self {
            target,
            sources,
            segment_length,
            preset: Preset::default(),
            videos: HashMap::new(),
            begun: HashSet::new(),
            live: HashMap::new(),
            written: Vec::new(),
            pictures: BTreeMap::new(),
        })
    }

    /// The same with another effort of the encoder.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        Self { preset, ..self }
    }

    /// Where the segments of a live source go: the time is put before the extension of a file.
    fn segments(&self, name: &str) -> Segments {
        let path = self.path_for(name, "mp4");
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        Segments::new(folder, stem, self.segment_length, self.preset)
    }

    /// Keeps the list of files short.
    fn forget_oldest(&mut self) {
        let excess = self.written.len().saturating_sub(MOST_LISTED);
        self.written.drain(..excess);
    }

    /// Completes the video of a recorded source, if there is one.
    fn end_video(&mut self, source: usize) -> Result<(), VideoError> {
        self.videos.remove(&source).map_or(Ok(()), |(path, video)| complete(path, video, &mut self.written))
    }

    /// The file of a source.
    fn path_for(&self, name: &str, extension: &str) -> PathBuf {
        match &self.target {
            SaveTarget::File(path) => path.clone(),
            SaveTarget::Folder(folder) => folder.join(format!("{name}.{extension}")),
        }
    }

    fn save_picture(&mut self, source: &Path, finding: &Finding) -> Result<(), SinkError> {
        let format = match ImageFormat::from_path(source) {
            Ok(ImageFormat::Jpeg) => ImageFormat::Jpeg,
            _ => ImageFormat::Png,
        };
        let extension = if format == ImageFormat::Jpeg { "jpg" } else { "png" };
        let path = self.path_for(&finding.frame.source, extension);
        // The extension of a single file decides, since the user has typed it.
        let format = ImageFormat::from_path(&path).unwrap_or(format);
        write_picture(&path, finding.annotated(), format).map_err(|reason| SinkError::file(&path, reason))?;
        match &self.target {
            SaveTarget::File(_) => self.written.push(Written { path, what: "1 picture".to_owned() }),
            SaveTarget::Folder(folder) => *self.pictures.entry(folder.clone()).or_default() += 1,
        }
        Ok(())
    }
}

/// Most completed files that the account of a run names, the last ones: it may go on for years.
const MOST_LISTED: usize = 1000;

/// Quality of saved JPEG pictures, 1 to 100: differences to the original cannot be seen.
const JPEG_QUALITY: u8 = 93;

/// Encodes in memory first, and removes what could not be written whole.
fn write_picture(path: &Path, image: &RgbImage, format: ImageFormat) -> std::io::Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let encoded = match format {
        ImageFormat::Jpeg => {
            image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
        }
        _ => image.write_to(&mut bytes, format),
    };
    encoded.map_err(std::io::Error::other)?;
    std::fs::write(path, bytes.into_inner()).inspect_err(|_| {
        if path.is_file()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!("an incomplete {} stays: {error}", path.display());
        }
    })
}

impl Sink for Save {
    fn name(&self) -> &'static str {
        "save"
    }

    fn open(&mut self, source: SourceContext) -> Result<(), SinkError> {
        let spec = &self.sources[source.source];
        let audio_from = match spec {
            SourceSpec::Image(_) => return Ok(()), // written when its only frame comes
            SourceSpec::VideoFile(path) => Some(path.clone()),
            SourceSpec::Camera(_) | SourceSpec::Stream(_) if source.info.policy == Policy::Live => {
                // Called again when the size of the frames changes; the segments see that by themselves.
                if !self.live.contains_key(&source.source) {
                    self.live.insert(source.source, self.segments(&source.info.name));
                }
                return Ok(());
            }
            SourceSpec::Camera(_) | SourceSpec::Stream(_) | SourceSpec::Synthetic { .. } => None,
        };
        // Called again when the size of the frames changes: the video that there is must not be replaced by another.
        if !self.begun.insert(source.source) {
            return Ok(());
        }
        let path = self.path_for(&source.info.name, "mp4");
        let mut settings = VideoSettings::new(&path, source.info.width, source.info.height);
        // Frames count from the first picture, audio from the first instant of the file.
        settings.audio_offset = audio_from.as_deref().and_then(first_presentation_time).unwrap_or_default();
        settings.audio_from = audio_from;
        settings.preset = self.preset;
        self.videos.insert(source.source, (path, VideoWriter::create(&settings)?));
        Ok(())
    }

    fn write(&mut self, finding: &Shared<Finding>) -> Result<(), SinkError> {
        if let Some(segments) = self.live.get_mut(&finding.source) {
            let appended = segments.write(finding, &mut self.written);
            self.forget_oldest();
            return Ok(appended?);
        }
        if let Some((_, video)) = self.videos.get_mut(&finding.source) {
            if let Err(error) = video.write(finding.annotated(), finding.frame.pts) {
                // It says less than the error that made it necessary.
                let _ = self.end_video(finding.source);
                return Err(error.into());
            }
        } else if let SourceSpec::Image(path) = &self.sources[finding.source] {
            let path = path.clone();
            self.save_picture(&path, finding)?;
        }
        Ok(())
    }

    fn close(&mut self, source: usize) -> Result<(), SinkError> {
        self.begun.remove(&source);
        self.end_video(source)?;
        let Some(mut segments) = self.live.remove(&source) else { return Ok(()) };
        let completed = segments.finish(&mut self.written);
        self.forget_oldest();
        Ok(completed?)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        let completed = self.live.values_mut().try_for_each(|segments| segments.finish_if_over(&mut self.written));
        self.forget_oldest();
        Ok(completed?)
    }

    fn abandon(&mut self) {
        // Told already, by the error that ended all of them.
        for (path, video) in std::mem::take(&mut self.videos).into_values() {
            let _ = complete(path, video, &mut self.written);
        }
        for mut segments in std::mem::take(&mut self.live).into_values() {
            let _ = segments.finish(&mut self.written);
        }
    }

    fn written(&self) -> Vec<Written> {
        let pictures = self.pictures.iter().map(|(folder, count)| Written {
            path: folder.clone(),
            what: format!("{count} picture{}", if *count == 1 { "" } else { "s" }),
        });
        self.written.iter().cloned().chain(pictures).collect()
    }
}

/// Completes a video, and notes its file if it holds something, be it complete or broken off.
fn complete(path: PathBuf, video: VideoWriter, written: &mut Vec<Written>) -> Result<(), VideoError> {
    let finished = video.finish();
    let what = match &finished {
        Ok(summary) => Some(describe(summary)),
        Err(_) => std::fs::metadata(&path)
            .ok()
            .filter(|metadata| metadata.is_file() && metadata.len() > 0)
            .map(|metadata| format!("broken off, {}", indicatif::DecimalBytes(metadata.len()))),
    };
    written.extend(what.map(|what| Written { path, what }));
    finished.map(drop)
}

fn describe(summary: &VideoSummary) -> String {
    let mut text = format!(
        "{} frames, {:.1} s, {}",
        summary.frames,
        summary.duration.as_secs_f64(),
        indicatif::DecimalBytes(summary.bytes)
    );
    match &summary.audio {
        AudioOutcome::None => {}
        AudioOutcome::Copied { codec, .. } => text.push_str(&format!(", audio copied ({codec})")),
        AudioOutcome::Dropped { codec } => text.push_str(&format!(", audio lost ({codec} does not fit into MP4)")),
        AudioOutcome::Damaged { reason, .. } => text.push_str(&format!(", audio damaged and cut short: {reason}")),
    }
    if summary.padded {
        text.push_str(", one pixel added because H.264 needs even sizes");
    }
    text
}
