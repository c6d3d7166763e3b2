//! The class names that mean something to the program. A model may have any classes; these are treated specially.

use ndarray::Array1;
use smallvec::SmallVec;

/// One for each class: as many as a mask detector has lie where the list itself does, so that none asks for memory.
pub type PerClass<T> = SmallVec<[T; 4]>;

/// A face with a mask.
pub const MASK: &str = "mask";
/// A face without one.
pub const NO_MASK: &str = "no_mask";
/// Nobody there: explained by no box and no heat map.
pub const BACKGROUND: &str = "background";

/// Index of the largest value; the first of equals, 0 where nothing can be compared.
pub fn argmax(values: &Array1<f32>) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}
