//! Memory of pictures and activations that are no longer needed, for the next ones. Asked for anew, a megabyte would be the system's
//! to clear, page by page, with each frame.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory that nobody uses, of any thread.
#[derive(Debug)]
pub(super) struct Spare<T> {
    most_bytes: usize,
    /// What came last comes last.
    kept: Mutex<VecDeque<Vec<T>>>,
}

impl<T> Spare<T> {
    /// Keeps so many bytes at most.
    pub(super) const fn new(most_bytes: usize) -> Self {
        Self { most_bytes, kept: Mutex::new(VecDeque::new()) }
    }

    /// Room for exactly so many values, which holds anything, if there is some.
    pub(super) fn take(&self, values: usize) -> Option<Vec<T>> {
        let mut kept = self.kept();
        let fitting = kept.iter().position(|memory| memory.len() == values)?;
        kept.remove(fitting)
    }

    /// Keeps memory for the next ones of its size. Of too much, the oldest goes.
    pub(super) fn give(&self, memory: Vec<T>) {
        if memory.is_empty() || memory.len() * size_of::<T>() > self.most_bytes {
            return;
        }
        let mut kept = self.kept();
        kept.push_back(memory);
        while bytes(&kept) > self.most_bytes {
            kept.pop_front();
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Vec<T>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes<T>(kept: &VecDeque<Vec<T>>) -> usize {
    kept.iter().map(|memory| memory.len() * size_of::<T>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_size_comes_back_once() {
        let spare = Spare::new(100);
        assert_eq!(spare.take(3), None);
        spare.give(vec![1u16, 2, 3]);
        assert_eq!(spare.take(2), None);
        assert_eq!((spare.take(3), spare.take(3)), (Some(vec![1, 2, 3]), None));
    }

    #[test]
    fn little_is_kept_and_the_oldest_goes_first() {
        let spare = Spare::new(10 * size_of::<u16>());
        for value in 0..6u16 {
            spare.give(vec![value; 4]);
            assert!(bytes(&spare.kept()) <= 20);
        }
        assert_eq!([spare.take(4), spare.take(4), spare.take(4)], [Some(vec![4; 4]), Some(vec![5; 4]), None]);
        spare.give(vec![7; 2]);
        spare.give(vec![0; 11]);
        spare.give(Vec::new());
        assert_eq!(*spare.kept(), [vec![7; 2]], "neither too much nor nothing is kept");
    }
}
