//! Frames on their way to a GPU: pinned memory on the host and as much on the GPU, kept from frame to frame.
//!
//! ```text
//! frame ─► pinned memory ─► [stream for copies: memory of the GPU] ─► [libtorch's stream: the network]
//! ```
//!
//! A copy waits until libtorch's stream has done with the frame that had the memory before, and libtorch's stream for the copy;
//! other frames are computed on meanwhile. Where there is no second stream, libtorch does the copying.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, bounded};
use image::RgbImage;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use tch::{Device, Kind, TchError, Tensor};

use super::cuda::{Cuda, Mark, Stream};
use crate::frame::SharedImage;

/// Batches that there is memory for: one may be copied from, one to, and others wait for the network. With two, copies would wait for
/// each other's passes.
const MOST_SLOTS: usize = 5;
/// Likewise, where each takes much...
const LEAST_SLOTS: usize = 2;
/// ... as it does if they would take more bytes than this together.
const MOST_BYTES: usize = 256 << 20;

/// Copies frames to a device.
#[derive(Debug)]
pub(super) struct Uploader {
    device: Device,
    /// None where libtorch does the copying.
    cuda: Option<Arc<Cuda>>,
    slots: Arc<Mutex<Slots>>,
}

/// Memory for frames, here and there, whether it is used or not.
#[derive(Debug, Default)]
struct Slots {
    /// The one that was used last comes last: the first is the likeliest to be done with.
    free: VecDeque<Slot>,
    made: usize,
}

/// Frames of one size on a device.
#[derive(Debug)]
pub(super) struct UploadedFrames {
    /// (N, rows, columns, 3) bytes.
    pixels: Tensor,
    /// Gives the memory back.
    lease: Option<Lease>,
}

/// Frames that another thread is copying to a device, if they must be copied.
#[derive(Debug)]
pub struct Uploads {
    count: usize,
    copies: Option<Copies>,
}

#[derive(Debug)]
struct Copies {
    /// Where frames of each size are among all.
    places: Vec<Vec<usize>>,
    /// By the number of their size.
    done: Receiver<(usize, Result<UploadedFrames, TchError>)>,
}

/// Where a frame is: among which ones, and in which place.
type Place = (usize, usize);

/// The place of each frame, and the frames of each size.
pub(super) type Uploaded = (Vec<Place>, Vec<Result<UploadedFrames, TchError>>);

/// Memory for frames, here and there.
#[derive(Debug)]
struct Slot {
    pinned: Tensor,
    on_device: Tensor,
    /// The frames are on the device.
    arrived: Mark,
    /// Nobody needs them there any more.
    used: Mark,
}

#[derive(Debug)]
struct Lease {
    slot: Option<Slot>,
    slots: Arc<Mutex<Slots>>,
}

impl Uploader {
    /// Copies to a device; in a stream of its own, if there is one.
    pub(super) fn new(device: Device, cuda: Option<Arc<Cuda>>) -> Self {
        Self { device, cuda, slots: Arc::default() }
    }

    /// Begins to copy frames, all of one size, at once. libtorch must be told to [wait](UploadedFrames::awaited) for them.
    ///
    /// # Errors
    ///
    /// When there is no memory for them, the device refuses, or they have no pixels.
    ///
    /// # Panics
    ///
    /// When there are none, or one has another size.
    fn upload(&self, images: &[&RgbImage]) -> Result<UploadedFrames, TchError> {
        let (width, height) = images[0].dimensions();
        assert!(
            images.iter().all(|image| image.dimensions() == (width, height)),
            "frames of one size are copied at once"
        );
        let shape = [images.len() as i64, i64::from(height), i64::from(width), 3];
        let Some(cuda) = &self.cuda else {
            let frame = |image: &&RgbImage| Tensor::f_from_data_size(image.as_raw(), &shape[1..], Kind::Uint8);
            let frames = images.iter().map(frame).collect::<Result<Vec<_>, _>>()?;
            let pixels = Tensor::f_stack(&frames, 0)?.f_to_device(self.device)?;
            return Ok(UploadedFrames { pixels, lease: None });
        };
        let bytes = images[0].as_raw().len();
        let all_bytes = images.len() * bytes;
        if bytes == 0 {
            return Err(TchError::Shape("frames without pixels".to_owned()));
        }
        let slot = Some(self.slot(all_bytes, cuda)?);
        let mut lease = Lease { slot, slots: Arc::clone(&self.slots) };
        let slot = lease.slot();
        slot.arrived.wait()?;
        let (to, from) = (slot.on_device.data_ptr(), slot.pinned.data_ptr());
        // SAFETY: the slot holds as many bytes and is ours alone; nobody reads them any more, as its last frames have arrived.
        let pinned = unsafe { std::slice::from_raw_parts_mut(from.cast::<u8>(), all_bytes) };
        let copies = pinned.par_chunks_exact_mut(bytes).zip(images.par_iter());
        copies.for_each(|(place, image)| place.copy_from_slice(image.as_raw()));
        slot.used.holds_up(Stream::Copies)?;
        // SAFETY: both hold as many bytes, and live until the copy has ended: a slot waits for that before it is dropped or
        // written to again. The host's memory is pinned.
        unsafe { cuda.upload(to, from.cast_const(), all_bytes)? };
        if let Err(error) = slot.arrived.set(Stream::Copies) {
            // Nobody can tell when the copy has ended, so that nobody may have the memory.
            std::mem::forget(lease.slot.take());
            lock(&self.slots).made -= 1;
            return Err(error);
        }
        let pixels = slot.on_device.f_narrow(0, 0, all_bytes as i64)?.f_view(shape)?;
        Ok(UploadedFrames { pixels, lease: Some(lease) })
    }

    /// Memory for so many bytes.
    fn slot(&self, bytes: usize, cuda: &Arc<Cuda>) -> Result<Slot, TchError> {
        let mut slots = lock(&self.slots);
        // Those that are too small go first, and make room. None shrinks: a run has frames of a size or two.
        while slots.free.front().is_some_and(|slot| slot.on_device.numel() < bytes) {
            slots.free.pop_front();
            slots.made -= 1;
        }
        if slots.made >= (MOST_BYTES / bytes).clamp(LEAST_SLOTS, MOST_SLOTS)
            && let Some(slot) = slots.free.pop_front()
        {
            return Ok(slot);
        }
        match Slot::new(bytes as i64, self.device, cuda) {
            Ok(made) => {
                slots.made += 1;
                Ok(made)
            }
            Err(error) => slots.free.pop_front().ok_or(error),
        }
    }

    /// Copies frames of any sizes.
    pub(super) fn upload_all(&self, images: &[&RgbImage]) -> Uploaded {
        let groups = places_by_size(images);
        let uploaded = groups.iter().map(|group| {
            let images: Vec<&RgbImage> = group.iter().map(|&index| images[index]).collect();
            self.upload(&images).and_then(UploadedFrames::awaited)
        });
        (places(&groups, images.len()), uploaded.collect())
    }
}

fn lock(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where images of each size are.
fn places_by_size(images: &[&RgbImage]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, image) in images.iter().enumerate() {
        match groups.iter_mut().find(|group| images[group[0]].dimensions() == image.dimensions()) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// The place of each image.
fn places(groups: &[Vec<usize>], count: usize) -> Vec<Place> {
    let mut places = vec![(0, 0); count];
    for (number, group) in groups.iter().enumerate() {
        for (place, &index) in group.iter().enumerate() {
            places[index] = (number, place);
        }
    }
    places
}

#[cfg(test)]
impl Uploader {
    /// To a GPU, or to the CPU in its place.
    pub(super) fn to_stand_in() -> Self {
        let device = super::tests::gpu_or_stand_in();
        Self::new(device, Cuda::of(device))
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }
}

impl UploadedFrames {
    /// The same, which whatever libtorch is told from now on finds there. Not earlier: a pass must not wait for the frames of the
    /// next one.
    fn awaited(self) -> Result<Self, TchError> {
        if let Some(lease) = &self.lease {
            lease.slot().arrived.holds_up(Stream::Compute)?;
        }
        Ok(self)
    }

    /// Their pixels, (N, rows, columns, 3) bytes.
    pub(super) fn pixels(&self) -> &Tensor {
        &self.pixels
    }
}

impl From<Tensor> for UploadedFrames {
    /// Pixels, (N, rows, columns, 3) bytes, that came to the device by other ways.
    fn from(pixels: Tensor) -> Self {
        Self { pixels, lease: None }
    }
}

impl Uploads {
    /// Begins to copy, if there is an uploader.
    pub(super) fn begin(uploader: Option<Arc<Uploader>>, images: &[SharedImage]) -> Self {
        Self { count: images.len(), copies: uploader.map(|uploader| Copies::begin(&uploader, images)) }
    }

    /// Frames that it was begun for.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Waits for them; nothing comes where nobody copies.
    pub(super) fn wait(self) -> Option<Uploaded> {
        let Copies { places: groups, done } = self.copies?;
        let mut uploaded: Vec<_> = done.iter().collect();
        uploaded.sort_by_key(|(number, _)| *number);
        let uploaded = uploaded.into_iter().map(|(_, uploaded)| uploaded.and_then(UploadedFrames::awaited));
        Some((places(&groups, self.count), uploaded.collect()))
    }
}

impl Copies {
    fn begin(uploader: &Arc<Uploader>, images: &[SharedImage]) -> Self {
        let borrowed: Vec<&RgbImage> = images.iter().map(|image| &***image).collect();
        let places = places_by_size(&borrowed);
        let (sender, done) = bounded(places.len());
        for (number, group) in places.iter().enumerate() {
            let images: Vec<SharedImage> = group.iter().map(|&index| images[index].clone()).collect();
            let (uploader, sender) = (Arc::clone(uploader), sender.clone());
            rayon::spawn(move || {
                let images: Vec<&RgbImage> = images.iter().map(|image| &***image).collect();
                // A panic here would end the process; without the pool, frames go on from the host.
                let uploaded = catch_unwind(AssertUnwindSafe(|| uploader.upload(&images)));
                let panicked = |_| Err(TchError::Torch("the copying of frames panicked".to_owned()));
                // Nobody waits for it any more at the end of a run.
                let _ = sender.send((number, uploaded.unwrap_or_else(panicked)));
            });
        }
        Self { places, done }
    }
}

impl Slot {
    fn new(bytes: i64, device: Device, cuda: &Arc<Cuda>) -> Result<Self, TchError> {
        let pinned = Tensor::f_zeros([bytes], (Kind::Uint8, Device::Cpu))?.f_internal_pin_memory(device)?;
        let on_device = Tensor::f_empty([bytes], (Kind::Uint8, device))?;
        let (arrived, used) = (Mark::new(cuda)?, Mark::new(cuda)?);
        // What libtorch had in that memory before may still be needed by what it was told.
        used.set(Stream::Compute)?;
        Ok(Self { pinned, on_device, arrived, used })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Nobody may get its memory while it is copied from.
        if let Err(error) = self.arrived.wait() {
            tracing::debug!("frames did not get to the GPU: {error}");
        }
    }
}

impl Lease {
    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("it is given back with the lease")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let told = slot.used.set(Stream::Compute);
        let mut slots = lock(&self.slots);
        match told {
            Ok(()) => slots.free.push_back(slot),
            Err(error) => {
                slots.made -= 1;
                tracing::debug!("memory for frames is given up: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: u32, level: u8) -> SharedImage {
        RgbImage::from_pixel(width, 2, image::Rgb([level, 0, 255 - level])).into()
    }

    fn first_levels(frames: &UploadedFrames) -> Vec<i64> {
        (0..frames.pixels().size()[0]).map(|frame| frames.pixels().int64_value(&[frame, 1, 0, 0])).collect()
    }

    #[test]
    fn frames_of_each_size_are_copied_at_once_and_keep_their_places() {
        let uploader = Arc::new(Uploader::to_stand_in());
        let images = [image(3, 10), image(5, 20), image(3, 30), image(3, 40), image(5, 50)];
        // More than once: memory is used again.
        for _ in 0..3 {
            let borrowed: Vec<&RgbImage> = images.iter().map(|image| &***image).collect();
            let begun = Uploads::begin(Some(Arc::clone(&uploader)), &images);
            assert_eq!(begun.count(), images.len());
            for (places, uploaded) in [begun.wait().unwrap(), uploader.upload_all(&borrowed)] {
                assert_eq!(places, [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)]);
                let [of_three, of_five] = &uploaded[..] else { panic!("two sizes") };
                assert_eq!(of_three.as_ref().unwrap().pixels().size(), [3, 2, 3, 3]);
                assert_eq!(first_levels(of_three.as_ref().unwrap()), [10, 30, 40]);
                assert_eq!(first_levels(of_five.as_ref().unwrap()), [20, 50]);
            }
        }
    }

    #[test]
    fn more_batches_than_there_is_memory_for_at_first_keep_their_frames() {
        let uploader = Uploader::to_stand_in();
        // More on their way than are kept, then fewer and larger, then small ones in their memory.
        for (width, count) in [(3, 2 * MOST_SLOTS as u8), (40, 3), (3, MOST_SLOTS as u8)] {
            let images: Vec<_> = (0..count).map(|level| image(width, level)).collect();
            let uploads: Vec<_> =
                images.iter().map(|image| uploader.upload_all(&[image]).1.remove(0).unwrap()).collect();
            for (level, frames) in (0..).zip(&uploads) {
                assert_eq!(frames.pixels().size(), [1, 2, i64::from(width), 3]);
                assert_eq!(first_levels(frames), [level]);
            }
        }
        if uploader.cuda.is_some() {
            let slots = lock(&uploader.slots);
            // The large ones serve for small frames, too.
            assert_eq!((slots.made, slots.free.len()), (MOST_SLOTS, MOST_SLOTS));
        }
    }

    #[test]
    fn where_nobody_copies_nothing_comes() {
        let uploads = Uploads::begin(None, &[image(3, 1), image(3, 2)]);
        assert!(uploads.count() == 2 && uploads.wait().is_none());
    }
}
