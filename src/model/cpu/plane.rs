//! Activations in memory.

use ndarray::Array2;

use crate::recycled::room;

/// Planes end at a multiple of so many positions: no tile of a Winograd convolution reaches beyond.
const TILE: usize = 4;

/// Number and size of activations, and how they lie in memory: pictures one after another, each row by row, a position's
/// channels side by side. Around each picture lies a border of zeros, as wide as the convolutions that read it reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) pictures: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) border: usize,
}

impl Shape {
    /// Values from one row to the next.
    pub(super) fn row(&self) -> usize {
        (self.width.next_multiple_of(TILE) + 2 * self.border) * self.channels
    }

    fn picture(&self) -> usize {
        (self.height.next_multiple_of(TILE) + 2 * self.border) * self.row()
    }

    /// Of all pictures, without borders.
    pub(super) fn positions(&self) -> usize {
        self.pictures * self.height * self.width
    }

    /// Where the first channel of a position lies; rows and columns may be of the border, counted from its corner.
    pub(super) fn offset_with_border(&self, picture: usize, row: usize, column: usize) -> usize {
        picture * self.picture() + row * self.row() + column * self.channels
    }

    /// Where the first channel of a position lies.
    pub(super) fn offset(&self, picture: usize, row: usize, column: usize) -> usize {
        self.offset_with_border(picture, row + self.border, column + self.border)
    }

    /// Picture, row and column of a position, in the order of their memory.
    pub(super) fn place(&self, position: usize) -> (usize, usize, usize) {
        let (picture, position) = (position / (self.height * self.width), position % (self.height * self.width));
        (picture, position / self.width, position % self.width)
    }
}

/// Activations that the threads of a team read and write at the same time.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) shape: Shape,
    values: Box<[f32]>,
}

/// A plane for the time of one pass. Which thread may write where is agreed upon by the steps of the pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlaneView {
    pub(super) shape: Shape,
    pub(super) values: *mut f32,
}

impl PlaneView {
    /// Of one of the pictures; of a plane that has room for one, of that.
    ///
    /// # Panics
    ///
    /// When there are several, but fewer.
    pub(super) fn of(self, picture: usize) -> Self {
        let Shape { pictures, .. } = self.shape;
        assert!(pictures == 1 || picture < pictures);
        let place = if pictures == 1 { 0 } else { picture };
        // SAFETY: the plane has so many pictures.
        let values = unsafe { self.values.add(place * self.shape.picture()) };
        Self { shape: Shape { pictures: 1, ..self.shape }, values }
    }
}

// SAFETY: a view is an address and a shape. Those who read or write through it promise to keep to their own part.
unsafe impl Send for PlaneView {}
// SAFETY: as above.
unsafe impl Sync for PlaneView {}

impl Plane {
    /// All zeros.
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, values: vec![0.0; shape.pictures * shape.picture()].into_boxed_slice() }
    }

    /// Of the first pictures, or as many as there are.
    pub(super) fn view(&mut self, pictures: usize) -> PlaneView {
        let pictures = pictures.min(self.shape.pictures);
        PlaneView { shape: Shape { pictures, ..self.shape }, values: self.values.as_mut_ptr() }
    }

    /// A picture without its border: (positions, channels), positions row by row.
    pub(super) fn rows(&self, picture: usize) -> Array2<f32> {
        let Shape { height, width, channels, .. } = self.shape;
        let mut values = room::<Array2<f32>>(height * width * channels);
        for row in 0..height {
            let start = self.shape.offset(picture, row, 0);
            values.extend_from_slice(&self.values[start..start + width * channels]);
        }
        Array2::from_shape_vec((height * width, channels), values).expect("height x width x channels values")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_without_its_border() {
        let shape = Shape { pictures: 2, height: 3, width: 5, channels: 2, border: 1 };
        let mut plane = Plane::new(shape);
        for position in 0..shape.positions() {
            let (picture, row, column) = shape.place(position);
            let start = shape.offset(picture, row, column);
            plane.values[start..start + 2].fill(position as f32);
        }
        let second = plane.rows(1);
        assert_eq!(second.dim(), (15, 2));
        assert!((0..15).all(|position| second[[position, 1]] == (15 + position) as f32));
        let written = plane.values.iter().filter(|&&value| value != 0.0).count();
        assert_eq!(written, 2 * (shape.positions() - 1), "the border stays empty");
    }

    #[test]
    fn a_picture_is_seen_where_it_lies() {
        let shape = Shape { pictures: 3, height: 2, width: 3, channels: 2, border: 1 };
        let mut plane = Plane::new(shape);
        let all = plane.view(3);
        let second = all.of(1);
        assert_eq!(second.shape, Shape { pictures: 1, ..shape });
        let place = second.values.wrapping_add(second.shape.offset(0, 1, 2));
        assert_eq!(place, all.values.wrapping_add(shape.offset(1, 1, 2)));
        let mut shared = Plane::new(Shape { pictures: 1, ..shape });
        let shared = shared.view(3);
        assert_eq!((shared.shape.pictures, shared.of(2).values), (1, shared.values));
    }
}
