//! `/metrics`: the figures of the run for Prometheus, in the OpenMetrics text format, read when they are asked for.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::hub::Hub;
use super::process::ProcessFigures;
use super::routes::refusal;
use super::status::delivering;

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
        let hub = &self.0;
        let stats = hub.stats.snapshot();
        let mut families = Families(&mut encoder);

        families.counters("maskwatch_frames", "Frames analysed", || {
            stats.sources.iter().map(|source| (vec![("source", source.source.as_str())], source.frames))
        })?;
        families.counters("maskwatch_frames_by_label", "Frames analysed, by what was seen in them", || {
            stats.sources.iter().flat_map(|source| by("label", &source.source, &source.labels))
        })?;
        families.counters("maskwatch_frames_dropped", "Frames that a stage did not take", || {
            stats.sources.iter().flat_map(|source| by("stage", &source.source, &source.dropped))
        })?;
        families.counters("maskwatch_reconnects", "Times that a source was opened again", || {
            stats.sources.iter().map(|source| (vec![("source", source.source.as_str())], source.reconnects))
        })?;
        families.gauges("maskwatch_source_state", "What a source does at the moment; the state is the label", || {
            let labels = |name, state| vec![("source", name), ("state", state)];
            stats.sources.iter().map(move |source| (labels(source.source.as_str(), source.state.as_str()), 1.0))
        })?;
        families.gauges("maskwatch_source_delivering", "Whether a source has delivered a frame lately", || {
            let names = hub.sources.iter().map(|source| vec![("source", source.name.as_str())]);
            names.zip(delivering(hub).map(|delivers| f64::from(u8::from(delivers))))
        })?;
        families.gauges("maskwatch_faces", "Faces in sight, by label", || {
            let faces = stats.sources.iter().flat_map(|source| by("label", &source.source, &source.faces));
            faces.map(|(labels, count)| (labels, count as f64))
        })?;
        let latency = "From the capture of a frame to the end of its writing, by sink, over the whole run";
        families.gauges("maskwatch_latency_seconds", latency, || {
            stats.sources.iter().flat_map(|source| {
                source.latency_ms.iter().flat_map(|(sink, latency)| {
                    [("0.5", latency.p50), ("0.95", latency.p95), ("0.99", latency.p99), ("1", latency.max)].map(
                        |(quantile, millis)| {
                            let labels =
                                vec![("source", source.source.as_str()), ("sink", sink.as_str()), ("quantile", quantile)];
                            (labels, millis / 1e3)
                        },
                    )
                })
            })
        })?;

        families.gauges("maskwatch_viewers", "Streams of pictures under way", || {
            hub.sources.iter().map(|source| (vec![("source", source.name.as_str())], source.viewers() as f64))
        })?;
        families.counters("maskwatch_pictures_encoded", "Pictures encoded for viewers", || {
            hub.sources.iter().map(|source| (vec![("source", source.name.as_str())], source.encodings()))
        })?;
        families.counters("maskwatch_events_lost", "Events that slow clients have lost", || {
            [(Vec::new(), hub.events_lost())]
        })?;

        families.gauges("maskwatch_uptime_seconds", "Since the run began", || [(Vec::new(), stats.elapsed_s)])?;
        let Some(process) = ProcessFigures::read() else { return Ok(()) };
        families.float_counter("process_cpu_seconds", "Processor time of the process", process.cpu_seconds)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the process", process.resident_bytes),
            ("process_open_fds", "Open file descriptors", process.open_files),
            ("process_threads", "Threads of the process", process.threads),
        ] {
            families.gauges(name, help, || [(Vec::new(), value as f64)])?;
        }
        Ok(())
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// The counts of a source, by a further label.
fn by<'a>(
    key: &'a str,
    source: &'a str,
    counts: &'a std::collections::BTreeMap<String, u64>,
) -> impl Iterator<Item = (Labels<'a>, u64)> {
    counts.iter().map(move |(value, count)| (vec![("source", source), (key, value.as_str())], *count))
}

struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Families<'_, '_> {
    fn counters<'l, I: IntoIterator<Item = (Labels<'l>, u64)>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce() -> I,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in samples() {
            family.encode_family(&labels)?.encode_counter(&count, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    fn gauges<'l, I: IntoIterator<Item = (Labels<'l>, f64)>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce() -> I,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples() {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn float_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter(&value, NO_EXEMPLAR)
    }
}
