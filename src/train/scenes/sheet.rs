//! A picture of some scenes, for people who want to see what is learnt from.

use std::path::Path;

use image::{Rgb, RgbImage, imageops};
use imageproc::drawing::draw_hollow_rect_mut;
use imageproc::rect::Rect;

use super::compose::Composer;
use crate::dataset::Dataset;
use crate::dataset::loader::Request;
use crate::plot::write_picture;
use crate::resize::Crop;
use crate::train::TrainError;
use crate::train::session::random_stream;

/// Columns and rows of scenes.
const COLUMNS: u32 = 8;
const ROWS: u32 = 4;
/// Colours of the classes, in their order.
const COLOURS: [Rgb<u8>; 3] = [Rgb([40, 220, 80]), Rgb([255, 60, 40]), Rgb([80, 140, 255])];
/// Colour of the edges of what was pasted.
const PASTED: Rgb<u8> = Rgb([160, 160, 160]);

/// Draws scenes of evenly spaced pictures with what was pasted and where the faces are expected, and writes them to a PNG.
///
/// # Errors
///
/// When the file cannot be written. Pictures that cannot be read are left out: the training names them.
pub fn write(path: &Path, dataset: &Dataset, composer: &Composer, seed: u64) -> Result<(), TrainError> {
    let count = (COLUMNS * ROWS) as usize;
    let pictures = &dataset.pictures;
    let mut scenes = Vec::with_capacity(count);
    for index in 0..count {
        let request = Request::new(&pictures[index * pictures.len() / count], index as u64);
        if let Ok(scene) = composer.compose(&request, &mut random_stream(seed, request.draw)) {
            scenes.push(scene);
        }
    }
    let side = scenes.first().map_or(1, |scene| scene.image.width());
    let mut sheet = RgbImage::new(COLUMNS * side, ROWS * side);
    for (index, mut scene) in (0..).zip(scenes) {
        for object in &scene.objects {
            outline(&mut scene.image, &object.pasted, PASTED);
            if let Some(place) = &object.place {
                outline(&mut scene.image, place, COLOURS[object.label % COLOURS.len()]);
            }
        }
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        imageops::replace(&mut sheet, &scene.image, i64::from(column * side), i64::from(row * side));
    }
    Ok(write_picture(path, &sheet)?)
}

fn outline(image: &mut RgbImage, area: &Crop, colour: Rgb<u8>) {
    let size = |length: f64| (length.round() as u32).max(1);
    let rect = Rect::at(area.left.round() as i32, area.top.round() as i32).of_size(size(area.width), size(area.height));
    draw_hollow_rect_mut(image, rect, colour);
}
