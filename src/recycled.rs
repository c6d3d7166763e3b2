//! Memory of frames, pictures and activations that are no longer needed, for the next ones. Asked for anew, a megabyte would be the
//! system's to clear, page by page, with each frame.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::RgbImage;
use ndarray::{Array, Dimension, IntoDimension};

/// What gives its memory to the next one of about its size when it is dropped.
pub struct Recycled<M: Memory>(M);

/// What lies in one piece of memory.
pub trait Memory: Default {
    /// What it holds.
    type Value: Copy + Default + 'static;

    /// The same in memory of its own.
    fn copied(&self) -> Self;

    /// Its memory, full of values.
    fn into_values(self) -> Vec<Self::Value>;

    /// Where such memory is kept.
    fn spare() -> &'static Spare<Self::Value>;
}

/// Memory that nobody uses, of any thread.
#[derive(Debug)]
pub struct Spare<T> {
    most_bytes: usize,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    /// What came last comes last.
    pieces: VecDeque<Vec<T>>,
    bytes: usize,
}

/// Pieces that are kept at most, however small: more than a batch of frames has at once, and few enough to look through.
const MOST_PIECES: usize = 128;

impl Memory for RgbImage {
    type Value = u8;

    fn copied(&self) -> Self {
        let mut pixels = room::<Self>(self.len());
        pixels.extend_from_slice(self);
        Self::from_raw(self.width(), self.height(), pixels).expect("as many bytes as the picture has")
    }

    fn into_values(self) -> Vec<u8> {
        self.into_raw()
    }

    fn spare() -> &'static Spare<u8> {
        // Two frames of 4K, and what a batch of smaller ones is resized to.
        static SPARE: Spare<u8> = Spare::new(64_000_000);
        &SPARE
    }
}

impl<D: Dimension> Memory for Array<f32, D> {
    type Value = f32;

    fn copied(&self) -> Self {
        Recycled::of(self.raw_dim(), self.iter().copied()).take()
    }

    fn into_values(self) -> Vec<f32> {
        self.into_raw_vec_and_offset().0
    }

    fn spare() -> &'static Spare<f32> {
        // Activations of both views of a frame of 1280x720, every position of `layer3`.
        static SPARE: Spare<f32> = Spare::new(8_000_000);
        &SPARE
    }
}

impl<D: Dimension> Memory for Array<f64, D> {
    type Value = f64;

    fn copied(&self) -> Self {
        Recycled::of(self.raw_dim(), self.iter().copied()).take()
    }

    fn into_values(self) -> Vec<f64> {
        self.into_raw_vec_and_offset().0
    }

    fn spare() -> &'static Spare<f64> {
        // Means of each filter of `layer4`, of a large batch.
        static SPARE: Spare<f64> = Spare::new(1_000_000);
        &SPARE
    }
}

/// Room for so many values, nothing in it yet.
pub fn room<M: Memory>(values: usize) -> Vec<M::Value> {
    let mut memory = M::spare().take(values).unwrap_or_else(|| Vec::with_capacity(values));
    memory.clear();
    memory
}

/// So many values, whatever they are.
pub fn anything<M: Memory>(values: usize) -> Vec<M::Value> {
    let Some(mut memory) = M::spare().take(values) else { return vec![M::Value::default(); values] };
    memory.resize(values, M::Value::default());
    memory
}

impl<M: Memory> Recycled<M> {
    /// What it is, for good.
    pub fn take(mut self) -> M {
        std::mem::take(&mut self.0)
    }
}

impl<T: Copy + Default + 'static, D: Dimension> Recycled<Array<T, D>>
where
    Array<T, D>: Memory<Value = T>,
{
    /// Values in their order, the last axis first.
    ///
    /// # Panics
    ///
    /// When there are not as many as the shape has places.
    pub fn of(shape: impl IntoDimension<Dim = D>, values: impl IntoIterator<Item = T>) -> Self {
        let shape = shape.into_dimension();
        let mut memory = room::<Array<T, D>>(shape.size());
        memory.extend(values);
        Self(Array::from_shape_vec(shape, memory).expect("a value for each place"))
    }

    /// The same value throughout.
    pub fn filled(shape: impl IntoDimension<Dim = D>, value: T) -> Self {
        let shape = shape.into_dimension();
        let values = std::iter::repeat_n(value, shape.size());
        Self::of(shape, values)
    }
}

impl<M: Memory> From<M> for Recycled<M> {
    fn from(memory: M) -> Self {
        Self(memory)
    }
}

impl<M: Memory> Deref for Recycled<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.0
    }
}

impl<M: Memory> DerefMut for Recycled<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.0
    }
}

impl<M: Memory> Clone for Recycled<M> {
    fn clone(&self) -> Self {
        Self(self.0.copied())
    }
}

impl<M: Memory + PartialEq> PartialEq for Recycled<M> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<M: Memory + fmt::Debug> fmt::Debug for Recycled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<M: Memory> Drop for Recycled<M> {
    fn drop(&mut self) {
        M::spare().give(std::mem::take(&mut self.0).into_values());
    }
}

impl<T> Spare<T> {
    /// Keeps so many bytes at most.
    const fn new(most_bytes: usize) -> Self {
        Self { most_bytes, kept: Mutex::new(Kept { pieces: VecDeque::new(), bytes: 0 }) }
    }

    /// Room for so many values and little more, which holds anything, if there is some. Sizes that change from frame to frame, as
    /// those of what is warm do, soon find what they need.
    fn take(&self, values: usize) -> Option<Vec<T>> {
        let mut kept = self.kept();
        // What came last is the likeliest to be in a cache still. Larger ones may be wanted by others.
        let latest = |fits: &dyn Fn(usize) -> bool| kept.pieces.iter().rposition(|piece| fits(piece.capacity()));
        let place = latest(&|size| size == values)
            .or_else(|| latest(&|size| (values..=values + values / 4).contains(&size)))?;
        let piece = kept.pieces.remove(place)?;
        kept.bytes -= piece.capacity() * size_of::<T>();
        Some(piece)
    }

    /// Keeps memory for the next ones of about its size. Of too much, the oldest goes.
    fn give(&self, memory: Vec<T>) {
        let bytes = memory.capacity() * size_of::<T>();
        if bytes == 0 || bytes > self.most_bytes {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += bytes;
        kept.pieces.push_back(memory);
        while kept.bytes > self.most_bytes || kept.pieces.len() > MOST_PIECES {
            let Some(oldest) = kept.pieces.pop_front() else { return };
            kept.bytes -= oldest.capacity() * size_of::<T>();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;

    #[test]
    fn little_more_than_is_needed_serves_and_no_more() {
        let spare = Spare::new(1000);
        spare.give(vec![1u16; 10]);
        for values in [0, 7, 11] {
            assert_eq!(spare.take(values), None, "{values}");
        }
        spare.give(vec![2; 8]);
        spare.give(vec![3; 9]);
        let take = || spare.take(8).map(|piece| (piece.capacity(), piece[0]));
        assert_eq!([take(), take(), take(), take()], [Some((8, 2)), Some((9, 3)), Some((10, 1)), None]);
        assert_eq!(spare.kept().bytes, 0);
    }

    #[test]
    fn memory_of_a_size_comes_back_once_the_latest_first() {
        let spare = Spare::new(100);
        assert_eq!(spare.take(3), None);
        spare.give(vec![1u16, 2, 3]);
        spare.give(vec![4, 5, 6]);
        assert_eq!(spare.take(2), None);
        assert_eq!([spare.take(3), spare.take(3), spare.take(3)], [Some(vec![4, 5, 6]), Some(vec![1, 2, 3]), None]);
        assert_eq!(spare.kept().bytes, 0);
    }

    #[test]
    fn little_is_kept_and_the_oldest_goes_first() {
        let spare = Spare::new(10 * size_of::<u16>());
        for value in 0..6u16 {
            spare.give(vec![value; 4]);
            assert!(spare.kept().bytes <= 20);
        }
        assert_eq!([spare.take(4), spare.take(4), spare.take(4)], [Some(vec![5; 4]), Some(vec![4; 4]), None]);
        spare.give(vec![7; 2]);
        spare.give(vec![0; 11]);
        spare.give(Vec::new());
        assert_eq!(spare.kept().pieces, [vec![7; 2]], "neither too much nor nothing is kept");
        (0..10 * MOST_PIECES).for_each(|_| Spare::give(&spare, vec![1]));
        assert!(spare.kept().pieces.len() <= MOST_PIECES && spare.kept().bytes <= 20);
    }

    /// A thing whose memory nobody else uses.
    #[derive(Debug, Default, PartialEq)]
    struct Thing(Vec<u16>);

    impl Memory for Thing {
        type Value = u16;

        fn copied(&self) -> Self {
            let mut values = room::<Self>(self.0.len());
            values.extend(&self.0);
            Self(values)
        }

        fn into_values(self) -> Vec<u16> {
            self.0
        }

        fn spare() -> &'static Spare<u16> {
            static SPARE: Spare<u16> = Spare::new(1000);
            &SPARE
        }
    }

    #[test]
    fn what_is_dropped_serves_the_next_of_its_size() {
        let thing = Recycled::from(Thing(vec![9; 7]));
        let place = thing.0.0.as_ptr();
        drop(thing);
        let copy = Recycled::from(Thing(vec![5; 7])).clone();
        assert_eq!((copy.0.0.as_ptr(), &copy.0.0), (place, &vec![5; 7]), "in memory of the first");
        for _ in 0..1000 {
            drop(copy.clone());
        }
        assert!(Thing::spare().kept().pieces.len() <= 2, "copies use one another's");
        assert_eq!(copy.take(), Thing(vec![5; 7]));
        (0..3).for_each(|_| drop(room::<Thing>(7)));
        assert_eq!(anything::<Thing>(7), [0; 7], "what was taken for good does not come back");
    }

    #[test]
    fn arrays_have_the_values_that_they_were_made_of() {
        let array = Recycled::<Array2<f32>>::of([2, 3], (0..6).map(|value| value as f32));
        assert_eq!(*array, Array2::from_shape_fn((2, 3), |(row, column)| (3 * row + column) as f32));
        assert_eq!(*Recycled::<Array1<f64>>::filled(4, 2.5), Array1::from_elem(4, 2.5));
        let image = Recycled::from(RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 9])));
        assert_eq!(image.clone(), image);
    }
}
