//! Reads, varies and batches pictures on threads of its own, in an order that only the seed decides.

use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender, bounded};
use image::RgbImage;

use super::DatasetError;
use crate::capture::stills::read_image;

/// Pictures of one size with their labels.
#[derive(Debug, Default)]
pub struct Batch {
    /// Square pictures.
    pub images: Vec<RgbImage>,
    /// Class index of each.
    pub labels: Vec<i64>,
    /// Files that could not be read, with the reason; they are not among the images.
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

/// Batches that a thread may have ready before they are used.
const READY_BATCHES: usize = 2;
/// More threads than this hold more pictures in memory than any network uses up in time.
const MAX_THREADS: usize = 16;

/// Loads `requests` in batches of `batch_size` on `threads` threads and hands them to `consume` in order, on the
/// calling thread, until they are used up or `consume` fails.
///
/// `prepare` turns a picture into the square one that goes into the batch.
///
/// # Errors
///
/// What `consume` returns, or when no thread can be started.
pub fn load<E: From<DatasetError>>(
    requests: &[Request],
    batch_size: usize,
    threads: usize,
    prepare: impl Fn(RgbImage, &Request) -> RgbImage + Sync,
    mut consume: impl FnMut(Batch) -> Result<(), E>,
) -> Result<(), E> {
    let batches: Vec<&[Request]> = requests.chunks(batch_size).collect();
    let threads = threads.clamp(1, batches.len().clamp(1, MAX_THREADS));
    std::thread::scope(|scope| {
        let mut receivers: Vec<Receiver<Batch>> = Vec::with_capacity(threads);
        for first in 0..threads {
            let (sender, receiver) = bounded(READY_BATCHES);
            receivers.push(receiver);
            let (batches, prepare) = (&batches, &prepare);
            std::thread::Builder::new()
                .name(format!("loader-{first}"))
                .spawn_scoped(scope, move || work(batches.iter().skip(first).step_by(threads), prepare, &sender))
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

fn work<'a>(
    batches: impl Iterator<Item = &'a &'a [Request]>,
    prepare: &impl Fn(RgbImage, &Request) -> RgbImage,
    sender: &Sender<Batch>,
) {
    for requests in batches {
        let mut batch = Batch::default();
        for request in *requests {
            match read_image(&request.path) {
                Ok(image) => {
                    batch.images.push(prepare(image, request));
                    batch.labels.push(request.label as i64);
                }
                Err(error) => batch.unreadable.push((request.path.clone(), error.to_string())),
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
        load::<DatasetError>(
            &requests,
            4,
            3,
            |image, _| image,
            |batch| {
                for (image, label) in batch.images.iter().zip(&batch.labels) {
                    assert_eq!(i64::from(image.get_pixel(0, 0).0[0]), *label);
                }
                labels.extend(batch.labels);
                unreadable.extend(batch.unreadable);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(labels, (0..23).filter(|&label| label != 7).collect::<Vec<i64>>());
        assert!(matches!(&unreadable[..], [(path, _)] if path.ends_with("7.png")));
    }
}
