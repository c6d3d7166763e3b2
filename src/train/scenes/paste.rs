//! Puts a part of one picture into another.

use image::RgbImage;

use crate::model::preprocess::resize;
use crate::resize::Crop;

/// Resizes `part` of `source` to `target` of `canvas`, which it may exceed, and blends it in over a margin of `feather`
/// pixels along its edges.
pub fn paste(canvas: &mut RgbImage, source: &RgbImage, part: Crop, target: Crop, feather: f64) {
    let width = (target.width.round() as u32).max(1);
    let height = (target.height.round() as u32).max(1);
    let patch = resize(source, Some(part), (width, height));
    let (left, top) = (target.left.round() as i64, target.top.round() as i64);
    // From 0 outside to 1 where the margin ends.
    let ramp = |place: u32, length: u32| {
        let from_edge = f64::from(place.min(length - 1 - place)) + 0.5;
        if feather > 0.0 { (from_edge / feather).min(1.0) } else { 1.0 }
    };
    for (x, y, pixel) in patch.enumerate_pixels() {
        let (canvas_x, canvas_y) = (left + i64::from(x), top + i64::from(y));
        let inside = |place: i64, length: u32| (0..i64::from(length)).contains(&place);
        if !inside(canvas_x, canvas.width()) || !inside(canvas_y, canvas.height()) {
            continue;
        }
        let opacity = ramp(x, width) * ramp(y, height);
        let below = canvas.get_pixel_mut(canvas_x as u32, canvas_y as u32);
        for (below, &above) in below.0.iter_mut().zip(&pixel.0) {
            let blended = f64::from(*below) + opacity * (f64::from(above) - f64::from(*below));
            *below = blended.round() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(side: u32, level: u8) -> RgbImage {
        RgbImage::from_pixel(side, side, image::Rgb([level; 3]))
    }

    const ALL: Crop = Crop { left: 0.0, top: 0.0, width: 8.0, height: 8.0 };

    #[test]
    fn a_hard_edge_replaces_the_target_and_nothing_else() {
        let mut canvas = plain(20, 10);
        paste(&mut canvas, &plain(8, 200), ALL, Crop { left: 4.0, top: 6.0, width: 10.0, height: 5.0 }, 0.0);
        for (x, y, pixel) in canvas.enumerate_pixels() {
            let inside = (4..14).contains(&x) && (6..11).contains(&y);
            assert_eq!(pixel.0[0], if inside { 200 } else { 10 }, "{x} {y}");
        }
    }

    #[test]
    fn a_soft_edge_rises_towards_the_middle_and_stays_between_the_two() {
        let mut canvas = plain(20, 10);
        paste(&mut canvas, &plain(8, 200), ALL, Crop { left: -6.0, top: 2.0, width: 16.0, height: 16.0 }, 4.0);
        let row: Vec<u8> = (2..11).map(|x| canvas.get_pixel(x, 10).0[0]).collect();
        assert!(row.is_sorted_by(|a, b| a >= b) && row[0] == 200 && row[8] == 10, "{row:?}");
        assert!(row.iter().any(|level| (20..190).contains(level)));
    }
}
