//! How the run is doing, as JSON: `/healthz` for programs that restart it, `/stats` for the page and for scripts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;

use super::gate::Verdict;
use super::hub::Hub;
use super::watched::Watched;
use crate::sinks::events::{millis, rounded};
use crate::stats::{SinkSnapshot, SourceSnapshot};

/// Body of `/healthz`.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    status: &'static str,
    /// For those who are let in: anybody may ask how it is, since probes know no secrets.
    #[serde(flatten)]
    details: Option<HealthDetails>,
}

#[derive(Debug, Serialize)]
struct HealthDetails {
    sources: usize,
    /// Sources that have delivered a frame lately.
    delivering: usize,
    sinks: Vec<SinkSnapshot>,
}

/// Body of `/stats`: what `--stats` writes, and what only the server knows.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    elapsed_s: f64,
    sources: Vec<SourceStatus>,
    sinks: Vec<SinkSnapshot>,
    /// Streams of pictures and events under way.
    viewers: usize,
    events_lost: u64,
}

#[derive(Debug, Serialize)]
struct SourceStatus {
    #[serde(flatten)]
    figures: SourceSnapshot,
    /// Of its pictures.
    viewers: usize,
    encoded: u64,
    /// Of the newest frame, if there is one.
    now: Option<Now>,
}

#[derive(Debug, Serialize)]
struct Now {
    frame: u64,
    label: String,
    confidence: f64,
    width: u32,
    height: u32,
    /// Since it came to the server.
    age_ms: f64,
}

/// `/healthz`: 200 if a source has delivered a frame lately, otherwise 503.
pub(super) async fn health(State(hub): State<Arc<Hub>>, uri: Uri, headers: HeaderMap) -> (StatusCode, Json<Health>) {
    let delivering = delivering(&hub).filter(|delivers| *delivers).count();
    let code = if delivering > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !matches!(hub.gate.judge(&uri, &headers), Verdict::Admitted | Verdict::AdmittedByAddress) {
        let status = if code == StatusCode::OK { "ok" } else { "not ok" };
        return (code, Json(Health { status, details: None }));
    }
    let snapshot = hub.stats.snapshot();
    let status = match delivering {
        0 => "no source delivers",
        some if some < hub.sources.len() => "some sources do not deliver",
        _ if snapshot.failed_sinks().next().is_some() => "some outputs have failed",
        _ => "ok",
    };
    let details = HealthDetails { sources: hub.sources.len(), delivering, sinks: snapshot.sinks };
    (code, Json(Health { status, details: Some(details) }))
}

/// `/stats`
pub(super) async fn stats(State(hub): State<Arc<Hub>>) -> Json<Stats> {
    let snapshot = hub.stats.snapshot();
    let sources = snapshot.sources.into_iter().zip(&hub.sources);
    let sources = sources.map(|(figures, watched)| SourceStatus {
        figures,
        viewers: watched.viewers(),
        encoded: watched.encodings(),
        now: now(watched),
    });
    Json(Stats {
        elapsed_s: snapshot.elapsed_s,
        sources: sources.collect(),
        sinks: snapshot.sinks,
        viewers: hub.seats_taken(),
        events_lost: hub.events_lost(),
    })
}

/// Whether each source has delivered a frame lately.
pub(super) fn delivering(hub: &Hub) -> impl Iterator<Item = bool> {
    hub.sources.iter().map(|source| source.newest().is_some_and(|seen| seen.at.elapsed() < hub.limits.stale_after))
}

fn now(source: &Watched) -> Option<Now> {
    let seen = source.newest()?;
    let finding = &seen.finding;
    let (width, height) = finding.frame.image.dimensions();
    Some(Now {
        frame: finding.frame.index,
        label: finding.classes[finding.analysis.label].clone(),
        confidence: rounded(f64::from(finding.analysis.confidence), 4),
        width,
        height,
        age_ms: millis(seen.at.elapsed()),
    })
}
