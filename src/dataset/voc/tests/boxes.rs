//! Boxes on pictures: the laws of rounding, clipping and turning.

use image::metadata::Orientation;
use image::{DynamicImage, Rgb, RgbImage};

use super::*;
use crate::capture::stills::tests::encode_jpeg;
use crate::geometry::Rect;

/// An annotation of one class with these boxes.
fn drawn(size: Option<(u32, u32)>, boxes: &[[f64; 4]]) -> Annotation {
    let objects = boxes
        .iter()
        .map(|&[xmin, ymin, xmax, ymax]| AnnotatedObject {
            class: "mask".to_owned(),
            corners: Corners { xmin, ymin, xmax, ymax },
        })
        .collect();
    Annotation { path: "a.xml".into(), size, objects }
}

fn rects(boxes: &[LabelledBox]) -> Vec<[u32; 4]> {
    boxes.iter().map(|labelled| labelled.rect).map(|Rect { x, y, width, height }| [x, y, width, height]).collect()
}

#[test]
fn edges_are_rounded_outwards_and_stay_inside() {
    let annotation = drawn(
        None,
        &[
            [0.0, 0.0, 20.0, 10.0],
            [3.0, 4.0, 5.0, 6.0],
            [3.9, 4.9, 5.1, 6.1],
            [3.2, 4.2, 3.3, 4.3],
            [19.5, 9.5, 20.0, 10.0],
        ],
    );
    let (boxes, problems) = annotation.on_picture((20, 10), Orientation::NoTransforms);
    assert_eq!(rects(&boxes), [[0, 0, 20, 10], [3, 4, 2, 2], [3, 4, 3, 3], [3, 4, 1, 1], [19, 9, 1, 1]]);
    assert_eq!(problems, []);
}

#[test]
fn boxes_that_leave_the_picture_are_clipped_or_dropped() {
    let huge = f64::MAX;
    let annotation = drawn(
        Some((20, 10)),
        &[
            [-5.0, 2.0, 4.0, 6.0],
            [-huge, -huge, huge, huge],
            [19.0, 9.0, 20.5, 10.0],
            [20.0, 0.0, 25.0, 5.0],
            [-3.0, 1.0, 0.0, 5.0],
            [0.0, 10.0, 5.0, 12.0],
            [4.0, 4.0, 4.0, 8.0],
            [4.0, 8.0, 8.0, 4.0],
            [8.0, 4.0, 4.0, 8.0],
        ],
    );
    let (boxes, problems) = annotation.on_picture((20, 10), Orientation::NoTransforms);
    assert_eq!(rects(&boxes), [[0, 2, 4, 4], [0, 0, 20, 10], [19, 9, 1, 1]]);
    let expected = [["box-clipped"; 3], ["box-outside"; 3], ["empty-box"; 3]];
    assert_eq!(kinds(&problems), expected.concat());
    assert!(problems[0].to_string().starts_with("a.xml: the box (-5.0, 2.0, 4.0, 6.0) of mask leaves"));
}

#[test]
fn another_size_is_reported_and_changes_nothing() {
    let annotation = drawn(Some((40, 20)), &[[3.0, 4.0, 5.0, 6.0]]);
    for orientation in [Orientation::NoTransforms, Orientation::Rotate90] {
        let (boxes, problems) = annotation.on_picture((20, 10), orientation);
        assert_eq!(rects(&boxes), [[3, 4, 2, 2]]);
        assert_eq!(kinds(&problems), ["size-differs"]);
    }
    // Swapped sides are those of no stored picture if nothing was turned.
    let (boxes, problems) = annotation.on_picture((20, 40), Orientation::Rotate180);
    assert_eq!((rects(&boxes), kinds(&problems)), (vec![[3, 4, 2, 2]], vec!["size-differs"]));
}

#[test]
fn a_turned_box_stays_on_what_it_marks() {
    let (left, top, right, bottom) = (2, 1, 7, 3);
    let stored = RgbImage::from_fn(13, 8, |x, y| {
        Rgb([if (left..right).contains(&x) && (top..bottom).contains(&y) { 255 } else { 0 }; 3])
    });
    let written = drawn(Some((13, 8)), &[[left, top, right, bottom].map(f64::from)]);
    for exif in 1..=8 {
        let orientation = Orientation::from_exif(exif).unwrap();
        let mut turned = DynamicImage::from(stored.clone());
        turned.apply_orientation(orientation);
        let upright = (turned.width(), turned.height());

        let corners = written.objects[0].corners.turned(orientation, upright);
        let (boxes, problems) = drawn(None, &[[corners.xmin, corners.ymin, corners.xmax, corners.ymax]])
            .on_picture(upright, Orientation::NoTransforms);
        let Rect { x, y, width, height } = boxes[0].rect;
        for (at_x, at_y, pixel) in turned.to_rgb8().enumerate_pixels() {
            let inside = (x..x + width).contains(&at_x) && (y..y + height).contains(&at_y);
            assert_eq!(pixel[0] == 255, inside, "EXIF {exif} at ({at_x}, {at_y})");
        }
        assert_eq!(problems, []);

        // What the size can tell is done, and nothing else.
        let (placed, problems) = written.on_picture(upright, orientation);
        assert_eq!(placed == boxes, exif == 1 || exif >= 5, "EXIF {exif}");
        assert_eq!(problems, []);
    }
}

#[test]
fn the_size_tells_whether_stored_pixels_were_annotated() {
    let folder = Folder::new();
    // The upper left corner as stored, which a quarter turn clockwise makes the upper right one.
    let stored = RgbImage::from_fn(64, 32, |x, y| Rgb([if x < 16 && y < 8 { 255 } else { 0 }; 3]));
    folder.write("images/a.jpg", encode_jpeg(&stored, 6));
    for (size, corners) in [((64, 32), ["0", "0", "16", "8"]), ((32, 64), ["24", "0", "32", "16"])] {
        let size = format!("<size><width>{}</width><height>{}</height></size>", size.0, size.1);
        folder.write("annotations/a.xml", annotation(&(size + &object("mask", corners))));
        let dataset = folder.scan().unwrap();
        let AnnotatedPicture { path, annotation } = &dataset.pictures[0];
        let (image, orientation) = read_oriented(path).unwrap();
        let (boxes, problems) = annotation.on_picture(image.dimensions(), orientation);
        assert_eq!(problems, []);
        assert_eq!(rects(&boxes), [[24, 0, 8, 16]]);
        let bright = image.enumerate_pixels().filter(|(_, _, pixel)| pixel[0] > 128);
        let inside = bright.clone().filter(|&(x, y, _)| x >= 24 && y < 16).count();
        assert_eq!((bright.count(), inside), (8 * 16, 8 * 16));
    }
}
