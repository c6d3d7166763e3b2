//! Contact sheets of scenes with their boxes: some of all, and those with most errors.
//!
//! They show the evaluated pictures, so they go to the report's folder and nowhere else.

use std::path::Path;

use image::imageops::{FilterType, resize};

use super::Findings;
use crate::capture::stills::read_image;
use crate::draw::palette::Rgb;
use crate::draw::{Font, outline};
use crate::evaluate::contact_sheet::{Cell, PAPER, Sheet, framed};
use crate::evaluate::report::ReportError;
use crate::evaluate::scenes::operating::Measured;
use crate::evaluate::scenes::verdict::{DetectionVerdict, FaceVerdict, Verdicts};
use crate::evaluate::text::printable;
use crate::geometry::Rect;
use crate::plot::write_picture;

/// More pictures than these nobody looks at.
const MAX_SCENES: usize = 40;
const MAX_WORST: usize = 20;
/// Widths of a picture and numbers of columns.
const SCENE: (u32, usize) = (320, 5);
const WORST: (u32, usize) = (480, 4);
/// A picture higher than so many times its width is made narrower.
const TALLEST: u32 = 2;
const LINE_PX: u32 = 2;

const RIGHT: Rgb = [0, 200, 80];
const FALSE: Rgb = [230, 30, 30];
const MISSED: Rgb = [255, 170, 0];
const MISLABELLED: Rgb = [235, 0, 235];
const IGNORED: Rgb = [160, 160, 160];
const LEGEND: [(&str, Rgb); 5] =
    [("right", RIGHT), ("false", FALSE), ("missed", MISSED), ("wrong class", MISLABELLED), ("ignored", IGNORED)];

type Judged<'a> = (Measured<'a>, Verdicts);

/// Draws up to 40 pictures, evenly spaced over those that are measured.
///
/// # Errors
///
/// When the file cannot be written.
pub fn scenes(findings: Findings, judged: &[Judged], path: &Path) -> Result<(), ReportError> {
    let shown = judged.len().min(MAX_SCENES);
    let chosen: Vec<&Judged> = (0..shown).map(|place| &judged[place * judged.len() / shown]).collect();
    let title = format!("{shown} of {} pictures", judged.len());
    write(findings, &chosen, &title, SCENE, path)
}

/// Draws the pictures with most errors, the worst first, and tells whether there is one: without errors nothing is written.
///
/// # Errors
///
/// When the file cannot be written.
pub fn worst(findings: Findings, judged: &[Judged], path: &Path) -> Result<bool, ReportError> {
    let mut chosen: Vec<&Judged> = judged.iter().filter(|(_, verdicts)| verdicts.errors() > 0).collect();
    let wrong = chosen.len();
    if wrong == 0 {
        return Ok(false);
    }
    chosen.sort_by_key(|(_, verdicts)| std::cmp::Reverse(verdicts.errors()));
    chosen.truncate(MAX_WORST);
    let title = format!("The worst {} of {wrong} pictures with errors", chosen.len());
    write(findings, &chosen, &title, WORST, path)?;
    Ok(true)
}

fn write(
    findings: Findings,
    chosen: &[&Judged],
    title: &str,
    (width_px, columns): (u32, usize),
    path: &Path,
) -> Result<(), ReportError> {
    let cells: Vec<Cell> = chosen.iter().map(|judged| cell(findings, judged, width_px)).collect();
    let sheet = Sheet { title, legend: &LEGEND, columns, width_px, caption_lines: 2 };
    Ok(write_picture(path, &sheet.draw(&Font::bundled()?, &cells))?)
}

/// A picture with its boxes above its name and what is wrong on it.
fn cell(findings: Findings, (measured, verdicts): &Judged, width_px: u32) -> Cell {
    let scene = measured.scene;
    let size = fitted(scene.size, width_px);
    // The picture was read before; if it is gone by now, its place stays empty.
    let mut small = match read_image(&findings.evaluation.data.join(&scene.path)) {
        Ok(picture) => resize(&picture, size.0, size.1, FilterType::Triangle),
        Err(_) => framed(None, size),
    };
    let mut draw = |rect: Rect, colour| outline(&mut small, rect.scaled(scene.size, size), LINE_PX, colour);
    for (face, verdict) in scene.faces.iter().zip(&verdicts.faces) {
        match verdict {
            FaceVerdict::Ignored => draw(face.rect, IGNORED),
            FaceVerdict::Missed => draw(face.rect, MISSED),
            FaceVerdict::Found | FaceVerdict::Mislabelled => {}
        }
    }
    // The surest last, on top of the others.
    for (detection, verdict) in scene.detections.iter().zip(&verdicts.detections).rev() {
        match verdict {
            DetectionVerdict::Right => draw(detection.rect, RIGHT),
            DetectionVerdict::False => draw(detection.rect, FALSE),
            DetectionVerdict::Mislabelled => draw(detection.rect, MISLABELLED),
            DetectionVerdict::Absorbed => draw(detection.rect, IGNORED),
            DetectionVerdict::BelowThreshold => {}
        }
    }
    let name = scene.path.file_name().map(|name| printable(&name.to_string_lossy())).unwrap_or_default();
    Cell { picture: small, caption: vec![(name, PAPER), (tally(verdicts), PAPER)] }
}

fn tally(verdicts: &Verdicts) -> String {
    let detections = |wanted| verdicts.detections.iter().filter(|verdict| **verdict == wanted).count();
    let missed = verdicts.faces.iter().filter(|verdict| **verdict == FaceVerdict::Missed).count();
    format!(
        "{} right, {} false, {missed} missed, {} wrong class",
        detections(DetectionVerdict::Right),
        detections(DetectionVerdict::False),
        detections(DetectionVerdict::Mislabelled)
    )
}

/// As wide as the column, unless that would make it far too high.
fn fitted((width, height): (u32, u32), width_px: u32) -> (u32, u32) {
    let room = (f64::from(width_px), f64::from(TALLEST * width_px));
    let scale = (room.0 / f64::from(width)).min(room.1 / f64::from(height));
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_shape_fits_its_column() {
        for size in [(640, 480), (480, 640), (1, 1), (1, 5000), (5000, 1), (320, 640)] {
            let (width, height) = fitted(size, 320);
            assert!((1..=320).contains(&width) && (1..=640).contains(&height), "{size:?}: {width}x{height}");
        }
        assert_eq!(fitted((640, 480), 320), (320, 240));
    }
}
