//! The figures of a run while it goes on: what each source delivers, what is lost where, how old results are.
//!
//! Every stage counts here; the summary, the file of `--stats` and the metrics of the HTTP server read it. Nothing here
//! decides anything.

mod drops;
mod phase;
mod sinks;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::capture::SourceState;

pub use drops::{DropCounters, Drops};
use phase::Phase;
pub use sinks::{SinkSnapshot, SinkState};

/// Latencies are kept to two digits, from a microsecond to an hour.
const LATENCY_DIGITS: u8 = 2;
const LONGEST_LATENCY_MICROS: u64 = 3_600_000_000;

/// Shared by all stages of a run.
#[derive(Debug)]
pub struct RunStats {
    started: Instant,
    sources: Mutex<Vec<SourceStats>>,
    sinks: Mutex<Vec<SinkSnapshot>>,
}

/// The figures of a source.
#[derive(Debug, Clone)]
struct SourceStats {
    name: String,
    phase: Phase,
    frames: u64,
    unchanged: u64,
    by_label: BTreeMap<String, u64>,
    /// By sink.
    dropped: BTreeMap<&'static str, u64>,
    /// Before inference.
    feed: Option<Arc<DropCounters>>,
    latency: BTreeMap<&'static str, Histogram<u64>>,
    disconnections: u64,
    is_away: bool,
    waits_for_outputs: bool,
    alarms: u64,
    faces: BTreeMap<String, u64>,
}

/// All figures at one moment, as `--stats` writes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunSnapshot {
    /// Since the run began, in seconds.
    pub elapsed_s: f64,
    /// In the order that the user gave.
    pub sources: Vec<SourceSnapshot>,
    /// In the order in which they were opened.
    pub sinks: Vec<SinkSnapshot>,
}

/// The figures of a source at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceSnapshot {
    /// Its name.
    pub source: String,
    /// What it does at the moment: a [`SourceState`] of a live source, `playing` of a recorded one, or `live` where that is played
    /// as if it were; `waiting` before that, `ended` after it.
    pub state: String,
    /// Why it delivers nothing, where that is known.
    pub reason: Option<String>,
    /// How often it was lost or could not be opened.
    pub disconnections: u64,
    /// Alarms raised.
    pub alarms: u64,
    /// Frames that something is known of.
    pub frames: u64,
    /// Those of them that were not analysed, because they showed what an earlier one had shown.
    pub unchanged: u64,
    /// Frames by label.
    pub labels: BTreeMap<String, u64>,
    /// Tracks in sight by label.
    pub faces: BTreeMap<String, u64>,
    /// Frames that went no further, by where: `skipped`, `replaced` and `too_old` before inference (see [`Drops`]), or the name
    /// of a sink that had no room.
    pub dropped: BTreeMap<String, u64>,
    /// From the capture of a frame to the end of its writing, by sink.
    pub latency_ms: BTreeMap<String, LatencySnapshot>,
    /// Whether it is played as fast as its outputs take it, so that how old its frames are says nothing.
    #[serde(skip)]
    pub waits_for_outputs: bool,
}

/// Percentiles of a latency in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySnapshot {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
    /// Frames.
    pub count: u64,
}

impl RunStats {
    /// Nothing has happened yet to sources of these names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let source = |name| SourceStats {
            name,
            phase: Phase::Waiting,
            frames: 0,
            unchanged: 0,
            by_label: BTreeMap::new(),
            dropped: BTreeMap::new(),
            feed: None,
            latency: BTreeMap::new(),
            disconnections: 0,
            is_away: false,
            waits_for_outputs: false,
            alarms: 0,
            faces: BTreeMap::new(),
        };
        let sources = names.into_iter().map(source).collect();
        Self { started: Instant::now(), sources: Mutex::new(sources), sinks: Mutex::default() }
    }

    /// A source has changed its state.
    pub fn state(&self, source: usize, state: &SourceState) {
        self.with(source, |stats| {
            stats.phase = Phase::Supervised(state.clone());
            match state {
                // Further attempts that fail, for whatever reason, belong to the same disconnection.
                SourceState::Disconnected { .. } | SourceState::GivenUp { .. } => {
                    stats.disconnections += u64::from(!stats.is_away);
                    stats.is_away = true;
                }
                SourceState::Connecting { .. } => {}
                _ => stats.is_away = false,
            }
        });
    }

    /// A frame was not analysed, because it shows what an earlier one did.
    pub fn unchanged(&self, source: usize) {
        self.with(source, |stats| stats.unchanged += 1);
    }

    /// Something is known of a frame; `faces` are the labels of the tracks in sight.
    pub fn analysed<'a>(&self, source: usize, label: &str, faces: impl IntoIterator<Item = &'a str>) {
        self.with(source, |stats| {
            stats.frames += 1;
            count_one(&mut stats.by_label, label);
            stats.faces.values_mut().for_each(|count| *count = 0);
            faces.into_iter().for_each(|face| count_one(&mut stats.faces, face));
        });
    }

    /// A source is played as fast as its outputs take it.
    pub fn waits_for_outputs(&self, source: usize) {
        self.with(source, |stats| stats.waits_for_outputs = true);
    }

    /// A recorded source delivers its frames.
    pub fn playing(&self, source: usize) {
        self.with(source, |stats| stats.phase = Phase::Playing);
    }

    /// Nothing comes of a source any more; `reason` says why if it broke off. One that was given up, or is away, stays so.
    pub fn ended(&self, source: usize, reason: Option<String>) {
        self.with(source, |stats| stats.phase.end(reason));
    }

    /// All tracks of a source have ended.
    pub fn nobody_in_sight(&self, source: usize) {
        self.with(source, |stats| stats.faces.values_mut().for_each(|count| *count = 0));
    }

    /// An alarm was raised.
    pub fn alarmed(&self, source: usize) {
        self.with(source, |stats| stats.alarms += 1);
    }

    /// What is dropped of a source before inference is counted there.
    pub fn watch(&self, source: usize, counters: Arc<DropCounters>) {
        self.with(source, |stats| stats.feed = Some(counters));
    }

    /// A sink had no room for a frame.
    pub fn dropped(&self, source: usize, sink: &'static str) {
        self.with(source, |stats| *stats.dropped.entry(sink).or_default() += 1);
    }

    /// A sink is done with a frame that is now so old.
    pub fn latency(&self, source: usize, sink: &'static str, latency: Duration) {
        self.with(source, |stats| {
            let histogram = stats.latency.entry(sink).or_insert_with(|| {
                Histogram::new_with_max(LONGEST_LATENCY_MICROS, LATENCY_DIGITS).expect("the bounds are valid")
            });
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        });
    }

    /// A sink of this name does its work.
    pub fn sink_opened(&self, name: &'static str) {
        sinks::open(&mut lock(&self.sinks), name);
    }

    /// A sink does not do its work any more. The first reason stays; what is no sink is ignored.
    pub fn sink_failed(&self, name: &str, reason: impl ToString) {
        sinks::fail(&mut lock(&self.sinks), name, reason);
    }

    /// A sink that had failed does its work again.
    pub fn sink_recovered(&self, name: &str) {
        sinks::recover(&mut lock(&self.sinks), name);
    }

    /// All figures now.
    pub fn snapshot(&self) -> RunSnapshot {
        let sources = lock(&self.sources).iter().map(SourceStats::snapshot).collect();
        let sinks = lock(&self.sinks).clone();
        RunSnapshot { elapsed_s: millis(self.started.elapsed()) / 1e3, sources, sinks }
    }

    fn with(&self, source: usize, change: impl FnOnce(&mut SourceStats)) {
        if let Some(stats) = lock(&self.sources).get_mut(source) {
            change(stats);
        }
    }
}

/// The name is copied when it comes for the first time.
fn count_one(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

/// Figures stay valid when a stage panics between two of them.
fn lock<T>(figures: &Mutex<T>) -> MutexGuard<'_, T> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SourceStats {
    fn snapshot(&self) -> SourceSnapshot {
        let Drops { skipped, replaced, too_old } = self.feed.as_ref().map(|feed| feed.read()).unwrap_or_default();
        let before = [("skipped", skipped), ("replaced", replaced), ("too_old", too_old)];
        let sinks = self.dropped.iter().map(|(&sink, &frames)| (sink, frames));
        let dropped = before.into_iter().chain(sinks).filter(|(_, frames)| *frames > 0);
        SourceSnapshot {
            source: self.name.clone(),
            state: self.phase.name().to_owned(),
            reason: self.phase.reason().map(str::to_owned),
            waits_for_outputs: self.waits_for_outputs,
            disconnections: self.disconnections,
            unchanged: self.unchanged,
            alarms: self.alarms,
            frames: self.frames,
            labels: self.by_label.clone(),
            faces: self.faces.clone(),
            dropped: dropped.map(|(place, frames)| (place.to_owned(), frames)).collect(),
            latency_ms: self
                .latency
                .iter()
                .map(|(sink, histogram)| ((*sink).to_owned(), LatencySnapshot::of(histogram)))
                .collect(),
        }
    }
}

impl LatencySnapshot {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(Duration::from_micros(histogram.value_at_quantile(quantile)));
        Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: millis(Duration::from_micros(histogram.max())),
            count: histogram.len(),
        }
    }
}

impl RunSnapshot {
    /// Frames of all sources.
    pub fn frames(&self) -> u64 {
        self.sources.iter().map(|source| source.frames).sum()
    }

    /// Frames of all sources that some stage did not take.
    pub fn dropped(&self) -> u64 {
        self.sources.iter().flat_map(|source| source.dropped.values()).sum()
    }

    /// Sinks that do not do their work any more, and why.
    pub fn failed_sinks(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.sinks.iter().filter_map(|sink| Some((sink.sink, sink.reason.as_deref()?)))
    }
}

/// Milliseconds to a hundredth.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies() {
        let stats = RunStats::new(["door".to_owned()]);
        let mut latencies: Vec<u64> = (0..1000).map(|index| 100 + (index * 7919 % 1000) * 53).collect();
        for &micros in &latencies {
            stats.latency(0, "events", Duration::from_micros(micros));
        }
        latencies.sort_unstable();
        let snapshot = stats.snapshot();
        let found = snapshot.sources[0].latency_ms["events"];
        for (found, quantile) in [(found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)] {
            let expected = latencies[(quantile * 1000.0) as usize - 1] as f64 / 1e3;
            assert!((found - expected).abs() <= 0.02 * expected, "{quantile}: {found}, not {expected}");
        }
        assert_eq!(found.count, 1000);
    }

    #[test]
    fn each_source_and_stage_has_its_own_count() {
        let stats = RunStats::new(["a".to_owned(), "b".to_owned()]);
        stats.analysed(0, "mask", ["mask", "mask", "no_mask"]);
        stats.analysed(0, "mask", ["no_mask"]);
        let counters = Arc::<DropCounters>::default();
        stats.watch(1, Arc::clone(&counters));
        counters.replaced.store(2, std::sync::atomic::Ordering::Relaxed);
        stats.dropped(1, "save");
        stats.dropped(7, "save");
        let snapshot = stats.snapshot();
        let [a, b] = &snapshot.sources[..] else { panic!("two sources") };
        assert_eq!((a.frames, a.labels["mask"], a.faces["mask"], a.faces["no_mask"]), (2, 2, 0, 1));
        assert_eq!((b.dropped["replaced"], b.dropped["save"], b.frames), (2, 1, 0));
        assert_eq!((snapshot.frames(), snapshot.dropped()), (2, 3));
    }

    #[test]
    fn a_source_that_was_given_up_stays_so_when_it_ends() {
        let stats = RunStats::new(["film", "cut", "door"].map(str::to_owned));
        (0..2).for_each(|source| stats.playing(source));
        stats.state(2, &SourceState::GivenUp { reason: "refused".to_owned() });
        let told = |stats: &RunStats| {
            stats.snapshot().sources.into_iter().map(|source| (source.state, source.reason)).collect::<Vec<_>>()
        };
        assert_eq!(told(&stats)[0], ("playing".to_owned(), None));
        let reasons = [None, Some("cut short".to_owned()), Some("refused".to_owned())];
        (0..).zip(reasons.clone()).for_each(|(source, reason)| stats.ended(source, reason));
        let states = ["ended", "ended", "given_up"].map(str::to_owned);
        assert_eq!(told(&stats), states.into_iter().zip(reasons).collect::<Vec<_>>());
    }

    #[test]
    fn a_disconnection_counts_once_however_many_attempts_fail() {
        let stats = RunStats::new(["door".to_owned()]);
        let away = |attempts| SourceState::Disconnected { reason: "refused".to_owned(), attempts, retry_in_ms: 500 };
        for state in [
            SourceState::Connecting { attempt: 1 },
            SourceState::Live,
            away(0),
            SourceState::Connecting { attempt: 1 },
            away(1),
            SourceState::Connecting { attempt: 2 },
            SourceState::Live,
            SourceState::Uniform,
            away(0),
        ] {
            stats.state(0, &state);
        }
        assert_eq!(stats.snapshot().sources[0].disconnections, 2);
    }
}
