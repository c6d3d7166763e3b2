//! What happens to sources and tracks, once each, apart from the frames: the lines that a person wants to read.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::Finding;
use crate::capture::SourceState;
use crate::shared::Shared;
use crate::track::alarm::AlarmRecord;
use crate::track::event::TrackRecord;
use crate::track::{Alarm, TrackEvent};

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Place of its source in the order that the user gave.
    pub source: usize,
    /// Name of the source.
    pub name: Arc<str>,
    /// When the frame was captured after which it was noticed.
    pub time: SystemTime,
    /// What it is.
    pub happening: Happening,
    /// What decided it.
    pub origin: Arc<Origin>,
    /// The frame that shows it, of alarms and changed labels.
    pub finding: Option<Shared<Finding>>,
}

/// Kinds of notices.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A track appeared, changed its label, or ended.
    Track(TrackEvent),
    /// A track has had the label that raises alarms for too long.
    Alarm(Alarm),
    /// A live source is in another state.
    State(SourceState),
}

/// What decides: the same for all notices of a run.
#[derive(Debug)]
pub struct Origin {
    /// Names of the classes.
    pub classes: Arc<[String]>,
    /// Identity of the model: its file's name and the first digits of its SHA-256.
    pub model: String,
}

/// A notice as it is written.
#[derive(Debug, Serialize)]
pub struct NoticeRecord<'a> {
    source: &'a str,
    time: String,
    #[serde(flatten)]
    happening: HappeningRecord<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    /// Identity of HayCAM's basis, where it is kept from frame to frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum HappeningRecord<'a> {
    Track(TrackRecord<'a>),
    Alarm(AlarmRecord<'a>),
    State(StateRecord<'a>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "source_state")]
struct StateRecord<'a> {
    #[serde(flatten)]
    state: &'a SourceState,
}

impl Notice {
    /// The notice with names in place of numbers.
    pub fn record(&self) -> NoticeRecord<'_> {
        let classes = &self.origin.classes;
        let is_alarm = matches!(self.happening, Happening::Alarm(_));
        let basis = self.finding.as_ref().and_then(|finding| finding.analysis.cam.basis);
        NoticeRecord {
            source: &self.name,
            time: humantime::format_rfc3339_millis(self.time).to_string(),
            happening: match &self.happening {
                Happening::Track(event) => HappeningRecord::Track(event.record(classes)),
                Happening::Alarm(alarm) => HappeningRecord::Alarm(alarm.record(classes)),
                Happening::State(state) => HappeningRecord::State(StateRecord { state }),
            },
            frame: self.finding.as_ref().map(|finding| finding.frame.index),
            model: is_alarm.then_some(&self.origin.model),
            basis: basis.filter(|_| is_alarm).map(|basis| basis.id.to_string()),
        }
    }

    /// Tells the log, if it is an alarm, with the picture that was kept of it.
    pub fn log_alarm(&self, snapshot: Option<&Path>) {
        let Happening::Alarm(alarm) = &self.happening else { return };
        let (label, lasted) = (alarm.label.name(&self.origin.classes), alarm.lasted.as_secs_f64());
        let snapshot = snapshot.map(|path| format!("; snapshot {}", path.display())).unwrap_or_default();
        tracing::warn!("{}: alarm: track {} has been {label} for {lasted:.1} s{snapshot}", self.name, alarm.track);
    }

    /// What it is and whom it concerns, for the name of a file.
    pub fn slug(&self) -> String {
        match &self.happening {
            Happening::Alarm(alarm) => format!("{}-alarm-track_{}", self.name, alarm.track),
            Happening::Track(event) => format!("{}-track_{}", self.name, event.track),
            Happening::State(state) => format!("{}-{}", self.name, state.name()),
        }
    }
}
