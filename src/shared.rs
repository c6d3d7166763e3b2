//! Values that several have, one after another in the same places of memory: what [`Arc`] is for, without asking for memory for each.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// A place, empty or not.
type Place<T> = Arc<Option<T>>;

/// Places that nobody uses.
#[derive(Debug)]
pub struct Places<T>(Arc<Mutex<Vec<Place<T>>>>);

/// A value that several may have. Whoever has it last drops it, and leaves its place to another.
pub struct Shared<T> {
    /// Full until this is dropped.
    place: Option<Place<T>>,
    home: Places<T>,
}

impl<T> Places<T> {
    /// Puts a value where nobody has one, or else in a new place.
    pub fn put(&self, value: T) -> Shared<T> {
        let mut place = self.lend(Vec::pop).unwrap_or_default();
        *Arc::get_mut(&mut place).expect("nobody has a place that was left") = Some(value);
        Shared { place: Some(place), home: self.clone() }
    }

    fn lend<A>(&self, work: impl FnOnce(&mut Vec<Place<T>>) -> A) -> A {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Places::default().put(value)
    }
}

impl<T: Clone> Shared<T> {
    /// The value itself where nobody else has it, otherwise a copy; as [`Arc::unwrap_or_clone`].
    pub fn unwrap_or_clone(mut self) -> T {
        let alone = self.place.as_mut().and_then(Arc::get_mut).and_then(Option::take);
        alone.unwrap_or_else(|| T::clone(&self))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.place.as_deref().and_then(Option::as_ref).expect("it is full until this is dropped")
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { place: self.place.clone(), home: self.home.clone() }
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        // Two that drop it at the same moment may both see the other: then the place is given up.
        if let Some(value) = Arc::get_mut(&mut place) {
            *value = None;
            self.home.lend(|places| places.push(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_drops_the_value_and_leaves_its_place() {
        let (places, value) = (Places::default(), Arc::new(()));
        let one = places.put(Arc::clone(&value));
        let place = std::ptr::from_ref(&*one);
        let other = one.clone();
        drop(one);
        assert_eq!((Arc::strong_count(&value), places.lend(|places| places.len())), (2, 0), "another has it");
        drop(other);
        assert_eq!((Arc::strong_count(&value), places.lend(|places| places.len())), (1, 1));
        let [next, after] = [(); 2].map(|()| places.put(Arc::clone(&value)));
        assert!(std::ptr::eq(&*next, place) && !std::ptr::eq(&*after, place));
    }

    #[test]
    fn what_nobody_else_has_is_taken_out_and_all_else_is_copied() {
        let (places, value) = (Places::default(), Arc::new(7));
        let one = places.put(Arc::clone(&value));
        let other = one.clone();
        let copy = one.unwrap_or_clone();
        assert_eq!((Arc::strong_count(&value), places.lend(|places| places.len())), (3, 0));
        drop(copy);
        let taken = other.unwrap_or_clone();
        assert_eq!((*taken, Arc::strong_count(&value), places.lend(|places| places.len())), (7, 2, 1));
    }

    #[test]
    fn whoever_takes_a_value_while_others_drop_it_gets_it_whole() {
        let places = Places::default();
        for round in 0..200 {
            let shared = places.put(vec![round; 3]);
            let copies: Vec<_> = (0..4).map(|_| shared.clone()).collect();
            drop(shared);
            std::thread::scope(|scope| {
                for (number, copy) in copies.into_iter().enumerate() {
                    scope.spawn(move || {
                        if number % 2 == 0 {
                            assert_eq!(copy.unwrap_or_clone(), [round; 3]);
                        }
                    });
                }
            });
            assert!(places.lend(|places| places.len()) <= 1, "a place is left once");
        }
    }

    #[test]
    fn a_value_outlives_whoever_made_its_places() {
        let shared = Shared::from(vec![1, 2]);
        let copies: Vec<_> = (0..4).map(|_| shared.clone()).collect();
        std::thread::scope(|scope| {
            for copy in copies {
                scope.spawn(move || assert_eq!(*copy, [1, 2]));
            }
        });
        assert_eq!(format!("{shared:?}"), "[1, 2]");
    }
}
