//! Computes what a store lacks.
//!
//! The views are computed in batches of always the same members, since in some libraries the company of a picture
//! decides the last bits of its features: what is stored must not depend on where an earlier pass was interrupted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::RgbImage;
use tch::Tensor;

use super::{Entry, FeatureError, FeatureStore, Stamp};
use crate::dataset::loader::{self, Request};
use crate::dataset::{DatasetError, Picture};

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

/// What came of a pass.
#[derive(Debug)]
pub struct Filled {
    /// Views that were computed.
    pub computed: usize,
    /// Pictures that could not be read, with the reason; the store has nothing of them.
    pub unreadable: BTreeMap<PathBuf, String>,
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
/// what was computed until then stays.
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
) -> Result<Filled, E> {
    let total = filling.total();
    let mut filled = Filled { computed: 0, unreadable: BTreeMap::new() };
    let paths = || filling.pictures.iter().map(|picture| picture.path.as_path());
    // First, so that the room is free for what is computed now.
    store.retain(paths(), filling.views)?;
    let requests = missing(store, filling, &mut filled.unreadable)?;
    let stamped_view = |request: &Request| {
        // Before the picture is read: if it changes meanwhile, it is found stale next time.
        let stamp = Stamp::of(&request.path).map_err(|error| error.to_string())?;
        let (picture, view) = filling.at(request.draw as usize);
        Ok((stamp, make(loader::decode(request)?, picture, view)))
    };
    let mut done = total - requests.len();
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
        filled.computed += entries.len();
        filled.unreadable.extend(batch.unreadable);
        observe(done, total)
    })?;
    // A picture that is unreadable now may have been readable in an earlier pass.
    store.retain(paths().filter(|&path| !filled.unreadable.contains_key(path)), filling.views)?;
    Ok(filled)
}

/// All views of the batches in which something is missing that could be there; the draw of a request is its position.
fn missing(
    store: &FeatureStore,
    filling: &Filling,
    unreadable: &mut BTreeMap<PathBuf, String>,
) -> Result<Vec<Request>, FeatureError> {
    // Nothing was ever stored with the empty stamp that a vanished file gets.
    let stamps: Vec<Stamp> =
        filling.pictures.iter().map(|picture| Stamp::of(&picture.path).unwrap_or_default()).collect();
    let positions: Vec<usize> = (0..filling.total()).collect();
    let present = store.contains(positions.iter().map(|&position| {
        let (picture, view) = filling.at(position);
        Entry { path: &filling.pictures[picture].path, stamp: stamps[picture], view }
    }))?;
    let request = |position: usize| {
        let Picture { path, label } = &filling.pictures[filling.at(position).0];
        Request { path: path.clone(), label: *label, draw: position as u64 }
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
        let absent: Vec<usize> = batch.iter().copied().filter(|&position| !present[position]).collect();
        // An unreadable picture alone is no reason to compute its company again. Where all are absent, the batch was
        // never computed, and no look is needed.
        if absent.len() == batch.len() || absent.into_iter().any(&mut is_readable) {
            requests.extend(batch.iter().copied().map(request));
        }
    }
    Ok(requests)
}
