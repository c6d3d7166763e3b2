//! Annotated copies: a video for each video or live source, a picture for each picture.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{ImageFormat, RgbImage};

use super::video::{AudioOutcome, VideoSettings, VideoSummary, VideoWriter};
use super::{Finding, SaveTarget, Sink, SinkError, SourceContext, Written};
use crate::capture::SourceSpec;
use crate::capture::packets::first_presentation_time;

/// Writes annotated copies.
pub struct Save {
    target: SaveTarget,
    sources: Vec<SourceSpec>,
    videos: HashMap<usize, (PathBuf, VideoWriter)>,
    written: Vec<Written>,
    /// Pictures written, by folder.
    pictures: BTreeMap<PathBuf, u64>,
}

impl Save {
    /// Prepares the target: makes its folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn create(target: SaveTarget, sources: Vec<SourceSpec>) -> Result<Self, SinkError> {
        if let SaveTarget::Folder(folder) = &target {
            std::fs::create_dir_all(folder).map_err(|reason| SinkError::file(folder, reason))?;
        }
        Ok(Self { target, sources, videos: HashMap::new(), written: Vec::new(), pictures: BTreeMap::new() })
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
            SourceSpec::Camera(_) | SourceSpec::Stream(_) => None,
        };
        let path = self.path_for(&source.info.name, "mp4");
        let mut settings = VideoSettings::new(&path, source.info.width, source.info.height);
        // Frames count from the first picture, audio from the first instant of the file.
        settings.audio_offset = audio_from.as_deref().and_then(first_presentation_time).unwrap_or_default();
        settings.audio_from = audio_from;
        self.videos.insert(source.source, (path, VideoWriter::create(&settings)?));
        Ok(())
    }

    fn write(&mut self, finding: &Arc<Finding>) -> Result<(), SinkError> {
        if let Some((_, video)) = self.videos.get_mut(&finding.source) {
            if let Err(error) = video.write(finding.annotated().clone(), finding.frame.pts) {
                self.videos.remove(&finding.source);
                return Err(error.into());
            }
        } else if let SourceSpec::Image(path) = &self.sources[finding.source] {
            let path = path.clone();
            self.save_picture(&path, finding)?;
        }
        Ok(())
    }

    fn close(&mut self, source: usize) -> Result<(), SinkError> {
        if let Some((path, video)) = self.videos.remove(&source) {
            let summary = video.finish()?;
            self.written.push(Written { path, what: describe(&summary) });
        }
        Ok(())
    }

    fn written(&self) -> Vec<Written> {
        let pictures = self.pictures.iter().map(|(folder, count)| Written {
            path: folder.clone(),
            what: format!("{count} picture{}", if *count == 1 { "" } else { "s" }),
        });
        self.written.iter().cloned().chain(pictures).collect()
    }
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
