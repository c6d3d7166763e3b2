//! From a map of any range to heat in [0, 1] at any resolution.

use ndarray::Array2;

/// Cuts negative evidence (ReLU) and stretches the rest to [0, 1] (min-max). A map without contrast becomes all zeros.
pub fn normalise(map: &Array2<f32>) -> Array2<f32> {
    let positive = map.mapv(|value| value.max(0.0));
    let lowest = positive.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = positive.iter().copied().fold(0.0, f32::max);
    if highest <= lowest {
        return Array2::zeros(map.raw_dim());
    }
    positive.mapv(|value| (value - lowest) / (highest - lowest))
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
pub fn enlarge(map: &Array2<f32>, rows: usize, columns: usize) -> Array2<f32> {
    enlarge_aligned(map, rows, columns, Alignment::Edges)
}

/// Bilinear enlargement to (rows, columns).
pub fn enlarge_aligned(map: &Array2<f32>, rows: usize, columns: usize, alignment: Alignment) -> Array2<f32> {
    let vertical = bilinear_weights(map.nrows(), rows, alignment);
    let horizontal = bilinear_weights(map.ncols(), columns, alignment);
    // First across, for the few rows that there are.
    let mut across = Array2::zeros((map.nrows(), columns));
    for (mut across, row) in across.rows_mut().into_iter().zip(map.rows()) {
        for (value, &(left, right, along)) in across.iter_mut().zip(&horizontal) {
            *value = row[left] * (1.0 - along) + row[right] * along;
        }
    }
    // Not zeros that are written over: jemalloc would get them from the system, page by page, which takes four times as long.
    let mut enlarged = Vec::with_capacity(rows * columns);
    for &(top, bottom, down) in &vertical {
        let [upper, lower] = [top, bottom].map(|row| across.row(row).to_slice().expect("rows are made as one piece"));
        enlarged.extend(upper.iter().zip(lower).map(|(upper, lower)| upper * (1.0 - down) + lower * down));
    }
    Array2::from_shape_vec((rows, columns), enlarged).expect("as many values as places")
}

/// For each place of the target: the two places of the source between which it lies, and how far along.
pub(crate) fn bilinear_weights(source: usize, target: usize, alignment: Alignment) -> Vec<(usize, usize, f32)> {
    let last = (source - 1) as f32;
    (0..target)
        .map(|place| {
            let position = match alignment {
                Alignment::Edges => (place as f32 + 0.5) * source as f32 / target as f32 - 0.5,
                Alignment::Corners => place as f32 * last / (target.max(2) - 1) as f32,
            };
            let position = position.clamp(0.0, last);
            let before = position.floor();
            (before as usize, (before as usize + 1).min(source - 1), position - before)
        })
        .collect()
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
}
