//! From a map of any range to heat in [0, 1] at any resolution.

use ndarray::Array2;

use crate::recycled::{Recycled, room};

/// Cuts negative evidence (ReLU) and stretches the rest to [0, 1] (min-max). A map without contrast becomes all zeros.
pub fn normalise(map: &Array2<f32>) -> Array2<f32> {
    let positive = map.iter().map(|value| value.max(0.0));
    let (lowest, highest) =
        positive.fold((f32::INFINITY, 0.0f32), |(lowest, highest), value| (lowest.min(value), highest.max(value)));
    if highest <= lowest {
        return Array2::zeros(map.raw_dim());
    }
    Recycled::of(map.raw_dim(), map.iter().map(|value| (value.max(0.0) - lowest) / (highest - lowest))).take()
}

/// Which places of map and picture lie on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// The edges of the first and last pixels, as OpenCV and libtorch do it (`align_corners = false`).
    Edges,
    /// The centres of the first and last pixels (`align_corners = true`).
    Corners,
}

/// Bilinear enlargement to (rows, columns), edges on edges.
pub fn enlarge(map: &Array2<f32>, rows: usize, columns: usize) -> Recycled<Array2<f32>> {
    enlarge_aligned(map, rows, columns, Alignment::Edges)
}

/// Bilinear enlargement to (rows, columns).
pub fn enlarge_aligned(map: &Array2<f32>, rows: usize, columns: usize, alignment: Alignment) -> Recycled<Array2<f32>> {
    let vertical = bilinear_weights(map.nrows(), rows, alignment);
    let horizontal = bilinear_weights(map.ncols(), columns, alignment);
    blend(map, vertical, horizontal)
}

/// A part of an enlarged map.
#[derive(Debug)]
pub struct Part {
    /// Its values.
    pub values: Recycled<Array2<f32>>,
    /// The row of the enlarged map where it begins.
    pub top: usize,
    /// The column of the enlarged map where it begins.
    pub left: usize,
}

/// The part of a map enlarged to (rows, columns), edges on edges, that holds all places of at least `floor` and more than 0. Nothing
/// where there are none.
pub fn enlarge_from(map: &Array2<f32>, rows: usize, columns: usize, floor: f32) -> Option<Part> {
    let is_warm = |value: &f32| *value >= floor && *value > 0.0;
    let warm = map.indexed_iter().filter(|(_, value)| is_warm(value)).map(|(place, _)| place);
    let (top_left, bottom_right) =
        warm.fold(None, |spanned: Option<((usize, usize), (usize, usize))>, (row, column)| {
            let (first, last) = spanned.unwrap_or(((row, column), (row, column)));
            Some(((first.0.min(row), first.1.min(column)), (last.0.max(row), last.1.max(column))))
        })?;
    // What lies between two places is no warmer than the warmer of them.
    let part = |source: usize, target: usize, first: usize, last: usize| {
        let weights = bilinear_weights(source, target, Alignment::Edges);
        let reaches = move |&(before, after, _): &BilinearWeight| before <= last && after >= first;
        let begin = weights.clone().position(|weight| reaches(&weight))?;
        let count = weights.clone().filter(reaches).count();
        Some((begin, weights.skip(begin).take(count)))
    };
    let (top, vertical) = part(map.nrows(), rows, top_left.0, bottom_right.0)?;
    let (left, horizontal) = part(map.ncols(), columns, top_left.1, bottom_right.1)?;
    Some(Part { values: blend(map, vertical, horizontal), top, left })
}

fn blend(
    map: &Array2<f32>,
    vertical: impl ExactSizeIterator<Item = BilinearWeight>,
    horizontal: impl ExactSizeIterator<Item = BilinearWeight>,
) -> Recycled<Array2<f32>> {
    let (rows, columns) = (vertical.len(), horizontal.len());
    // First across, for the few rows that there are.
    let mut across = Recycled::<Array2<f32>>::filled((map.nrows(), columns), 0.0);
    for (mut across, (left, right, along)) in across.columns_mut().into_iter().zip(horizontal) {
        for (value, row) in across.iter_mut().zip(map.rows()) {
            *value = row[left] * (1.0 - along) + row[right] * along;
        }
    }
    // Not zeros that are written over: jemalloc would get them from the system, page by page, which takes four times as long.
    let mut enlarged = room::<Array2<f32>>(rows * columns);
    for (top, bottom, down) in vertical {
        let [upper, lower] = [top, bottom].map(|row| across.row(row).to_slice().expect("rows are made as one piece"));
        enlarged.extend(upper.iter().zip(lower).map(|(upper, lower)| upper * (1.0 - down) + lower * down));
    }
    Array2::from_shape_vec((rows, columns), enlarged).expect("as many values as places").into()
}

/// The two places of the source between which a place of the target lies, and how far along.
pub(crate) type BilinearWeight = (usize, usize, f32);

/// For each place of the target.
fn bilinear_weights(
    source: usize,
    target: usize,
    alignment: Alignment,
) -> impl ExactSizeIterator<Item = BilinearWeight> + Clone {
    (0..target).map(move |place| bilinear_weight(source, position(source, target, alignment, place)))
}

/// The places of a source of so many, at least 1, on both sides of a position from 0 to its last one.
pub(crate) fn bilinear_weight(source: usize, position: f32) -> BilinearWeight {
    let before = position.floor();
    (before as usize, (before as usize + 1).min(source - 1), position - before)
}

/// Where a place of the target lies on a source of so many places: between 0 and its last one.
pub(crate) fn position(source: usize, target: usize, alignment: Alignment, place: usize) -> f32 {
    let last = (source - 1) as f32;
    let position = match alignment {
        Alignment::Edges => (place as f32 + 0.5) * source as f32 / target as f32 - 0.5,
        Alignment::Corners => place as f32 * last / (target.max(2) - 1) as f32,
    };
    position.clamp(0.0, last)
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use tch::{Kind, Tensor};

    use super::*;

    #[test]
    fn normalised_maps_span_zero_to_one() {
        assert_eq!(normalise(&array![[-5.0, 0.0], [1.0, 2.0]]), array![[0.0, 0.0], [0.5, 1.0]]);
        assert_eq!(normalise(&array![[3.0, 5.0]]), array![[0.0, 1.0]]);
    }

    #[test]
    fn maps_without_contrast_are_cold() {
        for value in [-1.0, 0.0, 7.0] {
            assert_eq!(normalise(&Array2::from_elem((3, 3), value)), Array2::<f32>::zeros((3, 3)));
        }
    }

    #[test]
    fn enlarging_agrees_with_libtorch() {
        for (rows, columns, to_rows, to_columns) in [(7, 7, 224, 224), (7, 12, 90, 161), (1, 1, 5, 4), (2, 3, 3, 2)] {
            let map = Array2::from_shape_fn((rows, columns), |(row, column)| ((row * 31 + column * 17) % 11) as f32);
            let tensor = Tensor::from_slice(map.as_slice().unwrap()).view([1, 1, rows as i64, columns as i64]);
            for (alignment, corners) in [(Alignment::Edges, false), (Alignment::Corners, true)] {
                let reference = tensor.upsample_bilinear2d([to_rows as i64, to_columns as i64], corners, None, None);
                let enlarged = enlarge_aligned(&map, to_rows, to_columns, alignment);
                let difference = reference.view([-1]) - Tensor::from_slice(enlarged.as_slice().unwrap());
                assert!(difference.abs().max().to_kind(Kind::Double).double_value(&[]) < 1e-4, "{alignment:?}");
            }
        }
    }
    #[test]
    fn a_part_is_that_of_the_whole_and_nothing_warm_is_left_out() {
        let cold = Array2::from_elem((7, 12), 0.04f32);
        assert!(enlarge_from(&cold, 56, 96, 0.05).is_none());
        assert!(enlarge_from(&Array2::zeros((7, 12)), 56, 96, 0.0).is_none());
        let corners = [(0, 0), (6, 11)];
        for places in [&[(3, 4)][..], &[(0, 11)], &[(2, 2), (5, 9)], &corners] {
            let mut map = cold.clone();
            places.iter().for_each(|&place| map[place] = 0.9);
            for (rows, columns) in [(56, 96), (90, 161), (7, 12), (3, 5)] {
                let whole = enlarge(&map, rows, columns);
                let Part { values: part, top, left } = enlarge_from(&map, rows, columns, 0.05).unwrap();
                let (bottom, right) = (top + part.nrows(), left + part.ncols());
                assert_eq!(*part, whole.slice(ndarray::s![top..bottom, left..right]));
                let is_outside = |(row, column)| !((top..bottom).contains(&row) && (left..right).contains(&column));
                let warm = whole.indexed_iter().filter(|(_, value)| **value >= 0.05);
                assert!(warm.into_iter().all(|(place, _)| !is_outside(place)), "{places:?}");
                if places == [(3, 4)] && rows > 50 {
                    assert!(part.len() * 8 < whole.len(), "{:?}", part.dim());
                }
            }
        }
    }
}
