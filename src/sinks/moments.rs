//! Snapshots of the moments that matter, an alarm or a track's new label: the annotated frame, its heat map, and why.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};

use super::snapshots::{Saved, Snapshot, SnapshotLimits, SnapshotStore};
use super::{Finding, Happening, Notice, Sink, SinkError, SourceContext, Written};
use crate::draw::heat_picture;
use crate::shared::Shared;
use crate::track::TrackChange;

/// Quality of the annotated frame, 1 to 100.
const JPEG_QUALITY: u8 = 90;

/// Keeps snapshots in a folder, within limits.
#[derive(Debug)]
pub struct Moments {
    folder: PathBuf,
    store: SnapshotStore,
    taken: u64,
}

impl Moments {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, read, or written.
    pub fn open(folder: &Path, limits: SnapshotLimits) -> Result<Self, SinkError> {
        let store =
            SnapshotStore::open(folder, limits, SystemTime::now()).map_err(|reason| SinkError::file(folder, reason))?;
        Ok(Self { folder: folder.to_owned(), store, taken: 0 })
    }

    /// Gives the annotated frame, unless the store could write as little as before.
    fn take(&mut self, notice: &Notice, finding: &Finding) -> std::io::Result<Option<PathBuf>> {
        let mut frame = Vec::new();
        let annotated = finding.annotated();
        annotated
            .write_with_encoder(JpegEncoder::new_with_quality(&mut frame, JPEG_QUALITY))
            .map_err(std::io::Error::other)?;
        let heat = png(&heat_picture(&finding.analysis.heat, annotated.dimensions()))?;
        let mut why = serde_json::to_vec_pretty(&notice.record())?;
        why.push(b'\n');
        let snapshot = Snapshot {
            taken: notice.time,
            name: &notice.slug(),
            files: &[("jpg", &frame), ("heat.png", &heat), ("json", &why)],
        };
        match self.store.save(&snapshot, SystemTime::now())? {
            Saved::Written(files) => {
                self.taken += 1;
                Ok(files.into_iter().next())
            }
            Saved::StillFailing(lost) => {
                tracing::debug!("{lost} snapshots lost");
                Ok(None)
            }
        }
    }
}

fn png(picture: &RgbImage) -> std::io::Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(std::io::Error::other)?;
    Ok(bytes.into_inner())
}

/// Whether a picture should be kept of it.
fn matters(happening: &Happening) -> bool {
    match happening {
        Happening::Alarm(_) => true,
        Happening::Track(event) => matches!(event.change, TrackChange::LabelChanged { .. }),
        Happening::State(_) => false,
    }
}

impl Sink for Moments {
    fn name(&self) -> &'static str {
        "snapshots"
    }

    fn wants_frames(&self) -> bool {
        false
    }

    fn wants_notices(&self) -> bool {
        true
    }

    fn logs_alarms(&self) -> bool {
        true
    }

    fn open(&mut self, _: SourceContext) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, _: &Shared<Finding>) -> Result<(), SinkError> {
        Ok(())
    }

    fn notice(&mut self, notice: &Notice) -> Result<(), SinkError> {
        let Some(finding) = notice.finding.as_ref().filter(|_| matters(&notice.happening)) else { return Ok(()) };
        let taken = self.take(notice, finding);
        notice.log_alarm(taken.as_ref().ok().and_then(Option::as_deref));
        taken.map(drop).map_err(|reason| SinkError::Snapshot { folder: self.folder.clone(), reason })
    }

    fn is_failing(&self) -> bool {
        self.store.is_failing()
    }

    fn close(&mut self, _: usize) -> Result<(), SinkError> {
        Ok(())
    }

    fn written(&self) -> Vec<Written> {
        let what = format!("{} snapshot{}", self.taken, if self.taken == 1 { "" } else { "s" });
        if self.taken == 0 { Vec::new() } else { vec![Written { path: self.folder.clone(), what }] }
    }
}
