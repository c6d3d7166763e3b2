//! Frames of live sources that were dropped between capture and inference, counted where it happens.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts frames that were dropped, while they are.
#[derive(Debug, Default)]
pub struct DropCounters {
    /// See [`Drops::skipped`].
    pub skipped: AtomicU64,
    /// See [`Drops::replaced`].
    pub replaced: AtomicU64,
    /// See [`Drops::too_old`].
    pub too_old: AtomicU64,
}

/// Frames of live sources that went no further, by where they were dropped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Drops {
    /// By the decoder, which had a newer one before the older was passed on.
    pub skipped: u64,
    /// On the way to inference, which had not taken them when the next one came.
    pub replaced: u64,
    /// Before inference, because they were older than allowed.
    pub too_old: u64,
}

impl Drops {
    /// All of them.
    pub fn total(self) -> u64 {
        self.skipped + self.replaced + self.too_old
    }
}

impl DropCounters {
    /// The count so far.
    pub fn read(&self) -> Drops {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Drops { skipped: of(&self.skipped), replaced: of(&self.replaced), too_old: of(&self.too_old) }
    }
}
