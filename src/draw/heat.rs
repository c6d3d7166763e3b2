//! Blending a heat map over a picture of any size.

mod line;

use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use ndarray::{Array1, Array2, CowArray, Ix2};

use super::palette::heat_colours;
use crate::explain::normalise::{Alignment, bilinear_weight, enlarge, position};
use crate::recycled::{Recycled, room};
use line::{Across, Paints};

/// Weight of the heat colour at the hottest place; the picture must stay visible under it.
const MAX_OPACITY: f32 = 0.55;
/// Heat from which the opacity is at its highest.
const OPAQUE_FROM: f32 = 0.5;

/// Blends heat in [0, 1] over the picture, stretched to its size (bilinear). Cold places are left as they are.
pub fn blend(picture: &mut RgbImage, heat: &Array2<f32>) {
    let line_bytes = 3 * picture.width() as usize;
    let mut brush = Brush::new(heat, picture.dimensions());
    for (y, line) in picture.chunks_exact_mut(line_bytes).enumerate() {
        brush.paint(y, line);
    }
}

/// A copy of the picture under heat, as [`blend`] does it. Lines are painted as they are copied, while they are at hand.
pub fn blended(picture: &RgbImage, heat: &Array2<f32>) -> RgbImage {
    let (width, height) = picture.dimensions();
    let mut brush = Brush::new(heat, picture.dimensions());
    let mut pixels = room::<RgbImage>(picture.len());
    for (y, line) in picture.chunks_exact(3 * width as usize).enumerate() {
        let start = pixels.len();
        pixels.extend_from_slice(line);
        brush.paint(y, &mut pixels[start..]);
    }
    RgbImage::from_raw(width, height, pixels).expect("all lines were copied")
}

/// Paints lines of a picture, in any order.
struct Brush<'a> {
    heat: CowArray<'a, f32, Ix2>,
    across: Across,
    /// Lines of the picture.
    height: usize,
    /// Of each column of the map, in 255ths, the last one twice.
    levels: Recycled<Array1<f32>>,
}

impl<'a> Brush<'a> {
    fn new(heat: &'a Array2<f32>, (width, height): (u32, u32)) -> Self {
        Self {
            heat: heat.as_standard_layout(),
            across: Across::new(heat.ncols(), width as usize),
            height: height as usize,
            levels: Recycled::filled(heat.ncols() + 1, 0.0),
        }
    }

    fn paint(&mut self, y: usize, line: &mut [u8]) {
        let (rows, columns) = self.heat.dim();
        let (above, below, part) = bilinear_weight(rows, position(rows, self.height, Alignment::Edges, y));
        let values = self.heat.as_slice().expect("the map is in standard layout");
        let [above, below] = [above, below].map(|row| &values[row * columns..][..columns]);
        let levels = self.levels.as_slice_mut().expect("it has one axis");
        // Down first: one value for each place of the map's row, not for each pixel of the picture's.
        for ((level, above), below) in levels.iter_mut().zip(above).zip(below) {
            *level = (above + (below - above) * part) * 255.0;
        }
        levels[columns] = levels[columns - 1];
        self.across.paint(line, levels, paints());
    }
}

/// A map in [0, 1] in colours, enlarged to (width, height) (bilinear).
pub fn picture(heat: &Array2<f32>, (width, height): (u32, u32)) -> RgbImage {
    let colours = heat_colours();
    let enlarged = enlarge(heat, height as usize, width as usize);
    RgbImage::from_fn(width, height, |x, y| {
        // A float cast saturates.
        Rgb(colours[usize::from((enlarged[[y as usize, x as usize]] * 255.0) as u8)])
    })
}

fn paints() -> &'static Paints {
    static PAINTS: OnceLock<Paints> = OnceLock::new();
    PAINTS.get_or_init(|| {
        let colours = heat_colours();
        std::array::from_fn(|level| {
            let opacity = MAX_OPACITY * (level as f32 / 255.0 / OPAQUE_FROM).min(1.0);
            let [red, green, blue] = colours[level];
            [red, green, blue, (opacity * 256.0) as u8]
        })
    })
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Pixel by pixel, as it is defined.
    fn by_definition(picture: &RgbImage, heat: &Array2<f32>) -> RgbImage {
        let weight = |source: usize, target: u32, place: u32| {
            bilinear_weight(source, position(source, target as usize, Alignment::Edges, place as usize))
        };
        RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            let (above, below, part) = weight(heat.nrows(), picture.height(), y);
            let level = |column| {
                let (above, below) = (heat[[above, column]], heat[[below, column]]);
                (above + (below - above) * part) * 255.0
            };
            let (left, right, part) = weight(heat.ncols(), picture.width(), x);
            let level = (level(left) + (level(right) - level(left)) * part) as u8;
            let [red, green, blue, weight] = paints()[usize::from(level)].map(u32::from);
            let [old_red, old_green, old_blue] = picture.get_pixel(x, y).0.map(u32::from);
            let mix = |old: u32, new: u32| ((old * (256 - weight) + new * weight) / 256) as u8;
            Rgb([mix(old_red, red), mix(old_green, green), mix(old_blue, blue)])
        })
    }

    #[test]
    fn lines_are_what_pixels_are_by_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (width, height) in [(1, 1), (9, 300), (101, 77), (640, 36)] {
            for (rows, columns) in [(1, 1), (2, 3), (16, 28), (224, 224)] {
                // Mostly cold, as maps are, and warm in places.
                let mut value = || (rng.random_range(-1.0f32..1.2)).clamp(0.0, 1.0);
                let warm_columns = columns / 3..=columns / 2;
                let heat =
                    Array2::from_shape_fn(
                        (rows, columns),
                        |(_, column)| {
                            if warm_columns.contains(&column) { value() } else { 0.0 }
                        },
                    );
                let picture = RgbImage::from_fn(width, height, |_, _| Rgb(rng.random()));
                let expected = by_definition(&picture, &heat);
                assert!(blended(&picture, &heat) == expected, "{width}x{height}, {rows}x{columns}");
                let mut in_place = picture.clone();
                blend(&mut in_place, &heat);
                assert!(in_place == expected, "{width}x{height}, {rows}x{columns}");
                let turned = heat.t().to_owned().reversed_axes();
                assert!(blended(&picture, &turned) == expected, "in the other order of memory");
            }
        }
    }
}
