//! Makes batches from pictures on threads of its own, in an order that only the requests decide.

use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender, bounded};
use image::RgbImage;

use super::{DatasetError, Picture};
use crate::capture::stills::read_image;

/// What was made from some requests, with their labels.
#[derive(Debug)]
pub struct Batch<T> {
    /// What was made, in the order of the requests.
    pub items: Vec<T>,
    /// Class index of each item.
    pub labels: Vec<i64>,
    /// Index of each item's request among all that were given.
    pub indices: Vec<usize>,
    /// Files that could not be read, with the reason; they have no item.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// One picture to be loaded.
#[derive(Debug, Clone)]
pub struct Request {
    /// The image file.
    pub path: PathBuf,
    /// Class index.
    pub label: usize,
    /// Identifies the draw within the training, for whoever varies the picture at random.
    pub draw: u64,
}

impl Request {
    /// Asks for a picture.
    pub fn new(picture: &Picture, draw: u64) -> Self {
        Self { path: picture.path.clone(), label: picture.label, draw }
    }
}

/// Batches that a thread may have ready before they are used.
const READY_BATCHES: usize = 2;
/// More threads than this hold more pictures in memory than any network uses up in time.
const MAX_THREADS: usize = 16;

/// Decodes the picture of a request; the error is the reason for people.
///
/// # Errors
///
/// When it cannot be read or is no picture.
pub fn decode(request: &Request) -> Result<RgbImage, String> {
    read_image(&request.path).map_err(|error| error.to_string())
}

/// Loads `requests` in batches of `batch_size` on `threads` threads and hands them to `consume` in order, on the
/// calling thread, until they are used up or `consume` fails.
///
/// `fetch` makes the item of a request, usually from what [`decode`] gives, or says why it cannot be read.
///
/// # Errors
///
/// What `consume` returns, or when no thread can be started.
pub fn load<T: Send, E: From<DatasetError>>(
    requests: &[Request],
    batch_size: usize,
    threads: usize,
    fetch: impl Fn(&Request) -> Result<T, String> + Sync,
    mut consume: impl FnMut(Batch<T>) -> Result<(), E>,
) -> Result<(), E> {
    let batches: Vec<&[Request]> = requests.chunks(batch_size).collect();
    let threads = threads.clamp(1, batches.len().clamp(1, MAX_THREADS));
    std::thread::scope(|scope| {
        let mut receivers: Vec<Receiver<Batch<T>>> = Vec::with_capacity(threads);
        for first in 0..threads {
            let (sender, receiver) = bounded(READY_BATCHES);
            receivers.push(receiver);
            let own = (0..).step_by(batch_size).zip(&batches).skip(first).step_by(threads);
            let fetch = &fetch;
            std::thread::Builder::new()
                .name(format!("loader-{first}"))
                .spawn_scoped(scope, move || work(own, fetch, &sender))
                .map_err(|error| E::from(DatasetError::Thread(error)))?;
        }
        // Thread t makes the batches t, t + threads, ...: taking turns restores the order.
        for turn in 0..batches.len() {
            match receivers[turn % threads].recv() {
                Ok(batch) => consume(batch)?,
                Err(_) => break, // the thread panicked, which the scope reports
            }
        }
        Ok(())
    })
}

/// Makes `batches`, each given with the index of its first request.
fn work<'a, T>(
    batches: impl Iterator<Item = (usize, &'a &'a [Request])>,
    fetch: &impl Fn(&Request) -> Result<T, String>,
    sender: &Sender<Batch<T>>,
) {
    for (first, requests) in batches {
        let mut batch = Batch {
            items: Vec::with_capacity(requests.len()),
            labels: Vec::with_capacity(requests.len()),
            indices: Vec::with_capacity(requests.len()),
            unreadable: Vec::new(),
        };
        for (index, request) in (first..).zip(*requests) {
            match fetch(request) {
                Ok(item) => {
                    batch.items.push(item);
                    batch.labels.push(request.label as i64);
                    batch.indices.push(index);
                }
                Err(reason) => batch.unreadable.push((request.path.clone(), reason)),
            }
        }
        if sender.send(batch).is_err() {
            return; // nobody wants more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_unreadable_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let requests: Vec<Request> = (0..23u8)
            .map(|number| {
                let path = folder.path().join(format!("{number}.png"));
                if number == 7 {
                    std::fs::write(&path, "not a picture").unwrap();
                } else {
                    RgbImage::from_pixel(2, 2, image::Rgb([number; 3])).save(&path).unwrap();
                }
                Request { path, label: usize::from(number), draw: u64::from(number) }
            })
            .collect();
        let mut labels = Vec::new();
        let mut unreadable = Vec::new();
        load::<_, DatasetError>(&requests, 4, 3, decode, |batch| {
            for ((image, &label), &index) in batch.items.iter().zip(&batch.labels).zip(&batch.indices) {
                assert_eq!(i64::from(image.get_pixel(0, 0).0[0]), label);
                assert_eq!(requests[index].label as i64, label);
            }
            labels.extend(batch.labels);
            unreadable.extend(batch.unreadable);
            Ok(())
        })
        .unwrap();
        assert_eq!(labels, (0..23).filter(|&label| label != 7).collect::<Vec<i64>>());
        assert!(matches!(&unreadable[..], [(path, _)] if path.ends_with("7.png")));
    }
}
