//! A source as the server knows it: its newest finding, and the picture of it once somebody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Mutex, watch};

use super::picture::{Picture, PictureError};
use crate::shared::Shared;
use crate::sinks::Finding;

/// A source.
#[derive(Debug)]
pub(super) struct Watched {
    /// Its name.
    pub(super) name: String,
    newest: watch::Sender<Option<Seen>>,
    /// The last picture that was encoded. Whoever holds the lock encodes for all who wait for it.
    encoded: Arc<Mutex<Option<Picture>>>,
    encodings: AtomicU64,
    viewers: Arc<AtomicUsize>,
}

/// A finding and when it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) finding: Shared<Finding>,
    pub(super) at: Instant,
    number: u64,
}

/// Counts somebody as viewer of a source.
#[derive(Debug)]
pub(super) struct Viewing(Arc<AtomicUsize>);

impl Watched {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            newest: watch::Sender::new(None),
            encoded: Arc::default(),
            encodings: AtomicU64::new(0),
            viewers: Arc::default(),
        }
    }

    /// Takes the place of the finding before it.
    pub(super) fn show(&self, finding: &Shared<Finding>) {
        let (finding, at) = (finding.clone(), Instant::now());
        self.newest.send_modify(|newest| {
            let number = newest.as_ref().map_or(0, |seen| seen.number + 1);
            *newest = Some(Seen { finding, at, number });
        });
    }

    pub(super) fn newest(&self) -> Option<Seen> {
        self.newest.borrow().clone()
    }

    /// Tells when there is a newer finding.
    pub(super) fn changes(&self) -> watch::Receiver<Option<Seen>> {
        self.newest.subscribe()
    }

    /// The newest finding as picture, encoded once however many ask.
    ///
    /// # Errors
    ///
    /// When there is none, or none can be made of it.
    pub(super) async fn picture(self: &Arc<Self>) -> Result<Picture, PictureError> {
        let mut encoded = Arc::clone(&self.encoded).lock_owned().await;
        // Looked at only now, so that whoever had to wait sees what is newest after that.
        let Seen { finding, number, .. } = self.newest().ok_or(PictureError::NoFrame)?;
        if let Some(picture) = encoded.as_ref().filter(|picture| picture.number == number) {
            return Ok(picture.clone());
        }
        let source = Arc::clone(self);
        // The lock goes along: who asked may be gone before the picture is done, and others want it.
        let encoding = tokio::task::spawn_blocking(move || {
            let picture = Picture::encode(number, finding.annotated())?;
            source.encodings.fetch_add(1, Ordering::Relaxed);
            *encoded = Some(picture.clone());
            Ok(picture)
        });
        encoding.await?
    }

    /// How many pictures were encoded so far.
    pub(super) fn encodings(&self) -> u64 {
        self.encodings.load(Ordering::Relaxed)
    }

    /// Counts a viewer for as long as the result lives.
    pub(super) fn view(&self) -> Viewing {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewing(Arc::clone(&self.viewers))
    }

    pub(super) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
