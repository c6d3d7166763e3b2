//! `/metrics`: the figures of the run for Prometheus, in the OpenMetrics text format, read when they are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::hub::Hub;
use super::process::ProcessFigures;
use super::routes::refusal;
use super::status::delivering;
use crate::stats::{RunSnapshot, SinkState, SourceSnapshot};

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// `/metrics`
pub(super) async fn metrics(State(hub): State<Arc<Hub>>) -> Response {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(hub)));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[derive(Debug)]
struct Figures(Arc<Hub>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(&mut encoder);
        of_the_run(&self.0, &mut families)?;
        of_the_server(&self.0, &mut families)?;
        of_the_process(&mut families)
    }
}

fn of_the_run(hub: &Hub, families: &mut Families) -> fmt::Result {
    let RunSnapshot { elapsed_s, sources, sinks } = hub.stats.snapshot();
    let each = || sources.iter().map(|source| (labels([("source", &source.source)]), source));
    families.counters("maskwatch_frames", "Frames analysed", each().map(|(labels, source)| (labels, source.frames)))?;
    families.counters(
        "maskwatch_frames_unchanged",
        "Frames that showed nothing new and were not analysed",
        each().map(|(labels, source)| (labels, source.unchanged)),
    )?;
    families.counters(
        "maskwatch_frames_by_label",
        "Frames analysed, by what was seen in them",
        sources.iter().flat_map(|source| by("label", source, &source.labels)),
    )?;
    families.counters(
        "maskwatch_frames_dropped",
        "Frames that a stage did not take",
        sources.iter().flat_map(|source| by("stage", source, &source.dropped)),
    )?;
    families.counters(
        "maskwatch_disconnections",
        "Times that a source was lost or could not be opened",
        each().map(|(labels, source)| (labels, source.disconnections)),
    )?;
    families.counters("maskwatch_alarms", "Alarms raised", each().map(|(labels, source)| (labels, source.alarms)))?;
    families.gauges(
        "maskwatch_source_state",
        "What a source does at the moment; the state is the label",
        sources.iter().map(|source| (labels([("source", &source.source), ("state", &source.state)]), 1.0)),
    )?;
    families.gauges(
        "maskwatch_source_delivering",
        "Whether a source has delivered a frame lately",
        each().zip(delivering(hub)).map(|((labels, _), delivers)| (labels, f64::from(u8::from(delivers)))),
    )?;
    families.gauges(
        "maskwatch_faces",
        "Faces in sight, by label",
        sources
            .iter()
            .flat_map(|source| by("label", source, &source.faces))
            .map(|(labels, count)| (labels, count as f64)),
    )?;
    families.gauges(
        "maskwatch_latency_seconds",
        "From the capture of a frame to the end of its writing, by sink, over the whole run",
        sources.iter().flat_map(latencies),
    )?;
    families.gauges(
        "maskwatch_sink_up",
        "Whether an output does its work",
        sinks.iter().map(|sink| {
            (labels([("sink", &sink.sink.to_owned())]), f64::from(u8::from(sink.state == SinkState::Running)))
        }),
    )?;
    families.gauges("maskwatch_uptime_seconds", "Since the run began", [(Vec::new(), elapsed_s)])
}

fn of_the_server(hub: &Hub, families: &mut Families) -> fmt::Result {
    let each = || hub.sources.iter().map(|source| (labels([("source", &source.name)]), source));
    families.gauges(
        "maskwatch_viewers",
        "Streams of pictures under way",
        each().map(|(labels, source)| (labels, source.viewers() as f64)),
    )?;
    families.counters(
        "maskwatch_pictures_encoded",
        "Pictures encoded for viewers",
        each().map(|(labels, source)| (labels, source.encodings())),
    )?;
    families.counters("maskwatch_events_lost", "Events that slow clients have lost", [(Vec::new(), hub.events_lost())])
}

fn of_the_process(families: &mut Families) -> fmt::Result {
    let Some(process) = ProcessFigures::read() else { return Ok(()) };
    families.counters("process_cpu_seconds", "Processor time of the process", [(Vec::new(), process.cpu_seconds)])?;
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory of the process", process.resident_bytes),
        ("process_open_fds", "Open file descriptors", process.open_files),
        ("process_threads", "Threads of the process", process.threads),
    ] {
        families.gauges(name, help, [(Vec::new(), value as f64)])?;
    }
    Ok(())
}

type Labels = Vec<(&'static str, String)>;

/// Labels with their values escaped, which the crate leaves to us.
fn labels<const N: usize>(pairs: [(&'static str, &String); N]) -> Labels {
    let escaped = |text: &String| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    pairs.map(|(key, value)| (key, escaped(value))).into()
}

/// The counts of a source, by a further label.
fn by(
    key: &'static str,
    source: &SourceSnapshot,
    counts: &BTreeMap<String, u64>,
) -> impl Iterator<Item = (Labels, u64)> {
    counts.iter().map(move |(value, count)| (labels([("source", &source.source), (key, value)]), *count))
}

/// The quantiles of a source in seconds, by sink.
fn latencies(source: &SourceSnapshot) -> impl Iterator<Item = (Labels, f64)> {
    source.latency_ms.iter().flat_map(|(sink, latency)| {
        let quantiles = [("0.5", latency.p50), ("0.95", latency.p95), ("0.99", latency.p99), ("1", latency.max)];
        quantiles.map(|(quantile, millis)| {
            let quantile = quantile.to_owned();
            (labels([("source", &source.source), ("sink", sink), ("quantile", &quantile)]), millis / 1e3)
        })
    })
}

/// Writes families of metrics.
struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Families<'_, '_> {
    fn counters<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        self.each(name, help, MetricType::Counter, samples, |sample, count| sample.encode_counter(count, NO_EXEMPLAR))
    }

    fn gauges(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, f64)>) -> fmt::Result {
        self.each(name, help, MetricType::Gauge, samples, |sample, value| sample.encode_gauge(value))
    }

    fn each<V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels, V)>,
        write: impl Fn(&mut MetricEncoder, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                write(&mut family, &value)?;
            } else {
                write(&mut family.encode_family(&labels)?, &value)?;
            }
        }
        Ok(())
    }
}
