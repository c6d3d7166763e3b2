//! What a source of a run does at the moment, be it live or recorded.

use crate::capture::SourceState;

/// What a source does.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Nothing has come of it.
    Waiting,
    /// A recorded one: it delivers its frames.
    Playing,
    /// A live one: what its supervisor says.
    Supervised(SourceState),
    /// Nothing comes any more.
    Ended {
        /// Why it broke off, if it did.
        reason: Option<String>,
    },
}

impl Phase {
    /// Nothing comes any more. Where it is known already why, that says more.
    pub(super) fn end(&mut self, reason: Option<String>) {
        if self.reason().is_none() {
            *self = Self::Ended { reason };
        }
    }

    /// A lasting name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Playing => "playing",
            Self::Supervised(state) => state.name(),
            Self::Ended { .. } => "ended",
        }
    }

    /// Why nothing comes, where that is known.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Supervised(state) => state.reason(),
            Self::Ended { reason } => reason.as_deref(),
            Self::Waiting | Self::Playing => None,
        }
    }
}
