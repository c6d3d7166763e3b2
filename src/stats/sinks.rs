//! Which sinks of a run do their work, and why the others do not.

use serde::Serialize;

/// Whether a sink does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// It does.
    Running,
    /// It does not any more, or not until it recovers.
    Failed,
}

/// A sink at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkSnapshot {
    /// Its name.
    pub sink: &'static str,
    /// Whether it does its work.
    pub state: SinkState,
    /// Why it has failed.
    pub reason: Option<String>,
}

pub(super) fn open(sinks: &mut Vec<SinkSnapshot>, name: &'static str) {
    sinks.push(SinkSnapshot { sink: name, state: SinkState::Running, reason: None });
}

/// The first reason stays: what comes after it mostly follows from it.
pub(super) fn fail(sinks: &mut [SinkSnapshot], name: &str, reason: impl ToString) {
    for sink in sinks.iter_mut().filter(|sink| sink.sink == name && sink.state == SinkState::Running) {
        (sink.state, sink.reason) = (SinkState::Failed, Some(reason.to_string()));
    }
}

pub(super) fn recover(sinks: &mut [SinkSnapshot], name: &str) {
    for sink in sinks.iter_mut().filter(|sink| sink.sink == name) {
        (sink.state, sink.reason) = (SinkState::Running, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_until_it_recovers() {
        let mut sinks = Vec::new();
        ["save", "snapshots"].into_iter().for_each(|name| open(&mut sinks, name));
        fail(&mut sinks, "inference", "no sink");
        for reason in ["disk full", "given up"] {
            fail(&mut sinks, "snapshots", reason);
        }
        let written = |sinks: &[SinkSnapshot]| serde_json::to_string(sinks).unwrap();
        let save = r#"{"sink":"save","state":"running","reason":null}"#;
        let failed = r#"{"sink":"snapshots","state":"failed","reason":"disk full"}"#;
        assert_eq!(written(&sinks), format!("[{save},{failed}]"));
        recover(&mut sinks, "snapshots");
        assert_eq!(written(&sinks), format!("[{save},{}]", save.replace("save", "snapshots")));
    }
}
