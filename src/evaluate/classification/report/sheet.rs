//! A contact sheet of the worst mistakes: the pictures whose wrong class has the highest confidence.
//!
//! It shows the evaluated pictures, so it goes to the report's folder and nowhere else.

use std::path::Path;

use image::imageops::{FilterType, resize};

use crate::capture::stills::read_image;
use crate::draw::{Font, palette};
use crate::evaluate::classification::{Evaluation, Prediction};
use crate::evaluate::contact_sheet::{Cell, PAPER, Sheet, framed};
use crate::evaluate::report::ReportError;
use crate::evaluate::text::printable;
use crate::plot::write_picture;

/// More pictures than this nobody looks at.
const MAX_MISTAKES: usize = 40;
const COLUMNS: usize = 8;
/// Side of the square into which a picture is fitted.
const PICTURE_PX: u32 = 220;

/// Draws the sheet and tells whether there is one: without mistakes nothing is written.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(evaluation: &Evaluation, path: &Path) -> Result<bool, ReportError> {
    let mut mistakes: Vec<&Prediction> =
        evaluation.predictions.iter().filter(|prediction| !prediction.is_right()).collect();
    if mistakes.is_empty() {
        return Ok(false);
    }
    mistakes.sort_by(|one, other| other.confidence().total_cmp(&one.confidence()));
    let title = match mistakes.len() {
        1 => "1 mistake (true class > predicted class)".to_owned(),
        count if count <= MAX_MISTAKES => {
            format!("{count} mistakes, the most confident first (true class > predicted class)")
        }
        count => format!("{MAX_MISTAKES} of {count} mistakes, the most confident first (true class > predicted class)"),
    };
    mistakes.truncate(MAX_MISTAKES);

    let cells: Vec<Cell> = mistakes.into_iter().map(|mistake| cell(mistake, evaluation)).collect();
    let sheet = Sheet { title: &title, legend: &[], columns: COLUMNS, width_px: PICTURE_PX, caption_lines: 2 };
    write_picture(path, &sheet.draw(&Font::bundled()?, &cells))?;
    Ok(true)
}

/// The picture and, under it, what it is taken for, how surely, and what the file is called.
fn cell(mistake: &Prediction, evaluation: &Evaluation) -> Cell {
    let [truth, predicted] = [mistake.label, mistake.predicted()].map(|class| printable(&evaluation.classes[class]));
    // The picture was read before; if it is gone by now, its place stays empty.
    let small = read_image(&evaluation.data.join(&mistake.path)).ok().map(|picture| {
        let scale = f64::from(PICTURE_PX) / f64::from(picture.width().max(picture.height()));
        let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).clamp(1, PICTURE_PX);
        resize(&picture, scaled(picture.width()), scaled(picture.height()), FilterType::Triangle)
    });
    let colour = palette::class_colour(&predicted, mistake.predicted());
    let verdict = format!("{truth} > {predicted}  {:.1} %", mistake.confidence() * 100.0);
    let name = mistake.path.file_name().map(|name| printable(&name.to_string_lossy())).unwrap_or_default();
    Cell { picture: framed(small.as_ref(), (PICTURE_PX, PICTURE_PX)), caption: vec![(verdict, colour), (name, PAPER)] }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::evaluate::contact_sheet::{GAP_PX, LINE_PX};

    fn evaluation(folder: &Path, colours: &[([u8; 3], usize, f32)]) -> Evaluation {
        let predictions = colours.iter().enumerate().map(|(index, &(colour, label, confidence))| {
            let name = format!("picture_{index:08}.png");
            RgbImage::from_pixel(40, 20, Rgb(colour)).save(folder.join(&name)).unwrap();
            Prediction {
                path: name.into(),
                source: "picture".to_owned(),
                label,
                probabilities: vec![confidence, 1.0 - confidence].into(),
            }
        });
        Evaluation {
            data: folder.to_owned(),
            classes: vec!["mask".to_owned(), "no_mask".to_owned()],
            predictions: predictions.collect(),
            unknown_classes: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    #[test]
    fn the_most_confident_mistake_comes_first_and_no_right_answer_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let [less, most, right] = [[200, 0, 10], [0, 200, 10], [10, 0, 200]];
        let evaluation = evaluation(folder.path(), &[(less, 1, 0.6), (most, 1, 0.9), (right, 0, 0.99)]);
        let path = folder.path().join("sheet.png");
        assert!(write(&evaluation, &path).unwrap());
        let sheet = image::open(path).unwrap().into_rgb8();
        let middle = 2 * LINE_PX + PICTURE_PX / 2;
        let columns = [0, 1].map(|column| GAP_PX + column * (PICTURE_PX + GAP_PX) + PICTURE_PX / 2);
        assert_eq!(columns.map(|x| sheet.get_pixel(x, middle).0), [most, less]);
        assert!(!sheet.pixels().any(|pixel| pixel.0 == right));
    }

    #[test]
    fn without_mistakes_there_is_no_sheet() {
        let folder = tempfile::tempdir().unwrap();
        let evaluation = evaluation(folder.path(), &[([9; 3], 0, 0.9)]);
        let path = folder.path().join("sheet.png");
        assert!(!write(&evaluation, &path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn any_number_of_mistakes_fits_and_a_lost_picture_leaves_its_place_empty() {
        for count in [1, 8, 9, MAX_MISTAKES + 5] {
            let folder = tempfile::tempdir().unwrap();
            let evaluation = evaluation(folder.path(), &vec![([0, 0, 99], 1, 0.8); count]);
            std::fs::remove_file(folder.path().join("picture_00000000.png")).unwrap();
            let path = folder.path().join("sheet.png");
            assert!(write(&evaluation, &path).unwrap());
            let blue = image::open(path).unwrap().into_rgb8().pixels().filter(|pixel| pixel.0 == [0, 0, 99]).count();
            assert_eq!(blue, (count.min(MAX_MISTAKES) - 1) * 220 * 110);
        }
    }
}
