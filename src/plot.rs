//! What all plots share: the bundled font, colours, and the way from a drawing to a PNG file.
//!
//! `plotters` draws into a buffer, so that no font, display or system library is needed.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image::{ImageFormat, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::{BitMapBackend, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, RGBColor, WHITE};
use plotters::style::{FontStyle, IntoTextStyle, TextStyle, register_font};

use crate::draw::{BUNDLED_FONT, palette};
use crate::files;

/// The name under which plotters knows the bundled font.
const FONT: &str = "bundled";

/// First colour of a plot.
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
/// Second colour, told apart from the first by colour-blind people too (Okabe & Ito 2008).
pub const ORANGE: RGBColor = RGBColor(213, 94, 0);
/// Text and axes.
pub const INK: RGBColor = RGBColor(40, 40, 40);
/// What stays in the background.
pub const GREY: RGBColor = RGBColor(150, 150, 150);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(225, 225, 225);

/// Where plots are drawn.
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// plotters refused, or the program's font is damaged: a defect of the program.
    #[error("cannot draw a plot: {0}; please report it")]
    Drawing(String),
    /// The file cannot be written.
    #[error("cannot write {path}: {source}; free some space or choose another folder", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Drawing(error.to_string())
    }
}

/// The bundled font, `size_px` high, or a pixel more if that is odd: plotters cuts off half pixels, and then the letters
/// of a line stand at different heights.
pub fn text(size_px: u32) -> TextStyle<'static> {
    (FONT, size_px.next_multiple_of(2)).into_text_style(&(1, 1)).color(&INK)
}

/// Black or white, whichever reads better on `colour`.
pub fn text_colour(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let [red, green, blue] = palette::text_colour([red, green, blue]);
    RGBColor(red, green, blue)
}

/// Lets `draw` draw on white, and writes the result as PNG, complete or not at all.
///
/// # Errors
///
/// When drawing fails, or the file cannot be written.
pub fn write_png(
    path: &Path,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area) -> Result<(), PlotError>,
) -> Result<(), PlotError> {
    static FONT_IS_REGISTERED: LazyLock<bool> =
        LazyLock::new(|| register_font(FONT, FontStyle::Normal, BUNDLED_FONT).is_ok());
    if !*FONT_IS_REGISTERED {
        return Err(PlotError::Drawing("the bundled font cannot be read".to_owned()));
    }
    let mut picture = RgbImage::new(width, height);
    {
        let area = BitMapBackend::with_buffer(&mut picture, (width, height)).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    write_picture(path, &picture)
}

/// Writes a picture as PNG, complete or not at all.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_picture(path: &Path, picture: &RgbImage) -> Result<(), PlotError> {
    let mut png = Vec::new();
    picture
        .write_to(&mut Cursor::new(&mut png), ImageFormat::Png)
        .map_err(|error| PlotError::Drawing(error.to_string()))?;
    files::replace(path, &png).map_err(|source| PlotError::Unwritable { path: path.to_owned(), source })
}

/// A number for an axis, without the noise of binary fractions and without zeros at its end.
pub fn axis_label(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_labels_are_short() {
        for (value, label) in [
            (0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (20.0, "20"),
            (0.001, "0.001"),
            (0.000_02, "2e-5"),
            (0.000_25, "2.5e-4"),
            (99.5, "99.5"),
        ] {
            assert_eq!(axis_label(value), label);
        }
    }

    #[test]
    fn text_leaves_ink_on_the_paper() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.png");
        write_png(&path, (200, 50), |area| Ok(area.draw_text("Plot", &text(30), (5, 5))?)).unwrap();
        let picture = image::open(&path).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (200, 50));
        assert!(picture.pixels().filter(|pixel| pixel.0[0] < 100).count() > 100);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = write_png(Path::new("/nonexistent/plot.png"), (9, 9), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/plot.png"), "{error}");
    }
}
