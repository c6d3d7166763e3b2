//! Computes what a store lacks.
//!
//! The views are computed in batches of always the same members, since in some libraries the company of a picture
//! decides the last bits of its features: what is stored must not depend on where an earlier pass was interrupted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use image::RgbImage;
use tch::Tensor;

use super::{Entry, FeatureError, FeatureStore, Stamp};
use crate::dataset::loader::{self, Request};
use crate::dataset::{DatasetError, Picture};

/// Batches that are looked through at once: what is missing is listed for no more of them, so that memory stays flat.
const BATCHES_AT_ONCE: usize = 256;

/// What a store is to hold, and how it is computed.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'a> {
    /// The pictures, in an order that stays.
    pub pictures: &'a [Picture],
    /// Views of each.
    pub views: u32,
    /// Views that go through the network at once, at least 1.
    pub batch_size: usize,
    /// Threads that read pictures.
    pub threads: usize,
}

impl Filling<'_> {
    fn total(&self) -> usize {
        self.pictures.len() * self.views as usize
    }

    /// Picture and view of each position: all pictures in their first view, then in the second, and so on.
    fn at(&self, position: usize) -> (usize, u32) {
        (position % self.pictures.len(), (position / self.pictures.len()) as u32)
    }
}

/// Makes `store` hold all views of all readable pictures, and nothing else.
///
/// `make` gives view v of the picture of an index, `forward` the feature maps (N, channels, rows, columns) of a batch
/// of views. `observe` is told how many views of how many are there, and may end the pass with an error of its own;
/// what was computed until then stays. Gives the pictures that could not be read, with the reason; the store has nothing
/// of them.
///
/// # Errors
///
/// What `forward` and `observe` return, or when the store cannot be read or written.
pub fn fill<E: From<FeatureError> + From<DatasetError>>(
    store: &FeatureStore,
    filling: &Filling,
    make: impl Fn(RgbImage, usize, u32) -> RgbImage + Sync,
    mut forward: impl FnMut(&[RgbImage]) -> Result<Tensor, E>,
    mut observe: impl FnMut(usize, usize) -> Result<(), E>,
) -> Result<BTreeMap<PathBuf, String>, E> {
    let total = filling.total();
    let mut unreadable = BTreeMap::new();
    let paths = || filling.pictures.iter().map(|picture| picture.path.as_path());
    // First, so that the room is free for what is computed now.
    store.retain(paths(), filling.views)?;
    let stamped_view = |request: &Request| {
        // Before the picture is read: if it changes meanwhile, it is found stale next time.
        let stamp = Stamp::of(&request.path).map_err(|error| error.to_string())?;
        let (picture, view) = filling.at(request.draw as usize);
        Ok((stamp, make(loader::decode(request)?, picture, view)))
    };
    let mut done = 0;
    for first in (0..total).step_by(filling.batch_size * BATCHES_AT_ONCE) {
        let end = total.min(first + filling.batch_size * BATCHES_AT_ONCE);
        let requests = missing(store, filling, first..end, &mut unreadable)?;
        done += end - first - requests.len();
        observe(done, total)?;
        loader::load(&requests, filling.batch_size, filling.threads, stamped_view, |batch| {
            done += batch.indices.len() + batch.unreadable.len();
            let (stamps, images): (Vec<Stamp>, Vec<RgbImage>) = batch.items.into_iter().unzip();
            let entries: Vec<Entry> = batch
                .indices
                .iter()
                .zip(stamps)
                .map(|(&index, stamp)| {
                    let request = &requests[index];
                    Entry { path: &request.path, stamp, view: filling.at(request.draw as usize).1 }
                })
                .collect();
            if !entries.is_empty() {
                store.put(&entries, &forward(&images)?)?;
            }
            unreadable.extend(batch.unreadable);
            observe(done, total)
        })?;
    }
    // A picture that is unreadable now may have been readable in an earlier pass.
    store.retain(paths().filter(|&path| !unreadable.contains_key(path)), filling.views)?;
    Ok(unreadable)
}

/// All views of the batches in `range` in which something is missing that could be there; the draw of a request is its position.
fn missing(
    store: &FeatureStore,
    filling: &Filling,
    range: Range<usize>,
    unreadable: &mut BTreeMap<PathBuf, String>,
) -> Result<Vec<Request>, FeatureError> {
    // Nothing was ever stored with the empty stamp that a vanished file gets.
    let stamp = |path: &Path| Stamp::of(path).unwrap_or_default();
    let positions: Vec<usize> = range.clone().collect();
    let present = store.contains(positions.iter().map(|&position| {
        let (picture, view) = filling.at(position);
        let path = &filling.pictures[picture].path;
        Entry { path, stamp: stamp(path), view }
    }))?;
    let request = |position: usize| {
        let (picture, _) = filling.at(position);
        Request::new(&filling.pictures[picture], position as u64)
    };
    let mut is_readable = |position: usize| {
        let request = request(position);
        if unreadable.contains_key(&request.path) {
            return false;
        }
        loader::decode(&request).map_err(|reason| unreadable.insert(request.path, reason)).is_ok()
    };
    let mut requests = Vec::new();
    for batch in positions.chunks(filling.batch_size) {
        let absent: Vec<usize> = batch.iter().copied().filter(|&position| !present[position - range.start]).collect();
        // An unreadable picture alone is no reason to compute its company again. Where all are absent, the batch was
        // never computed, and no look is needed.
        if absent.len() == batch.len() || absent.into_iter().any(&mut is_readable) {
            requests.extend(batch.iter().copied().map(request));
        }
    }
    Ok(requests)
}
