//! Contact sheets: pictures in rows, each above the lines that say what it shows.

use image::imageops::overlay;
use image::{Rgb, RgbImage};

use crate::draw::Font;
use crate::draw::palette;

/// Space between pictures, in pixels.
pub const GAP_PX: u32 = 12;
/// Height of a line of text with its tag, in pixels.
pub const LINE_PX: u32 = 26;
/// Behind lines that have no colour of their own.
pub const PAPER: palette::Rgb = [255; 3];
/// Height of text: made smaller to fit, but not smaller than the first.
const TEXT_PX: (f32, f32) = (11.0, 17.0);
/// Height of the legend.
const LEGEND_PX: f32 = 14.0;
const EMPTY: palette::Rgb = [225; 3];

/// A picture and what is said of it, each line on its colour.
#[derive(Debug)]
pub struct Cell {
    /// Not wider than [`Sheet::width_px`].
    pub picture: RgbImage,
    /// Lines below it.
    pub caption: Vec<(String, palette::Rgb)>,
}

/// A sheet of equally wide columns.
#[derive(Debug, Clone, Copy)]
pub struct Sheet<'a> {
    /// Above everything.
    pub title: &'a str,
    /// What colours mean, below the title.
    pub legend: &'a [(&'a str, palette::Rgb)],
    /// Most columns side by side.
    pub columns: usize,
    /// Width of a column's pictures, in pixels.
    pub width_px: u32,
    /// Lines below a picture.
    pub caption_lines: u32,
}

impl Sheet<'_> {
    /// Draws the cells, row by row; each row is as high as its highest picture.
    pub fn draw(&self, font: &Font, cells: &[Cell]) -> RgbImage {
        let columns = cells.len().clamp(1, self.columns.max(1));
        let rows: Vec<&[Cell]> = cells.chunks(columns).collect();
        let height = |row: &&[Cell]| row.iter().map(|cell| cell.picture.height()).max().unwrap_or_default();
        let below = self.caption_lines * LINE_PX + GAP_PX;
        let header = (2 + u32::from(!self.legend.is_empty())) * LINE_PX;
        let width = columns as u32 * (self.width_px + GAP_PX) + GAP_PX;
        let size = (width, header + rows.iter().map(|row| height(row) + below).sum::<u32>() + GAP_PX);
        let mut sheet = RgbImage::from_pixel(size.0, size.1, Rgb(PAPER));
        let (title_px, _) = font.fit_tag(self.title, TEXT_PX, width - 2 * GAP_PX);
        font.draw_tag(&mut sheet, self.title, title_px, (GAP_PX, GAP_PX), PAPER);
        let mut x = GAP_PX;
        for (text, colour) in self.legend {
            font.draw_tag(&mut sheet, text, LEGEND_PX, (x, GAP_PX + LINE_PX), *colour);
            x += font.tag_size(text, LEGEND_PX).0 + GAP_PX;
        }
        let mut y = header;
        for row in rows {
            for (cell, column) in row.iter().zip(0..) {
                let corner = (GAP_PX + column * (self.width_px + GAP_PX), y);
                self.draw_cell(&mut sheet, font, cell, corner, height(&row));
            }
            y += height(&row) + below;
        }
        sheet
    }

    fn draw_cell(&self, sheet: &mut RgbImage, font: &Font, cell: &Cell, corner: (u32, u32), height: u32) {
        let ground = RgbImage::from_pixel(self.width_px, height, Rgb(EMPTY));
        overlay(sheet, &ground, corner.0.into(), corner.1.into());
        let place = |corner: u32, room: u32, side: u32| i64::from(corner + room.saturating_sub(side) / 2);
        let (width_px, height_px) = cell.picture.dimensions();
        let x = place(corner.0, self.width_px, width_px);
        overlay(sheet, &cell.picture, x, place(corner.1, height, height_px));
        for ((text, colour), line) in cell.caption.iter().zip(0..) {
            let (text_px, text) = font.fit_tag(text, TEXT_PX, self.width_px);
            font.draw_tag(sheet, &text, text_px, (corner.0, corner.1 + height + line * LINE_PX), *colour);
        }
    }
}

/// A place for a picture, `width` by `height` pixels, with the picture in its middle if there is one.
pub fn framed(picture: Option<&RgbImage>, (width, height): (u32, u32)) -> RgbImage {
    let mut frame = RgbImage::from_pixel(width, height, Rgb(EMPTY));
    if let Some(picture) = picture {
        let place = |room: u32, side: u32| i64::from(room.saturating_sub(side) / 2);
        overlay(&mut frame, picture, place(width, picture.width()), place(height, picture.height()));
    }
    frame
}
