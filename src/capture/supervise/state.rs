//! What a live source is up to, for logs, events, pages and metrics.

use serde::Serialize;

/// The state of a live source.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SourceState {
    /// Being opened.
    Connecting {
        /// Which attempt this is since the source was last live, from 1.
        attempt: u64,
    },
    /// Delivers frames with nothing suspicious about them.
    Live,
    /// Delivers the same picture again and again.
    Frozen {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// Delivers a picture of one colour: black, covered, or without a signal.
    Uniform,
    /// The stream's timestamps went backwards.
    TimestampsBackwards {
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// The stream's timestamps leapt ahead of the time that had passed.
    TimestampsJumped {
        /// By how much, in milliseconds.
        by_ms: u64,
    },
    /// Delivers nothing; the next attempt is due.
    Disconnected {
        /// Why, in one line without credentials.
        reason: String,
        /// Failed attempts since the source was last live.
        attempts: u64,
        /// Time to the next attempt, in milliseconds.
        retry_in_ms: u64,
    },
    /// Delivers nothing, and is not tried again.
    GivenUp {
        /// Why, in one line without credentials.
        reason: String,
    },
}

impl SourceState {
    /// All names, for those who need them before the states come up.
    pub const NAMES: [&'static str; 8] = [
        "connecting",
        "live",
        "frozen",
        "uniform",
        "timestamps_backwards",
        "timestamps_jumped",
        "disconnected",
        "given_up",
    ];

    /// A lasting name, the same as in the serialised form.
    pub fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::Connecting { .. } => 0,
            Self::Live => 1,
            Self::Frozen { .. } => 2,
            Self::Uniform => 3,
            Self::TimestampsBackwards { .. } => 4,
            Self::TimestampsJumped { .. } => 5,
            Self::Disconnected { .. } => 6,
            Self::GivenUp { .. } => 7,
        }]
    }

    /// Why nothing comes, where that is known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Disconnected { reason, .. } | Self::GivenUp { reason } => Some(reason),
            _ => None,
        }
    }

    /// Whether frames come, be they good or suspicious.
    pub fn delivers(&self) -> bool {
        !matches!(self, Self::Connecting { .. } | Self::Disconnected { .. } | Self::GivenUp { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_serialised() {
        let states = [
            SourceState::Connecting { attempt: 1 },
            SourceState::Live,
            SourceState::Frozen { for_ms: 1 },
            SourceState::Uniform,
            SourceState::TimestampsBackwards { by_ms: 1 },
            SourceState::TimestampsJumped { by_ms: 1 },
            SourceState::Disconnected { reason: "x".into(), attempts: 3, retry_in_ms: 1 },
            SourceState::GivenUp { reason: "x".into() },
        ];
        for (state, name) in states.iter().zip(SourceState::NAMES) {
            assert_eq!((state.name(), &serde_json::to_value(state).unwrap()["state"]), (name, &name.into()));
        }
        assert_eq!(states.iter().filter(|state| state.delivers()).count(), 5);
    }
}
