//! What the sink puts in and the server's handlers take out. Nothing in it grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use super::gate::Gate;
use super::settings::ServeLimits;
use super::watched::Watched;
use crate::shared::Shared;
use crate::sinks::events::Event;
use crate::sinks::{Finding, Notice};
use crate::stats::RunStats;

/// Events that a slow client may be behind before it loses some.
const EVENTS_KEPT: usize = 256;

/// Shared by the sink and the server.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) sources: Vec<Arc<Watched>>,
    pub(super) stats: Arc<RunStats>,
    pub(super) gate: Gate,
    pub(super) limits: ServeLimits,
    events: broadcast::Sender<Published>,
    events_lost: AtomicU64,
    seats: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// An event as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) source: usize,
    pub(super) bytes: Bytes,
}

impl Hub {
    pub(super) fn new(
        names: impl IntoIterator<Item = String>,
        stats: Arc<RunStats>,
        gate: Gate,
        limits: ServeLimits,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            sources: names.into_iter().map(|name| Arc::new(Watched::new(name))).collect(),
            stats,
            gate,
            limits,
            events: broadcast::Sender::new(EVENTS_KEPT),
            events_lost: AtomicU64::new(0),
            seats: Arc::new(Semaphore::new(limits.viewers)),
            stopping,
        }
    }

    /// Takes a finding.
    ///
    /// # Errors
    ///
    /// When it is no JSON.
    pub(super) fn show(&self, finding: &Shared<Finding>) -> serde_json::Result<()> {
        if let Some(source) = self.sources.get(finding.source) {
            source.show(finding);
        }
        self.publish(finding.source, || Event::new(finding))
    }

    /// Takes a notice.
    ///
    /// # Errors
    ///
    /// When it is no JSON.
    pub(super) fn announce(&self, notice: &Notice) -> serde_json::Result<()> {
        self.publish(notice.source, || notice.record())
    }

    /// Sends an event to whoever listens; made only if somebody does.
    ///
    /// # Errors
    ///
    /// When it is no JSON.
    fn publish<E: Serialize>(&self, source: usize, event: impl FnOnce() -> E) -> serde_json::Result<()> {
        if self.events.receiver_count() > 0 {
            let mut bytes = b"data: ".to_vec();
            serde_json::to_writer(&mut bytes, &event())?;
            bytes.extend_from_slice(b"\n\n");
            // The last listener may have left meanwhile.
            let _ = self.events.send(Published { source, bytes: bytes.into() });
        }
        Ok(())
    }

    /// Events from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Published> {
        self.events.subscribe()
    }

    pub(super) fn lose_events(&self, count: u64) {
        self.events_lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Events that slow clients have lost.
    pub(super) fn events_lost(&self) -> u64 {
        self.events_lost.load(Ordering::Relaxed)
    }

    /// The place of a source.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name == name)
    }

    /// Room for one more stream, unless all is taken.
    pub(super) fn seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// Streams of pictures and events under way.
    pub(super) fn seats_taken(&self) -> usize {
        self.limits.viewers.saturating_sub(self.seats.available_permits())
    }

    /// Becomes true when the server is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }
}
