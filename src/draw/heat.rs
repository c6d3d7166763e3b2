//! Blending a heat map over a picture of any size.

use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use ndarray::Array2;

use super::palette::heat_colours;
use crate::explain::normalise::{Alignment, bilinear_weights, enlarge};

/// Weight of the heat colour at the hottest place; the picture must stay visible under it.
const MAX_OPACITY: f32 = 0.55;
/// Heat from which the opacity is at its highest.
const OPAQUE_FROM: f32 = 0.5;

/// What a level of heat does to a pixel: `(pixel * keep + add) / 256`.
#[derive(Clone, Copy)]
struct Blend {
    keep: u32,
    add: [u32; 3],
}

/// Blends heat in [0, 1] over the picture, stretched to its size (bilinear). Cold places are left as they are.
pub fn blend(picture: &mut RgbImage, heat: &Array2<f32>) {
    let blends = blends();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let across = bilinear_weights(heat.ncols(), width, Alignment::Edges);
    let down = bilinear_weights(heat.nrows(), height, Alignment::Edges);
    let mut levels = vec![0.0; heat.ncols()];
    for (line, (above, below, part)) in picture.as_mut().chunks_exact_mut(3 * width).zip(down) {
        // Down first: one value for each place of the map's row, not for each pixel of the picture's.
        for ((level, above), below) in levels.iter_mut().zip(heat.row(above)).zip(heat.row(below)) {
            *level = (above + (below - above) * part) * 255.0;
        }
        for (pixel, &(left, right, part)) in line.chunks_exact_mut(3).zip(&across) {
            // A float cast saturates, so values out of range cannot index out of the table.
            let level = (levels[left] + (levels[right] - levels[left]) * part) as u8;
            let Blend { keep, add } = blends[usize::from(level)];
            for (channel, add) in pixel.iter_mut().zip(add) {
                *channel = ((u32::from(*channel) * keep + add) >> 8) as u8;
            }
        }
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

fn blends() -> &'static [Blend; 256] {
    static BLENDS: OnceLock<[Blend; 256]> = OnceLock::new();
    BLENDS.get_or_init(|| {
        let colours = heat_colours();
        std::array::from_fn(|level| {
            let opacity = MAX_OPACITY * (level as f32 / 255.0 / OPAQUE_FROM).min(1.0);
            let weight = (opacity * 256.0) as u32;
            Blend { keep: 256 - weight, add: colours[level].map(|channel| u32::from(channel) * weight) }
        })
    })
}
